// Wrapped keys and the key-check value. Of several replicas that make the same generation at once, the first one's
// row stays and all of them answer it. No key is put under an owner that is being removed.
import type { DataKeyRecord, KekRecord, KeyEpoch, KeyStore } from "../domain/sealing-ports.ts";
import { INSTANCE_TENANT } from "../domain/audit.ts";
import type { Db, Param, Statement } from "./db.ts";
import { signingKeysOf } from "./federation.ts";
import { raced } from "./failures.ts";
import type { DataKeyModel, KeyEncryptionKeyModel, ManagedSecretModel } from "./generated/models.ts";
import { epochOf, heldEpoch } from "./key-rotation.ts";
import { hold, holdOwner } from "./locks.ts";
import { type DataKeyAsk, newestDataKeyMany } from "./lookups.ts";
import { toDataKeyRecord, toKekRecord, toManagedSecret } from "./rows.ts";
import { createTogether } from "./together.ts";

const bytes = (from: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(from);

const masterKeySecretStatement: Statement = {
  name: "master_key_secret",
  text: "SELECT * FROM managed_secrets WHERE purpose = 'master_key'",
};

export type Transacting = <Result>(work: (db: Db) => Promise<Result>) => Promise<Result>;

/** For how long a key's making is left alone before it is undone. */
const makingSeconds = 30;

const holdStatement: Statement = {
  name: "hold_managed_key",
  text: `UPDATE managed_secrets SET lease_until = greatest(lease_until, $3::timestamptz)
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND lease_id IS NULL AND version_id IS NULL RETURNING id`,
};

// Which KEK a data key is put under is looked at while it is held: neither rotated away nor removed until it is used.
const holdKekStatement: Statement = {
  name: "hold_kek",
  text: `SELECT k.id FROM key_encryption_keys k WHERE k.tenant_id = $1::uuid AND k.id = $2::uuid
    AND k.created_at >= coalesce((SELECT keys_rotated_at FROM instance), '-infinity') FOR KEY SHARE OF k`,
};

const localKeksStatement: Statement = {
  name: "local_keks",
  text: `SELECT * FROM key_encryption_keys WHERE manager = 'local' AND (tenant_id, id) > ($1::uuid, $2::uuid)
    ORDER BY tenant_id, id LIMIT $3::int`,
};

const firstCheckStatement: Statement = {
  name: "first_key_check",
  text: "INSERT INTO instance (id, key_check, created_at) VALUES (1, $1::bytea, $2::timestamptz) ON CONFLICT DO NOTHING",
};
const dataKeysStatement: Statement = {
  name: "data_keys",
  text: "SELECT * FROM data_keys WHERE tenant_id = $1::uuid AND id = ANY ($2::uuid[])",
};
const kekStatement: Statement = {
  name: "kek",
  text: "SELECT * FROM key_encryption_keys WHERE tenant_id = $1::uuid AND id = $2::uuid",
};
const generationStatement: Statement = {
  name: "kek_generation",
  text: "SELECT * FROM key_encryption_keys WHERE tenant_id = $1::uuid AND manager = $2::text AND generation = $3::int",
};
const newestKekStatement: Statement = {
  name: "newest_kek",
  text: `SELECT * FROM key_encryption_keys WHERE tenant_id = $1::uuid AND manager = $2::text
    ORDER BY generation DESC LIMIT 1`,
};

export function keyStore(db: Db, transact: Transacting, now: () => Date): KeyStore {
  const { prisma } = db;
  const newestDataKey = createTogether((asks: readonly DataKeyAsk[]) => newestDataKeyMany(db, asks));
  const epoch = createTogether(async (asks: readonly null[]) => {
    const one = await epochOf(db);
    return asks.map(() => one);
  });
  const makingUntil = (): Date => new Date(now().getTime() + makingSeconds * 1_000);

  async function toKek(row: KeyEncryptionKeyModel | null): Promise<KekRecord | null> {
    if (row === null) return null;
    if (row.manager === "local") return toKekRecord(row, null);
    const where = { tenant_id_id: { tenant_id: row.tenant_id, id: row.id } };
    return toKekRecord(row, await prisma.managedSecret.findUnique({ where }));
  }

  async function aKek(statement: Statement, params: readonly Param[]): Promise<KekRecord | null> {
    const [row] = await db.query<KeyEncryptionKeyModel>(statement, params);
    return toKek(row ?? null);
  }

  const kekOf = ({ tenant_id, manager, generation }: KekRecord): Promise<KekRecord | null> =>
    aKek(generationStatement, [tenant_id, manager, generation]);

  async function dataKeyOf(record: DataKeyRecord): Promise<DataKeyRecord | null> {
    const { tenant_id, owner_type, owner_id, manager, generation } = record;
    const place = { tenant_id, owner_type, owner_id, manager, generation };
    const where = { tenant_id_owner_type_owner_id_manager_generation: place };
    const row = await prisma.dataKey.findUnique({ where });
    return row === null ? null : toDataKeyRecord(row);
  }

  return {
    newestKek: (tenant_id, manager) => aKek(newestKekStatement, [tenant_id, manager]),

    kek: (tenant_id, id) => aKek(kekStatement, [tenant_id, id]),

    epoch: () => epoch(null),

    async localKeks(after, take) {
      const params = [after?.tenant_id ?? INSTANCE_TENANT, after?.id ?? INSTANCE_TENANT, take];
      const rows = await db.query<KeyEncryptionKeyModel>(localKeksStatement, params);
      return rows.map((row) => toKekRecord(row, null));
    },

    async insertKek({ secret, ...record }, keyCheck) {
      const isMade = await transact(async (tx) => {
        const epoch = await heldEpoch(tx);
        if (!isNamed(epoch, keyCheck)) return false;
        const { tenant_id, id, manager } = record;
        const created_at = notBefore(record.created_at, epoch);
        if (tenant_id !== INSTANCE_TENANT && !(await hold(tx, "organization", tenant_id))) throw raced();
        const sealed = record.sealed === null ? null : bytes(record.sealed);
        const data = { ...record, sealed, created_at };
        const made = await tx.prisma.keyEncryptionKey.createMany({ data, skipDuplicates: true });
        if (secret === null || made.count === 0) return true;
        const purpose = "key_encryption_key";
        const mac = secret.mac === null ? null : bytes(secret.mac);
        const row = { tenant_id, id, purpose, manager, address: { ...secret.address }, created_at, mac };
        await tx.prisma.managedSecret.createMany({ data: { ...row, lease_until: makingUntil() } });
        return true;
      });
      return isMade ? ((await kekOf({ ...record, secret })) ?? gone()) : null;
    },

    resealKek: (was, sealed, keyCheck) =>
      transact(async (tx) => {
        if (was.sealed === null || !isNamed(await heldEpoch(tx), keyCheck)) return false;
        const where = { ...placeOf(was), sealed: bytes(was.sealed) };
        const { count } = await tx.prisma.keyEncryptionKey.updateMany({
          where,
          data: { sealed: bytes(sealed) },
        });
        return count === 1;
      }),

    async holdKek({ tenant_id, id }) {
      return (await db.query(holdStatement, [tenant_id, id, makingUntil()])).length === 1;
    },

    confirmSecret: ({ tenant_id, id }, version_id, keyCheck, mac) =>
      transact(async (tx) => {
        if (keyCheck !== null && !isNamed(await heldEpoch(tx), keyCheck)) return "superseded";
        const where = { tenant_id, id, lease_id: null };
        const data = { version_id, lease_until: null, mac: mac === null ? null : bytes(mac) };
        return (await tx.prisma.managedSecret.updateMany({ where, data })).count === 1 ? "noted" : "gone";
      }),

    newestDataKey: (key, manager) => newestDataKey({ key, manager }),

    async dataKeys(tenant_id, ids) {
      const rows = await db.query<DataKeyModel>(dataKeysStatement, [tenant_id, [...ids]]);
      return rows.map(toDataKeyRecord);
    },

    async insertDataKey(record) {
      const isMade = await transact(async (tx) => {
        const epoch = await heldEpoch(tx);
        if (!(await holdOwner(tx, record))) throw raced();
        if ((await tx.query(holdKekStatement, [record.kek_tenant, record.kek_id])).length === 0) return false;
        const created_at = notBefore(record.created_at, epoch);
        const data = { ...record, wrapped: bytes(record.wrapped), created_at };
        await tx.prisma.dataKey.createMany({ data, skipDuplicates: true });
        return true;
      });
      return isMade ? ((await dataKeyOf(record)) ?? gone()) : null;
    },

    signingKeys: () => signingKeysOf(db),

    async keyCheck(fresh) {
      if (fresh !== null) {
        await db.query(firstCheckStatement, [fresh, now()]);
      }
      return (await epochOf(db)).key_check;
    },

    async masterKeySecret(fresh) {
      if (fresh !== null) {
        const { owner: _, mac: __, ...row } = fresh;
        const data = { ...row, address: { ...fresh.address }, created_at: now() };
        await prisma.managedSecret.createMany({ data, skipDuplicates: true });
      }
      const [row] = await db.query<ManagedSecretModel>(masterKeySecretStatement, []);
      return row === undefined ? null : toManagedSecret(row);
    },
  };
}

const placeOf = ({ tenant_id, id }: Pick<KekRecord, "tenant_id" | "id">) => ({ tenant_id, id });

/** Before the first start nothing is named yet, and nothing can be under another key. */
function isNamed({ key_check }: KeyEpoch, keyCheck: Uint8Array): boolean {
  return key_check === null || Buffer.from(key_check).equals(keyCheck);
}

/** What is made after a rotation was made after it, whatever its maker's clock says. */
function notBefore(at: Date, { keys_rotated_at: rotated }: KeyEpoch): Date {
  return rotated !== null && rotated.getTime() > at.getTime() ? rotated : at;
}

/** Inserted, and gone before it could be read back: its owner is being removed. */
function gone(): never {
  throw raced();
}
