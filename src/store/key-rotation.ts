// Rotating keys and being rid of old ones. Whoever uses a key holds it: the instance's by an advisory lock that is
// shared until the transaction ends, a data key and a KEK by a lock on their row. So a rotation sees all that was done
// before it, and no key is removed from under a write; what is removed is looked at again once its row is locked.
import type { KeyEpoch } from "../domain/sealing-ports.ts";
import type { KeyReads, KeyWrites, OldKeys } from "../domain/key-ports.ts";
import type { ManagerName } from "../domain/setting.ts";
import type { Db, Statement } from "./db.ts";
import { raced } from "./failures.ts";
import type { SettingModel } from "./generated/models.ts";
import { toSettingRecord, toVersionRecord } from "./rows.ts";

const bytes = (from: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(from);

/** The number is ours alone in the database. An advisory lock, because its queue is fair: a rotation is not starved. */
const keysLock = 4_853_201_177;
// In a statement of its own: the next one sees what its last holder committed.
const shareStatement: Statement = {
  name: "hold_keys",
  text: `SELECT 1 AS held FROM pg_advisory_xact_lock_shared(${keysLock})`,
};
const lockStatement: Statement = {
  name: "lock_keys",
  text: `SELECT 1 AS held FROM pg_advisory_xact_lock(${keysLock})`,
};
// Later than all that was made so far, whatever the clocks of its makers said.
const rotateStatement: Statement = {
  name: "rotate_keys",
  text: `UPDATE instance SET keys_rotated_at = greatest($1::timestamptz,
      (SELECT max(created_at) FROM data_keys) + interval '1 millisecond',
      (SELECT max(created_at) FROM key_encryption_keys) + interval '1 millisecond')`,
};
const holdDataKeyStatement: Statement = {
  name: "hold_data_key",
  text: `SELECT k.id FROM data_keys k WHERE k.tenant_id = $1::uuid AND k.id = $2::uuid
    AND k.created_at >= coalesce((SELECT keys_rotated_at FROM instance), '-infinity') FOR KEY SHARE OF k`,
};

const isOldDataKey = `(k.created_at < (SELECT keys_rotated_at FROM instance) OR EXISTS (
    SELECT FROM data_keys n WHERE n.tenant_id = k.tenant_id AND n.owner_type = k.owner_type
      AND n.owner_id = k.owner_id AND n.manager = k.manager AND n.generation > k.generation))`;
const isOldKek = `(k.created_at < (SELECT keys_rotated_at FROM instance) OR EXISTS (
    SELECT FROM key_encryption_keys n WHERE n.tenant_id = k.tenant_id AND n.manager = k.manager
      AND n.generation > k.generation))`;
const isUsedDataKey = `EXISTS (SELECT FROM setting_versions v WHERE v.tenant_id = k.tenant_id AND v.data_key_id = k.id)`;
const isUsedKek = `EXISTS (SELECT FROM data_keys d WHERE d.kek_tenant = k.tenant_id AND d.kek_id = k.id)`;
const toRewrap = `FROM settings s WHERE ($1::boolean OR EXISTS (
    SELECT FROM setting_versions v JOIN data_keys k ON k.tenant_id = v.tenant_id AND k.id = v.data_key_id
    WHERE v.tenant_id = s.tenant_id AND v.setting_id = s.id AND v.state = 'enabled' AND ${isOldDataKey}))`;

const countStatement: Statement = {
  name: "count_settings_to_rewrap",
  text: `SELECT count(*)::int AS settings ${toRewrap}`,
};
const nextStatement: Statement = {
  name: "settings_to_rewrap",
  text: `SELECT s.* ${toRewrap} AND (s.tenant_id, s.id) > ($2::uuid, $3::uuid)
    ORDER BY s.tenant_id, s.id LIMIT $4::int`,
};
const newestStatement: Statement = {
  name: "newest_data_keys",
  text: `SELECT DISTINCT ON (k.manager) k.manager, k.id,
      k.created_at < coalesce((SELECT keys_rotated_at FROM instance), '-infinity') AS "isOld"
    FROM data_keys k WHERE k.tenant_id = $1::uuid AND k.owner_type = $2::text AND k.owner_id = $3::uuid
    ORDER BY k.manager, k.generation DESC`,
};
const noteUnusedStatement: Statement = {
  name: "note_unused_data_keys",
  text: `UPDATE data_keys k SET unused_at = $1::timestamptz
    WHERE k.unused_at IS NULL AND ${isOldDataKey} AND NOT ${isUsedDataKey}`,
};
const lockUnusedStatement: Statement = {
  name: "lock_unused_data_keys",
  text: `SELECT k.tenant_id, k.id FROM data_keys k WHERE k.unused_at <= $1::timestamptz AND ${isOldDataKey}
    LIMIT $2::int FOR UPDATE SKIP LOCKED`,
};
const among = `k.tenant_id = ANY ($1::uuid[]) AND k.id = ANY ($2::uuid[])`;
const removeDataKeysStatement: Statement = {
  name: "remove_data_keys",
  text: `DELETE FROM data_keys k WHERE ${among} AND NOT ${isUsedDataKey} RETURNING k.id`,
};
// One that was put to use after all is noted anew when it is left again.
const usedAgainStatement: Statement = {
  name: "data_keys_used_again",
  text: `UPDATE data_keys k SET unused_at = NULL WHERE ${among}`,
};
const lockKeksStatement: Statement = {
  name: "lock_old_keks",
  text: `SELECT k.tenant_id, k.id FROM key_encryption_keys k WHERE ${isOldKek} AND NOT ${isUsedKek}
    LIMIT $1::int FOR UPDATE SKIP LOCKED`,
};
const removeKeksStatement: Statement = {
  name: "remove_keks",
  text: `DELETE FROM key_encryption_keys k WHERE ${among} AND NOT ${isUsedKek} RETURNING k.tenant_id, k.id`,
};
const unsettleKeysStatement: Statement = {
  name: "unsettle_keys",
  text: `UPDATE managed_secrets k SET next_try_at = NULL, attempts = 0,
      unsettled_at = greatest(now(), unsettled_at + interval '1 millisecond')
    WHERE ${among} AND k.purpose = 'key_encryption_key'`,
};
const oldKeysStatement: Statement = {
  name: "old_keys",
  text: `SELECT count(*)::int AS data_keys, count(k.unused_at)::int AS unused,
      max(k.unused_at) AS unused_since,
      (SELECT count(*)::int FROM key_encryption_keys k WHERE ${isOldKek}) AS keks,
      (SELECT count(*)::int FROM key_encryption_keys k WHERE ${isOldKek} AND k.manager <> 'local') AS cloud_keks
    FROM data_keys k WHERE ${isOldDataKey}`,
};

type Place = { readonly tenant_id: string; readonly id: string };
const idsOf = (rows: readonly Place[]) => [rows.map((each) => each.tenant_id), rows.map((each) => each.id)];
const first = "00000000-0000-0000-0000-000000000000";

const epochStatement: Statement = {
  name: "key_epoch",
  text: "SELECT key_check, previous_key_check, keys_rotated_at FROM instance WHERE id = 1",
};

/** What all keys stand on; before the first start nothing is there. */
export async function epochOf(db: Pick<Db, "query">): Promise<KeyEpoch> {
  const [row] = await db.query<KeyEpoch>(epochStatement, []);
  return row ?? { key_check: null, previous_key_check: null, keys_rotated_at: null };
}

/** The same, held until the transaction ends. */
export async function heldEpoch(db: Pick<Db, "query">): Promise<KeyEpoch> {
  await db.query(shareStatement, []);
  return epochOf(db);
}

/** The same, for a connection that answers in order: the look is a statement of its own, sent behind the lock. */
export async function heldEpochAtOnce(db: Pick<Db, "query">): Promise<KeyEpoch> {
  const [, epoch] = await Promise.all([db.query(shareStatement, []), epochOf(db)]);
  return epoch;
}

export function keyReads(db: Db): KeyReads {
  const { prisma } = db;

  async function countToRewrap(all: boolean): Promise<number> {
    const [row] = await db.query<{ settings: number }>(countStatement, [all]);
    return row?.settings ?? 0;
  }

  return {
    epoch: () => epochOf(db),
    newestDataKeys: ({ tenant_id, owner_type, owner_id }) =>
      db.query<{ manager: ManagerName; id: string; isOld: boolean }>(newestStatement, [
        tenant_id,
        owner_type,
        owner_id,
      ]),

    async settingsToRewrap(all, after, limit) {
      const params = [all, after?.tenant_id ?? first, after?.id ?? first, limit];
      return (await db.query<SettingModel>(nextStatement, params)).map(toSettingRecord);
    },
    countSettingsToRewrap: countToRewrap,
    async versionsAfter({ tenant_id, id }, version, take) {
      const where = { tenant_id, setting_id: id, version: { gt: version } };
      const rows = await prisma.settingVersion.findMany({ where, orderBy: { version: "asc" }, take });
      return rows.map(toVersionRecord);
    },
    async oldKeys() {
      const [row] = await db.query<Omit<OldKeys, "settings">>(oldKeysStatement, []);
      if (row === undefined) throw new Error("a count has a row");
      return { ...row, settings: await countToRewrap(false) };
    },
  };
}

export function keyWrites(db: Db): KeyWrites {
  const { prisma } = db;

  return {
    async heldKeyCheck() {
      const { key_check } = await heldEpoch(db);
      if (key_check === null) throw new Error("the instance has a master key");
      return key_check;
    },
    keyCheckNow: async () => (await epochOf(db)).key_check,
    async lockKeys() {
      await db.query(lockStatement, []);
      return epochOf(db);
    },
    async rotateKeys(now) {
      await db.query(rotateStatement, [now]);
    },
    async putKeyChecks(key_check, previous) {
      const data = {
        key_check: bytes(key_check),
        previous_key_check: previous === null ? null : bytes(previous),
      };
      await prisma.instance.updateMany({ data });
    },

    async holdDataKey(tenant_id, id) {
      return (await db.query(holdDataKeyStatement, [tenant_id, id])).length === 1;
    },
    async putSigningKeySealed(id, sealed) {
      const { count } = await prisma.signingKey.updateMany({
        where: { id },
        data: { sealed: bytes(sealed) },
      });
      if (count !== 1) throw raced();
    },

    async noteUnusedDataKeys(now) {
      await db.query(noteUnusedStatement, [now]);
    },
    async removeDataKeys(unusedBefore, limit) {
      const found = await db.query<Place>(lockUnusedStatement, [unusedBefore, limit]);
      if (found.length === 0) return 0;
      const removed = await db.query<Place>(removeDataKeysStatement, idsOf(found));
      if (removed.length < found.length) await db.query(usedAgainStatement, idsOf(found));
      return removed.length;
    },
    async removeKeks(limit) {
      const found = await db.query<Place>(lockKeksStatement, [limit]);
      if (found.length === 0) return 0;
      const removed = await db.query<Place>(removeKeksStatement, idsOf(found));
      if (removed.length > 0) await db.query(unsettleKeysStatement, idsOf(removed));
      return removed.length;
    },
  };
}
