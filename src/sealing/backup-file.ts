// A backup as a file: one line that says what it is, a header line, then chunks of 64 KiB, each sealed by itself under
// a key of this file alone. A chunk binds the header, its place and whether it is the last: so a file that was cut off,
// altered, reordered or put together from two does not open, and no byte of a chunk comes out before it is checked.
// The key comes of the master key, or of an X25519 key pair whose public half is enough to make a backup.
import {
  type KeyObject,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  randomBytes,
} from "node:crypto";
import {
  EnvelopeError,
  KEY_BYTES,
  OVERHEAD_BYTES,
  associatedData,
  openBytes,
  sealBytes,
  takeKey,
} from "./envelope.ts";

const MAGIC = "coffer backup v1\n";
const CHUNK_BYTES = 65_536;
const HEADER_BYTES_MAX = 4_096;
const LENGTH_BYTES = 4;
const SALT_BYTES = 32;
const X25519_PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");
const X25519_SPKI = Buffer.from("302a300506032b656e032100", "hex");
const RECIPIENT = "coffer-recipient-";
const IDENTITY = "COFFER-IDENTITY-";

/** Why a file does not open; the text quotes nothing of it. */
export class BackupFlaw extends Error {
  override readonly name = "BackupFlaw";
}

/** For whom a backup is made, and who opens one. */
export type BackupTo = { readonly master: KeyObject } | { readonly recipient: string };
export type BackupBy = { readonly master: KeyObject; readonly identity: string | null };

type Header = { readonly to: "master" | "x25519"; readonly created_at: string; readonly salt: string };

/** A new pair, each half as text. */
export function generateBackupKey(): { readonly recipient: string; readonly identity: string } {
  const { publicKey, privateKey } = generateKeyPairSync("x25519");
  const secret = privateKey.export({ format: "der", type: "pkcs8" }).subarray(X25519_PKCS8.length);
  return {
    recipient: RECIPIENT + rawOf(publicKey).toString("base64url"),
    identity: IDENTITY + secret.toString("base64url"),
  };
}

/** @throws BackupFlaw when the recipient is none */
export async function* sealBackup(
  content: AsyncIterable<Uint8Array>,
  to: BackupTo,
  now: Date,
): AsyncGenerator<Buffer> {
  const made = "master" in to ? masterKeyOf(to.master) : recipientKeyOf(to.recipient);
  const kind = "master" in to ? "master" : "x25519";
  const header: Header = { to: kind, created_at: now.toISOString(), salt: made.salt.toString("hex") };
  const text = `${JSON.stringify(header)}\n`;
  yield Buffer.from(MAGIC + text, "utf8");
  const bound = digest(text);
  let index = 0;
  const frame = (chunk: Uint8Array, place: "more" | "last"): Buffer => {
    const associated = associatedData("coffer backup chunk v1", [bound, index++, place]);
    const sealed = sealBytes(made.key, associated, chunk);
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt32BE(sealed.length);
    return Buffer.concat([length, sealed]);
  };
  let pending = Buffer.alloc(0);
  for await (const bytes of content) {
    pending = Buffer.concat([pending, bytes]);
    // One chunk is always held back: the last one must say that it is.
    for (; pending.length > CHUNK_BYTES; pending = pending.subarray(CHUNK_BYTES))
      yield frame(pending.subarray(0, CHUNK_BYTES), "more");
  }
  yield frame(pending, "last");
}

/** @throws BackupFlaw for a file that is none, is for another key, was cut off or was altered */
export async function* openBackup(file: AsyncIterable<Uint8Array>, by: BackupBy): AsyncGenerator<Buffer> {
  const source = createSource(file);
  if ((await source.take(MAGIC.length)).toString("utf8") !== MAGIC)
    throw new BackupFlaw("The file is no backup of this version's format.");
  const text = await source.line(HEADER_BYTES_MAX);
  const key = keyFor(headerOf(text), by);
  const bound = digest(text);
  for (let index = 0; ; index++) {
    const length = await source.take(LENGTH_BYTES);
    const bytes = length.length === LENGTH_BYTES ? length.readUInt32BE(0) : 0;
    if (bytes < OVERHEAD_BYTES || bytes > CHUNK_BYTES + OVERHEAD_BYTES) throw cutOff();
    const sealed = await source.take(bytes);
    const last = await source.atEnd();
    yield openChunk(key, [bound, index, last ? "last" : "more"], sealed);
    if (last) return;
  }
}

type ChunkPlace = readonly [header: string, index: number, place: "more" | "last"];

function openChunk(key: KeyObject, place: ChunkPlace, sealed: Buffer): Buffer {
  try {
    return openBytes(key, associatedData("coffer backup chunk v1", place), sealed);
  } catch (error) {
    if (!(error instanceof EnvelopeError)) throw error;
    if (place[1] !== 0) throw cutOff();
    throw new BackupFlaw("The backup does not open: it is for another key, was cut off or was altered.");
  }
}

const cutOff = (): BackupFlaw => new BackupFlaw("The backup was cut off or altered.");
const digest = (text: string): string => createHash("sha256").update(text).digest("hex");

function headerOf(text: string): Header {
  try {
    const header = JSON.parse(text) as Header;
    if (/^(master|x25519)$/.test(header.to) && /^[0-9a-f]{64}$/.test(header.salt)) return header;
  } catch {
    // Told below.
  }
  throw new BackupFlaw("The file is no backup of this version's format.");
}

function keyFor({ to, salt }: Header, { master, identity }: BackupBy): KeyObject {
  const bytes = Buffer.from(salt, "hex");
  if (to === "master") return derive(master.export(), bytes, "master");
  if (identity === null) throw new BackupFlaw("The backup was made for a recipient: its identity is needed.");
  const secret = Buffer.concat([X25519_PKCS8, rawText(identity, IDENTITY, "identity")]);
  const privateKey = createPrivateKey({ key: secret, format: "der", type: "pkcs8" });
  secret.fill(0);
  return agree(privateKey, publicKeyOf(bytes), bytes, rawOf(createPublicKey(privateKey)));
}

function masterKeyOf(master: KeyObject): { readonly key: KeyObject; readonly salt: Buffer } {
  const salt = randomBytes(SALT_BYTES);
  return { key: derive(master.export(), salt, "master"), salt };
}

/** The salt is the public half of a pair that is made for this file and forgotten. */
function recipientKeyOf(recipient: string): { readonly key: KeyObject; readonly salt: Buffer } {
  const raw = rawText(recipient, RECIPIENT, "recipient");
  const { publicKey, privateKey } = generateKeyPairSync("x25519");
  const salt = rawOf(publicKey);
  return { key: agree(privateKey, publicKeyOf(raw), salt, raw), salt };
}

function agree(privateKey: KeyObject, publicKey: KeyObject, ephemeral: Buffer, recipient: Buffer): KeyObject {
  const shared = diffieHellman({ privateKey, publicKey });
  return derive(shared, Buffer.concat([ephemeral, recipient]), "x25519");
}

/** HKDF-SHA-256; zeroes the secret. */
function derive(secret: Buffer, salt: Buffer, to: Header["to"]): KeyObject {
  const bytes = Buffer.from(hkdfSync("sha256", secret, salt, `coffer backup v1: ${to}`, KEY_BYTES));
  secret.fill(0);
  return takeKey(bytes);
}

function rawOf(publicKey: KeyObject): Buffer {
  return publicKey.export({ format: "der", type: "spki" }).subarray(X25519_SPKI.length);
}

function publicKeyOf(raw: Buffer): KeyObject {
  return createPublicKey({ key: Buffer.concat([X25519_SPKI, raw]), format: "der", type: "spki" });
}

function rawText(text: string, prefix: string, what: string): Buffer {
  const trimmed = text.trim();
  const raw = Buffer.from(trimmed.startsWith(prefix) ? trimmed.slice(prefix.length) : "", "base64url");
  if (raw.length !== KEY_BYTES) throw new BackupFlaw(`That is no ${what}: one starts with ${prefix}.`);
  return raw;
}

/** Takes exact numbers of bytes from a stream; fewer at its end. */
function createSource(file: AsyncIterable<Uint8Array>) {
  const iterator = file[Symbol.asyncIterator]();
  let held = Buffer.alloc(0);
  let ended = false;

  async function more(): Promise<boolean> {
    const next = ended ? null : await iterator.next();
    if (next === null || next.done === true) ended = true;
    else held = Buffer.concat([held, next.value]);
    return !ended;
  }
  async function take(bytes: number): Promise<Buffer> {
    while (held.length < bytes && (await more()));
    const taken = held.subarray(0, bytes);
    held = held.subarray(taken.length);
    return taken;
  }
  return {
    take,
    async line(bytesMax: number): Promise<string> {
      while (!held.includes("\n") && held.length < bytesMax && (await more()));
      return (await take(held.indexOf("\n") + 1)).toString("utf8");
    },
    async atEnd(): Promise<boolean> {
      while (held.length === 0 && (await more()));
      return held.length === 0;
    },
  };
}
