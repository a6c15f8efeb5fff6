// Secrets of ours in clouds' managers, as rows: who writes to one, and which the manager and the database may differ
// about. A lease is taken only where nobody has one; whoever takes over one that ran out leaves a mark for the sweeper.
import { isDeepStrictEqual } from "node:util";
import type { Owner } from "../domain/address.ts";
import type { ManagedSecret } from "../domain/manager-ports.ts";
import type { ManagerReads, ManagerWrites, SettingPlace } from "../domain/manager-store-ports.ts";
import { addressIn } from "../domain/setting.ts";
import type { Db, Statement } from "./db.ts";
import type { ManagedSecretModel } from "./generated/models.ts";
import { toManagedSecret, toSettingRecord, toVersionRecord } from "./rows.ts";

/** A note of a secret may fit several settings; more than this are not looked through. */
const placesMax = 20;

const isLeasedStatement: Statement = {
  name: "is_secret_leased",
  text: `SELECT id FROM managed_secrets WHERE tenant_id = $1::uuid AND owner_type = $2::text AND owner_id = $3::uuid
    AND path = $4::text AND lease_until > $5::timestamptz LIMIT 1`,
};
const leaseStatement: Statement = {
  name: "lease_secret",
  text: `UPDATE managed_secrets SET lease_id = $3::uuid, lease_until = $4::timestamptz,
      unsettled_at = CASE WHEN lease_until IS NULL THEN unsettled_at ELSE coalesce(unsettled_at, $5::timestamptz) END
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND (lease_until IS NULL OR lease_until <= $5::timestamptz)
    RETURNING id`,
};
// A millisecond on, whatever the clock says: who settles sees that the mark is not the one that was there.
const unsettleStatement: Statement = {
  name: "unsettle_secrets",
  text: `UPDATE managed_secrets SET next_try_at = NULL, attempts = 0,
      unsettled_at = greatest(now(), unsettled_at + interval '1 millisecond')
    WHERE tenant_id = $1::uuid AND ($2::uuid IS NULL OR setting_id = $2::uuid)
      AND ($3::text IS NULL OR (owner_type = $3::text AND owner_id = $4::uuid))`,
};
const claimStatement: Statement = {
  name: "claim_unsettled",
  text: `WITH due AS (
      SELECT tenant_id, id FROM managed_secrets
      WHERE (unsettled_at IS NOT NULL OR lease_until IS NOT NULL) AND purpose <> 'master_key'
        AND (lease_until IS NULL OR lease_until <= $1::timestamptz)
        AND (next_try_at IS NULL OR next_try_at <= $1::timestamptz)
        AND ($2::uuid IS NULL OR (tenant_id = $2::uuid AND setting_id = $3::uuid))
      ORDER BY next_try_at NULLS FIRST LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE managed_secrets m SET lease_id = $4::uuid, lease_until = $5::timestamptz
    FROM due WHERE m.tenant_id = due.tenant_id AND m.id = due.id RETURNING m.*`,
};
const settledStatement: Statement = {
  name: "settled",
  text: `UPDATE managed_secrets SET lease_id = NULL, lease_until = NULL, attempts = 0, next_try_at = NULL,
      unsettled_at = CASE WHEN unsettled_at IS NOT DISTINCT FROM $4::timestamptz THEN NULL ELSE unsettled_at END
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND lease_id = $3::uuid`,
};
const laterStatement: Statement = {
  name: "settle_later",
  text: `UPDATE managed_secrets SET lease_id = NULL, lease_until = NULL, attempts = attempts + 1,
      next_try_at = $4::timestamptz, unsettled_at = coalesce(unsettled_at, now())
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND lease_id = $3::uuid`,
};
const placesStatement: Statement = {
  name: "places_holding",
  text: `SELECT DISTINCT s.tenant_id, s.owner_type, s.owner_id, s.path FROM setting_versions v
    JOIN settings s ON s.tenant_id = v.tenant_id AND s.id = v.setting_id AND s.current_version = v.version
    WHERE regexp_replace(coalesce(v.location ->> 'secret_id', v.location ->> 'resource'),
        '^arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:(.*)-[A-Za-z0-9]{6}$', '\\1') = $2::text
      AND v.location IS NOT NULL
      AND v.manager = $1::text AND v.state = 'enabled' AND s.deleted_at IS NULL
    ORDER BY s.tenant_id, s.owner_type, s.owner_id, s.path LIMIT ${placesMax}`,
};

type Which = {
  readonly tenant_id: string;
  readonly setting_id?: string;
  readonly owner_type?: string;
  readonly owner_id?: string;
};

/** For whatever removes rows that point into managers: a setting's, an owner's, or a whole tenant's. */
export async function unsettleSecrets(db: Db, which: Which): Promise<void> {
  const { tenant_id, setting_id = null, owner_type = null, owner_id = null } = which;
  await db.query(unsettleStatement, [tenant_id, setting_id, owner_type, owner_id]);
}

export function managedSecretReads(db: Db): Pick<ManagerReads, "settingById" | "placesHolding"> {
  const { prisma } = db;
  return {
    async settingById(tenant_id, id) {
      const row = await prisma.setting.findUnique({ where: { tenant_id_id: { tenant_id, id } } });
      return row === null ? null : toSettingRecord(row);
    },
    async placesHolding(manager, secret) {
      const rows = await db.query<SettingPlace["key"] & { path: string }>(placesStatement, [manager, secret]);
      return rows.map(({ path, ...key }) => ({ key, path }));
    },
  };
}

type SecretWrites = Pick<
  ManagerWrites,
  | "isSecretLeased"
  | "settingSecret"
  | "insertSettingSecret"
  | "leaseSecret"
  | "renewLease"
  | "endLease"
  | "expireLease"
  | "unsettle"
  | "claimUnsettled"
  | "settled"
  | "versionsAt"
  | "isKeyInUse"
>;

export function managedSecretWrites(db: Db): SecretWrites {
  const { prisma } = db;

  /** Who was making it is not coming back: nothing can have been wrapped under it. */
  async function undoKey({ tenant_id, id }: ManagedSecret): Promise<void> {
    await prisma.keyEncryptionKey.deleteMany({ where: { tenant_id, id } });
  }

  return {
    async isSecretLeased({ tenant_id, owner_type, owner_id }, path, now) {
      return (await db.query(isLeasedStatement, [tenant_id, owner_type, owner_id, path, now])).length > 0;
    },

    async settingSecret(tenant_id, setting_id, manager) {
      const row = await prisma.managedSecret.findFirst({ where: { tenant_id, setting_id, manager } });
      return row === null ? null : toManagedSecret(row);
    },

    async insertSettingSecret({ key, path }, { id, manager, address, setting_id }, created_at) {
      const { tenant_id, owner_type, owner_id } = key;
      const place = { tenant_id, owner_type, owner_id, path, setting_id };
      const data = { ...place, id, manager, purpose: "setting", address: { ...address }, created_at };
      await prisma.managedSecret.createMany({ data });
    },

    async leaseSecret(tenant_id, id, now, { lease_id, until }) {
      return (await db.query(leaseStatement, [tenant_id, id, lease_id, until, now])).length === 1;
    },

    async renewLease(tenant_id, id, { lease_id, until }) {
      const data = { lease_until: until };
      return (
        (await prisma.managedSecret.updateMany({ where: { tenant_id, id, lease_id }, data })).count === 1
      );
    },

    async endLease(tenant_id, id, lease_id) {
      const data = { lease_id: null, lease_until: null };
      return (
        (await prisma.managedSecret.updateMany({ where: { tenant_id, id, lease_id }, data })).count === 1
      );
    },

    async expireLease(tenant_id, id, lease_id, now) {
      const data = { lease_until: now, next_try_at: null };
      await prisma.managedSecret.updateMany({ where: { tenant_id, id, lease_id }, data });
    },

    unsettle: (tenant_id, setting_id) => unsettleSecrets(db, { tenant_id, setting_id }),

    async claimUnsettled(setting, now, { lease_id, until }) {
      const params = [now, setting?.tenant_id ?? null, setting?.setting_id ?? null, lease_id, until];
      const [row] = await db.query<ManagedSecretModel>(claimStatement, params);
      if (row === undefined) return null;
      const secret = toManagedSecret(row);
      if (secret.purpose === "key_encryption_key" && secret.version_id === null) await undoKey(secret);
      return { ...secret, owner: ownerOf(row) };
    },

    async settled({ tenant_id, id, unsettled_at }, { lease_id }, outcome) {
      if (outcome.kind === "later") await db.query(laterStatement, [tenant_id, id, lease_id, outcome.at]);
      else if (outcome.kind === "settled" || !(await removed({ tenant_id, id, lease_id, unsettled_at })))
        await db.query(settledStatement, [tenant_id, id, lease_id, unsettled_at]);
    },

    async versionsAt({ tenant_id, id }, address) {
      const where = { tenant_id, setting_id: id, storage: "manager" };
      const omit = { sealed: true } as const;
      const rows = await prisma.settingVersion.findMany({ where, omit, orderBy: { version: "asc" } });
      const versions = rows.map((row) => toVersionRecord({ ...row, sealed: null }));
      return versions.filter(
        ({ location }) => location !== null && isDeepStrictEqual(addressIn(location), address),
      );
    },

    async isKeyInUse({ tenant_id, id }) {
      return (await prisma.keyEncryptionKey.count({ where: { tenant_id, id } })) > 0;
    },
  };

  async function removed(where: Pick<ManagedSecretModel, "tenant_id" | "id" | "lease_id" | "unsettled_at">) {
    return (await prisma.managedSecret.deleteMany({ where })).count === 1;
  }
}

function ownerOf({ owner_type, owner_id }: ManagedSecretModel): Owner | null {
  return owner_type === null || owner_id === null ? null : ({ owner_type, owner_id } as Owner);
}
