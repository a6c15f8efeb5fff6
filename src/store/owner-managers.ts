// Where owners' new settings go, and the moving of their values there: one row an owner for each.
import type { OwnerType } from "../domain/address.ts";
import type { ManagerReads, ManagerWrites, MoveRecord } from "../domain/manager-store-ports.ts";
import type { OwnerKey } from "../domain/ports.ts";
import type { Placement } from "../domain/setting.ts";
import type { Db, Statement } from "./db.ts";
import type { MoveModel, OwnerManagerModel, SettingModel } from "./generated/models.ts";
import { toSettingRecord, toVersionRecord } from "./rows.ts";

const claimStatement: Statement = {
  name: "claim_move",
  text: `WITH next AS (
      SELECT tenant_id, owner_type, owner_id FROM moves
      WHERE state = 'running' AND (lease_until IS NULL OR lease_until <= $1::timestamptz)
      ORDER BY started_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE moves m SET lease_id = $2::uuid, lease_until = $3::timestamptz
    FROM next n WHERE m.tenant_id = n.tenant_id AND m.owner_type = n.owner_type AND m.owner_id = n.owner_id
    RETURNING m.*`,
};
// The owner's own, and of an organization those of projects that say nothing of their own.
const toMove = `FROM settings s WHERE s.tenant_id = $1::uuid AND (
    (s.owner_type = $2::text AND s.owner_id = $3::uuid)
    OR ($2::text = 'organization' AND s.owner_type = 'project' AND NOT EXISTS (
      SELECT FROM owner_managers m WHERE m.tenant_id = s.tenant_id AND m.owner_type = 'project' AND m.owner_id = s.owner_id)))
  AND EXISTS (SELECT FROM setting_versions v WHERE v.tenant_id = s.tenant_id AND v.setting_id = s.id
    AND v.state = 'enabled' AND v.storage <> 'external')`;
const countStatement: Statement = {
  name: "count_settings_to_move",
  text: `SELECT count(*)::int AS settings ${toMove}`,
};
const nextStatement: Statement = {
  name: "settings_to_move",
  text: `SELECT s.* ${toMove} AND (s.owner_type, s.owner_id::text, s.path) > ($4::text, $5::text, $6::text)
    ORDER BY s.owner_type, s.owner_id::text, s.path LIMIT $7::int`,
};

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
  | "versionsWithValues"
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
    async claimMove(now, { lease_id, until }) {
      const [row] = await db.query<MoveModel>(claimStatement, [now, lease_id, until]);
      return row === undefined ? null : toMoveRecord(row);
    },
    async updateMove({ id, state, total, done, failed, cursor, finished_at, ...key }, { lease_id, until }) {
      const progress = { state, total, done, failed: [...failed], cursor, finished_at };
      const ended = state === "running" ? { lease_until: until } : { lease_id: null, lease_until: null };
      const where = { ...ownerOf(key), id, lease_id };
      return (await prisma.move.updateMany({ where, data: { ...progress, ...ended } })).count === 1;
    },
    async settingsToMove({ tenant_id, owner_type, owner_id }, after, limit) {
      const [type = "", id = "", ...path] = (after ?? "").split("/");
      const params = [tenant_id, owner_type, owner_id, type, id, path.join("/"), limit];
      return (await db.query<SettingModel>(nextStatement, params)).map(toSettingRecord);
    },
    async versionsWithValues({ tenant_id, id }) {
      const where = { tenant_id, setting_id: id };
      const rows = await prisma.settingVersion.findMany({ where, orderBy: { version: "asc" } });
      return rows.map(toVersionRecord);
    },
    async countSettingsToMove({ tenant_id, owner_type, owner_id }) {
      const [row] = await db.query<{ settings: number }>(countStatement, [tenant_id, owner_type, owner_id]);
      return row?.settings ?? 0;
    },
  };
}

function placementIn(row: OwnerManagerModel | undefined): Placement | null {
  return row === undefined ? null : ({ storage: row.storage, manager: row.manager } as Placement);
}

function toMoveRecord(row: MoveModel): MoveRecord {
  const { tenant_id, owner_id, id, total, done, cursor, started_at, started_by, finished_at } = row;
  return {
    tenant_id,
    owner_type: row.owner_type as OwnerType,
    owner_id,
    id,
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
