// Writing settings, within a transaction. Writers of one path queue at its row in the ledger. A row that is not there
// any more when it is to be changed was purged meanwhile: the transaction runs again and sees that.
import type { SettingRecord, VersionRecord } from "../domain/setting.ts";
import type { OwnerKey, Transaction } from "../domain/ports.ts";
import type { Db, Statement } from "./db.ts";
import { raced } from "./failures.ts";
import { Prisma } from "./generated/client.ts";
import type { SettingModel } from "./generated/models.ts";
import { holdOwner, own } from "./locks.ts";
import { unsettleSecrets } from "./managed-secrets.ts";
import { toSettingRecord } from "./rows.ts";
import { type Written, flush } from "./shared-flush.ts";

/** Updating the row to what it is locks it, whether or not it was there before. */
const lockPathStatement: Statement = {
  name: "lock_path",
  text: `INSERT INTO path_ledger (tenant_id, owner_type, owner_id, path, last_version)
    VALUES ($1::uuid, $2::text, $3::uuid, $4::text,
      coalesce((SELECT version_floor FROM instance WHERE id = 1), 0))
    ON CONFLICT (tenant_id, owner_type, owner_id, path) DO UPDATE SET last_version = path_ledger.last_version
    RETURNING last_version`,
};
/** Of many, in the order of the paths, so that two who lock many never wait for each other both. */
const lockPathsStatement: Statement = {
  name: "lock_paths",
  text: `INSERT INTO path_ledger (tenant_id, owner_type, owner_id, path, last_version)
    SELECT $1::uuid, $2::text, $3::uuid, path, coalesce((SELECT version_floor FROM instance WHERE id = 1), 0)
    FROM unnest($4::text[]) AS p (path) ORDER BY path COLLATE "C"
    ON CONFLICT (tenant_id, owner_type, owner_id, path) DO UPDATE SET last_version = path_ledger.last_version
    RETURNING path, last_version`,
};
const duePurgesStatement: Statement = {
  name: "lock_due_purges",
  text: `SELECT * FROM settings WHERE purge_at <= $1::timestamptz ORDER BY purge_at LIMIT $2::int FOR UPDATE SKIP LOCKED`,
};

const keptOf = (from: string): string => `SELECT count(*)::int AS kept FROM (SELECT FROM ${from}
  WHERE s.tenant_id = $1::uuid AND s.owner_type = $2::text AND s.owner_id = $3::uuid LIMIT $4::int) found`;
/** Counting ends at the quota, so that an owner who has more than that costs no more. */
const keptStatements = {
  settings: { name: "kept_settings", text: keptOf("settings s") },
  versions: {
    name: "kept_versions",
    text: keptOf(
      `settings s JOIN setting_versions v
        ON v.tenant_id = s.tenant_id AND v.setting_id = s.id AND v.state <> 'destroyed'`,
    ),
  },
} as const satisfies Record<string, Statement>;

const ledgerKey = ({ tenant_id, owner_type, owner_id }: OwnerKey, path: string) => ({
  tenant_id_owner_type_owner_id_path: { tenant_id, owner_type, owner_id, path },
});
/** Prisma wants bytes that lie in no shared memory. */
const bytes = (from: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(from);
const settingData = (setting: SettingRecord) => ({
  ...setting,
  labels: { ...setting.labels },
  mac: bytes(setting.mac),
});
const versionData = (version: VersionRecord) => ({
  ...version,
  sealed: version.sealed === null ? null : bytes(version.sealed),
  location: version.location === null ? Prisma.DbNull : { ...version.location },
  mac: bytes(version.mac),
});

type SettingWrites = Pick<
  Transaction,
  | "lockPath"
  | "lockPaths"
  | "writeSettings"
  | "setLastVersion"
  | "insertSetting"
  | "updateSetting"
  | "insertVersion"
  | "updateVersion"
  | "purgeSetting"
  | "lockDuePurges"
  | "postponePurge"
  | "hasSettings"
  | "countKept"
>;

export function countKeptIn(db: Pick<Db, "query">): Transaction["countKept"] {
  return async ({ tenant_id, owner_type, owner_id }, what, most) => {
    const params = [tenant_id, owner_type, owner_id, most];
    const [row] = await db.query<{ kept: number }>(keptStatements[what], params);
    return row?.kept ?? 0;
  };
}

export function settingWrites(db: Db): SettingWrites {
  const { prisma } = db;
  return {
    countKept: countKeptIn(db),
    async lockPath(key, path) {
      // An owner that is gone is told by the right that is decided next.
      await holdOwner(db, key);
      const params = [key.tenant_id, key.owner_type, key.owner_id, path];
      const [row] = await db.query<{ last_version: number }>(lockPathStatement, params);
      return row?.last_version ?? 0;
    },

    async lockPaths(key, paths) {
      await holdOwner(db, key);
      const params = [key.tenant_id, key.owner_type, key.owner_id, [...paths]];
      const rows = await db.query<{ path: string; last_version: number }>(lockPathsStatement, params);
      return new Map(rows.map(({ path, last_version }) => [path, last_version]));
    },

    async writeSettings(key, writes) {
      const written = writes.map(({ setting, version, path, isNew }): Written => {
        const last = { key, path, version: version.version };
        return { setting: { ...setting, is_new: isNew }, last, versions: [version], events: [], changes: [] };
      });
      if (written.length > 0) await flush(db, written);
    },

    async setLastVersion(key, path, version) {
      await prisma.pathLedger.update({ where: ledgerKey(key, path), data: { last_version: version } });
    },

    async insertSetting(setting) {
      await prisma.setting.createMany({ data: settingData(setting) });
    },

    /** Leaves `last_accessed_at` alone: it moves by itself, and only forward. */
    async updateSetting(setting) {
      const { tenant_id, id, last_accessed_at: _, ...data } = settingData(setting);
      const { count } = await prisma.setting.updateMany({ where: { tenant_id, id }, data });
      if (count !== 1) throw raced();
    },

    async insertVersion(version) {
      await prisma.settingVersion.createMany({ data: versionData(version) });
    },

    async updateVersion(record) {
      const { tenant_id, setting_id, version, last_accessed_at: _, ...data } = versionData(record);
      const { count } = await prisma.settingVersion.updateMany({
        where: { tenant_id, setting_id, version },
        data,
      });
      if (count !== 1) throw raced();
    },

    /** What the setting has in managers is the sweeper's from here on. */
    async purgeSetting({ tenant_id, id }) {
      const { count } = await prisma.setting.deleteMany({ where: { tenant_id, id } });
      if (count !== 1) throw raced();
      const where = { tenant_id, setting_id: id };
      await prisma.settingVersion.deleteMany({ where });
      await prisma.settingReader.deleteMany({ where });
      await prisma.rotation.deleteMany({ where });
      await prisma.lifecycleNotice.deleteMany({ where: { tenant_id, subject_id: id } });
      await unsettleSecrets(db, where);
    },

    async lockDuePurges(now, limit) {
      const rows = await db.query<SettingModel>(duePurgesStatement, [now, limit]);
      return rows.map(toSettingRecord);
    },

    async postponePurge({ tenant_id, id }, purge_at) {
      await prisma.setting.updateMany({
        where: { tenant_id, id },
        data: { purge_at, revision: { increment: 1 } },
      });
    },

    /** Keeps writers out from here on, so that the answer holds to the end. */
    async hasSettings(owner) {
      await own(db, owner);
      const { owner_type, owner_id } = owner;
      if (owner_type !== "project")
        return (
          (await prisma.setting.findFirst({ where: { tenant_id: owner_id }, select: { id: true } })) !== null
        );
      const project = await prisma.project.findUnique({ where: { id: owner_id } });
      if (project === null) return false;
      const where = { tenant_id: project.organization_id, owner_type, owner_id };
      return (await prisma.setting.findFirst({ where, select: { id: true } })) !== null;
    },
  };
}
