// Who a credential belongs to and where that principal stands, in one statement: all that a decision looks at is read
// together. An owner that does not exist gives no standing, just like one where the principal has no role to speak of.
import type { Role } from "../domain/access.ts";
import type { Owner, OwnerType } from "../domain/address.ts";
import type { Admission, OwnerKey, PresentedToken, Reader, Store, TokenRecord } from "../domain/ports.ts";
import type { AccessNotes } from "./access-notes.ts";
import type { Db, Param, Statement } from "./db.ts";
import type { PrincipalModel } from "./generated/models.ts";
import { type AdmitAsk, admitMany } from "./lookups.ts";
import { toPrincipalRecord } from "./rows.ts";
import { createTogether } from "./together.ts";

/** The owner's tenant; no row when there is no such owner. */
const place = (type: string, id: string): string => `
  SELECT o.id AS tenant_id FROM organizations o WHERE ${type}::text = 'organization' AND o.id = ${id}::uuid
  UNION ALL SELECT j.organization_id FROM projects j WHERE ${type}::text = 'project' AND j.id = ${id}::uuid
  UNION ALL SELECT u.id FROM principals u WHERE ${type}::text = 'user' AND u.id = ${id}::uuid AND u.kind = 'user'`;
const roles = (type: string, id: string, principal: string): string => `
  LEFT JOIN LATERAL (${place(type, id)}) place ON TRUE
  LEFT JOIN memberships here
    ON here.owner_type = ${type}::text AND here.owner_id = ${id}::uuid AND here.principal_id = ${principal}
  LEFT JOIN memberships above
    ON above.owner_type = 'organization' AND above.owner_id = place.tenant_id AND above.principal_id = ${principal}`;
const standingColumns = "place.tenant_id, here.role AS role_at_owner, above.role AS role_at_organization";

const principalColumns = `p.id, p.kind, p.name, p.email, p.admin, p.organization_id, p.scopes, p.disabled_at,
      p.created_at, p.created_by`;
const tokenColumns = `t.id AS token_id, t.name AS token_name, t.parent_id, t.made_with, t.scopes AS token_scopes, t.max_uses,
      t.uses, t.allowed_cidrs, t.expires_at, t.last_used_at, t.revoked_at, t.created_at AS token_created_at,
      t.created_by AS token_created_by`;
const ownership = `($4::boolean AND EXISTS (SELECT FROM memberships m
        WHERE m.principal_id = p.id AND m.owner_type = 'organization' AND m.role = 'owner')) AS owns_an_organization`;
const admitting = (
  tokens: string,
  source: string,
): string => `SELECT ${tokens}, ${principalColumns}, ${standingColumns},
      ${ownership} FROM ${source.replace("ROLES", roles("$2", "$3", "p.id"))}`;

const byHashStatement: Statement = {
  name: "admit",
  text: admitting(
    tokenColumns,
    "tokens t JOIN principals p ON p.id = t.principal_id ROLES WHERE t.hash = $1::bytea",
  ),
};
/** The API token behind an access token. */
const byIdStatement: Statement = {
  name: "admit_by_id",
  text: admitting(
    tokenColumns,
    "tokens t JOIN principals p ON p.id = t.principal_id ROLES WHERE t.id = $1::uuid",
  ),
};
/** A federated access token: its principal, while the provider that vouched is as it was. */
const byPrincipalStatement: Statement = {
  name: "admit_by_principal",
  text: admitting(
    "NULL::uuid AS token_id",
    `principals p ROLES WHERE p.id = $1::uuid AND ($5::uuid IS NULL OR EXISTS (SELECT FROM identity_providers i
      WHERE i.organization_id = p.organization_id AND i.id = $5::uuid AND i.revision = $6::int))`,
  ),
};
const standingStatement: Statement = {
  name: "standing",
  text: `SELECT ${standingColumns} FROM (SELECT $3::uuid AS id) p ${roles("$1", "$2", "p.id")}`,
};
const placeStatement: Statement = { name: "place", text: place("$1", "$2") };

type StandingRow = {
  tenant_id: string | null;
  role_at_owner: Role | null;
  role_at_organization: Role | null;
};
type AdmitRow = StandingRow &
  PrincipalModel & {
    token_id: string | null;
    token_name: string;
    parent_id: string | null;
    made_with: string | null;
    token_scopes: string[];
    max_uses: number | null;
    uses: number;
    allowed_cidrs: string[];
    expires_at: Date | null;
    last_used_at: Date | null;
    revoked_at: Date | null;
    token_created_at: Date;
    token_created_by: string | null;
    owns_an_organization: boolean;
  };

function toStanding(owner: Owner, row: StandingRow): Admission["standing"] {
  const { tenant_id, role_at_owner, role_at_organization } = row;
  if (tenant_id === null) return null;
  const { owner_type, owner_id } = owner;
  return { owner: { owner_type, owner_id }, tenant_id, role_at_owner, role_at_organization };
}

function lookUp(presented: PresentedToken): readonly [Statement, by: Param, ...rest: Param[]] {
  if (presented.kind === "api") return [byHashStatement, presented.hash];
  const { token_id, principal_id, provider } = presented.claims;
  if (token_id !== null) return [byIdStatement, token_id];
  return [byPrincipalStatement, principal_id, provider?.id ?? null, provider?.revision ?? null];
}

/** As Store.admit, outside any transaction: those that wait share a statement. */
export function admitTogether(db: Db, notes: AccessNotes): Store["admit"] {
  const admit = createTogether((asks: readonly AdmitAsk[]) => admitMany(db, notes, asks));
  const lookUp = admitWith(db, notes);
  return (presented, owner, lookup) =>
    lookup ? lookUp(presented, owner, lookup) : admit({ presented, owner });
}

export function admitWith(db: Db, notes: AccessNotes): Store["admit"] {
  return async (presented, owner, lookup) => {
    const [statement, by, ...rest] = lookUp(presented);
    const params = [by, owner?.owner_type ?? null, owner?.owner_id ?? null, lookup, ...rest];
    const [row] = await db.query<AdmitRow>(statement, params);
    if (row === undefined) return null;
    return {
      token: row.token_id === null ? null : notes.overlayToken(toToken(row, row.token_id)),
      principal: toPrincipalRecord(row),
      standing: owner === null ? null : toStanding(owner, row),
      owns_an_organization: row.owns_an_organization,
    };
  };
}

function toToken(row: AdmitRow, id: string): TokenRecord {
  return {
    id,
    principal_id: row.id,
    name: row.token_name,
    parent_id: row.parent_id,
    made_with: row.made_with,
    scopes: row.token_scopes,
    max_uses: row.max_uses,
    uses: row.uses,
    allowed_cidrs: row.allowed_cidrs,
    expires_at: row.expires_at,
    last_used_at: row.last_used_at,
    revoked_at: row.revoked_at,
    created_at: row.token_created_at,
    created_by: row.token_created_by,
  };
}

export function standingReads(db: Db): Pick<Reader, "standing" | "ownerKey" | "rolesOf"> {
  return {
    async standing(principalId, owner) {
      const params = [owner.owner_type, owner.owner_id, principalId];
      const [row] = await db.query<StandingRow>(standingStatement, params);
      return row === undefined ? null : toStanding(owner, row);
    },
    ownerKey: (owner) => ownerKeyOf(db, owner),
    async rolesOf(principalId) {
      const where = { principal_id: principalId };
      const select = { owner_type: true, owner_id: true, role: true } as const;
      const orderBy = [{ owner_type: "asc" }, { owner_id: "asc" }] as const;
      const rows = await db.prisma.membership.findMany({ where, select, orderBy: [...orderBy] });
      return rows.map(({ owner_type, owner_id, role }) => ({
        owner_type: owner_type as OwnerType,
        owner_id,
        role: role as Role,
      }));
    },
  };
}

export async function ownerKeyOf(db: Db, { owner_type, owner_id }: Owner): Promise<OwnerKey | null> {
  const [row] = await db.query<{ tenant_id: string }>(placeStatement, [owner_type, owner_id]);
  return row === undefined ? null : { owner_type, owner_id, tenant_id: row.tenant_id };
}
