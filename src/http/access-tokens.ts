// Access tokens: our own short-lived JWTs (RFC 7519, 9068), signed and verified through @fastify/jwt with EdDSA and
// nothing else. What comes in must be, letter for letter, what we would have written: one header, one order of
// members, no member more. Whether it is still in time, and the token behind it still stands, is for the gate to find out
// at each request.
// Text of a token is never kept, logged or put into an error: the cache knows tokens by their SHA-256.
import { createPublicKey, hash } from "node:crypto";
import type { SigningKey, SigningKeys } from "../auth/signing-keys.ts";
import { formatScope, parseScope } from "../domain/access.ts";
import { isUuid } from "../domain/address.ts";
import { BrokerError } from "../domain/errors.ts";
import type { AccessClaims, SignAccess } from "../domain/federation-ports.ts";
import type { Clock } from "../domain/ports.ts";
import { createRecent } from "../domain/recent.ts";
import type { App } from "./app.ts";

const ALGORITHM = "EdDSA";
const TYPE = "at+jwt";
export const AUDIENCE = "coffer";
/** 8 KiB, so that it fits into a header with room to spare. */
const LENGTH_MAX = 8_192;
const SECONDS_MAX = 900;
/** How far replicas' clocks may be apart. */
const SKEW_SECONDS = 60;
const CACHED_MAX = 10_000;

/** The last part is an Ed25519 signature: 64 bytes. */
const FORM = /^(eyJ[A-Za-z0-9_-]+)\.(eyJ[A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})$/;
const HEADER = /^\{"alg":"EdDSA","typ":"at\+jwt","kid":"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"\}$/;

export type AccessTokens = {
  /** The `iss` of every access token. */
  readonly issuer: string;
  /** Signs under the key that is current now. @throws BrokerError (as a rejection) `unavailable` when it cannot be had */
  signer(): Promise<SignAccess>;
  /**
   * What a token that we signed says, be it over or not; null for anything else. At once where it was verified before.
   * @throws BrokerError (as a rejection) `unavailable` when our own keys cannot be had
   */
  read(text: string): AccessClaims | null | Promise<AccessClaims | null>;
};

/** @param app with @fastify/jwt registered, whose own keys are never used */
export function createAccessTokens(
  app: Pick<App, "jwt">,
  keys: Pick<SigningKeys, "current" | "find">,
  {
    issuer,
    clock,
    cachedMax = CACHED_MAX,
  }: { readonly issuer: string; readonly clock: Clock; readonly cachedMax?: number },
): AccessTokens {
  const verified = createRecent<AccessClaims>(cachedMax);
  // The private half of the key that signs now alone: as text it cannot be cleared.
  const publicPemOf = oncePerKey((key) =>
    createPublicKey(key.privateKey).export({ format: "pem", type: "spki" }).toString(),
  );
  const privatePemOf = oncePerKey((key) =>
    key.privateKey.export({ format: "pem", type: "pkcs8" }).toString(),
  );

  async function verify(text: string, digest: string): Promise<AccessClaims | null> {
    const keyId = keyIdOf(text);
    const key = keyId === null ? undefined : await keys.find(keyId);
    if (key === undefined) return null;
    let payload: unknown;
    try {
      payload = app.jwt.verify<object>(text, {
        key: publicPemOf(key),
        algorithms: [ALGORITHM],
        checkTyp: TYPE,
        allowedIss: issuer,
        allowedAud: AUDIENCE,
        requiredClaims: ["iss", "aud", "sub", "jti", "iat", "exp"],
        // Who has one that is over does not guess: the gate says so, and to whom it was given.
        ignoreExpiration: true,
        cache: false,
      });
    } catch {
      // Its messages may quote the token.
      return null;
    }
    const claims = claimsOf(text, payload, issuer, clock.now());
    if (claims !== null) verified.put(digest, claims);
    return claims;
  }

  function sign(
    key: SigningKey,
    { id, principal_id, token_id, provider, scopes, issued_at, expires_at }: AccessClaims,
  ): string {
    const payload = {
      iss: issuer,
      aud: AUDIENCE,
      sub: principal_id,
      jti: id,
      iat: secondsOf(issued_at),
      exp: secondsOf(expires_at),
      ...(token_id === null ? {} : { token_id }),
      ...(provider === null ? {} : { provider: { id: provider.id, revision: provider.revision } }),
      scope: scopes.join(" "),
    };
    const text = app.jwt.sign(payload, {
      key: privatePemOf(key),
      algorithm: ALGORITHM,
      kid: key.id,
      header: { alg: ALGORITHM, typ: TYPE },
    });
    if (text.length > LENGTH_MAX)
      throw new BrokerError(
        "invalid_scope",
        "The scopes are more than one access token can carry; ask for fewer.",
      );
    return text;
  }

  return {
    issuer,

    async signer() {
      const key = await keys.current();
      return (claims) => sign(key, claims);
    },

    read(text) {
      if (text.length > LENGTH_MAX) return null;
      const digest = hash("sha256", text, "base64");
      return verified.get(digest) ?? verify(text, digest);
    },
  };
}

const secondsOf = (time: Date): number => Math.floor(time.getTime() / 1_000);

/** The bytes of a part; null when another text stands for the same bytes, as unused bits at its end may. */
function bytesOf(part: string): Buffer | null {
  const bytes = Buffer.from(part, "base64url");
  return bytes.toString("base64url") === part ? bytes : null;
}

/** The key id of a token with exactly our header. */
function keyIdOf(text: string): string | null {
  const [, header = "", , signature = ""] = FORM.exec(text) ?? [];
  if (bytesOf(signature) === null) return null;
  return HEADER.exec(bytesOf(header)?.toString("latin1") ?? "")?.[1] ?? null;
}

/** The claims of a token whose signature is good: whoever has our key still has to write what we would. */
function claimsOf(text: string, payload: unknown, issuer: string, now: Date): AccessClaims | null {
  const [, , part = ""] = FORM.exec(text) ?? [];
  // What is written twice, escaped, padded or in another notation does not come out as it went in.
  if (bytesOf(part)?.toString("utf8") !== JSON.stringify(payload)) return null;
  const { iss, aud, sub, jti, iat, exp, token_id, provider, scope, ...more } = payload as Record<
    string,
    unknown
  >;
  if (Object.keys(more).length > 0 || iss !== issuer || aud !== AUDIENCE) return null;
  if (!isId(sub) || !isId(jti) || !(token_id === undefined || isId(token_id))) return null;
  const times = timesOf(iat, exp, now);
  const scopes = scopesOf(scope);
  const vouched = providerOf(provider);
  if (times === null || scopes === null || vouched === undefined) return null;
  if (token_id !== undefined && vouched !== null) return null;
  return { id: jti, principal_id: sub, token_id: token_id ?? null, provider: vouched, scopes, ...times };
}

function isId(given: unknown): given is string {
  return typeof given === "string" && isUuid(given) && given === given.toLowerCase();
}

function timesOf(
  iat: unknown,
  exp: unknown,
  now: Date,
): Pick<AccessClaims, "issued_at" | "expires_at"> | null {
  if (!isSeconds(iat) || !isSeconds(exp)) return null;
  if (iat > now.getTime() / 1_000 + SKEW_SECONDS) return null;
  if (exp <= iat || exp - iat > SECONDS_MAX) return null;
  return { issued_at: new Date(iat * 1_000), expires_at: new Date(exp * 1_000) };
}

function isSeconds(given: unknown): given is number {
  return Number.isSafeInteger(given) && (given as number) > 0;
}

function scopesOf(scope: unknown): readonly string[] | null {
  if (typeof scope !== "string") return null;
  if (scope === "") return [];
  const scopes = scope.split(" ");
  try {
    return scopes.every((each) => formatScope(parseScope(each)) === each) ? scopes : null;
  } catch {
    return null;
  }
}

/** Null where there is none, undefined where what there is cannot be one. */
function providerOf(given: unknown): AccessClaims["provider"] | undefined {
  if (given === undefined) return null;
  if (typeof given !== "object" || given === null) return undefined;
  const { id, revision, ...more } = given as Record<string, unknown>;
  if (Object.keys(more).length > 0 || !isId(id) || !isSeconds(revision)) return undefined;
  return { id, revision };
}

/** What is made of a key, kept for as long as the key is. */
function oncePerKey(make: (key: SigningKey) => string): (key: SigningKey) => string {
  const made = new WeakMap<SigningKey, string>();
  return (key) => {
    const text = made.get(key) ?? make(key);
    made.set(key, text);
    return text;
  };
}
