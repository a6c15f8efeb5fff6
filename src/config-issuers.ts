// The part of the configuration that is about identity providers for all organizations. Pure: config.ts hands it over.
import { assertUsable } from "./auth/usable-issuer.ts";
import { BrokerError } from "./domain/errors.ts";
import type { TrustedIssuer } from "./domain/federation-ports.ts";

/**
 * JSON: `[{"issuer", "audience", "jwks_uri"}, …]`. @param allowedPrivate ranges (CIDR) of private addresses that key sets
 * may be fetched from
 */
export function issuersOf(
  json: string | null,
  allowedPrivate: readonly string[],
  problems: string[],
): readonly TrustedIssuer[] {
  const issuers = parsed(json, problems);
  for (const [index, issuer] of issuers.entries())
    try {
      assertUsable(issuer, allowedPrivate);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      problems.push(`COFFER_IDENTITY_PROVIDERS, entry ${index + 1}: ${error.message}`);
    }
  return issuers;
}

function parsed(json: string | null, problems: string[]): readonly TrustedIssuer[] {
  if (json === null) return [];
  try {
    const given: unknown = JSON.parse(json);
    if (Array.isArray(given) && given.every(isIssuer))
      return given.map((each) => ({ jwks_uri: null, jwks: null, ...each }));
  } catch {
    // Told below, without what was given.
  }
  problems.push(
    'COFFER_IDENTITY_PROVIDERS is JSON: [{"issuer": "…", "audience": "…", "jwks_uri": "https://…"}].',
  );
  return [];
}

function isIssuer(given: unknown): given is Pick<TrustedIssuer, "issuer" | "audience"> {
  if (typeof given !== "object" || given === null) return false;
  const { issuer, audience, jwks_uri, jwks } = given as Record<string, unknown>;
  const keyed = typeof jwks_uri === "string" || (typeof jwks === "object" && jwks !== null);
  return typeof issuer === "string" && typeof audience === "string" && keyed;
}
