// What signing in needs of the world: who vouches for foreign identities, and what is to be signed for them.
import type { Binding, Claims } from "./binding.ts";
import type { Page, PageQuery, PrincipalRecord } from "./ports.ts";

/** An organization's identity provider. `revision` moves with every change, and ends what was had through it. */
export type IdentityProviderRecord = {
  readonly id: string;
  readonly organization_id: string;
  readonly issuer: string;
  readonly audience: string;
  readonly jwks_uri: string | null;
  readonly jwks: { readonly keys: readonly Readonly<Record<string, unknown>>[] } | null;
  readonly bindings: readonly Binding[];
  readonly revision: number;
  readonly created_at: Date;
  readonly created_by: string;
  readonly updated_at: Date;
};

/** `row_version` names what was read: any change of the row, by whomever, makes another. */
export type TrustedProvider = IdentityProviderRecord & { readonly row_version: string };

/** A service account, and which versions there are of what its organization trusts, both of one moment. */
export type WorkloadRecord = {
  readonly account: PrincipalRecord;
  /** The providers' row versions, by their ids. */
  readonly trusted: ReadonlyMap<string, string>;
};

/** Part of the Reader. */
export type FederationReads = {
  /** By a service account's id, in lower case; null where there is no such account. */
  workload(serviceAccountId: string): Promise<WorkloadRecord | null>;
  trustedProviders(organizationId: string): Promise<readonly TrustedProvider[]>;
  identityProvider(organizationId: string, id: string): Promise<IdentityProviderRecord | null>;
  identityProvidersOf(organizationId: string, page: PageQuery): Promise<Page<IdentityProviderRecord>>;
};

/** Whose keys are asked, and for which tokens. */
export type TrustedIssuer = Pick<IdentityProviderRecord, "issuer" | "audience" | "jwks_uri" | "jwks">;

/** A foreign token whose signature, issuer, audience and times were found good. */
export type VerifiedIdentity = {
  readonly issuer: string;
  /** The claim `sub`: a non-empty string. */
  readonly subject: string;
  readonly claims: Claims;
  readonly expires_at: Date;
};

export type IdentityVerifier = {
  /** @throws BrokerError `invalid_value` for what could never verify: a bad URL, private keys, no usable key */
  assertUsable(issuer: TrustedIssuer): void;
  /**
   * Those of the providers that vouch for the token, each by its own keys. None for a bad token, or when no key can
   * be had; whatever a foreign server does, it ends within seconds.
   */
  verify<Provider extends TrustedIssuer>(
    providers: readonly Provider[],
    subjectToken: string,
  ): Promise<readonly { readonly provider: Provider; readonly identity: VerifiedIdentity }[]>;
};

/** What an access token says, before it is signed and after it is verified. */
export type AccessClaims = {
  /** The token's own id (`jti`), a UUIDv7. */
  readonly id: string;
  readonly principal_id: string;
  /** The API token that it was had with; its state is this one's too. */
  readonly token_id: string | null;
  /** The identity provider that vouched for a workload, as it stood then. */
  readonly provider: { readonly id: string; readonly revision: number } | null;
  /** A ceiling of its own; empty: none. */
  readonly scopes: readonly string[];
  readonly issued_at: Date;
  readonly expires_at: Date;
};

/** The text of an access token. @throws BrokerError `invalid_scope` when the scopes are more than one can carry */
export type SignAccess = (claims: AccessClaims) => string;
export type AccessToken = { readonly claims: AccessClaims; readonly text: string };

/** A key that access tokens are signed with. Its private half rests sealed. */
export type SigningKeyRecord = {
  /** The `kid`, a UUIDv7. */
  readonly id: string;
  readonly public_jwk: Readonly<Record<string, string>>;
  readonly sealed: Uint8Array;
  readonly created_at: Date;
  /** When another took its place; what it signed is good until that has expired. */
  readonly retired_at: Date | null;
};

/** Makes key pairs and keeps those that replicas share; src/auth/signing-keys.ts. */
export type SigningKeyMaker = {
  readonly make: (now: Date) => Promise<SigningKeyRecord>;
  /** A private key, sealed under the master key in force; null for one that is. @throws Error when it does not open */
  readonly reseal: (keyId: string, sealed: Uint8Array) => Uint8Array | null;
};
