// A setting and its versions: what rests, and what the caller may be told of it.
// Pure: the clock is passed in. `Setting` and `Version` have the contract's names and go out as they are.
import { isDeepStrictEqual } from "node:util";
import type { Owner, SettingType } from "./address.ts";
import { formatRef, nameOfPath } from "./address.ts";
import type { DenialReason } from "./errors.ts";
import { KeptRow } from "./kept-row.ts";
import { CLOUDS, LATEST, type Located, type SecretAddress } from "./manager-ports.ts";
import type { Plaintext, SettingValue } from "./plaintext.ts";

/** Where a value rests: sealed in our database; in a manager, put there by us; in a manager, put there by others. */
export const STORAGES = ["envelope", "manager", "external"] as const;
export type Storage = (typeof STORAGES)[number];
export const MANAGERS = ["local", ...CLOUDS] as const;
export type ManagerName = (typeof MANAGERS)[number];
/** Where values go. Not every pair makes sense: placement.ts. */
export type Placement = { readonly storage: Storage; readonly manager: ManagerName };

/** Where a value lies in a cloud's manager. `version_id` `latest`: it follows whatever is newest there. */
export type Location = Located & {
  /** Of an external secret that holds a JSON object: the field that is the value. */
  readonly json_field?: string;
  /** How long the value was when it was written, or first read: what a page counts. */
  readonly bytes: number;
};
export type VersionState = "enabled" | "destroying" | "destroyed";
export type Labels = Readonly<Record<string, string>>;

/** The row of a setting. Dates are UTC, to the millisecond. */
export type SettingRecord = Owner & {
  readonly tenant_id: string;
  readonly id: string;
  readonly path: string;
  readonly type: SettingType;
  readonly description: string | null;
  readonly labels: Labels;
  /** Moves with every change of what a client can see; the ETag's core. */
  readonly revision: number;
  readonly current_version: number;
  /** When the current version was made. */
  readonly current_since: Date;
  readonly expires_at: Date | null;
  readonly rotate_after_days: number | null;
  readonly created_at: Date;
  readonly created_by: string;
  readonly updated_at: Date;
  readonly updated_by: string;
  readonly last_accessed_at: Date | null;
  readonly deleted_at: Date | null;
  readonly purge_at: Date | null;
  /** Over what the ciphertext cannot cover; sealing/row-mac.ts says what. */
  readonly mac: Uint8Array;
};

export type VersionRecord = {
  readonly tenant_id: string;
  readonly setting_id: string;
  readonly version: number;
  readonly state: VersionState;
  readonly storage: Storage;
  readonly manager: ManagerName;
  readonly data_key_id: string | null;
  readonly sealed: Uint8Array | null;
  /** Null in an envelope, and once the value is destroyed. */
  readonly location: Location | null;
  readonly created_at: Date;
  readonly created_by: string;
  readonly last_accessed_at: Date | null;
  readonly mac: Uint8Array;
};

/** A setting with one of its versions: the current one unless another was asked for. */
export type SettingRow = { readonly setting: SettingRecord; readonly version: VersionRecord };

export type Withheld = DenialReason | "expired" | "deleted" | "destroyed" | "manager_failed";

/** What became of the value in an answer. */
export type Disclosure =
  | { readonly kind: "metadata" }
  /** `tag`: of a value that may be another at any time, what tells it from the others; null for one that stays. */
  | { readonly kind: "opened"; readonly plaintext: Plaintext; readonly tag: string | null }
  | { readonly kind: "withheld"; readonly why: Withheld };

/** A row that is answered: what became of its value, and when one was disclosed last. */
export type ShownRow = {
  readonly row: SettingRow;
  readonly disclosure: Disclosure;
  readonly accessed: Date | null;
};

/** The contract's Setting. */
export type Setting = Owner & {
  readonly id: string;
  readonly ref: string;
  readonly path: string;
  readonly name: string;
  readonly type: SettingType;
  readonly description: string | null;
  readonly labels: Labels;
  readonly storage: Storage;
  readonly manager: ManagerName;
  readonly location?: ShownLocation;
  readonly version: number;
  readonly etag: string;
  readonly decrypted: boolean;
  readonly value: SettingValue | null;
  readonly withheld?: Withheld;
  readonly created_at: string;
  readonly created_by: string;
  readonly updated_at: string;
  readonly updated_by: string;
  readonly last_accessed_at: string | null;
  readonly expires_at: string | null;
  readonly rotate_after_days: number | null;
  readonly rotation_due_at: string | null;
  readonly deleted_at: string | null;
  readonly purge_at: string | null;
};

/** The contract's version entry. */
export type Version = {
  readonly version: number;
  readonly state: VersionState;
  readonly created_at: string;
  readonly created_by: string;
  readonly last_accessed_at: string | null;
  readonly storage: Storage;
  readonly manager: ManagerName;
  readonly location?: ShownLocation;
};

/** The secret that a location is in. */
export function addressIn(location: Location): SecretAddress {
  if ("resource" in location) return { resource: location.resource };
  return { secret_id: location.secret_id, region: location.region };
}

/** Whether a version's value is in a secret of ours. */
export function liesAt({ storage, location }: VersionRecord, address: SecretAddress): boolean {
  return storage === "manager" && location !== null && isDeepStrictEqual(addressIn(location), address);
}

/** How long a value is: its sealed bytes, or as long as it was when it went elsewhere, or was pointed at. */
export function valueBytes({ sealed, location }: VersionRecord): number {
  return sealed?.length ?? location?.bytes ?? 0;
}

/** What clients see of a location: enough to find the secret with the cloud's own tools. */
export type ShownLocation = Omit<Location, "bytes">;

function shownLocation({ state, location }: VersionRecord): { readonly location?: ShownLocation } {
  if (state !== "enabled" || location === null) return {};
  const { bytes: _, ...shown } = location;
  return { location: shown };
}

/** Whether a version is whatever the manager has newest: then nothing of it is ever known to be unchanged. */
export function followsLatest({ storage, location }: VersionRecord): boolean {
  return storage === "external" && location?.version_id === LATEST;
}

/**
 * After a restore numbers go on at the next multiple of this, more than anybody writes to a path between a backup and its
 * restore: what was given meanwhile is not given again.
 */
export const VERSION_FLOOR_STEP = 1_000_000;

const DAY_MS = 86_400_000;

export function isExpired(setting: SettingRecord, now: Date): boolean {
  return setting.expires_at !== null && setting.expires_at.getTime() <= now.getTime();
}

/**
 * A strong entity tag of one representation: the setting and its revision, then which body it stands for, so
 * that metadata, an opened value and each kind of withholding never share one (RFC 9110, section 8.8.3).
 */
export function etagOf(row: SettingRow, body: string): string {
  return `"${row.setting.id}.${row.setting.revision}.${row.version.version}.${body}"`;
}

export function etagOfShown({ row, disclosure }: ShownRow): string {
  if (disclosure.kind === "withheld") return etagOf(row, disclosure.why);
  if (disclosure.kind === "metadata" || disclosure.tag === null) return etagOf(row, disclosure.kind);
  return etagOf(row, `opened.${disclosure.tag}`);
}

/** Whether an entity tag, of whichever reading of its current version, or a quoted number, names a setting's state. */
export function namesThisState(tag: string, setting: SettingRecord): boolean {
  if (tag === `"${setting.current_version}"`) return true;
  return tag.startsWith(`"${setting.id}.${setting.revision}.${setting.current_version}.`);
}

const timeOrNull = (date: Date | null): string | null => (date === null ? null : date.toISOString());

/** When the current value is due for rotation: `rotate_after_days` after its version was made. */
export function rotationDue(
  setting: Pick<SettingRecord, "rotate_after_days" | "current_since">,
): string | null {
  const { rotate_after_days: days, current_since: since } = setting;
  return days === null ? null : new Date(since.getTime() + days * DAY_MS).toISOString();
}

type Constant = Omit<Setting, "etag" | "decrypted" | "value" | "withheld" | "last_accessed_at">;

function toConstant(row: SettingRow): Constant {
  const { setting, version } = row;
  return {
    id: setting.id,
    ref: formatRef(setting, setting.path),
    owner_type: setting.owner_type,
    owner_id: setting.owner_id,
    path: setting.path,
    name: nameOfPath(setting.path),
    type: setting.type,
    description: setting.description,
    labels: setting.labels,
    storage: version.storage,
    manager: version.manager,
    ...shownLocation(version),
    version: version.version,
    created_at: setting.created_at.toISOString(),
    created_by: setting.created_by,
    updated_at: setting.updated_at.toISOString(),
    updated_by: setting.updated_by,
    expires_at: timeOrNull(setting.expires_at),
    rotate_after_days: setting.rotate_after_days,
    rotation_due_at: rotationDue(setting),
    deleted_at: timeOrNull(setting.deleted_at),
    purge_at: timeOrNull(setting.purge_at),
  };
}

export function toSetting(shown: ShownRow): Setting {
  const { row, disclosure, accessed } = shown;
  const { kind } = disclosure;
  return {
    ...KeptRow.constantOf(row, toConstant),
    etag: etagOfShown(shown),
    decrypted: kind === "opened",
    value: kind === "opened" ? disclosure.plaintext.reveal() : null,
    ...(kind === "withheld" ? { withheld: disclosure.why } : {}),
    last_accessed_at: timeOrNull(accessed),
  };
}

export function toVersion(record: VersionRecord): Version {
  return {
    version: record.version,
    state: record.state,
    created_at: record.created_at.toISOString(),
    created_by: record.created_by,
    last_accessed_at: timeOrNull(record.last_accessed_at),
    storage: record.storage,
    manager: record.manager,
    ...shownLocation(record),
  };
}
