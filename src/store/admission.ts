// Who a credential belongs to and where that principal stands, in one statement: all that a decision looks at is read
// together. An owner that does not exist gives no standing, just like one where the principal has no role to speak of.
import type { Role } from "../domain/access.ts";
import type { Owner, OwnerType } from "../domain/address.ts";
import type { Admission, OwnerKey, Reader, Store } from "../domain/ports.ts";
import type { AccessNotes } from "./access-notes.ts";
import type { Db, Statement } from "./db.ts";
import type { PrincipalModel } from "./generated/models.ts";
import { toPrincipalRecord } from "./rows.ts";

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

const admitStatement: Statement = {
  name: "admit",
  text: `SELECT t.id AS token_id, t.name AS token_name, t.parent_id, t.made_with, t.scopes AS token_scopes, t.max_uses, t.uses,
      t.allowed_cidrs, t.expires_at, t.last_used_at, t.revoked_at, t.created_at AS token_created_at,
      t.created_by AS token_created_by, p.id, p.kind, p.name, p.email, p.admin, p.organization_id, p.scopes,
      p.disabled_at, p.created_at, p.created_by, ${standingColumns},
      ($4::boolean AND EXISTS (SELECT FROM memberships m
        WHERE m.principal_id = p.id AND m.owner_type = 'organization' AND m.role = 'owner')) AS owns_an_organization
    FROM tokens t JOIN principals p ON p.id = t.principal_id ${roles("$2", "$3", "p.id")}
    WHERE t.hash = $1::bytea`,
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
    token_id: string;
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

export function admitWith(db: Db, notes: AccessNotes): Store["admit"] {
  return async (hash, owner, lookup) => {
    const params = [hash, owner?.owner_type ?? null, owner?.owner_id ?? null, lookup];
    const [row] = await db.query<AdmitRow>(admitStatement, params);
    if (row === undefined) return null;
    const { id, kind, name, email, admin, organization_id, scopes, disabled_at, created_at, created_by } =
      row;
    const principal = {
      id,
      kind,
      name,
      email,
      admin,
      organization_id,
      scopes,
      disabled_at,
      created_at,
      created_by,
    };
    const token = {
      id: row.token_id,
      principal_id: id,
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
    return {
      token: notes.overlayToken(token),
      principal: toPrincipalRecord(principal),
      standing: owner === null ? null : toStanding(owner, row),
      owns_an_organization: row.owns_an_organization,
    };
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
