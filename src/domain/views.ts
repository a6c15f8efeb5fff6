// What clients see of owners, principals, members, tokens and events: the contract's names, times as RFC 3339.
// A view is made field by field, so that a new column never leaves by itself.
import type { Owner } from "./address.ts";
import type { PrincipalKind, Role } from "./access.ts";
import type { AuditEvent } from "./audit.ts";
import type { MemberView, OrganizationRecord, PrincipalRecord, ProjectRecord, TokenRecord } from "./ports.ts";

const timeOrNull = (date: Date | null): string | null => (date === null ? null : date.toISOString());

export type Organization = {
  readonly id: string;
  readonly name: string;
  readonly created_at: string;
  readonly created_by: string | null;
};
export type Project = Organization & { readonly organization_id: string };

export function toOrganization({ id, name, created_at, created_by }: OrganizationRecord): Organization {
  return { id, name, created_at: created_at.toISOString(), created_by };
}

export function toProject(record: ProjectRecord): Project {
  return { ...toOrganization(record), organization_id: record.organization_id };
}

export type User = {
  readonly id: string;
  readonly kind: "user";
  readonly name: string;
  readonly email: string | null;
  readonly admin: boolean;
  readonly disabled: boolean;
  readonly created_at: string;
  readonly created_by: string | null;
};

export function toUser({
  id,
  name,
  email,
  admin,
  disabled_at,
  created_at,
  created_by,
}: PrincipalRecord): User {
  const disabled = disabled_at !== null;
  return { id, kind: "user", name, email, admin, disabled, created_at: created_at.toISOString(), created_by };
}

export type ServiceAccount = {
  readonly id: string;
  readonly kind: "service_account";
  readonly organization_id: string | null;
  readonly name: string;
  /** Null: no ceiling. */
  readonly scopes: readonly string[] | null;
  readonly disabled: boolean;
  readonly created_at: string;
  readonly created_by: string | null;
};

export function toServiceAccount(record: PrincipalRecord): ServiceAccount {
  return {
    id: record.id,
    kind: "service_account",
    organization_id: record.organization_id,
    name: record.name,
    scopes: orNull(record.scopes),
    disabled: record.disabled_at !== null,
    created_at: record.created_at.toISOString(),
    created_by: record.created_by,
  };
}

export type Member = Owner & {
  readonly principal_id: string;
  readonly kind: PrincipalKind;
  readonly name: string;
  readonly role: Role;
  readonly created_at: string;
  readonly created_by: string | null;
};

export function toMember(record: MemberView): Member {
  const { owner_type, owner_id, principal_id, kind, name, role, created_at, created_by } = record;
  return {
    owner_type,
    owner_id,
    principal_id,
    kind,
    name,
    role,
    created_at: created_at.toISOString(),
    created_by,
  };
}

export type Token = {
  readonly id: string;
  readonly principal_id: string;
  readonly name: string;
  readonly parent_id: string | null;
  readonly scopes: readonly string[] | null;
  readonly max_uses: number | null;
  readonly uses_left: number | null;
  readonly allowed_cidrs: readonly string[] | null;
  readonly expires_at: string | null;
  readonly last_used_at: string | null;
  readonly revoked_at: string | null;
  readonly created_at: string;
  readonly created_by: string | null;
};

export function toToken(record: TokenRecord): Token {
  return {
    id: record.id,
    principal_id: record.principal_id,
    name: record.name,
    parent_id: record.parent_id,
    scopes: orNull(record.scopes),
    max_uses: record.max_uses,
    uses_left: usesLeft(record),
    allowed_cidrs: orNull(record.allowed_cidrs),
    expires_at: timeOrNull(record.expires_at),
    last_used_at: timeOrNull(record.last_used_at),
    revoked_at: timeOrNull(record.revoked_at),
    created_at: record.created_at.toISOString(),
    created_by: record.created_by,
  };
}

export function usesLeft({ max_uses, uses }: Pick<TokenRecord, "max_uses" | "uses">): number | null {
  return max_uses === null ? null : Math.max(0, max_uses - uses);
}

/** An empty list in the store means that there is no ceiling; clients see null. */
function orNull(list: readonly string[]): readonly string[] | null {
  return list.length === 0 ? null : list;
}

export type Event = Omit<AuditEvent, "at" | "tenant_id"> & { readonly at: string };

export function toEvent({ tenant_id: _shard, at, ...event }: AuditEvent): Event {
  return { ...event, at: at.toISOString() };
}
