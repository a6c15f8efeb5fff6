// What of an identity provider can be told to be wrong before any token comes.
import { type BrokerError, badInput } from "../domain/errors.ts";
import type { TrustedIssuer } from "../domain/federation-ports.ts";
import { OutboundError, parseAddress } from "./outbound-address.ts";
import { isSecret, keysIn, readKeySet } from "./public-keys.ts";

const INLINE_KEYS_MAX = 32;
const NAME_LENGTH_MAX = 512;

const bad = (pointer: string, detail: string): BrokerError =>
  badInput("invalid_value", "body", pointer, detail);

/**
 * That a provider could ever verify a token. @param allowedPrivate ranges (CIDR) of private addresses that key sets may be
 * fetched from. @throws BrokerError `invalid_value`
 */
export function assertUsable(
  { issuer, audience, jwks_uri, jwks }: TrustedIssuer,
  allowedPrivate: readonly string[],
): void {
  for (const [name, text] of Object.entries({ issuer, audience }))
    if (text === "" || text.length > NAME_LENGTH_MAX || /[\p{Cc}\s]/u.test(text) || !text.isWellFormed())
      throw bad(`/${name}`, `${name} has 1 to ${NAME_LENGTH_MAX} characters, without spaces.`);
  if ((jwks_uri === null) === (jwks === null))
    throw bad("/jwks_uri", "Exactly one of jwks_uri and jwks is given.");
  if (jwks_uri !== null && !isAddress(jwks_uri, allowedPrivate))
    throw bad("/jwks_uri", "jwks_uri is an https URL of a public address, without a user in it.");
  if (jwks === null) return;
  const keys = keysIn(jwks) ?? [];
  if (keys.length > INLINE_KEYS_MAX) throw bad("/jwks", `jwks has at most ${INLINE_KEYS_MAX} keys.`);
  if (keys.some(isSecret))
    throw bad(
      "/jwks",
      "A key in jwks is private or symmetric: only public keys belong there. Replace that key.",
    );
  if ((readKeySet(jwks) ?? []).length === 0)
    throw bad(
      "/jwks",
      "jwks has no key that can be used: RSA from 2048 bits, P-256, P-384, P-521 or Ed25519.",
    );
}

function isAddress(text: string, allowedPrivate: readonly string[]): boolean {
  try {
    return parseAddress(text, allowedPrivate).href !== "";
  } catch (error) {
    if (error instanceof OutboundError) return false;
    throw error;
  }
}
