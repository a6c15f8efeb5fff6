// Row MACs: the proof that a broker wrote a row, under a key that the database does not hold. A ciphertext binds its
// place already; the MACs bind what decides over it: which version is current, whether it is expired, deleted or
// destroyed, where it rests, and which bytes and key make it up.
//
// Covered is what decides who gets which bytes. Not covered are labels, description, revision, rotation, who and
// when: they are shown, they open nothing; and `last_accessed_at` is written in bulk by statements that see no key.
// A MAC cannot tell that a whole setting with its versions was put back to an earlier, genuine state: only the
// append-only audit log tells of that.
import { type KeyObject, createHmac, hash, timingSafeEqual } from "node:crypto";
import type { Owner, SettingType } from "../domain/address.ts";
import type { ManagedSecret, SecretAddress, SecretIdentity } from "../domain/manager-ports.ts";
import type { Mark } from "../domain/sealing-ports.ts";
import { KeptRow } from "../domain/kept-row.ts";
import type { Location, SettingRecord, SettingRow, VersionRecord } from "../domain/setting.ts";
import { type Field, type Purpose, encodeFields } from "./encoding.ts";
import type { MasterKeys } from "./master-key.ts";
import type { MasterKeyRing } from "./master-key-ring.ts";

/** What a version row takes from its setting. */
type VersionParent = Owner & { readonly id: string; readonly type: SettingType };

/** Each MAC has 32 bytes, and is made under the current master key. */
export type RowMac = {
  ofSetting(record: Omit<SettingRecord, "mac">): Buffer;
  ofVersion(parent: VersionParent, record: Omit<VersionRecord, "mac">): Buffer;
  /** @param under the current master key, unless another is to be vouched with */
  ofSecret(secret: SecretIdentity, under?: MasterKeys): Buffer;
  isGenuineSecret(secret: ManagedSecret): boolean;
  markOfSecret(secret: ManagedSecret): Mark;
  /**
   * True when both rows are a broker's and belong together. Needs the version's sealed bytes to have been fetched.
   * Never throws, whatever the rows hold.
   */
  isGenuine(row: SettingRow): boolean;
  /** 16 hex digits of a MAC over a version and a text. Another master key makes others. */
  tagOf(row: SettingRow, text: string): string;
  /** The same of each of the two. A version that does not belong to the setting is false. Never throws. */
  marks(row: SettingRow): { readonly setting: Mark; readonly version: Mark };
};

/** HMAC-SHA-256 (RFC 2104) under the master keys' subkeys for rows. */
export function createRowMac(ring: Pick<MasterKeyRing, "current" | "all">): RowMac {
  const current = (): KeyObject => ring.current().rowMac;
  function ofSetting(record: Omit<SettingRecord, "mac">, key = current()): Buffer {
    return mac(key, "coffer setting row v1", [
      record.tenant_id,
      record.id,
      record.owner_type,
      record.owner_id,
      record.path,
      record.type,
      record.current_version,
      milliseconds(record.expires_at),
      milliseconds(record.deleted_at),
    ]);
  }

  function ofVersion(parent: VersionParent, record: Omit<VersionRecord, "mac">, key = current()): Buffer {
    const fields = [
      record.tenant_id,
      parent.owner_type,
      parent.owner_id,
      parent.id,
      parent.type,
      record.version,
      record.state,
      record.storage,
      record.manager,
      record.data_key_id,
      // State, key and bytes are one unit: the ciphertext of an earlier sealing of this version is not this one.
      record.sealed === null ? null : hash("sha256", record.sealed, "hex"),
    ];
    // What has no location is authenticated as it was before there were any.
    if (record.location === null) return mac(key, "coffer version row v1", fields);
    return mac(key, "coffer version row v2", [...fields, ...locationFields(record.location)]);
  }

  function markOf(kept: Uint8Array, made: (key: KeyObject) => Buffer): Mark {
    const index = ring.all().findIndex(({ rowMac }) => isSame(made(rowMac), kept));
    return index < 0 ? "false" : index === 0 ? "current" : "earlier";
  }

  function marks({ setting, version }: SettingRow): { readonly setting: Mark; readonly version: Mark } {
    const belongs = version.setting_id === setting.id && version.tenant_id === setting.tenant_id;
    return {
      setting: markOf(setting.mac, (key) => ofSetting(setting, key)),
      version: belongs ? markOf(version.mac, (key) => ofVersion(setting, version, key)) : "false",
    };
  }

  function markOfSecret(secret: ManagedSecret): Mark {
    const { mac: kept, address } = secret;
    return kept === null || !isAddress(address) ? "false" : markOf(kept, (key) => ofSecret(secret, key));
  }

  function ofSecret(secret: SecretIdentity, key = current()): Buffer {
    const { tenant_id, id, purpose, manager, address, version_id, setting_id, owner, path } = secret;
    const { owner_type = null, owner_id = null } = owner ?? {};
    return mac(key, "coffer managed secret row v1", [
      tenant_id,
      id,
      purpose,
      manager,
      ...addressFields(address),
      version_id,
      setting_id,
      owner_type,
      owner_id,
      path,
    ]);
  }

  return {
    ofSetting: (record) => ofSetting(record),
    ofVersion: (parent, record) => ofVersion(parent, record),
    ofSecret: (secret, under) => ofSecret(secret, under?.rowMac),
    tagOf({ setting, version }, text) {
      const fields = [setting.id, version.version, text];
      return mac(current(), "coffer entity tag v1", fields).toString("hex", 0, 8);
    },
    markOfSecret,
    isGenuineSecret: (secret) => markOfSecret(secret) !== "false",
    isGenuine(row) {
      // The ring's keys are the same for the life of a row in memory, which never changes.
      if (KeptRow.isKnownGenuine(row)) return true;
      const { setting, version } = marks(row);
      const isTrue = setting !== "false" && version !== "false";
      if (isTrue) KeptRow.noteGenuine(row);
      return isTrue;
    },
    marks,
  };
}

function mac(key: KeyObject, purpose: Purpose, fields: readonly Field[]): Buffer {
  return createHmac("sha256", key).update(encodeFields(purpose, fields)).digest();
}

function locationFields(location: Location): readonly Field[] {
  const { version_id, json_field = null, bytes } = location;
  return [...addressFields(location), version_id, json_field, bytes];
}

function addressFields(address: SecretAddress): readonly Field[] {
  if ("resource" in address) return ["resource", address.resource, null];
  return ["secret_id", address.secret_id, address.region];
}

/** Whether it is of one of the two forms, with nothing beside: a member that no MAC covers would make it another address. */
function isAddress(address: unknown): address is SecretAddress {
  if (typeof address !== "object" || address === null) return false;
  const names = Object.keys(address).toSorted().join();
  return names === "resource" || names === "region,secret_id";
}

/** `Number`, and not `getTime`: for PostgreSQL's `infinity` a driver may give a number, or an invalid Date. */
function milliseconds(time: Date | null): number | null {
  return time === null ? null : Number(time);
}

function isSame(made: Buffer, kept: Uint8Array): boolean {
  return made.length === kept.length && timingSafeEqual(made, kept);
}
