// Signing in: an API token, a workload's or a person's foreign identity is exchanged for a short-lived access token, which
// http/ signs, before the event says that there was one. Whatever is wrong with what was presented, the answer is the
// same, so that nobody learns which account, token or provider exists; with client credentials so is the work.
import { type Scope, formatScope, parseScope, scopeOf, scopesWithin } from "./access.ts";
import { isUuid } from "./address.ts";
import { type Caller, type Need, Refused, type Who } from "./admission.ts";
import type { RequestContext } from "./audit.ts";
import { bindingMatches } from "./binding.ts";
import { BrokerError } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { SignedIn } from "./steps.ts";
import type {
  AccessClaims,
  AccessToken,
  IdentityVerifier,
  SignAccess,
  TrustedIssuer,
  VerifiedIdentity,
} from "./federation-ports.ts";
import type { NewId, PrincipalRecord, Store } from "./ports.ts";
import type { TokenMaker } from "./tokens.ts";
import { createTrustedProviders } from "./trusted-providers.ts";

/** No access token lives longer, nor longer than what it was had for. */
const ACCESS_SECONDS_MAX = 900;
const NAME_LENGTH_MAX = 128;

export type ExchangeInput = {
  /** The service account that a workload wants to be; null for a person. */
  readonly client_id: string | null;
  readonly subject_token: string;
  /** Space-separated; null: all that may be had. */
  readonly scope: string | null;
};

/** How to sign under the key that is current now. @throws BrokerError (as a rejection) `unavailable` when it cannot be had */
type Signer = () => Promise<SignAccess>;

export function createSignIn(
  gate: Gate,
  verifier: IdentityVerifier,
  instanceIssuers: readonly TrustedIssuer[],
  store: Pick<Store, "reader">,
  tokens: Pick<TokenMaker, "hashToken">,
  newId: NewId,
) {
  const providersFor = createTrustedProviders(store.reader);

  /**
   * OAuth 2.0 client credentials: a service account's id and one of its API tokens. The token is presented to the gate
   * like any other, so it is judged, limited and counted like any other. No right is changed by it: what an access token is
   * good for is found out at each use, from the rows behind it.
   */
  async function clientCredentials(
    context: RequestContext,
    input: { readonly client_id: string; readonly client_secret: string; readonly scope: string | null },
    signer: Signer,
  ): Promise<AccessToken> {
    const sign = await signer();
    const hash = tokens.hashToken(input.client_secret);
    // An ill-formed secret is looked up all the same: the work does not tell it from an unknown one.
    const credential = { kind: "api", hash: hash ?? Buffer.alloc(32) } as const;
    const caller: Caller = { credential, context, client: `client:${input.client_id}` };
    const need: Need = { ask: { action: "sign_in" }, place: { kind: "self" } };
    try {
      return await gate.read(
        caller,
        need,
        async ({ principal, token, at }) => {
          const who = { principal_id: principal.id, token_id: token.id };
          if (principal.kind !== "service_account" || principal.id !== input.client_id.toLowerCase())
            throw new Refused("wrong_client", who);
          const claims = {
            ...who,
            id: newId(),
            provider: null,
            scopes: narrowed(input.scope, principal.ceilings, []),
            ...lifetime(at, token.expires_at, who),
          };
          const found = { claims, text: sign(claims) };
          return { found, details: { grant: "client_credentials", ...traceOf(claims) } };
        },
        async (found) => found,
      );
    } catch (error) {
      if (!(error instanceof BrokerError) || error.code !== "unauthenticated") throw error;
      throw new BrokerError("invalid_client", "The client's credentials are not good.");
    }
  }

  /** RFC 8693: a foreign identity becomes a service account of the organization that trusts its provider. */
  async function workload(
    context: RequestContext,
    clientId: string,
    input: ExchangeInput,
    signer: Signer,
  ): Promise<AccessToken> {
    const sign = await signer();
    const look = () =>
      isUuid(clientId) ? store.reader.workload(clientId.toLowerCase()) : Promise.resolve(null);
    const before = await look();
    const providers = before === null ? [] : await providersFor(before);
    // Keys may be fetched over the network for it, which takes seconds: what is decided by is looked up afterwards.
    const vouching = await verifier.verify(providers, input.subject_token);
    return gate.signInKnown(context, `client:${clientId}`, "invalid_grant", async (now) => {
      const found = await look();
      if (found === null) throw new Refused("unknown_identity");
      const { account: principal, trusted } = found;
      const who = { principal_id: principal.id, token_id: null };
      for (const { provider, identity } of vouching) {
        // Changed while its keys were fetched: what was verified may not be what is trusted now.
        if (trusted.get(provider.id) !== provider.row_version) continue;
        const binding = provider.bindings.find(
          (each) => each.service_account_id === principal.id && bindingMatches(each, identity.claims),
        );
        if (binding === undefined) continue;
        if (principal.disabled_at !== null) throw new Refused("disabled", who);
        const ceilings = [binding.scopes ?? [], principal.scopes]
          .filter((each) => each.length > 0)
          .map((each) => each.map(parseScope));
        const claims = {
          id: newId(),
          principal_id: principal.id,
          token_id: null,
          provider: { id: provider.id, revision: provider.revision },
          scopes: narrowed(input.scope, ceilings, binding.scopes ?? []),
          ...lifetime(now, identity.expires_at, who),
        };
        const details = { provider: provider.id, ...vouchedBy(identity) };
        return signedIn({ claims, text: sign(claims) }, principal, details);
      }
      throw new Refused(vouching.length === 0 ? "unknown_identity" : "unbound_identity", who);
    });
  }

  /** A person, by an identity provider of the instance: (issuer, sub), made at the first sign-in without any role. */
  async function person(context: RequestContext, input: ExchangeInput, signer: Signer): Promise<AccessToken> {
    const sign = await signer();
    const [vouching] = await verifier.verify(instanceIssuers, input.subject_token);
    return gate.signIn(context, null, "invalid_grant", async (tx, now) => {
      if (vouching === undefined) throw new Refused("unknown_identity");
      const { identity } = vouching;
      const known = await tx.userByIdentity(identity.issuer, identity.subject);
      if (known !== null && known.disabled_at !== null)
        throw new Refused("disabled", { principal_id: known.id, token_id: null });
      const principal = known ?? newPerson(newId(), identity, now);
      if (known === null) await tx.insertPerson(principal, identity.issuer, identity.subject);
      const claims = {
        id: newId(),
        principal_id: principal.id,
        token_id: null,
        provider: null,
        scopes: narrowed(input.scope, [], []),
        ...lifetime(now, identity.expires_at, { principal_id: principal.id, token_id: null }),
      };
      return signedIn({ claims, text: sign(claims) }, principal, {
        ...vouchedBy(identity),
        ...(known === null ? { change: "created" } : {}),
      });
    });
  }

  return {
    clientCredentials,
    exchangeToken: (context: RequestContext, input: ExchangeInput, signer: Signer): Promise<AccessToken> =>
      input.client_id === null
        ? person(context, input, signer)
        : workload(context, input.client_id, input, signer),
  };
}

function signedIn(
  token: AccessToken,
  principal: PrincipalRecord,
  details: Record<string, string>,
): SignedIn<AccessToken> {
  const { claims } = token;
  const owner =
    principal.organization_id === null
      ? ({ owner_type: "user", owner_id: principal.id } as const)
      : ({ owner_type: "organization", owner_id: principal.organization_id } as const);
  return {
    result: token,
    principal_id: principal.id,
    // The access token's own id, since no API token stands behind it: the log then leads back to this event.
    token_id: claims.id,
    key: { ...owner, tenant_id: owner.owner_id },
    details: { ...details, ...traceOf(claims) },
  };
}

/** Enough to find who it was at the provider; claims beyond that are not ours to keep. */
function vouchedBy({ issuer, subject }: VerifiedIdentity): Record<string, string> {
  return { grant: "token_exchange", issuer, subject };
}

/** Enough to lead from an access token back to this event. */
function traceOf({ id, scopes }: AccessClaims): Record<string, string> {
  return { access_token_id: id, scopes: scopes.join(" ") };
}

/**
 * As long as what was presented is good, and 15 minutes at most.
 * @throws Refused in its last second: an access token tells whole seconds (RFC 7519), and has none left
 */
function lifetime(now: Date, until: Date | null, who: Who): Pick<AccessClaims, "issued_at" | "expires_at"> {
  const most = now.getTime() + ACCESS_SECONDS_MAX * 1000;
  const end = until === null ? most : Math.min(most, until.getTime());
  if (Math.floor(end / 1000) <= Math.floor(now.getTime() / 1000)) throw new Refused("expired", who);
  return { issued_at: now, expires_at: new Date(end) };
}

/**
 * The scopes of an access token: those asked for, when each ceiling covers them; else `usual`. The ceilings of the
 * API token and the service account hold besides, as they stand at each request.
 * @throws BrokerError `invalid_scope`
 */
function narrowed(
  asked: string | null,
  ceilings: readonly (readonly Scope[])[],
  usual: readonly string[],
): readonly string[] {
  const wanted = asked?.split(" ").filter((each) => each !== "") ?? [];
  if (wanted.length === 0) return usual;
  const bad = (): BrokerError =>
    new BrokerError("invalid_scope", "The scope is malformed, or wider than what may be had.");
  const parsed = wanted.map((text) => {
    const scope = scopeOf(text);
    if (scope === null) throw bad();
    return scope;
  });
  if (ceilings.some((ceiling) => !scopesWithin(parsed, ceiling))) throw bad();
  return parsed.map(formatScope);
}

/** A person has what the provider vouches for, a subject, and no email: an email identifies nobody. */
function newPerson(id: string, { subject, claims }: VerifiedIdentity, now: Date): PrincipalRecord {
  const { name } = claims;
  const shown =
    typeof name === "string" && name.trim() !== ""
      ? name.trim().slice(0, NAME_LENGTH_MAX)
      : subject.slice(0, NAME_LENGTH_MAX);
  const blank = { email: null, admin: false, organization_id: null, scopes: [], disabled_at: null };
  return { id, kind: "user", name: shown, created_at: now, created_by: null, ...blank };
}
