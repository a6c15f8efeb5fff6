// What the core needs of the store to rotate keys, to move what rests under old ones, and to be rid of those. Parts of
// Reader and Transaction (ports.ts). A key is old when it was made before the last rotation, or when it has a successor.
import type { OwnerKey } from "./ports.ts";
import type { KeyEpoch } from "./sealing-ports.ts";
import type { ManagerName, SettingRecord, VersionRecord } from "./setting.ts";

/** What there still is of old keys. */
export type OldKeys = {
  /** Settings with a value under an old data key. */
  readonly settings: number;
  readonly data_keys: number;
  /** Those of them that have no value under them. */
  readonly unused: number;
  readonly keks: number;
  /** Those of them that a cloud's manager guards. */
  readonly cloud_keks: number;
  /** Since when the last of these is unused; null when there is none. */
  readonly unused_since: Date | null;
};

export type KeyReads = {
  epoch(): Promise<KeyEpoch>;
  /** An owner's newest data keys, one for each manager; `isOld`: rotated away. */
  newestDataKeys(
    key: OwnerKey,
  ): Promise<readonly { readonly manager: ManagerName; readonly id: string; readonly isOld: boolean }[]>;

  /** Settings in order: all, or those with a value under an old data key. */
  settingsToRewrap(
    all: boolean,
    after: Pick<SettingRecord, "tenant_id" | "id"> | null,
    limit: number,
  ): Promise<readonly SettingRecord[]>;
  countSettingsToRewrap(all: boolean): Promise<number>;
  /** Versions after a number, in order, with what is sealed of them. */
  versionsAfter(
    setting: Pick<SettingRecord, "tenant_id" | "id">,
    version: number,
    limit: number,
  ): Promise<readonly VersionRecord[]>;
  oldKeys(): Promise<OldKeys>;
};

export type KeyWrites = {
  /**
   * The key-check value of the instance's master key. Until the transaction ends it stays that, and no keys are
   * rotated: whoever signs rows, or puts a value under a data key, holds this.
   */
  heldKeyCheck(): Promise<Uint8Array>;
  /** The same as of now, not held: for who only wants to know whether it is here. Null before the first start. */
  keyCheckNow(): Promise<Uint8Array | null>;
  /** Waits for all who hold it, and keeps everybody from it until the transaction ends. */
  lockKeys(): Promise<KeyEpoch>;
  /** From here on all keys that there are are old ones. Under `lockKeys`. */
  rotateKeys(now: Date): Promise<void>;
  /** Under `lockKeys`. `previous`: what something may still be under. */
  putKeyChecks(keyCheck: Uint8Array, previous: Uint8Array | null): Promise<void>;

  /** Keeps a data key from being removed until the transaction ends; false when it is gone, or rotated away. */
  holdDataKey(tenantId: string, id: string): Promise<boolean>;
  putSigningKeySealed(id: string, sealed: Uint8Array): Promise<void>;

  /** Notes which old data keys have no version under them any more. */
  noteUnusedDataKeys(now: Date): Promise<void>;
  /** Removes up to `limit` old data keys that are noted as unused since before then, and still are; answers how many. */
  removeDataKeys(unusedBefore: Date, limit: number): Promise<number>;
  /** Removes up to `limit` old key-encryption keys that wrap nothing; their secrets in managers are the sweeper's. */
  removeKeks(limit: number): Promise<number>;
};
