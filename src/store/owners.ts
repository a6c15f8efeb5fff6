// Organizations and projects, and the removal of an owner with all that is its own. The audit log stays: a removed
// organization's or user's becomes the instance's.
import type { Owner } from "../domain/address.ts";
import type { PurgedSetting, Reader, Transaction } from "../domain/ports.ts";
import { lockTail } from "./audit-place.ts";
import { unsettleSecrets } from "./managed-secrets.ts";
import type { Db, Statement } from "./db.ts";
import { hold, own } from "./locks.ts";
import { raced } from "./failures.ts";
import { afterId, toPage } from "./rows.ts";

type OwnerReads = Pick<Reader, "organization" | "organizationsOf" | "project" | "projectsOf">;

export function ownerReads({ prisma }: Db): OwnerReads {
  /** The owners of a kind that a principal has a role at. */
  const heldBy = async (
    owner_type: Owner["owner_type"],
    principal_id: string,
    tenant: { tenant_id?: string },
  ) => {
    const where = { principal_id, owner_type, ...tenant };
    const rows = await prisma.membership.findMany({ where, select: { owner_id: true } });
    return rows.map(({ owner_id }) => owner_id);
  };
  return {
    organization: (id) => prisma.organization.findUnique({ where: { id } }),
    async organizationsOf(principalId, page) {
      const where = { id: { in: await heldBy("organization", principalId, {}), ...afterId(page) } };
      const rows = await prisma.organization.findMany({
        where,
        orderBy: { id: "asc" },
        take: page.limit + 1,
      });
      return toPage(rows, page);
    },
    project: (id) => prisma.project.findUnique({ where: { id } }),
    async projectsOf(organization_id, visibleTo, page) {
      const visible =
        visibleTo === null ? {} : { in: await heldBy("project", visibleTo, { tenant_id: organization_id }) };
      const where = { organization_id, id: { ...visible, ...afterId(page) } };
      const rows = await prisma.project.findMany({ where, orderBy: { id: "asc" }, take: page.limit + 1 });
      return toPage(rows, page);
    },
  };
}

const deleteVersionsStatement: Statement = {
  name: "delete_project_versions",
  text: `DELETE FROM setting_versions v USING settings s
    WHERE s.tenant_id = $1::uuid AND s.owner_type = 'project' AND s.owner_id = $2::uuid
      AND v.tenant_id = s.tenant_id AND v.setting_id = s.id`,
};

type OwnerWrites = Pick<
  Transaction,
  | "insertOrganization"
  | "renameOrganization"
  | "insertProject"
  | "renameProject"
  | "removeOwner"
  | "organizationByName"
  | "projectByName"
  | "lockOwner"
  | "lockInstance"
>;

export function ownerWrites(db: Db): OwnerWrites {
  const { prisma } = db;
  const purged = { id: true, path: true } as const;

  async function removeProject(id: string): Promise<readonly PurgedSetting[]> {
    const project = await prisma.project.findUnique({ where: { id } });
    if (project === null) return [];
    const where = { tenant_id: project.organization_id, owner_type: "project", owner_id: id };
    const settings = await prisma.setting.findMany({ where, select: purged, orderBy: { path: "asc" } });
    await db.query(deleteVersionsStatement, [project.organization_id, id]);
    await removeLifecycleOf(project.organization_id, id, settings);
    await prisma.setting.deleteMany({ where });
    await prisma.pathLedger.deleteMany({ where });
    await prisma.dataKey.deleteMany({ where });
    await prisma.ownerManager.deleteMany({ where });
    await prisma.move.deleteMany({ where });
    await unsettleSecrets(db, where);
    await prisma.membership.deleteMany({ where });
    await prisma.project.delete({ where: { id } });
    return settings;
  }

  /** Who read a project's settings, what was to become of them, and whom to tell of it. */
  async function removeLifecycleOf(
    tenant_id: string,
    owner_id: string,
    settings: readonly PurgedSetting[],
  ): Promise<void> {
    const ids = settings.map(({ id }) => id);
    await prisma.settingReader.deleteMany({ where: { tenant_id, setting_id: { in: ids } } });
    await prisma.lifecycleNotice.deleteMany({ where: { tenant_id, subject_id: { in: [...ids, owner_id] } } });
    await prisma.rotation.deleteMany({ where: { tenant_id, owner_id } });
    const webhooks = await prisma.webhook.findMany({ where: { tenant_id, owner_id }, select: { id: true } });
    const webhook_id = { in: webhooks.map(({ id }) => id) };
    await prisma.webhookDelivery.deleteMany({ where: { tenant_id, webhook_id } });
    await prisma.webhook.deleteMany({ where: { tenant_id, owner_id } });
  }

  /** All that leads with the tenant's id; its log is the instance's from now on. */
  async function removeTenant(tenant_id: string): Promise<readonly PurgedSetting[]> {
    const where = { tenant_id };
    const settings = await prisma.setting.findMany({ where, select: purged, orderBy: { path: "asc" } });
    await prisma.settingVersion.deleteMany({ where });
    await prisma.setting.deleteMany({ where });
    await prisma.pathLedger.deleteMany({ where });
    await prisma.dataKey.deleteMany({ where });
    await prisma.keyEncryptionKey.deleteMany({ where });
    await prisma.ownerManager.deleteMany({ where });
    await prisma.move.deleteMany({ where });
    await unsettleSecrets(db, where);
    await prisma.membership.deleteMany({ where });
    await prisma.settingReader.deleteMany({ where });
    await prisma.lifecycleNotice.deleteMany({ where });
    await prisma.rotation.deleteMany({ where });
    await prisma.webhookDelivery.deleteMany({ where });
    await prisma.webhook.deleteMany({ where });
    // Its log is the instance's from here on, after whatever of that is read by now.
    const position = await lockTail(db);
    const nth = (await prisma.removedTenant.count()) + 1;
    await prisma.removedTenant.createMany({ data: { ...where, position, nth }, skipDuplicates: true });
    return settings;
  }

  return {
    async insertOrganization(row) {
      await prisma.organization.createMany({ data: row });
    },
    async renameOrganization(id, name) {
      await prisma.organization.updateMany({ where: { id }, data: { name } });
    },
    async insertProject(row) {
      if (!(await hold(db, "organization", row.organization_id))) throw raced();
      await prisma.project.createMany({ data: row });
    },
    async renameProject(id, name) {
      await prisma.project.updateMany({ where: { id }, data: { name } });
    },

    async removeOwner(owner) {
      if (!(await own(db, owner))) return [];
      const id = owner.owner_id;
      switch (owner.owner_type) {
        case "project":
          return removeProject(id);
        case "organization": {
          const settings = await removeTenant(id);
          await removePrincipals(db, { organization_id: id });
          await prisma.project.deleteMany({ where: { organization_id: id } });
          await prisma.identityProvider.deleteMany({ where: { organization_id: id } });
          await prisma.organization.delete({ where: { id } });
          return settings;
        }
        case "user": {
          if ((await prisma.principal.findUnique({ where: { id } }))?.kind !== "user") return [];
          const settings = await removeTenant(id);
          await removePrincipals(db, { id, kind: "user" });
          return settings;
        }
      }
    },

    organizationByName: (name) => prisma.organization.findUnique({ where: { name } }),
    projectByName: (organization_id, name) =>
      prisma.project.findUnique({ where: { organization_id_name: { organization_id, name } } }),
    lockOwner: (owner) => own(db, owner),
    /** Blocks whoever else locks, and no reader. The table, since the row is not there before the key-check value. */
    async lockInstance() {
      await prisma.$executeRaw`LOCK TABLE instance IN SHARE ROW EXCLUSIVE MODE`;
    },
  };
}

/** With their tokens, memberships and enrolment codes. */
export async function removePrincipals(
  { prisma }: Db,
  which: { readonly id?: string; readonly organization_id?: string; readonly kind?: string },
): Promise<void> {
  // The rows first: whoever makes a token or a membership for one of them holds its row.
  const rows = await prisma.principal.findMany({ where: which, select: { id: true } });
  const ids = rows.map(({ id }) => id);
  await prisma.principal.deleteMany({ where: { id: { in: ids } } });
  const where = { principal_id: { in: ids } };
  await prisma.token.deleteMany({ where });
  await prisma.membership.deleteMany({ where });
  await prisma.enrolment.deleteMany({ where });
}
