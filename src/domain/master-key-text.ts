// The text that a master key comes as: what a configuration can check of it, and what is read of it.
const BYTES = 32;
/** For whoever has to be told. */
export const MASTER_KEY_FORM = `64 hexadecimal digits, or base64 of ${BYTES} bytes`;

/**
 * 32 bytes as hexadecimal (64 digits), base64 or base64url (43 characters, and `=` or not); null for anything else, which
 * is refused rather than guessed at, so that a truncated key is never taken for a key. White space around it is passed
 * over.
 */
export function masterKeyBytes(text: string): Buffer | null {
  const trimmed = text.trim();
  if (/^[0-9a-f]{64}$/i.test(trimmed)) return Buffer.from(trimmed, "hex");
  const bare = trimmed.replace(/=$/, "").replaceAll("+", "-").replaceAll("/", "_");
  const bytes = Buffer.from(bare, "base64url");
  // Node skips what is no base64; encoding again shows whether it skipped anything.
  return bytes.length === BYTES && bytes.toString("base64url") === bare ? bytes : null;
}
