// What the core needs of whatever seals values and keeps keys: src/sealing/ and src/store/keys.ts implement these.
import type { Owner, SettingType } from "./address.ts";
import type { BrokerError } from "./errors.ts";
import type { SigningKeyRecord } from "./federation-ports.ts";
import type { Plaintext } from "./plaintext.ts";
import type { OwnerKey } from "./ports.ts";
import type { ManagerName, SettingRecord, SettingRow, Storage, VersionRecord } from "./setting.ts";

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
  seal(
    place: SealedPlace,
    plaintext: Plaintext,
  ): { readonly data_key_id: string; readonly sealed: Uint8Array };
};

/** How values rest. Network calls (a cloud manager) are made in `sealer` and `open` alone, never in a transaction. */
export type Vault = {
  /** What a write uses; makes the owner's data key when it has none. */
  sealer(permit: Permit, key: OwnerKey): Promise<Sealer>;
  /** Opens each row, after checking its MACs. One result a row, in order; a failure is that row's alone. */
  open(permit: Permit, rows: readonly SettingRow[]): Promise<readonly Opened[]>;
  /** The same with what is in memory; null when a key or value would have to be fetched first. */
  openInMemory(permit: Permit, row: SettingRow): Opened | null;
  /** True when the row's MACs are true: nobody but a broker wrote it. */
  isGenuine(row: SettingRow): boolean;
  /** The record with its MAC made anew. */
  signSetting(record: Omit<SettingRecord, "mac">): SettingRecord;
  signVersion(
    setting: Owner & { readonly id: string; readonly type: SettingType },
    record: Omit<VersionRecord, "mac">,
  ): VersionRecord;
  /** True when the storage and manager may be written to here. */
  isEnabled(storage: Storage, manager: ManagerName): boolean;
  readonly defaults: { readonly storage: Storage; readonly manager: ManagerName };
  /** Drops an owner's keys from memory. */
  forget(ownerId: string): void;
};

/** A key-encryption key: one per tenant (an organization, or the instance for users), manager and generation. */
export type KekRecord = {
  readonly tenant_id: string;
  readonly id: string;
  readonly manager: ManagerName;
  readonly generation: number;
  readonly sealed: Uint8Array | null;
  readonly created_at: Date;
};

/** An owner's data key, wrapped under a key-encryption key. */
export type DataKeyRecord = OwnerKey & {
  readonly id: string;
  readonly generation: number;
  readonly kek_tenant: string;
  readonly kek_id: string;
  readonly wrapped: Uint8Array;
  readonly created_at: Date;
};

/** Where wrapped keys rest. The inserts answer the row that is there in the end, whoever of several racers made it. */
export type KeyStore = {
  newestKek(tenantId: string, manager: ManagerName): Promise<KekRecord | null>;
  kek(tenantId: string, id: string): Promise<KekRecord | null>;
  insertKek(record: KekRecord): Promise<KekRecord>;
  newestDataKey(key: OwnerKey): Promise<DataKeyRecord | null>;
  dataKeys(tenantId: string, ids: readonly string[]): Promise<readonly DataKeyRecord[]>;
  insertDataKey(record: DataKeyRecord): Promise<DataKeyRecord>;
  /** The instance's key-check value: set once, by whoever comes first with one; null only looks. */
  keyCheck(fresh: Uint8Array | null): Promise<Uint8Array | null>;
  /** Oldest first. */
  signingKeys(): Promise<readonly SigningKeyRecord[]>;
};
