// Which JSON Web Keys (RFC 7517) may vouch for a token: public, asymmetric, strong enough, meant for signatures; and
// for which algorithms each may do so, so that no token chooses how a key is used.
// Only the members named here are read: no `x5u`, `x5c` or `jku` of a key is ever followed.
import { type JsonWebKey, type KeyObject, createPublicKey } from "node:crypto";

/** A JSON Web Key as somebody gave it. */
type Jwk = Readonly<Record<string, unknown>>;

export type PublicKey = {
  readonly kid: string | null;
  /** The `alg` values of tokens that it may verify. */
  readonly algorithms: readonly string[];
  readonly key: KeyObject;
};

const RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
const BY_CURVE: Readonly<Record<string, readonly string[]>> = {
  "P-256": ["ES256"],
  "P-384": ["ES384"],
  "P-521": ["ES512"],
  Ed25519: ["EdDSA"],
};

/** No other is verified, whatever a provider or a token says. */
export const ALGORITHMS: ReadonlySet<string> = new Set([...RSA, ...Object.values(BY_CURVE).flat()]);

/** Keys of one set that are looked at, and kept. */
const KEYS_SEEN_MAX = 100;
const KEYS_MAX = 32;
/** Without a `kid` in the token every key would have to be tried: only for a small set. */
const KEYS_WITHOUT_KID_MAX = 5;
const KEYS_TRIED_MAX = 5;
const KID_LENGTH_MAX = 256;
/** Above, one verification is work worth an attack. */
const RSA_BITS = { least: 2_048, most: 8_192 };
const RSA_EXPONENT_MAX = 2n ** 32n;

const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  RSA: ["n", "e"],
  EC: ["crv", "x", "y"],
  OKP: ["crv", "x"],
};
const SECRET_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/** Whether somebody gave a key away: a private one, or one that signs as well as it verifies. */
export function isSecret(jwk: unknown): boolean {
  if (typeof jwk !== "object" || jwk === null) return false;
  return ("kty" in jwk && jwk.kty === "oct") || SECRET_MEMBERS.some((name) => name in jwk);
}

/** What a JSON Web Key Set lists, whatever that is; null when it is no such set. */
export function keysIn(document: unknown): readonly unknown[] | null {
  if (typeof document !== "object" || document === null || !("keys" in document)) return null;
  return Array.isArray(document.keys) ? document.keys : null;
}

/** The keys of a set that can be used, at most 32; null when it is not a set of keys at all. */
export function readKeySet(document: unknown): readonly PublicKey[] | null {
  const keys = keysIn(document)?.slice(0, KEYS_SEEN_MAX).map(readKey);
  return keys?.filter((key) => key !== null).slice(0, KEYS_MAX) ?? null;
}

/** The keys of a set that a token may have been signed with, at most 5; `kid` is compared and nothing else. */
export function candidates(
  keys: readonly PublicKey[],
  alg: string,
  kid: string | null,
): readonly PublicKey[] {
  if (kid === null && keys.length > KEYS_WITHOUT_KID_MAX) return [];
  // Two keys may share a kid, of different algorithms or, during a bad rotation, of the same.
  const named = kid === null ? keys : keys.filter((key) => key.kid === kid);
  return named.filter(({ algorithms }) => algorithms.includes(alg)).slice(0, KEYS_TRIED_MAX);
}

function readKey(jwk: unknown): PublicKey | null {
  if (typeof jwk !== "object" || jwk === null) return null;
  const { kid, use, key_ops, alg, ...rest } = jwk as Jwk;
  if (isSecret(rest) || (use !== undefined && use !== "sig")) return null;
  if (key_ops !== undefined && !(Array.isArray(key_ops) && key_ops.includes("verify"))) return null;
  if (kid !== undefined && (typeof kid !== "string" || kid.length > KID_LENGTH_MAX)) return null;
  const fitting = algorithmsOf(rest);
  const algorithms = alg === undefined ? fitting : fitting.filter((each) => each === alg);
  const key = algorithms.length === 0 ? null : importKey(rest);
  return key === null ? null : { kid: kid ?? null, algorithms, key };
}

function algorithmsOf({ kty, crv }: Jwk): readonly string[] {
  if (kty === "RSA") return RSA;
  const curve = typeof crv === "string" && Object.hasOwn(BY_CURVE, crv) ? crv : "";
  return kty === (curve === "Ed25519" ? "OKP" : "EC") ? (BY_CURVE[curve] ?? []) : [];
}

/** Null for a point that is not on its curve, a weak RSA key, and the like. */
function importKey(jwk: Jwk): KeyObject | null {
  const members = MEMBERS[String(jwk["kty"])] ?? [];
  const key: JsonWebKey = Object.fromEntries(["kty", ...members].map((name) => [name, jwk[name]]));
  try {
    const imported = createPublicKey({ key, format: "jwk" });
    return jwk["kty"] === "RSA" && !isStrongRsa(imported) ? null : imported;
  } catch {
    return null;
  }
}

/** An exponent of 1 would make every text its own signature; a huge one would make verifying slow. */
function isStrongRsa({
  asymmetricKeyDetails: { modulusLength = 0, publicExponent = 0n } = {},
}: KeyObject): boolean {
  const isGoodExponent =
    publicExponent >= 3n && publicExponent % 2n === 1n && publicExponent < RSA_EXPONENT_MAX;
  return isGoodExponent && modulusLength >= RSA_BITS.least && modulusLength <= RSA_BITS.most;
}
