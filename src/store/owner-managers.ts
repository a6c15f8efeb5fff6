// Where owners' new settings go, and the moving of their values there: one row an owner for each.
import type { OwnerType } from "../domain/address.ts";
import type { ManagerReads, ManagerWrites, MoveRecord } from "../domain/manager-store-ports.ts";
import type { OwnerKey } from "../domain/ports.ts";
import type { Placement } from "../domain/setting.ts";
import type { Db, Statement } from "./db.ts";
import type { MoveModel, OwnerManagerModel, SettingModel } from "./generated/models.ts";
import { toSettingRecord, toVersionRecord } from "./rows.ts";

/** What may be claimed: nobody works on it. */
export const movesLeft = `moves
      WHERE state = 'running' AND (lease_until IS NULL OR lease_until <= clock_timestamp())`;
const claimStatement: Statement = {
  name: "claim_move",
  text: `WITH next AS (
      SELECT tenant_id, owner_type, owner_id FROM ${movesLeft}
      ORDER BY coalesce(lease_until, started_at) LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE moves m SET lease_id = $1::uuid, lease_until = clock_timestamp() + make_interval(secs => $2::float8)
    FROM next n WHERE m.tenant_id = n.tenant_id AND m.owner_type = n.owner_type AND m.owner_id = n.owner_id
    RETURNING m.*`,
};
const renewStatement: Statement = {
  name: "renew_move",
  text: `UPDATE moves SET lease_until = clock_timestamp() + make_interval(secs => $5::float8)
    WHERE tenant_id = $1::uuid AND owner_type = $2::text AND owner_id = $3::uuid AND lease_id = $4::uuid RETURNING id`,
};
const hasValue = `EXISTS (SELECT FROM setting_versions v WHERE v.tenant_id = s.tenant_id AND v.setting_id = s.id
    AND v.state = 'enabled' AND v.storage <> 'external')`;
// The owner's own, and of an organization those of projects that say nothing of their own: each a walk of one index.
const ofOwner = `s.tenant_id = $1::uuid AND s.owner_type = $2::text AND s.owner_id = $3::uuid AND ${hasValue}`;
const ofProjects = `s.tenant_id = $1::uuid AND s.owner_type = 'project' AND ${hasValue} AND NOT EXISTS (
    SELECT FROM owner_managers m WHERE m.tenant_id = s.tenant_id AND m.owner_type = 'project' AND m.owner_id = s.owner_id)`;
const statements = {
  countOwn: {
    name: "count_own_to_move",
    text: `SELECT count(*)::int AS settings FROM settings s WHERE ${ofOwner}`,
  },
  countProjects: {
    name: "count_projects_to_move",
    text: `SELECT count(*)::int AS settings FROM settings s WHERE ${ofProjects}`,
  },
  nextOwn: {
    name: "own_to_move",
    text: `SELECT s.* FROM settings s WHERE ${ofOwner} AND s.path > $4::text ORDER BY s.path LIMIT $5::int`,
  },
  nextProjects: {
    name: "projects_to_move",
    text: `SELECT s.* FROM settings s WHERE ${ofProjects} AND (s.owner_id, s.path) > ($2::uuid, $3::text)
      ORDER BY s.owner_id, s.path LIMIT $4::int`,
  },
} satisfies Record<string, Statement>;
const firstId = "00000000-0000-0000-0000-000000000000";

const ownerOf = ({ tenant_id, owner_type, owner_id }: OwnerKey) => ({ tenant_id, owner_type, owner_id });

export function ownerManagerReads({ prisma }: Db): Pick<ManagerReads, "ownerManagers" | "move"> {
  return {
    async ownerManagers({ tenant_id, owner_type, owner_id }) {
      if (owner_type === "user") return { own: null, organization: null };
      const owner_ids = [owner_id, tenant_id];
      const rows = await prisma.ownerManager.findMany({ where: { tenant_id, owner_id: { in: owner_ids } } });
      const of = (type: OwnerType, id: string) =>
        placementIn(rows.find((row) => row.owner_type === type && row.owner_id === id));
      const own = of(owner_type, owner_id);
      return { own, organization: owner_type === "project" ? of("organization", tenant_id) : null };
    },
    async move(key) {
      const where = { tenant_id_owner_type_owner_id: ownerOf(key) };
      const row = await prisma.move.findUnique({ where });
      return row === null ? null : toMoveRecord(row);
    },
  };
}

type OwnerManagerWrites = Pick<
  ManagerWrites,
  | "putOwnerManager"
  | "removeOwnerManager"
  | "putMove"
  | "claimMove"
  | "updateMove"
  | "settingsToMove"
  | "countSettingsToMove"
  | "versionsElsewhere"
>;

export function ownerManagerWrites(db: Db): OwnerManagerWrites {
  const { prisma } = db;
  return {
    async putOwnerManager(key, { storage, manager }, updated_by, updated_at) {
      const where = { tenant_id_owner_type_owner_id: ownerOf(key) };
      const data = { storage, manager, updated_at, updated_by };
      await prisma.ownerManager.upsert({ where, create: { ...ownerOf(key), ...data }, update: data });
    },
    async removeOwnerManager(key) {
      await prisma.ownerManager.deleteMany({ where: ownerOf(key) });
    },
    async putMove({ failed, ...row }) {
      const data = { ...row, failed: [...failed], lease_id: null, lease_until: null };
      const where = { tenant_id_owner_type_owner_id: ownerOf(row) };
      await prisma.move.upsert({ where, create: data, update: data });
    },
    async claimMove({ lease_id, seconds }) {
      const [row] = await db.query<MoveModel>(claimStatement, [lease_id, seconds]);
      return row === undefined ? null : toMoveRecord(row);
    },
    async updateMove({ id, state, total, done, failed, cursor, finished_at, ...key }, { lease_id, seconds }) {
      const owner = ownerOf(key);
      const progress = { state, total, done, failed: [...failed], cursor, finished_at };
      const ended = state === "running" ? {} : { lease_id: null, lease_until: null };
      const where = { ...owner, id, lease_id };
      const held = [owner.tenant_id, owner.owner_type, owner.owner_id, lease_id, seconds];
      if ((await db.query(renewStatement, held)).length === 0) return false;
      return (await prisma.move.updateMany({ where, data: { ...progress, ...ended } })).count === 1;
    },
    async settingsToMove({ tenant_id, owner_type, owner_id }, after, limit) {
      const [type, id = firstId, ...rest] = (after ?? "").split("/");
      const path = rest.join("/");
      const isPast = owner_type === "organization" && type === "project";
      const own = isPast
        ? []
        : await db.query<SettingModel>(statements.nextOwn, [tenant_id, owner_type, owner_id, path, limit]);
      if (own.length > 0 || owner_type !== "organization") return own.map(toSettingRecord);
      const from = isPast ? [id, path] : [firstId, ""];
      return (await db.query<SettingModel>(statements.nextProjects, [tenant_id, ...from, limit])).map(
        toSettingRecord,
      );
    },
    async countSettingsToMove({ tenant_id, owner_type, owner_id }) {
      type Count = { readonly settings: number };
      const own = await db.query<Count>(statements.countOwn, [tenant_id, owner_type, owner_id]);
      const projects =
        owner_type === "organization" ? await db.query<Count>(statements.countProjects, [tenant_id]) : [];
      return [...own, ...projects].reduce((sum, { settings }) => sum + settings, 0);
    },
    async versionsElsewhere({ tenant_id, id }, { storage, manager }, limit) {
      const where = {
        tenant_id,
        setting_id: id,
        state: "enabled",
        storage: { not: "external" },
        NOT: { storage, manager },
      };
      const rows = await prisma.settingVersion.findMany({ where, orderBy: { version: "desc" }, take: limit });
      return { versions: rows.map(toVersionRecord), count: await prisma.settingVersion.count({ where }) };
    },
  };
}

function placementIn(row: Pick<OwnerManagerModel, "storage" | "manager"> | undefined): Placement | null {
  return row === undefined ? null : ({ storage: row.storage, manager: row.manager } as Placement);
}

function toMoveRecord(row: MoveModel): MoveRecord {
  const { tenant_id, owner_id, id, total, done, cursor, started_at, started_by, finished_at } = row;
  const { storage, manager } = placementIn(row) ?? nowhere();
  return {
    tenant_id,
    owner_type: row.owner_type as OwnerType,
    owner_id,
    id,
    storage,
    manager,
    state: row.state as MoveRecord["state"],
    total,
    done,
    failed: row.failed as unknown as MoveRecord["failed"],
    cursor,
    started_at,
    started_by,
    finished_at,
  };
}

function nowhere(): never {
  throw new Error("a move goes somewhere");
}
