// Wrapped keys and the key-check value. Of several replicas that make the same generation at once, the first one's
// row stays and all of them answer it. No key is put under an owner that is being removed.
import type { DataKeyRecord, KekRecord, KeyStore } from "../domain/sealing-ports.ts";
import { INSTANCE_TENANT } from "../domain/audit.ts";
import type { Db, Statement } from "./db.ts";
import { signingKeysOf } from "./federation.ts";
import { raced } from "./failures.ts";
import type { KeyEncryptionKeyModel } from "./generated/models.ts";
import { hold, holdOwner } from "./locks.ts";
import { toDataKeyRecord, toKekRecord, toManagedSecret } from "./rows.ts";

const bytes = (from: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(from);

export type Transacting = <Result>(work: (db: Db) => Promise<Result>) => Promise<Result>;

/** For how long a key's making is left alone before it is undone. */
const makingSeconds = 30;

const holdStatement: Statement = {
  name: "hold_managed_key",
  text: `UPDATE managed_secrets SET lease_until = greatest(lease_until, $3::timestamptz)
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND lease_id IS NULL AND version_id IS NULL RETURNING id`,
};

export function keyStore(db: Db, transact: Transacting, now: () => Date): KeyStore {
  const { prisma } = db;
  const makingUntil = (): Date => new Date(now().getTime() + makingSeconds * 1_000);

  async function toKek(row: KeyEncryptionKeyModel | null): Promise<KekRecord | null> {
    if (row === null) return null;
    if (row.manager === "local") return toKekRecord(row, null);
    const where = { tenant_id_id: { tenant_id: row.tenant_id, id: row.id } };
    return toKekRecord(row, await prisma.managedSecret.findUnique({ where }));
  }

  async function kekOf({ tenant_id, manager, generation }: KekRecord): Promise<KekRecord | null> {
    const where = { tenant_id_manager_generation: { tenant_id, manager, generation } };
    return toKek(await prisma.keyEncryptionKey.findUnique({ where }));
  }

  async function dataKeyOf(record: DataKeyRecord): Promise<DataKeyRecord | null> {
    const { tenant_id, owner_type, owner_id, manager, generation } = record;
    const place = { tenant_id, owner_type, owner_id, manager, generation };
    const where = { tenant_id_owner_type_owner_id_manager_generation: place };
    const row = await prisma.dataKey.findUnique({ where });
    return row === null ? null : toDataKeyRecord(row);
  }

  return {
    async newestKek(tenant_id, manager) {
      const orderBy = { generation: "desc" } as const;
      return toKek(await prisma.keyEncryptionKey.findFirst({ where: { tenant_id, manager }, orderBy }));
    },

    kek: async (tenant_id, id) =>
      toKek(await prisma.keyEncryptionKey.findUnique({ where: { tenant_id_id: { tenant_id, id } } })),

    async insertKek({ secret, ...record }) {
      await transact(async (tx) => {
        const { tenant_id, id, manager, created_at } = record;
        if (tenant_id !== INSTANCE_TENANT && !(await hold(tx, "organization", tenant_id))) throw raced();
        const data = { ...record, sealed: record.sealed === null ? null : bytes(record.sealed) };
        const made = await tx.prisma.keyEncryptionKey.createMany({ data, skipDuplicates: true });
        if (secret === null || made.count === 0) return;
        const purpose = "key_encryption_key";
        const mac = secret.mac === null ? null : bytes(secret.mac);
        const row = { tenant_id, id, purpose, manager, address: { ...secret.address }, created_at, mac };
        await tx.prisma.managedSecret.createMany({ data: { ...row, lease_until: makingUntil() } });
      });
      return (await kekOf({ ...record, secret })) ?? gone();
    },

    async holdKek({ tenant_id, id }) {
      return (await db.query(holdStatement, [tenant_id, id, makingUntil()])).length === 1;
    },

    async confirmSecret({ tenant_id, id }, version_id, mac) {
      const where = { tenant_id, id, lease_id: null };
      const data = { version_id, lease_until: null, mac: mac === null ? null : bytes(mac) };
      return (await prisma.managedSecret.updateMany({ where, data })).count === 1;
    },

    async newestDataKey({ tenant_id, owner_type, owner_id }, manager) {
      const where = { tenant_id, owner_type, owner_id, manager };
      const row = await prisma.dataKey.findFirst({ where, orderBy: { generation: "desc" } });
      return row === null ? null : toDataKeyRecord(row);
    },

    async dataKeys(tenant_id, ids) {
      const rows = await prisma.dataKey.findMany({ where: { tenant_id, id: { in: [...ids] } } });
      return rows.map(toDataKeyRecord);
    },

    async insertDataKey(record) {
      await transact(async (tx) => {
        if (!(await holdOwner(tx, record))) throw raced();
        const data = { ...record, wrapped: bytes(record.wrapped) };
        await tx.prisma.dataKey.createMany({ data, skipDuplicates: true });
      });
      return (await dataKeyOf(record)) ?? gone();
    },

    signingKeys: () => signingKeysOf(prisma),

    async keyCheck(fresh) {
      if (fresh !== null) {
        const data = { key_check: bytes(fresh), created_at: now() };
        await prisma.instance.createMany({ data, skipDuplicates: true });
      }
      return (await prisma.instance.findUnique({ where: { id: 1 } }))?.key_check ?? null;
    },

    async masterKeySecret(fresh) {
      if (fresh !== null) {
        const { owner: _, mac: __, ...row } = fresh;
        const data = { ...row, address: { ...fresh.address }, created_at: now() };
        await prisma.managedSecret.createMany({ data, skipDuplicates: true });
      }
      const row = await prisma.managedSecret.findFirst({ where: { purpose: "master_key" } });
      return row === null ? null : toManagedSecret(row);
    },
  };
}

/** Inserted, and gone before it could be read back: its owner is being removed. */
function gone(): never {
  throw raced();
}
