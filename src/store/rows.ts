// Rows as the domain knows them. The unions' text is trusted: CHECK constraints hold it to the closed sets.
import { type OwnerType, type SettingType, isUuid } from "../domain/address.ts";
import { badInput } from "../domain/errors.ts";
import type { Page, PageQuery, PrincipalRecord } from "../domain/ports.ts";
import type { DataKeyRecord, KekRecord } from "../domain/sealing-ports.ts";
import type { CloudName, ManagedSecret, SecretAddress } from "../domain/manager-ports.ts";
import type {
  Labels,
  Location,
  ManagerName,
  SettingRecord,
  Storage,
  VersionRecord,
  VersionState,
} from "../domain/setting.ts";
import type {
  DataKeyModel,
  KeyEncryptionKeyModel,
  ManagedSecretModel,
  PrincipalModel,
  SettingModel,
  SettingVersionModel,
} from "./generated/models.ts";

/** Takes its own columns alone, so that a joined row will do. */
export function toSettingRecord(row: SettingModel): SettingRecord {
  return {
    tenant_id: row.tenant_id,
    id: row.id,
    owner_type: row.owner_type as OwnerType,
    owner_id: row.owner_id,
    path: row.path,
    type: row.type as SettingType,
    description: row.description,
    labels: row.labels as Labels,
    revision: row.revision,
    current_version: row.current_version,
    current_since: row.current_since,
    expires_at: row.expires_at,
    rotate_after_days: row.rotate_after_days,
    created_at: row.created_at,
    created_by: row.created_by,
    updated_at: row.updated_at,
    updated_by: row.updated_by,
    last_accessed_at: row.last_accessed_at,
    deleted_at: row.deleted_at,
    purge_at: row.purge_at,
    mac: row.mac,
  };
}

export function toVersionRecord(row: SettingVersionModel): VersionRecord {
  return {
    ...row,
    state: row.state as VersionState,
    storage: row.storage as Storage,
    manager: row.manager as ManagerName,
    // The MAC covers what the type names.
    location: row.location as Location | null,
  };
}

/** Who a person is at their identity provider stays in the store: it is looked up by, and never read. */
export function toPrincipalRecord(
  row: Omit<PrincipalModel, "identity_issuer" | "identity_subject">,
): PrincipalRecord {
  const { id, kind, name, email, admin, organization_id, scopes, disabled_at, created_at, created_by } = row;
  return {
    id,
    kind: kind as PrincipalRecord["kind"],
    name,
    email,
    admin,
    organization_id,
    scopes,
    disabled_at,
    created_at,
    created_by,
  };
}

/** `secret`: the row of the secret that holds it, for a key that a cloud's manager guards. */
export function toKekRecord(row: KeyEncryptionKeyModel, secret: ManagedSecretModel | null): KekRecord {
  const { address, version_id = null, mac = null } = secret ?? {};
  return {
    ...row,
    manager: row.manager as ManagerName,
    secret: secret === null ? null : { address: address as SecretAddress, version_id, mac },
  };
}

export function toDataKeyRecord(row: Omit<DataKeyModel, "unused_at">): DataKeyRecord {
  const { tenant_id, id, owner_id, generation, kek_tenant, kek_id, wrapped, created_at } = row;
  const names = { owner_type: row.owner_type as OwnerType, manager: row.manager as ManagerName };
  return { tenant_id, id, ...names, owner_id, generation, kek_tenant, kek_id, wrapped, created_at };
}

/** What the core needs of it; the lease is between the store and its callers. */
export function toManagedSecret(row: ManagedSecretModel): ManagedSecret {
  const { tenant_id, id, purpose, manager, address, version_id, setting_id, path } = row;
  const { owner_type, owner_id, unsettled_at, attempts, mac } = row;
  return {
    tenant_id,
    id,
    purpose: purpose as ManagedSecret["purpose"],
    manager: manager as CloudName,
    address: address as SecretAddress,
    version_id,
    setting_id,
    owner:
      owner_type === null || owner_id === null ? null : { owner_type: owner_type as OwnerType, owner_id },
    path,
    unsettled_at,
    attempts,
    mac,
  };
}

/**
 * Where an id-ordered page starts, as Prisma's filter. The cursor's text comes from outside.
 * @throws BrokerError `invalid_request` when it is no id
 */
export function afterId({ after }: PageQuery): { readonly gt: string } | Record<string, never> {
  if (after === null) return {};
  if (!isUuid(after)) throw badInput("invalid_request", "query", "/cursor", "This is no cursor of ours.");
  return { gt: after };
}

/** A page of what was fetched with one row more than its limit. */
export function toPage<Row>(rows: readonly Row[], { limit }: PageQuery): Page<Row> {
  return { rows: rows.slice(0, limit), more: rows.length > limit };
}
