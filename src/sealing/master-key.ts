// The instance's master key: 32 random bytes from outside the database, from which every other key of the instance
// descends. It is used for nothing but deriving: each use has its own subkey, so that none can stand in for another.
// No error here repeats any of a key's text, and the raw bytes are zeroed once the subkeys exist.
import { type KeyObject, createSecretKey, hkdfSync, randomBytes } from "node:crypto";
import { MASTER_KEY_FORM, masterKeyBytes } from "../domain/master-key-text.ts";
import { KEY_BYTES, takeKey } from "./envelope.ts";

/** What is derived from the master key. Printing it shows no key: KeyObjects are opaque, the check value is public. */
export type MasterKeys = {
  /** Guards the key-encryption keys of the manager `local`. */
  readonly kekWrapping: KeyObject;
  readonly rowMac: KeyObject;
  /** Seals the private keys that access tokens are signed with. */
  readonly signingKeySealing: KeyObject;
  /** The seed of the pair that signs the seals over the audit log. */
  readonly auditSealing: KeyObject;
  /** What the keys of backups are derived from. */
  readonly backup: KeyObject;
  /** Seals what webhooks are signed with, and the public parts of generated key pairs. */
  readonly lifecycleSealing: KeyObject;
  /** 32 bytes that rest in the database and tell nothing of the other subkeys. */
  readonly keyCheck: Uint8Array;
};

/** A new master key: 64 hexadecimal digits, 256 bits from the system's generator. */
export function generateMasterKey(): string {
  const bytes = randomBytes(KEY_BYTES);
  const text = bytes.toString("hex");
  bytes.fill(0);
  return text;
}

/** Reads a master key. @throws Error that names the rule, never the text */
export function parseMasterKey(text: string): Buffer {
  const bytes = masterKeyBytes(text);
  if (bytes === null)
    throw new Error(`A master key is ${KEY_BYTES} random bytes: ${MASTER_KEY_FORM}; this text is neither.`);
  return bytes;
}

/**
 * Derives the subkeys by HKDF-SHA-256 (RFC 5869), each with its own label as `info`. No salt: the input is uniformly
 * random already (section 3.1). Zeroes `bytes`.
 * @throws Error when they are not 32 bytes, or all zero, as they are when they were taken before
 */
export function createMasterKeys(bytes: Buffer): MasterKeys {
  if (bytes.length !== KEY_BYTES) throw new Error(`A master key has ${KEY_BYTES} bytes.`);
  if (bytes.every((byte) => byte === 0)) throw new Error("The master key is all zero, or was taken already.");
  const master = createSecretKey(bytes);
  bytes.fill(0);
  const derive = (label: string): Buffer => Buffer.from(hkdfSync("sha256", master, "", label, KEY_BYTES));
  return {
    kekWrapping: takeKey(derive("coffer master v1: kek wrapping")),
    rowMac: takeKey(derive("coffer master v1: row mac")),
    signingKeySealing: takeKey(derive("coffer master v1: signing key sealing")),
    auditSealing: takeKey(derive("coffer master v1: audit seal signing")),
    backup: takeKey(derive("coffer master v1: backup")),
    lifecycleSealing: takeKey(derive("coffer master v1: lifecycle sealing")),
    keyCheck: derive("coffer master v1: key check"),
  };
}
