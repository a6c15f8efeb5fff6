// Wrapped keys and the key-check value. Of several replicas that make the same generation at once, the first one's
// row stays and all of them answer it. No key is put under an owner that is being removed.
import type { DataKeyRecord, KekRecord, KeyStore } from "../domain/sealing-ports.ts";
import { INSTANCE_TENANT } from "../domain/audit.ts";
import type { Db } from "./db.ts";
import { signingKeysOf } from "./federation.ts";
import { raced } from "./failures.ts";
import { hold, holdOwner } from "./locks.ts";
import { toDataKeyRecord, toKekRecord } from "./rows.ts";

const bytes = (from: Uint8Array): Uint8Array<ArrayBuffer> => new Uint8Array(from);

export type Transacting = <Result>(work: (db: Db) => Promise<Result>) => Promise<Result>;

export function keyStore(db: Db, transact: Transacting, now: () => Date): KeyStore {
  const { prisma } = db;

  async function kekOf({ tenant_id, manager, generation }: KekRecord): Promise<KekRecord | null> {
    const where = { tenant_id_manager_generation: { tenant_id, manager, generation } };
    const row = await prisma.keyEncryptionKey.findUnique({ where });
    return row === null ? null : toKekRecord(row);
  }

  async function dataKeyOf({
    tenant_id,
    owner_type,
    owner_id,
    generation,
  }: DataKeyRecord): Promise<DataKeyRecord | null> {
    const where = {
      tenant_id_owner_type_owner_id_generation: { tenant_id, owner_type, owner_id, generation },
    };
    const row = await prisma.dataKey.findUnique({ where });
    return row === null ? null : toDataKeyRecord(row);
  }

  return {
    async newestKek(tenant_id, manager) {
      const orderBy = { generation: "desc" } as const;
      const row = await prisma.keyEncryptionKey.findFirst({ where: { tenant_id, manager }, orderBy });
      return row === null ? null : toKekRecord(row);
    },

    async kek(tenant_id, id) {
      const row = await prisma.keyEncryptionKey.findUnique({ where: { tenant_id_id: { tenant_id, id } } });
      return row === null ? null : toKekRecord(row);
    },

    async insertKek(record) {
      await transact(async (tx) => {
        const { tenant_id } = record;
        if (tenant_id !== INSTANCE_TENANT && !(await hold(tx, "organization", tenant_id))) throw raced();
        const data = { ...record, sealed: record.sealed === null ? null : bytes(record.sealed) };
        await tx.prisma.keyEncryptionKey.createMany({ data, skipDuplicates: true });
      });
      return (await kekOf(record)) ?? gone();
    },

    async newestDataKey({ tenant_id, owner_type, owner_id }) {
      const where = { tenant_id, owner_type, owner_id };
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
  };
}

/** Inserted, and gone before it could be read back: its owner is being removed. */
function gone(): never {
  throw raced();
}
