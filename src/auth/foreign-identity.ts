// Who vouches for a foreign token: each provider by its own keys, and by nothing that the token brings along.
// A bad token is no error, it is nobody's; and no token, nor a piece of one, is logged, kept or quoted.
import { hash } from "node:crypto";
import type { IdentityVerifier, TrustedIssuer } from "../domain/federation-ports.ts";
import type { Clock } from "../domain/ports.ts";
import { type ForeignToken, isMeantFor, readForeignToken, standingOf } from "./foreign-token.ts";
import { createKeySets } from "./jwks.ts";
import type { OutboundFlaw } from "./outbound-address.ts";
import { type Resolve, askDns, fetchJson } from "./outbound.ts";
import { type PublicKey, candidates, readKeySet } from "./public-keys.ts";
import { assertUsable } from "./usable-issuer.ts";

/** What one token, which anybody may send, can cost: these many signatures, over all providers that it could be of. */
const SIGNATURES_MAX = 20;
const PROVIDERS_MAX = 20;
/** Inline sets that stay read: reading one, of keys that are long enough, costs more than checking a signature. */
const INLINE_SETS_MAX = 100;
const FETCH_MS = 3_000;

export type IdentityVerifierOptions = {
  readonly clock: Clock;
  /** Ranges (CIDR) of private addresses that key sets may be fetched from; empty: none. */
  readonly allowedPrivate: readonly string[];
  /** Why keys could not be had, for the log. */
  readonly onFetchFailure?: (host: string, flaw: OutboundFlaw) => void;
  readonly resolve?: Resolve;
  /** When a fetch that begins now has to have ended; after three seconds unless given. */
  readonly deadline?: () => AbortSignal;
};

type InlineSet = NonNullable<TrustedIssuer["jwks"]>;

export function createIdentityVerifier(options: IdentityVerifierOptions): IdentityVerifier {
  const { clock, allowedPrivate, resolve = askDns } = options;
  const keySets = createKeySets({
    clock,
    fetchSet: (address, signal) => fetchJson(address, { allowedPrivate, resolve }, signal),
    deadline: options.deadline ?? (() => AbortSignal.timeout(FETCH_MS)),
    onFailure: options.onFetchFailure ?? (() => undefined),
  });

  // Of a provider that stays in memory at once: a token costs this much before anything of it is known to be good.
  const known = new WeakMap<InlineSet, readonly PublicKey[]>();
  // By their content, of one that was read anew. The first is the one used longest ago.
  const inlineSets = new Map<string, readonly PublicKey[]>();

  function inlineKeys(jwks: InlineSet): readonly PublicKey[] {
    const keys = known.get(jwks) ?? readOnce(jwks);
    known.set(jwks, keys);
    return keys;
  }

  function readOnce(jwks: InlineSet): readonly PublicKey[] {
    const digest = hash("sha256", JSON.stringify(jwks), "base64");
    const keys = inlineSets.get(digest) ?? readKeySet(jwks) ?? [];
    inlineSets.delete(digest);
    inlineSets.set(digest, keys);
    const [oldest] = inlineSets.size > INLINE_SETS_MAX ? inlineSets.keys() : [];
    if (oldest !== undefined) inlineSets.delete(oldest);
    return keys;
  }

  /** The keys of an issuer that may have signed a token. */
  async function candidatesOf(
    { jwks, jwks_uri }: TrustedIssuer,
    { alg, kid }: ForeignToken,
  ): Promise<readonly PublicKey[]> {
    if (jwks !== null) return candidates(inlineKeys(jwks), alg, kid);
    return jwks_uri === null ? [] : candidates(await keySets.keysAt(jwks_uri, kid), alg, kid);
  }

  async function vouches(
    issuer: TrustedIssuer,
    keys: readonly PublicKey[],
    token: ForeignToken,
    text: string,
  ): Promise<boolean> {
    // Loaded at the first foreign sign-in: most brokers never see one.
    const { jwtVerify } = await import("jose");
    const checks = keys.map(({ key }) =>
      jwtVerify(text, key, {
        algorithms: [token.alg],
        issuer: issuer.issuer,
        audience: issuer.audience,
        requiredClaims: ["exp", "sub"],
        currentDate: clock.now(),
        clockTolerance: 60,
      }).then(
        () => true,
        () => false,
      ),
    );
    return (await Promise.all(checks)).includes(true);
  }

  return {
    assertUsable: (issuer) => assertUsable(issuer, allowedPrivate),

    async verify(providers, subjectToken) {
      const token = readForeignToken(subjectToken);
      const standing = token === null ? null : standingOf(token, clock.now());
      if (token === null || standing === null) return [];
      const meant = providers.filter(({ issuer, audience }) => isMeantFor(token, issuer, audience));
      const possible = await Promise.all(
        meant.slice(0, PROVIDERS_MAX).map(async (provider) => ({
          provider,
          keys: await candidatesOf(provider, token),
        })),
      );
      let left = SIGNATURES_MAX;
      const tried = await Promise.all(
        possible.map(async ({ provider, keys }) => {
          const affordable = keys.slice(0, left);
          left -= affordable.length;
          return (await vouches(provider, affordable, token, subjectToken)) ? provider : null;
        }),
      );
      const { subject, expiresAt: expires_at } = standing;
      return tried
        .filter((provider) => provider !== null)
        .map((provider) => ({
          provider,
          identity: { issuer: provider.issuer, subject, claims: token.claims, expires_at },
        }));
    },
  };
}
