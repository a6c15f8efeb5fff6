// Secrets of ours in clouds' managers, as rows: who writes to one, and which the manager and the database may differ
// about. A lease is taken only where nobody has one; whoever takes over one that ran out leaves a mark for the sweeper.
import {
  IN_FLIGHT_SECONDS,
  type ManagerReads,
  type ManagerWrites,
  type SettingPlace,
} from "../domain/manager-store-ports.ts";
import { liesAt } from "../domain/setting.ts";
import type { Db, Statement } from "./db.ts";
import type { ManagedSecretModel } from "./generated/models.ts";
import { toManagedSecret, toSettingRecord, toVersionRecord } from "./rows.ts";

/** A note of a secret may fit many settings; more than this are not found. */
const placesMax = 1_000;

const isLeasedStatement: Statement = {
  name: "is_secret_leased",
  text: `SELECT id FROM managed_secrets WHERE tenant_id = $1::uuid AND owner_type = $2::text AND owner_id = $3::uuid
    AND path = $4::text AND lease_until > clock_timestamp() LIMIT 1`,
};
/** By the database's clock alone: replicas' own may differ by more than a lease is long. */
const until = (seconds: string): string => `clock_timestamp() + make_interval(secs => ${seconds}::float8)`;
const inFlight = until(`${IN_FLIGHT_SECONDS}`);
// Who let a lease run out may have a call under way: its process was killed, or stood still.
const leaseStatement: Statement = {
  name: "lease_secret",
  text: `UPDATE managed_secrets SET lease_id = $3::uuid, lease_until = ${until("$4")},
      unsettled_at = CASE WHEN lease_until IS NULL THEN unsettled_at ELSE coalesce(unsettled_at, clock_timestamp()) END,
      in_flight_until = CASE WHEN lease_until IS NULL THEN in_flight_until ELSE ${inFlight} END
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND (lease_until IS NULL OR lease_until <= clock_timestamp())
    RETURNING id`,
};
const renewStatement: Statement = {
  name: "renew_lease",
  text: `UPDATE managed_secrets SET lease_until = ${until("$4")}
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND lease_id = $3::uuid RETURNING id`,
};
const giveUpStatement: Statement = {
  name: "give_up_lease",
  text: `UPDATE managed_secrets SET lease_id = NULL, lease_until = NULL, next_try_at = NULL,
      unsettled_at = coalesce(unsettled_at, clock_timestamp())
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND lease_id = $3::uuid RETURNING id`,
};
const inFlightStatement: Statement = {
  name: "secret_in_flight",
  text: `UPDATE managed_secrets SET in_flight_until = ${inFlight} WHERE tenant_id = $1::uuid AND id = $2::uuid`,
};
// A millisecond on, whatever the clock says: who settles sees that the mark is not the one that was there.
const unsettle = (which: string): string => `UPDATE managed_secrets SET next_try_at = NULL, attempts = 0,
    unsettled_at = greatest(clock_timestamp(), unsettled_at + interval '1 millisecond')
  WHERE tenant_id = $1::uuid${which}`;
const unsettleStatements = {
  setting: { name: "unsettle_setting", text: unsettle(" AND setting_id = $2::uuid") },
  owner: { name: "unsettle_owner", text: unsettle(" AND owner_type = $2::text AND owner_id = $3::uuid") },
  tenant: { name: "unsettle_tenant", text: unsettle("") },
} satisfies Record<string, Statement>;
/** What the sweeper may claim: nobody has it, and it is time. */
export const unsettledSecrets = `managed_secrets
    WHERE (unsettled_at IS NOT NULL OR lease_until IS NOT NULL) AND purpose <> 'master_key'
      AND (lease_until IS NULL OR lease_until <= clock_timestamp())
      AND (next_try_at IS NULL OR next_try_at <= clock_timestamp())`;
const claim = (which: string): string => `WITH due AS (
    SELECT tenant_id, id, purpose = 'setting' AND lease_until IS NOT NULL AS ran_out FROM ${unsettledSecrets}${which}
    ORDER BY coalesce(next_try_at, unsettled_at, lease_until) LIMIT 1 FOR UPDATE SKIP LOCKED)
  UPDATE managed_secrets m SET lease_id = $1::uuid, lease_until = ${until("$2")},
    in_flight_until = CASE WHEN due.ran_out THEN ${inFlight} ELSE m.in_flight_until END
  FROM due WHERE m.tenant_id = due.tenant_id AND m.id = due.id
  RETURNING m.*, coalesce(m.in_flight_until > clock_timestamp(), FALSE) AS in_flight`;
const claimStatements = {
  any: { name: "claim_unsettled", text: claim("") },
  setting: {
    name: "claim_unsettled_setting",
    text: claim(" AND tenant_id = $3::uuid AND setting_id = $4::uuid"),
  },
} satisfies Record<string, Statement>;
const settledStatement: Statement = {
  name: "settled",
  text: `UPDATE managed_secrets SET lease_id = NULL, lease_until = NULL, attempts = 0, next_try_at = NULL,
      unsettled_at = CASE WHEN unsettled_at IS NOT DISTINCT FROM $4::timestamptz THEN NULL ELSE unsettled_at END
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND lease_id = $3::uuid`,
};
const laterStatement: Statement = {
  name: "settle_later",
  text: `UPDATE managed_secrets SET lease_id = NULL, lease_until = NULL, attempts = attempts + 1,
      next_try_at = ${until("$4")}, unsettled_at = coalesce(unsettled_at, clock_timestamp())
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND lease_id = $3::uuid`,
};
// Within the tenants where the principal may open values at all: what is elsewhere is none of a note's business.
const placesStatement: Statement = {
  name: "places_holding",
  text: `SELECT DISTINCT s.tenant_id, s.owner_type, s.owner_id, s.path FROM setting_versions v
    JOIN settings s ON s.tenant_id = v.tenant_id AND s.id = v.setting_id AND s.current_version = v.version
    WHERE regexp_replace(coalesce(v.location ->> 'secret_id', v.location ->> 'resource'),
        '^arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:(.*)-[A-Za-z0-9]{6}$', '\\1') = $2::text
      AND v.location IS NOT NULL
      AND v.manager = $1::text AND v.state = 'enabled' AND s.deleted_at IS NULL
      AND (s.owner_type = 'user' AND s.owner_id = $3::uuid OR EXISTS (
        SELECT FROM memberships m WHERE m.principal_id = $3::uuid AND m.tenant_id = s.tenant_id
          AND (m.owner_id = s.owner_id AND m.role <> 'read' OR m.owner_id = s.tenant_id AND m.role = 'owner')))
    ORDER BY s.tenant_id, s.owner_type, s.owner_id, s.path LIMIT ${placesMax}`,
};

type ClaimedRow = ManagedSecretModel & { readonly in_flight: boolean };
type Which =
  | { readonly tenant_id: string; readonly setting_id: string }
  | { readonly tenant_id: string; readonly owner_type: string; readonly owner_id: string }
  | { readonly tenant_id: string };

/** For whatever removes rows that point into managers: a setting's, an owner's, or a whole tenant's. */
export async function unsettleSecrets(db: Db, which: Which): Promise<void> {
  const { setting, owner, tenant } = unsettleStatements;
  if ("setting_id" in which) await db.query(setting, [which.tenant_id, which.setting_id]);
  else if ("owner_id" in which) await db.query(owner, [which.tenant_id, which.owner_type, which.owner_id]);
  else await db.query(tenant, [which.tenant_id]);
}

export function managedSecretReads(
  db: Db,
): Pick<ManagerReads, "settingById" | "placesHolding" | "isOurSecret"> {
  const { prisma } = db;
  return {
    async settingById(tenant_id, id) {
      const row = await prisma.setting.findUnique({ where: { tenant_id_id: { tenant_id, id } } });
      return row === null ? null : toSettingRecord(row);
    },
    async isOurSecret(id) {
      return (await prisma.managedSecret.findFirst({ where: { id }, select: { id: true } })) !== null;
    },
    async placesHolding(principalId, manager, secret) {
      const rows = await db.query<SettingPlace["key"] & { path: string }>(placesStatement, [
        manager,
        secret,
        principalId,
      ]);
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
  | "giveUpLease"
  | "noteInFlight"
  | "unsettle"
  | "claimUnsettled"
  | "undoKey"
  | "settled"
  | "versionsAt"
  | "isKeyInUse"
>;

export function managedSecretWrites(db: Db): SecretWrites {
  const { prisma } = db;

  return {
    async isSecretLeased({ tenant_id, owner_type, owner_id }, path) {
      return (await db.query(isLeasedStatement, [tenant_id, owner_type, owner_id, path])).length > 0;
    },

    async settingSecret(tenant_id, setting_id, manager) {
      const row = await prisma.managedSecret.findFirst({ where: { tenant_id, setting_id, manager } });
      return row === null ? null : toManagedSecret(row);
    },

    async insertSettingSecret({ key, path }, { id, manager, address, setting_id, mac }, created_at) {
      const { tenant_id, owner_type, owner_id } = key;
      const place = { tenant_id, owner_type, owner_id, path, setting_id };
      const data = { ...place, id, manager, purpose: "setting", address: { ...address }, created_at };
      await prisma.managedSecret.createMany({
        data: { ...data, mac: mac === null ? null : new Uint8Array(mac) },
      });
    },

    async leaseSecret(tenant_id, id, { lease_id, seconds }) {
      return (await db.query(leaseStatement, [tenant_id, id, lease_id, seconds])).length === 1;
    },

    async renewLease(tenant_id, id, { lease_id, seconds }) {
      return (await db.query(renewStatement, [tenant_id, id, lease_id, seconds])).length === 1;
    },

    async endLease(tenant_id, id, lease_id) {
      const data = { lease_id: null, lease_until: null };
      return (
        (await prisma.managedSecret.updateMany({ where: { tenant_id, id, lease_id }, data })).count === 1
      );
    },

    async giveUpLease(tenant_id, id, lease_id) {
      return (await db.query(giveUpStatement, [tenant_id, id, lease_id])).length === 1;
    },

    async noteInFlight(tenant_id, id) {
      await db.query(inFlightStatement, [tenant_id, id]);
    },

    unsettle: (tenant_id, setting_id) => unsettleSecrets(db, { tenant_id, setting_id }),

    async claimUnsettled(setting, { lease_id, seconds }) {
      const term = [lease_id, seconds];
      const [row] =
        setting === null
          ? await db.query<ClaimedRow>(claimStatements.any, term)
          : await db.query<ClaimedRow>(claimStatements.setting, [
              ...term,
              setting.tenant_id,
              setting.setting_id,
            ]);
      return row === undefined ? null : { ...toManagedSecret(row), in_flight: row.in_flight };
    },

    async undoKey({ tenant_id, id }) {
      await prisma.keyEncryptionKey.deleteMany({ where: { tenant_id, id } });
    },

    async settled({ tenant_id, id, unsettled_at }, lease_id, outcome) {
      if (outcome.kind === "later")
        await db.query(laterStatement, [tenant_id, id, lease_id, outcome.seconds]);
      else if (outcome.kind === "settled" || !(await removed({ tenant_id, id, lease_id, unsettled_at })))
        await db.query(settledStatement, [tenant_id, id, lease_id, unsettled_at]);
    },

    async versionsAt({ tenant_id, id }, address) {
      const where = { tenant_id, setting_id: id, storage: "manager", state: { not: "destroyed" } };
      const omit = { sealed: true } as const;
      const rows = await prisma.settingVersion.findMany({ where, omit, orderBy: { version: "asc" } });
      const versions = rows.map((row) => toVersionRecord({ ...row, sealed: null }));
      return versions.filter((version) => liesAt(version, address));
    },

    async isKeyInUse({ tenant_id, id }) {
      if ((await prisma.keyEncryptionKey.count({ where: { tenant_id, id } })) > 0) return true;
      // Its row is gone, and not by a broker: without the secret no value under it could be had ever again.
      return (await prisma.dataKey.count({ where: { kek_tenant: tenant_id, kek_id: id } })) > 0;
    },
  };

  async function removed(where: Pick<ManagedSecretModel, "tenant_id" | "id" | "lease_id" | "unsettled_at">) {
    return (await prisma.managedSecret.deleteMany({ where })).count === 1;
  }
}
