// What a seal over the audit log is made of: the hash of an event, of a seal's events, and an Ed25519 signature over
// all that a seal says. Who has the public key alone can judge all of it; signing needs the master key. The encodings
// never change, since what was sealed was sealed with exactly these bytes: a new need gets a new purpose.
import {
  type KeyObject,
  createPrivateKey,
  createPublicKey,
  hash as digestOf,
  sign,
  verify,
} from "node:crypto";
import type { AuditEvent, Subject } from "../domain/audit.ts";
import {
  type ExportEnd,
  LEAF_BYTES,
  type SealBody,
  type SealJudge,
  type SealMaker,
  packLeaves,
  sameBytes,
} from "../domain/audit-chain.ts";
import { isoOf } from "../domain/iso-time.ts";
import { encodeFields, encodedText } from "./encoding.ts";

const ED25519_PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");
const ED25519_SPKI = Buffer.from("302a300506032b6570032100", "hex");
const KEY_ID_LENGTH = 16;

/** What pairs are made of: the seed that signs now, and all whose signatures are known (while a key is replaced: two). */
export type SealSeeds = { readonly current: () => KeyObject; readonly all: () => readonly KeyObject[] };

export function onlySeed(seed: KeyObject): SealSeeds {
  return { current: () => seed, all: () => [seed] };
}

/**
 * Signs with the pair of the current seed, and judges by the pairs of all, and by earlier ones' public keys.
 * @throws Error when an earlier key is no public key
 */
export function createSealMaker(seeds: SealSeeds, earlier: readonly string[] = []): SealMaker {
  const pairs = new WeakMap<KeyObject, ReturnType<typeof pairOf>>();
  const older = earlier.map(publicKeyOf);

  function pair(seed: KeyObject): ReturnType<typeof pairOf> {
    const known = pairs.get(seed) ?? pairOf(seed);
    pairs.set(seed, known);
    return known;
  }

  const now = () => pair(seeds.current());
  const judge = judgeOf(() => [...seeds.all().map((seed) => pair(seed).publicKey), ...older]);
  return {
    ...judge,
    get publicKey() {
      return rawOf(now().publicKey).toString("base64url");
    },
    signEnd: (end) => sign(null, encodeEnd(end), now().privateKey),
    seal(base, leaves) {
      const { privateKey, publicKey } = now();
      const packed = packLeaves(leaves);
      const body: SealBody = {
        ...base,
        last_position: leaves.at(-1)?.position ?? base.first_position - 1,
        count: leaves.length,
        events_hash: sha256(packed),
        key_id: keyIdOf(publicKey),
      };
      const encoded = encodeSeal(body);
      return { ...body, leaves: packed, hash: sha256(encoded), signature: sign(null, encoded, privateKey) };
    },
  };
}

/** The pair whose private half is these 32 bytes (RFC 8032). */
function pairOf(seed: KeyObject) {
  const bytes = seed.export();
  const der = Buffer.concat([ED25519_PKCS8, bytes]);
  bytes.fill(0);
  const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  der.fill(0);
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

/**
 * Judges by the public key, as `coffer audit key` prints it.
 * @throws Error when the text is no Ed25519 public key
 */
export function createSealJudge(publicKey: string): SealJudge {
  const key = publicKeyOf(publicKey);
  return judgeOf(() => [key]);
}

function publicKeyOf(text: string): KeyObject {
  const raw = Buffer.from(text.trim(), "base64url");
  if (raw.length !== 32) throw new Error("A public key is 32 bytes as base64url; this text is not.");
  const spki = Buffer.concat([ED25519_SPKI, raw]);
  return createPublicKey({ key: spki, format: "der", type: "spki" });
}

/**
 * SHA-256 of all of an event but its position, which the seal's leaf binds. As text, a character a byte: a digest that
 * comes as bytes costs several times as much.
 */
export function hashEvent(event: AuditEvent): string {
  return digestOf("sha256", encodeEvent(event), "binary");
}

function judgeOf(publicKeys: () => readonly KeyObject[]): SealJudge {
  return {
    hashEvent,
    isGenuineEnd: (end, signature) =>
      publicKeys().some((publicKey) => verify(null, encodeEnd(end), publicKey, signature)),
    isGenuine(seal) {
      const encoded = encodeSeal(seal);
      const publicKey = publicKeys().find((each) => keyIdOf(each) === seal.key_id);
      if (publicKey === undefined || !sameBytes(sha256(encoded), seal.hash)) return false;
      const { leaves } = seal;
      if (leaves !== null && !sameBytes(sha256(leaves), seal.events_hash)) return false;
      if (leaves !== null && leaves.length !== seal.count * LEAF_BYTES) return false;
      return verify(null, encoded, publicKey, seal.signature);
    },
  };
}

const sha256 = (bytes: Uint8Array): Buffer => digestOf("sha256", bytes, "buffer");
const hexOf = (bytes: Uint8Array | null): string | null =>
  bytes === null ? null : Buffer.from(bytes).toString("hex");
const timeOf = (date: Date): string => (Number.isNaN(date.getTime()) ? "invalid" : isoOf(date));

function rawOf(publicKey: KeyObject): Buffer {
  return publicKey.export({ format: "der", type: "spki" }).subarray(ED25519_SPKI.length);
}

function keyIdOf(publicKey: KeyObject): string {
  return digestOf("sha256", rawOf(publicKey), "hex").slice(0, KEY_ID_LENGTH);
}

function encodeSeal(seal: SealBody): Buffer {
  return encodeFields("coffer audit seal v1", [
    seal.number,
    hexOf(seal.previous),
    seal.first_position,
    seal.last_position,
    seal.count,
    hexOf(seal.events_hash),
    seal.kept_from === null ? null : timeOf(seal.kept_from),
    timeOf(seal.sealed_at),
    seal.key_id,
  ]);
}

function encodeEnd(end: ExportEnd): Buffer {
  const { exported_at, head_number, head_hash, seals, events } = end;
  return encodeFields("coffer audit export v1", [
    timeOf(exported_at),
    head_number,
    hexOf(head_hash),
    seals,
    events,
  ]);
}

function encodeEvent(event: AuditEvent): string {
  return encodedText("coffer audit event v1", [
    event.tenant_id,
    event.id,
    timeOf(event.at),
    event.principal_id,
    event.token_id,
    event.action,
    event.operation,
    event.outcome,
    event.owner_type,
    event.owner_id,
    event.path,
    settingsJson(event.settings),
    event.target_id,
    canonicalJson(event.details),
    event.request_id,
    event.follows,
    event.ip,
    event.user_agent,
    event.reason,
    event.count,
  ]);
}

/** Reads of one page that is kept name the very same settings: what is long is written out once. */
const settingsTexts = new WeakMap<readonly Subject[], string>();
const LONG_FROM = 5;

function settingsJson(settings: readonly Subject[]): string {
  if (settings.length < LONG_FROM) return canonicalJson(settings);
  const known = settingsTexts.get(settings) ?? canonicalJson(settings);
  settingsTexts.set(settings, known);
  return known;
}

/** One text for one content, whatever order the fields came in. */
function canonicalJson(value: unknown): string {
  return isInOrder(value) ? JSON.stringify(value) : reordered(value);
}

/** Whether all names come in their order already, as they do from the database where the shorter sort first. */
function isInOrder(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isInOrder);
  if (typeof value !== "object" || value === null) return value !== undefined;
  const fields = value as Readonly<Record<string, unknown>>;
  let before = "";
  for (const name in fields) {
    if (name < before || !isInOrder(fields[name])) return false;
    before = name;
  }
  return true;
}

function reordered(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(reordered).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const fields = Object.entries(value)
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, content]) => `${JSON.stringify(name)}:${reordered(content)}`);
  return `{${fields.join(",")}}`;
}
