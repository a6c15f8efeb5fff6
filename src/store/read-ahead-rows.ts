// What the statement of read-ahead-sql.ts answers, taken apart: facts and rows come as JSON lists, in its order.
import type { Owner, OwnerType } from "../domain/address.ts";
import type { PrincipalKind } from "../domain/access.ts";
import type { PrincipalRecord, TokenRecord } from "../domain/ports.ts";
import { KeptRow } from "../domain/kept-row.ts";
import type { Labels, Location, SettingRow } from "../domain/setting.ts";
import type { Role } from "../domain/access.ts";
import type { SettingType } from "../domain/address.ts";
import type { ManagerName, Storage, VersionState } from "../domain/setting.ts";

type Time = string;
export type TokenFacts = readonly [
  id: string,
  name: string,
  parent_id: string | null,
  made_with: string | null,
  scopes: string[],
  max_uses: number | null,
  uses: number,
  allowed_cidrs: string[],
  expires_at: Time | null,
  last_used_at: Time | null,
  revoked_at: Time | null,
  created_at: Time,
  created_by: string | null,
];
export type PrincipalFacts = readonly [
  id: string,
  kind: PrincipalKind,
  name: string,
  email: string | null,
  admin: boolean,
  organization_id: string | null,
  scopes: string[],
  disabled_at: Time | null,
  created_at: Time,
  created_by: string | null,
];
export type RowFacts = readonly [
  id: string,
  path: string,
  type: SettingType,
  description: string | null,
  labels: Labels,
  revision: number,
  current_version: number,
  current_since: Time,
  expires_at: Time | null,
  rotate_after_days: number | null,
  created_at: Time,
  created_by: string,
  updated_at: Time,
  updated_by: string,
  last_accessed_at: Time | null,
  mac: string,
  version: number,
  state: VersionState,
  storage: Storage,
  manager: ManagerName,
  data_key_id: string | null,
  location: Location | null,
  version_created_at: Time,
  version_created_by: string,
  version_last_accessed_at: Time | null,
  version_mac: string,
  sealed: string | null,
];
export type WhoFacts = readonly [stamp: string, token: TokenFacts | null, principal: PrincipalFacts];
export type Answered = {
  readonly n: number;
  /** WhoFacts; null where the rows are the very ones that are known. */
  readonly who: string | null;
  readonly tenant_id: string | null;
  readonly role_at_owner: Role | null;
  readonly role_at_organization: Role | null;
  /** As a whole, of a read that is plain. */
  readonly allowed: boolean;
  readonly recorded: boolean;
  readonly at_path: boolean;
  /** Null where there are none to give. */
  readonly rows: string | null;
  /** The transaction that has put it on record with its position, for good; null where there is none yet. */
  readonly placed_by: string | null;
  /** What the statement saw. */
  readonly server: string;
  readonly snapshot: string;
};

export const time = (text: Time): Date => new Date(text);
export const timeOrNull = (text: Time | null): Date | null => (text === null ? null : new Date(text));

export function toToken(facts: TokenFacts, principalId: string): TokenRecord {
  const [
    id,
    name,
    parent_id,
    made_with,
    scopes,
    max_uses,
    uses,
    allowed_cidrs,
    expires,
    used,
    revoked,
    created,
    created_by,
  ] = facts;
  return {
    id,
    principal_id: principalId,
    name,
    parent_id,
    made_with,
    scopes,
    max_uses,
    uses,
    allowed_cidrs,
    expires_at: timeOrNull(expires),
    last_used_at: timeOrNull(used),
    revoked_at: timeOrNull(revoked),
    created_at: time(created),
    created_by,
  };
}

export function toPrincipal(facts: PrincipalFacts): PrincipalRecord {
  const [id, kind, name, email, admin, organization_id, scopes, disabled, created, created_by] = facts;
  return {
    id,
    kind,
    name,
    email,
    admin,
    organization_id,
    scopes,
    disabled_at: timeOrNull(disabled),
    created_at: time(created),
    created_by,
  };
}

type Ended = Pick<SettingRow["setting"], "deleted_at" | "purge_at">;
type Of = { readonly owner: Owner };
export const LIVE: Ended = { deleted_at: null, purge_at: null };

/** How what is in a row's facts is made: its bytes, its times, and the ids that many rows share. */
type Makers = {
  readonly bytes: (hex: string) => Buffer;
  readonly time: (text: Time) => Date;
  readonly id: (text: string) => string;
};
const ONCE: Makers = { bytes: (hex) => Buffer.from(hex, "hex"), time, id: (text) => text };

/**
 * For a page that is kept: a third of the memory. All bytes are in one piece, since a piece of its own for each few
 * takes several times as much, and equal times and ids are one.
 */
function toKeep(page: readonly RowFacts[]): Makers {
  const hexLength = page.reduce(
    (sum, facts) => sum + facts[15].length + facts[25].length + (facts[26]?.length ?? 0),
    0,
  );
  const piece = Buffer.allocUnsafeSlow(hexLength / 2);
  let used = 0;
  return {
    bytes: (hex) => {
      const bytes = piece.subarray(used, (used += hex.length / 2));
      bytes.write(hex, "hex");
      return bytes;
    },
    time: once(time),
    id: once((text) => text),
  };
}

function once<Made>(make: (text: string) => Made): (text: string) => Made {
  const made = new Map<string, Made>();
  return (text) => {
    const known = made.get(text) ?? make(text);
    made.set(text, known);
    return known;
  };
}

/** Rows of a page that is to be kept. */
export function toKeptRows(
  page: readonly RowFacts[],
  tenant_id: string,
  { owner }: Of,
): readonly SettingRow[] {
  const make = toKeep(page);
  return KeptRow.pageOfRows(page.map((facts) => toRow(facts, tenant_id, { owner }, LIVE, make)));
}

export function toRow(
  facts: RowFacts,
  tenant_id: string,
  { owner }: Of,
  ended: Ended = LIVE,
  make: Makers = ONCE,
): SettingRow {
  const orNull = (text: Time | null): Date | null => (text === null ? null : make.time(text));
  const owner_type: OwnerType = owner.owner_type;
  return {
    setting: {
      tenant_id,
      id: facts[0],
      owner_type,
      owner_id: owner.owner_id,
      path: facts[1],
      type: facts[2],
      description: facts[3],
      labels: facts[4],
      revision: facts[5],
      current_version: facts[6],
      current_since: make.time(facts[7]),
      expires_at: orNull(facts[8]),
      rotate_after_days: facts[9],
      created_at: make.time(facts[10]),
      created_by: make.id(facts[11]),
      updated_at: make.time(facts[12]),
      updated_by: make.id(facts[13]),
      last_accessed_at: orNull(facts[14]),
      ...ended,
      mac: make.bytes(facts[15]),
    },
    version: {
      tenant_id,
      setting_id: facts[0],
      version: facts[16],
      state: facts[17],
      storage: facts[18],
      manager: facts[19],
      data_key_id: facts[20] === null ? null : make.id(facts[20]),
      location: facts[21],
      created_at: make.time(facts[22]),
      created_by: make.id(facts[23]),
      last_accessed_at: orNull(facts[24]),
      mac: make.bytes(facts[25]),
      sealed: facts[26] === null ? null : make.bytes(facts[26]),
    },
  };
}
