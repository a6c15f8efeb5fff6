// The keys of access tokens: EdDSA over Ed25519 (RFC 8037). The private half leaves this process sealed only, bound to
// its key id; what replicas share through the database is of no use without the master key.
import { type KeyObject, createPrivateKey, createPublicKey, generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import type { SigningKeyMaker, SigningKeyRecord } from "../domain/federation-ports.ts";
import type { Clock, NewId } from "../domain/ports.ts";
import { OVERLAP_MS } from "../domain/signing.ts";

/** Seals and opens a private key's bytes under the master key; bound to the key's id. */
export type PrivateKeySealer = {
  seal(keyId: string, bytes: Uint8Array): Uint8Array;
  /** @throws Error that says nothing of the content */
  open(keyId: string, sealed: Uint8Array): Buffer;
  /** The same key under the master key in force; null for one that is. @throws as `open` */
  reseal(keyId: string, sealed: Uint8Array): Uint8Array | null;
};

export type SigningKey = {
  readonly id: string;
  readonly retiredAt: Date | null;
  readonly publicJwk: Readonly<Record<string, string>>;
  readonly privateKey: KeyObject;
};

export type SigningKeys = SigningKeyMaker & {
  /** The newest key that is not retired, no older than a minute's look at the database. */
  current(): Promise<SigningKey>;
  /**
   * A key that may have signed what is still good. Asks the database when it is not in memory, though at most once a
   * second, since a token's key id comes from outside; and no older than a minute's look at it otherwise.
   */
  find(keyId: string): Promise<SigningKey | undefined>;
  /** A JSON Web Key Set (RFC 7517) of all keys that may have signed what is still good. */
  published(): Promise<{ readonly keys: readonly Readonly<Record<string, string>>[] }>;
};

const RELOAD_INTERVAL_MS = 1_000;
const FRESH_MS = 60_000;
const generate = promisify(generateKeyPair);

function publicJwkOf(id: string, key: KeyObject): Readonly<Record<string, string>> {
  const { kty = "", crv = "", x = "" } = key.export({ format: "jwk" });
  return { kty, crv, x, kid: id, alg: "EdDSA", use: "sig" };
}

export function createSigningKeys(
  read: () => Promise<readonly SigningKeyRecord[]>,
  sealer: PrivateKeySealer,
  clock: Clock,
  newId: NewId,
): SigningKeys {
  const byId = new Map<string, SigningKey>();
  let newest: SigningKey | null = null;
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | null = null;

  /** The public half is made from the private one: what the database has beside it is anybody's who can write there. */
  function toKey({ id, sealed, retired_at }: SigningKeyRecord): SigningKey {
    const bytes = sealer.open(id, sealed);
    try {
      const privateKey = createPrivateKey({ key: bytes, format: "der", type: "pkcs8" });
      return {
        id,
        retiredAt: retired_at,
        publicJwk: publicJwkOf(id, createPublicKey(privateKey)),
        privateKey,
      };
    } finally {
      bytes.fill(0);
    }
  }

  /** A retired key that was stolen must not be good for longer than what it signed. */
  function isGood({ retiredAt }: SigningKey): boolean {
    return retiredAt === null || clock.now().getTime() < retiredAt.getTime() + OVERLAP_MS;
  }

  async function load(): Promise<void> {
    const records = await read();
    const ids = new Set(records.map(({ id }) => id));
    for (const id of byId.keys()) if (!ids.has(id)) byId.delete(id);
    for (const record of records) {
      const known = byId.get(record.id) ?? toKey(record);
      const isSame = known.retiredAt?.getTime() === record.retired_at?.getTime();
      byId.set(record.id, isSame ? known : { ...known, retiredAt: record.retired_at });
    }
    const active = records.findLast(({ retired_at }) => retired_at === null);
    newest = active === undefined ? null : (byId.get(active.id) ?? null);
    readAt = clock.now().getTime();
  }

  async function reloadOlderThan(ageMs: number): Promise<void> {
    const age = clock.now().getTime() - readAt;
    // A clock that was set back makes nothing look fresh for ever.
    if (age >= 0 && age < ageMs) return;
    reading ??= load().finally(() => {
      reading = null;
    });
    await reading;
  }

  return {
    async make(now) {
      const { publicKey, privateKey } = await generate("ed25519");
      const id = newId();
      const bytes = privateKey.export({ format: "der", type: "pkcs8" });
      try {
        const public_jwk = publicJwkOf(id, publicKey);
        return { id, public_jwk, sealed: sealer.seal(id, bytes), created_at: now, retired_at: null };
      } finally {
        bytes.fill(0);
      }
    },
    reseal: (keyId, sealed) => sealer.reseal(keyId, sealed),
    async current() {
      await reloadOlderThan(newest === null ? 0 : FRESH_MS);
      if (newest === null) throw new Error("the instance has no signing key");
      return newest;
    },
    async find(keyId) {
      await reloadOlderThan(FRESH_MS);
      if (!byId.has(keyId)) await reloadOlderThan(RELOAD_INTERVAL_MS);
      const key = byId.get(keyId);
      return key !== undefined && isGood(key) ? key : undefined;
    },
    async published() {
      await reloadOlderThan(FRESH_MS);
      return { keys: [...byId.values()].filter(isGood).map(({ publicJwk }) => publicJwk) };
    },
  };
}
