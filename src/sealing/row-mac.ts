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
import type { Location, SettingRecord, SettingRow, VersionRecord } from "../domain/setting.ts";
import { type Field, type Purpose, encodeFields } from "./encoding.ts";

/** What a version row takes from its setting. */
type VersionParent = Owner & { readonly id: string; readonly type: SettingType };

/** Each MAC has 32 bytes. */
export type RowMac = {
  ofSetting(record: Omit<SettingRecord, "mac">): Buffer;
  ofVersion(parent: VersionParent, record: Omit<VersionRecord, "mac">): Buffer;
  ofSecret(secret: SecretIdentity): Buffer;
  isGenuineSecret(secret: ManagedSecret): boolean;
  /**
   * True when both rows are a broker's and belong together. Needs the version's sealed bytes to have been fetched.
   * Never throws, whatever the rows hold.
   */
  isGenuine(row: SettingRow): boolean;
};

/** HMAC-SHA-256 (RFC 2104) under the master key's subkey for rows. */
export function createRowMac(key: KeyObject): RowMac {
  const mac = (purpose: Purpose, fields: readonly Field[]): Buffer =>
    createHmac("sha256", key).update(encodeFields(purpose, fields)).digest();

  function ofSetting(record: Omit<SettingRecord, "mac">): Buffer {
    return mac("coffer setting row v1", [
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

  function ofVersion(parent: VersionParent, record: Omit<VersionRecord, "mac">): Buffer {
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
    if (record.location === null) return mac("coffer version row v1", fields);
    return mac("coffer version row v2", [...fields, ...locationFields(record.location)]);
  }

  function ofSecret(secret: SecretIdentity): Buffer {
    const { tenant_id, id, purpose, manager, address, version_id, setting_id, owner, path } = secret;
    const { owner_type = null, owner_id = null } = owner ?? {};
    return mac("coffer managed secret row v1", [
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
    ofSetting,
    ofVersion,
    ofSecret,
    isGenuineSecret: (secret) => secret.mac !== null && isSame(ofSecret(secret), secret.mac),
    isGenuine({ setting, version }) {
      if (version.setting_id !== setting.id || version.tenant_id !== setting.tenant_id) return false;
      return isSame(ofSetting(setting), setting.mac) && isSame(ofVersion(setting, version), version.mac);
    },
  };
}

function locationFields(location: Location): readonly Field[] {
  const { version_id, json_field = null, bytes } = location;
  return [...addressFields(location), version_id, json_field, bytes];
}

function addressFields(address: SecretAddress): readonly Field[] {
  if ("resource" in address) return ["resource", address.resource, null];
  return ["secret_id", address.secret_id, address.region];
}

/** `Number`, and not `getTime`: for PostgreSQL's `infinity` a driver may give a number, or an invalid Date. */
function milliseconds(time: Date | null): number | null {
  return time === null ? null : Number(time);
}

function isSame(made: Buffer, kept: Uint8Array): boolean {
  return made.length === kept.length && timingSafeEqual(made, kept);
}
