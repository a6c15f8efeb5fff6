// What the core needs of whatever seals values and keeps keys: src/sealing/ and src/store/keys.ts implement these.
import type { Owner, SettingType } from "./address.ts";
import type { BrokerError } from "./errors.ts";
import type { SigningKeyRecord } from "./federation-ports.ts";
import type {
  CloudManager,
  CloudName,
  ManagedSecret,
  NewVersion,
  SecretAddress,
  SecretIdentity,
} from "./manager-ports.ts";
import type { Plaintext } from "./plaintext.ts";
import type { OwnerKey } from "./ports.ts";
import type {
  Location,
  ManagerName,
  Placement,
  SettingRecord,
  SettingRow,
  VersionRecord,
} from "./setting.ts";

/** Proof that the gate let a caller at values, or that the broker works for itself. Only the gate makes one. */
declare const permitBrand: unique symbol;
export type Permit = { readonly [permitBrand]: "permit" };

export type Opened =
  | { readonly kind: "opened"; readonly plaintext: Plaintext }
  | { readonly kind: "failed"; readonly error: BrokerError };

/** Where a sealed value belongs; its bytes moved anywhere else do not open. */
export type SealedPlace = Owner & {
  readonly setting_id: string;
  readonly version: number;
  readonly type: SettingType;
};

/** An owner's current data key, in memory. */
export type Sealer = {
  readonly data_key_id: string;
  seal(
    place: SealedPlace,
    plaintext: Plaintext,
  ): { readonly data_key_id: string; readonly sealed: Uint8Array };
};

/**
 * Whether a record's MAC is true, and under which master key: the one that is followed, or one that is being replaced.
 */
export type Mark = "current" | "earlier" | "false";

/** How values rest. Network calls (a cloud's manager) are made in its promises alone, never in a transaction. */
export type Vault = {
  /** What a write into an envelope uses; makes the owner's data key under the manager when there is none. */
  sealer(permit: Permit, key: OwnerKey, manager: ManagerName): Promise<Sealer>;
  /**
   * The one that was answered last, while its key is in memory; null otherwise. Its key may be gone by now: only for a
   * transaction that asks `holdDataKey`.
   */
  sealerInMemory(permit: Permit, key: OwnerKey, manager: ManagerName): Sealer | null;
  /**
   * Opens each row, after checking its MACs. One result a row, in order; a failure is that row's alone. What does not
   * open is read again: where its value was moved elsewhere since, it is opened there, so that nobody sees a move.
   */
  open(permit: Permit, rows: readonly SettingRow[]): Promise<readonly Opened[]>;
  /** The same with what is in memory; null when a key or value would have to be fetched first. */
  openInMemory(permit: Permit, row: SettingRow): Opened | null;
  /** True when the row's MACs are true: nobody but a broker wrote it. */
  isGenuine(row: SettingRow): boolean;
  /** True when the value of a genuine row may be given out here: an external one only while it is allowed. */
  isAllowed(row: SettingRow): boolean;
  /** 16 hex digits over a text, of this version, that nobody makes up without the master key: for entity tags. */
  tagOf(row: SettingRow, text: string): string;
  /** The MACs of each of the two: true, and under which master key. Raises no alert. */
  marks(row: SettingRow): { readonly setting: Mark; readonly version: Mark };
  /**
   * From now on rows are signed under the master key that a key-check value names. Only for a value that is held:
   * `Transaction.heldKeyCheck`. @throws BrokerError `unavailable` when this process was not given that key
   */
  signUnder(keyCheck: Uint8Array): void;
  /**
   * Work of the broker's own that signs nothing itself begins with this: a replica that runs on with a master key that was
   * replaced could tell nothing genuine from what was altered, and leaves that work to the others.
   * @throws BrokerError `unavailable` when this process was not given the master key in force
   */
  assertInForce(keyCheck: Uint8Array | null): void;
  /** The key-check value of the master key that is to take the place of the one in force, where there is one. */
  readonly nextKeyCheck: Uint8Array | null;
  hasMasterKey(keyCheck: Uint8Array): boolean;
  /** Puts local key-encryption keys under the master key in force; answers how many were under another. */
  resealKeks(): Promise<number>;
  signSetting(record: Omit<SettingRecord, "mac">): SettingRecord;
  signVersion(
    setting: Owner & { readonly id: string; readonly type: SettingType },
    record: Omit<VersionRecord, "mac">,
  ): VersionRecord;
  /** As rows are signed: what is written to, or taken out of a manager, is what a broker said. */
  signSecret(secret: SecretIdentity): Uint8Array;
  isGenuineSecret(secret: ManagedSecret): boolean;
  readonly clouds: Clouds;
  /** Whether the manager is connected here: what is there already can be read, and stays there. */
  isUsable(manager: ManagerName): boolean;
  /** Whether values may be sent to the manager here. */
  isEnabled(manager: ManagerName): boolean;
  /** Where values go unless somebody says otherwise. */
  readonly defaults: Placement;
  /** Drops an owner's keys from memory. */
  forget(ownerId: string): void;
};

/** What somebody says of a secret that the broker did not make. */
export type Pointer = {
  readonly manager: CloudName;
  readonly address:
    | { readonly secret_id: string; readonly region: string | null }
    | { readonly resource: string };
  /** `latest`: it follows. */
  readonly version_id: string;
  readonly json_field: string | null;
};

/** Values that are secrets in a cloud's manager. What hands a value over or gives one needs a Permit. */
export type Clouds = {
  /** The address of a new secret of ours. @throws BrokerError `manager_failed` when the manager is not configured */
  addressOf(manager: CloudName, id: string): SecretAddress;
  /** How many versions of one secret can be enabled at once. */
  versionsMax(manager: CloudName): number;
  /** True where a version that is added later is the newest, whichever is current here. */
  newestIsLast(manager: CloudName): boolean;
  /** As CloudManager.write. */
  write(
    permit: Permit,
    manager: CloudName,
    version: Omit<NewVersion, "text"> & { readonly plaintext: Plaintext },
  ): Promise<Location>;
  /** As CloudManager.reconcile. */
  reconcile(
    permit: Permit,
    manager: CloudName,
    ...rest: Parameters<CloudManager["reconcile"]>
  ): Promise<readonly string[]>;
  /**
   * Reads a secret that we did not make, once: where it really is, for a value that is one of the type.
   * @throws BrokerError `invalid_value` when it cannot be read, is not allowed to the tenant, or is no such value
   */
  point(permit: Permit, tenantId: string, pointer: Pointer, type: SettingType): Promise<Location>;
};

/** A key-encryption key: one per tenant (an organization, or the instance for users), manager and generation. */
export type KekRecord = {
  readonly tenant_id: string;
  readonly id: string;
  readonly manager: ManagerName;
  readonly generation: number;
  /** For `local`: the key, sealed under the master key. */
  readonly sealed: Uint8Array | null;
  /** For a cloud: the secret that holds it. `version_id` is null until the manager has confirmed it. */
  readonly secret: {
    readonly address: SecretAddress;
    readonly version_id: string | null;
    readonly mac: Uint8Array | null;
  } | null;
  readonly created_at: Date;
};

/** An owner's data key, wrapped under a key-encryption key. */
export type DataKeyRecord = OwnerKey & {
  readonly id: string;
  readonly generation: number;
  /** Of the KEK that it is wrapped under. */
  readonly manager: ManagerName;
  readonly kek_tenant: string;
  readonly kek_id: string;
  readonly wrapped: Uint8Array;
  readonly created_at: Date;
};

/** What the whole instance's keys stand on. */
export type KeyEpoch = {
  /** Names the master key that all is made under; null before the first start. */
  readonly key_check: Uint8Array | null;
  /** While the master key is being replaced: the one that something may still be under. */
  readonly previous_key_check: Uint8Array | null;
  /** Keys made before this have successors at the next write. */
  readonly keys_rotated_at: Date | null;
};

/** Where wrapped keys rest. The inserts answer the row that is there in the end, whoever of several racers made it. */
export type KeyStore = {
  epoch(): Promise<KeyEpoch>;
  newestKek(tenantId: string, manager: ManagerName): Promise<KekRecord | null>;
  kek(tenantId: string, id: string): Promise<KekRecord | null>;
  /** Null when the instance's master key is not, or no longer, the one that `keyCheck` names. */
  insertKek(record: KekRecord, keyCheck: Uint8Array): Promise<KekRecord | null>;
  /** Those of the manager `local`, in order. */
  localKeks(after: Pick<KekRecord, "tenant_id" | "id"> | null, limit: number): Promise<readonly KekRecord[]>;
  /** False when the row is not as it was read, or the master key is not the one that `keyCheck` names. */
  resealKek(was: KekRecord, sealed: Uint8Array, keyCheck: Uint8Array): Promise<boolean>;
  /**
   * Keeps others from undoing a KEK whose secret is not confirmed yet, for a while. False when it is being undone, or
   * is confirmed by now.
   */
  holdKek(record: KekRecord): Promise<boolean>;
  /**
   * Notes which version of a key's secret holds it. `superseded`, and nothing is noted, when the instance's master key
   * is not the one that `keyCheck` names (null: it does not matter); `gone` when it was undone, or noted already.
   */
  confirmSecret(
    secret: Pick<ManagedSecret, "tenant_id" | "id">,
    versionId: string,
    keyCheck: Uint8Array | null,
    mac: Uint8Array | null,
  ): Promise<"noted" | "superseded" | "gone">;
  newestDataKey(key: OwnerKey, manager: ManagerName): Promise<DataKeyRecord | null>;
  dataKeys(tenantId: string, ids: readonly string[]): Promise<readonly DataKeyRecord[]>;
  /** Null when its KEK is gone, or was made before the last rotation. */
  insertDataKey(record: DataKeyRecord): Promise<DataKeyRecord | null>;
  /** The instance's key-check value: set once, by whoever comes first with one; null only looks. */
  keyCheck(fresh: Uint8Array | null): Promise<Uint8Array | null>;
  /** Oldest first. */
  signingKeys(): Promise<readonly SigningKeyRecord[]>;
  /** The secret that holds the instance's master key: the one that is there, else the one given; null only looks. */
  masterKeySecret(
    fresh: Omit<ManagedSecret, "attempts" | "unsettled_at"> | null,
  ): Promise<ManagedSecret | null>;
};
