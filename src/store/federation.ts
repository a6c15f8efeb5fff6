// Identity providers, the workloads and persons whom they vouch for, and the keys that access tokens are signed with.
import type {
  FederationReads,
  IdentityProviderRecord,
  SigningKeyRecord,
  TrustedProvider,
  WorkloadRecord,
} from "../domain/federation-ports.ts";
import type { Transaction } from "../domain/ports.ts";
import type { Asker, Db, Statement } from "./db.ts";
import { Prisma } from "./generated/client.ts";
import type { IdentityProviderModel, SigningKeyModel } from "./generated/models.ts";
import { type PrincipalFacts, toPrincipal } from "./read-ahead-rows.ts";
import { principalFacts } from "./read-ahead-sql.ts";
import { afterId, toPage, toPrincipalRecord } from "./rows.ts";

function toRecord({ jwks, bindings, ...row }: IdentityProviderModel): IdentityProviderRecord {
  return {
    ...row,
    jwks: jwks as IdentityProviderRecord["jwks"],
    bindings: bindings as unknown as IdentityProviderRecord["bindings"],
  };
}

/** A transaction's number may come again where the database was set back under a living broker. */
const rowVersion = "i.xmin::text || '/' || i.revision || '/' || extract(epoch FROM i.updated_at)";

type WorkloadRow = {
  readonly id: string;
  readonly account: PrincipalFacts;
  readonly trusted: Readonly<Record<string, string>>;
};
const workloadsStatement: Statement = {
  name: "workloads_many",
  text: `SELECT p.id, ${principalFacts} AS account, (SELECT coalesce(json_object_agg(i.id, ${rowVersion}), '{}')
      FROM identity_providers i WHERE i.organization_id = p.organization_id) AS trusted
    FROM principals p WHERE p.id = ANY ($1::uuid[]) AND p.kind = 'service_account'`,
};

/** As Reader.workload, for many at once. */
export async function workloadsMany(
  db: Asker,
  ids: readonly string[],
): Promise<readonly (WorkloadRecord | null)[]> {
  const rows = await db.query<WorkloadRow>(workloadsStatement, [[...new Set(ids)]]);
  const found = new Map(
    rows.map(({ id, account, trusted }) => [
      id,
      { account: toPrincipal(account), trusted: new Map(Object.entries(trusted)) },
    ]),
  );
  return ids.map((id) => found.get(id) ?? null);
}

const trustedStatement: Statement = {
  name: "trusted_providers",
  text: `SELECT organization_id, id, issuer, audience, jwks_uri, jwks, bindings, revision, created_at, created_by,
      updated_at, ${rowVersion} AS row_version
    FROM identity_providers i WHERE organization_id = ANY ($1::uuid[]) ORDER BY id`,
};

/** As Reader.trustedProviders, for many at once: those who ask for the same have the same. */
export async function trustedProvidersMany(
  db: Asker,
  organizationIds: readonly string[],
): Promise<readonly (readonly TrustedProvider[])[]> {
  const rows = await db.query<TrustedProvider>(trustedStatement, [[...new Set(organizationIds)]]);
  const found = Map.groupBy(rows, ({ organization_id }) => organization_id);
  return organizationIds.map((id) => found.get(id) ?? []);
}

export function federationReads(db: Db): FederationReads {
  const { prisma } = db;
  return {
    trustedProviders: async (organizationId) => (await trustedProvidersMany(db, [organizationId]))[0] ?? [],
    workload: async (id) => (await workloadsMany(db, [id]))[0] ?? null,
    async identityProvider(organization_id, id) {
      const row = await prisma.identityProvider.findUnique({
        where: { organization_id_id: { organization_id, id } },
      });
      return row === null ? null : toRecord(row);
    },
    async identityProvidersOf(organization_id, page) {
      const rows = await prisma.identityProvider.findMany({
        where: { organization_id, id: afterId(page) },
        orderBy: { id: "asc" },
        take: page.limit + 1,
      });
      return toPage(rows.map(toRecord), page);
    },
  };
}

const signingKeysStatement: Statement = {
  name: "signing_keys",
  text: "SELECT * FROM signing_keys ORDER BY created_at",
};

/** Oldest first. */
export async function signingKeysOf(db: Db): Promise<readonly SigningKeyRecord[]> {
  const rows = await db.query<SigningKeyModel>(signingKeysStatement, []);
  return rows.map((row) => ({ ...row, public_jwk: row.public_jwk as SigningKeyRecord["public_jwk"] }));
}

type FederationWrites = Pick<
  Transaction,
  | "userByIdentity"
  | "insertPerson"
  | "putIdentityProvider"
  | "removeIdentityProvider"
  | "signingKeys"
  | "insertSigningKey"
  | "retireSigningKey"
  | "removeSigningKey"
>;

export function federationWrites(db: Db): FederationWrites {
  const { prisma } = db;
  return {
    async userByIdentity(identity_issuer, identity_subject) {
      const where = { identity_issuer_identity_subject: { identity_issuer, identity_subject } };
      const row = await prisma.principal.findUnique({ where });
      return row === null ? null : toPrincipalRecord(row);
    },
    async insertPerson({ scopes, ...row }, identity_issuer, identity_subject) {
      const data = { ...row, scopes: [...scopes], identity_issuer, identity_subject };
      await prisma.principal.createMany({ data });
    },
    async putIdentityProvider({ organization_id, id, jwks, bindings, ...rest }) {
      const fields = {
        ...rest,
        jwks: jwks === null ? Prisma.DbNull : (jwks as Prisma.InputJsonValue),
        bindings: bindings as unknown as Prisma.InputJsonValue,
      };
      await prisma.identityProvider.upsert({
        where: { organization_id_id: { organization_id, id } },
        create: { organization_id, id, ...fields },
        update: fields,
      });
    },
    async removeIdentityProvider(organization_id, id) {
      await prisma.identityProvider.deleteMany({ where: { organization_id, id } });
    },
    signingKeys: () => signingKeysOf(db),
    async insertSigningKey({ public_jwk, sealed, ...rest }) {
      const data = { ...rest, public_jwk: { ...public_jwk }, sealed: new Uint8Array(sealed) };
      await prisma.signingKey.createMany({ data });
    },
    async retireSigningKey(id, retired_at) {
      await prisma.signingKey.updateMany({ where: { id }, data: { retired_at } });
    },
    async removeSigningKey(id) {
      await prisma.signingKey.deleteMany({ where: { id } });
    },
  };
}
