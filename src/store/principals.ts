// Users, service accounts and enrolment codes; and the counts that keep an organization and the instance from losing
// their last owner and admin. The counts hold to the end of the transaction under the lock their comment names.
import type { Reader, Transaction } from "../domain/ports.ts";
import type { Db, Statement } from "./db.ts";
import { raced } from "./failures.ts";
import { hold, holdPrincipal } from "./locks.ts";
import { removePrincipals } from "./owners.ts";
import { afterId, toPage, toPrincipalRecord } from "./rows.ts";

type PrincipalReads = Pick<Reader, "principal" | "userByEmail" | "users" | "serviceAccountsOf">;

export function principalReads({ prisma }: Db): PrincipalReads {
  return {
    async principal(id) {
      const row = await prisma.principal.findUnique({ where: { id } });
      return row === null ? null : toPrincipalRecord(row);
    },
    async userByEmail(email) {
      const row = await prisma.principal.findUnique({ where: { email } });
      return row === null ? null : toPrincipalRecord(row);
    },
    async users(page) {
      const where = { kind: "user", id: afterId(page) };
      const rows = await prisma.principal.findMany({ where, orderBy: { id: "asc" }, take: page.limit + 1 });
      return toPage(rows.map(toPrincipalRecord), page);
    },
    async serviceAccountsOf(organization_id, page) {
      const where = { organization_id, id: afterId(page) };
      const rows = await prisma.principal.findMany({ where, orderBy: { id: "asc" }, take: page.limit + 1 });
      return toPage(rows.map(toPrincipalRecord), page);
    },
  };
}

const otherOwnersStatement: Statement = {
  name: "other_owners",
  text: `SELECT count(*)::int AS others FROM memberships m JOIN principals p ON p.id = m.principal_id
    WHERE m.owner_type = 'organization' AND m.owner_id = $1::uuid AND m.role = 'owner'
      AND m.principal_id <> $2::uuid AND p.disabled_at IS NULL`,
};
const lockOwnedStatement: Statement = {
  name: "lock_owned_organizations",
  text: `SELECT o.id FROM organizations o JOIN memberships m ON m.owner_id = o.id
    WHERE m.owner_type = 'organization' AND m.role = 'owner' AND m.principal_id = $1::uuid
    ORDER BY o.id FOR UPDATE OF o`,
};
const takeEnrolmentStatement: Statement = {
  name: "take_enrolment",
  text: `DELETE FROM enrolments WHERE code_hash = $1::bytea AND expires_at > $2::timestamptz RETURNING principal_id`,
};

type PrincipalWrites = Pick<
  Transaction,
  | "insertPrincipal"
  | "updatePrincipal"
  | "serviceAccountByName"
  | "removeServiceAccount"
  | "insertEnrolment"
  | "takeEnrolment"
  | "otherOwners"
  | "organizationsOnlyOwnedBy"
  | "otherAdmins"
>;

export function principalWrites(db: Db): PrincipalWrites {
  const { prisma } = db;

  /** Holds under `lockOwner` of the organization. */
  async function otherOwners(organizationId: string, except: string): Promise<number> {
    const [row] = await db.query<{ others: number }>(otherOwnersStatement, [organizationId, except]);
    return row?.others ?? 0;
  }

  return {
    otherOwners,

    /** Locks those organizations itself, so that none of them loses its other owner meanwhile. */
    async organizationsOnlyOwnedBy(principalId) {
      const owned = await db.query<{ id: string }>(lockOwnedStatement, [principalId]);
      const alone: string[] = [];
      for (const { id } of owned) if ((await otherOwners(id, principalId)) === 0) alone.push(id);
      return alone;
    },

    /** Holds under `lockInstance`. */
    otherAdmins: (except) =>
      prisma.principal.count({
        where: { kind: "user", admin: true, disabled_at: null, id: { not: except } },
      }),

    async insertPrincipal(row) {
      const { organization_id } = row;
      if (organization_id !== null && !(await hold(db, "organization", organization_id))) throw raced();
      await prisma.principal.createMany({ data: { ...row, scopes: [...row.scopes] } });
    },

    async updatePrincipal({ id, ...row }) {
      const { count } = await prisma.principal.updateMany({
        where: { id },
        data: { ...row, scopes: [...row.scopes] },
      });
      if (count !== 1) throw raced();
    },

    async serviceAccountByName(organization_id, name) {
      const row = await prisma.principal.findUnique({
        where: { organization_id_name: { organization_id, name } },
      });
      return row === null ? null : toPrincipalRecord(row);
    },

    removeServiceAccount: (id) => removePrincipals(db, { id, kind: "service_account" }),

    async insertEnrolment(codeHash, principal_id, expires_at) {
      await holdPrincipal(db, principal_id);
      await prisma.enrolment.createMany({
        data: { code_hash: new Uint8Array(codeHash), principal_id, expires_at },
      });
    },

    async takeEnrolment(codeHash, now) {
      const [row] = await db.query<{ principal_id: string }>(takeEnrolmentStatement, [codeHash, now]);
      return row?.principal_id ?? null;
    },
  };
}
