// The one file that touches AES-GCM. What it seals opens only under the same key, for the same purpose, with the
// same associated fields, and with every bit as it was; anything else is one error that says nothing of key or
// content. A nonce is always random, never passed in: one key, one nonce, two plaintexts would break both.
//
// Sealed bytes: version 0x01 | nonce, 12 bytes | ciphertext, as long as the plaintext | tag, 16 bytes.
import {
  type KeyObject,
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  randomFillSync,
} from "node:crypto";
import { type Purpose, encodedText } from "./encoding.ts";

export const KEY_BYTES = 32;
/** What sealing adds to the length of a plaintext. */
export const OVERHEAD_BYTES = 29;
const CIPHER = "aes-256-gcm";
const VERSION = 0x01;
const NONCE_START = 1;
const CIPHERTEXT_START = 13;
const TAG_BYTES = 16;

type SealingPurpose = Exclude<Purpose, `coffer ${string} row v${string}` | `coffer audit ${string}`>;

/** Why sealed bytes do not open. The three fixed texts are all it ever says; it has no cause. */
export class EnvelopeError extends Error {
  constructor(
    message: "unknown sealing version" | "sealed bytes are too short" | "sealed bytes are not authentic",
  ) {
    super(message);
    this.name = "EnvelopeError";
  }
}

declare const bound: unique symbol;
/** What sealed bytes are bound to, and open with alone. As text, which takes two thirds of the memory that a Buffer does. */
export type Associated = string & { readonly [bound]: true };

/** A purpose and its fields as associated data; the fields of one purpose are always the same ones. */
export function associatedData(purpose: SealingPurpose, fields: readonly (string | number)[]): Associated {
  return encodedText(purpose, fields) as Associated;
}

/**
 * Seals with AES-256-GCM (NIST SP 800-38D), a random 96-bit nonce and a 128-bit tag. Section 8.3 there allows one
 * key 2^32 sealings with random nonces; keyring.ts says how that is kept.
 * The version byte needs no place in the associated data: the purpose names the same version.
 * @returns the plaintext's length and 29 bytes more
 */
export function sealBytes(key: KeyObject, associated: Associated, plaintext: Uint8Array): Buffer {
  const header = Buffer.alloc(CIPHERTEXT_START);
  header[0] = VERSION;
  const nonce = randomFillSync(header.subarray(NONCE_START));
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(associated, "utf8"));
  return Buffer.concat([header, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/**
 * Opens what sealBytes made. The caller zeroes the answer when it is done with it.
 * @throws EnvelopeError for an unknown version byte, fewer than 29 bytes, or a tag that does not fit. The tag's
 * length is fixed here: Node would take a shorter one, which is easier to forge (SP 800-38D, appendix C).
 */
export function openBytes(key: KeyObject, associated: Associated, sealed: Uint8Array): Buffer {
  if (sealed.length < OVERHEAD_BYTES) throw new EnvelopeError("sealed bytes are too short");
  if (sealed[0] !== VERSION) throw new EnvelopeError("unknown sealing version");
  const tagStart = sealed.length - TAG_BYTES;
  const nonce = sealed.subarray(NONCE_START, CIPHERTEXT_START);
  const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(associated, "utf8"));
  decipher.setAuthTag(sealed.subarray(tagStart));
  const plaintext = decipher.update(sealed.subarray(CIPHERTEXT_START, tagStart));
  try {
    // GCM is a stream cipher: `final` yields no bytes, it only checks the tag.
    decipher.final();
  } catch {
    plaintext.fill(0);
    throw new EnvelopeError("sealed bytes are not authentic");
  }
  return plaintext;
}

// Without `ignoreBOM` a value that starts with U+FEFF would lose it.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The same as text; the bytes are zeroed. @throws EnvelopeError as openBytes; TypeError for what is no UTF-8 */
export function openText(key: KeyObject, associated: Associated, sealed: Uint8Array): string {
  const bytes = openBytes(key, associated, sealed);
  try {
    return utf8.decode(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** A key object over a copy of 32 bytes; the bytes given are zeroed. A KeyObject prints nothing of what it holds. */
export function takeKey(bytes: Buffer): KeyObject {
  try {
    if (bytes.length !== KEY_BYTES) throw new RangeError(`a key has ${KEY_BYTES} bytes`);
    return createSecretKey(bytes);
  } finally {
    bytes.fill(0);
  }
}
