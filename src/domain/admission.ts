// Who calls, where, and with which rights, as the database says now. Every admission asks it anew: nothing about a
// token, a principal or a role is ever believed from one request to the next.
import {
  type Ask,
  type Decision,
  type Facts,
  type OwnerAction,
  type PrincipalFacts,
  type TargetFacts,
  decide,
  parseScope,
} from "./access.ts";
import type { Owner } from "./address.ts";
import type { AuditEvent, RequestContext } from "./audit.ts";
import { isWithin } from "./cidr.ts";
import { BrokerError, type DenialReason, type ErrorCode } from "./errors.ts";
import type { AccessClaims } from "./federation-ports.ts";
import type {
  Admission,
  Clock,
  Credential,
  OwnerKey,
  PrincipalRecord,
  Store,
  TokenRecord,
  Transaction,
} from "./ports.ts";

/** One request's caller, as presented; the gate finds out who it is. Made once a request. */
export type Caller = {
  readonly credential: Credential;
  readonly context: RequestContext;
  /** Who it says it is, where it says so: refusals are counted against that name too. */
  readonly client?: string;
};

/** What a request is about. `target`: a principal (whose tokens, or which service account). */
export type Place =
  | { readonly kind: "owner"; readonly owner: Owner }
  | { readonly kind: "instance" }
  | { readonly kind: "self" }
  | { readonly kind: "principal"; readonly principal_id: string }
  | { readonly kind: "token"; readonly token_id: string };

export type Need = {
  readonly ask: Ask;
  readonly place: Place;
  /** What the record is to name, however it ends, where ask and place do not. */
  readonly asked?: Asked;
};
export type Asked = {
  /** One is the path of every event. Of several each has a denial of its own, where all are denied together. */
  readonly paths?: readonly string[];
  readonly target_id?: string;
  readonly details?: Readonly<Record<string, string>>;
};

/** The same need, of this one thing: it is named on record also where that is denied or fails. */
export function about<Of extends Need>(need: Of, target_id: string): Of {
  return { ...need, asked: { ...need.asked, target_id } };
}

/** What the gate found out: who calls, where, and what they may do there. */
export type Grant = {
  readonly principal: PrincipalFacts;
  /** The API token presented, or the one behind the access token presented; for a federated one, a stand-in. */
  readonly token: TokenRecord;
  /** The access token's claims; null when an API token was presented. */
  readonly access: AccessClaims | null;
  /** Null for the instance and for whatever is not at an owner. */
  readonly key: OwnerKey | null;
  readonly target: TargetFacts | null;
  readonly at: Date;
  decide(action: OwnerAction, path: string | null): Decision;
  /** Refuses the whole request unless this is allowed as well. */
  require(action: OwnerAction, path: string | null): void;
  /** Refuses the whole request for a reason that only the use case can know. */
  refuse(reason: DenialReason, required: string): never;
};

/** The owner that the gate admitted the caller to. */
export function keyOf(grant: Grant): OwnerKey {
  if (grant.key === null) throw new Error("the need named no owner");
  return grant.key;
}

/** Who an event is about, as far as it is known. */
export type Who = Pick<AuditEvent, "principal_id" | "token_id">;
/**
 * A credential that is no good. Never leaves the gate: it is put on record and told as 401, or, where there are too many that
 * may be guesses, told as 429.
 */
export class Refused extends Error {
  readonly reason: string;
  readonly who: Who;
  constructor(reason: string, who: Who = { principal_id: null, token_id: null }) {
    super(reason);
    this.reason = reason;
    this.who = who;
  }
}

/** A right that is lacking. Never leaves the gate: it is put on record first, and told as the uniform 403. */
export class Denied extends Error {
  readonly decision: Denial;
  readonly required: string;
  constructor(decision: Denial, required: string) {
    super(decision.reason);
    this.decision = decision;
    this.required = required;
  }
}
export type Denial = Extract<Decision, { verdict: "deny" }>;

/** Decides whether one more refused credential, that may be a guess, is still answered 401 or already 429. */
export type RefusalLimit = {
  /** How many of an address are answered 401 in a minute. */
  readonly max: number;
  /** Seconds to wait when the address is over its limit; 0 while it is not. Counts this refusal. */
  readonly count: (addressBlock: string) => number;
};

/** The 401: of what is wrong with a credential it says nothing. */
export function unauthenticated({ reason }: Refused, code: ErrorCode): BrokerError {
  return new BrokerError(code, reason === "absent" ? "A token is needed." : "The token is not valid.");
}

/** The 429 in its place. */
export function tooManyRefused(waitSeconds: number, limit: number): BrokerError {
  const fields = { retry_after_seconds: waitSeconds, limit };
  return new BrokerError("rate_limited", "Too many refused sign-ins; wait before the next.", fields);
}

/** The uniform 403; only to a caller who may list there does it say why. */
export function forbidden({ decision, required }: Pick<Denied, "decision" | "required">): BrokerError {
  const detail = "You may not do this, or there is no such thing.";
  if (!decision.visible) return new BrokerError("forbidden", detail);
  return new BrokerError("forbidden", detail, { reason: decision.reason, required });
}

export type Standpoint = { readonly grant: Grant; readonly facts: Facts };
/** What an admission reads: the store, a transaction of it, or what was read ahead. */
export type Source = Pick<Transaction, "admit" | "token" | "principal">;

/** Makes the one function that finds out who calls, and the one that takes back what it counted. */
export function createAdmission(store: Pick<Store, "takeUse" | "returnUse" | "noteTokenUse">, clock: Clock) {
  /** Callers whose use of a token with `max_uses` is already taken, with its id: one request is one use. */
  const counted = new WeakMap<Caller, string>();

  /** A request that is answered 503 or 429 is no use of its token. When even this fails, the token has one use less. */
  async function uncount(caller: Caller): Promise<void> {
    const tokenId = counted.get(caller);
    counted.delete(caller);
    if (tokenId !== undefined) await store.returnUse(tokenId).catch(() => undefined);
  }

  /** Who calls, and what the database says of them at the place. `now`: when it says so. @throws Refused */
  async function standpoint(
    caller: Caller,
    need: Need,
    source: Source,
    now = clock.now(),
  ): Promise<Standpoint> {
    const { credential, context } = caller;
    if (credential.kind === "absent" || credential.kind === "malformed") throw new Refused(credential.kind);
    const access = credential.kind === "access" ? credential.claims : null;
    const isOfPrincipal = need.place.kind === "principal" || need.place.kind === "token";
    const target = isOfPrincipal ? await targetOf(need.place, source) : null;
    const lookup = need.ask.action === "lookup";
    const admission = await source.admit(credential, ownerFor(need.place, target), lookup);
    if (admission === null) throw new Refused("unknown");
    const { principal, standing } = admission;
    const token = admission.token ?? standIn(access);
    const who = { principal_id: principal.id, token_id: token.id };
    const flaw = flawOf(admission, access, context, now);
    if (flaw !== null) throw new Refused(flaw, who);
    if (token.max_uses !== null && !counted.has(caller)) {
      if (!(await store.takeUse(token.id))) throw new Refused("used_up", who);
      counted.set(caller, token.id);
    }
    if (admission.token !== null) store.noteTokenUse(token.id, now);
    const ceilings = [token.scopes, principal.scopes, access?.scopes ?? []].filter((each) => each.length > 0);
    const { id, kind, name, admin, organization_id } = principal;
    const place = need.place.kind === "self" ? selfOf(principal) : null;
    const facts: Facts = {
      principal: {
        id,
        kind,
        name,
        admin,
        organization_id,
        ceilings: ceilings.map((each) => each.map(parseScope)),
      },
      standing,
      target: place?.target ?? target,
      owns_an_organization: admission.owns_an_organization,
    };
    const decideHere: Grant["decide"] = (action, path) => decide(facts.principal, standing, action, path);
    const grant: Grant = {
      principal: facts.principal,
      token,
      access,
      key: standing === null ? (place?.key ?? null) : { ...standing.owner, tenant_id: standing.tenant_id },
      target: facts.target,
      at: now,
      decide: decideHere,
      require: (action, path) => {
        const decision = decideHere(action, path);
        if (decision.verdict === "deny") throw new Denied(decision, action);
      },
      refuse: (reason, required) => {
        throw new Denied({ verdict: "deny", reason, visible: true }, required);
      },
    };
    return { grant, facts };
  }

  return { standpoint, uncount };
}

/** Why a token that exists is refused now; null when it is good. */
function flawOf(
  { token, principal }: Admission,
  access: AccessClaims | null,
  context: RequestContext,
  now: Date,
): string | null {
  const isOver = (until: Date | null | undefined): boolean =>
    until !== null && until !== undefined && until.getTime() <= now.getTime();
  if (token !== null && token.revoked_at !== null) return "revoked";
  if (isOver(token?.expires_at) || isOver(access?.expires_at)) return "expired";
  if (principal.disabled_at !== null) return "disabled";
  if (!isWithin(context.ip, token?.allowed_cidrs ?? [])) return "address";
  return null;
}

/** A federated access token has no row; to the rest it looks like a token that can do what its claims say. */
function standIn(access: AccessClaims | null): TokenRecord {
  if (access === null) throw new Error("an API token has a row");
  return {
    id: access.id,
    principal_id: access.principal_id,
    name: "access token",
    parent_id: null,
    made_with: null,
    scopes: [],
    max_uses: null,
    uses: 0,
    allowed_cidrs: [],
    expires_at: access.expires_at,
    last_used_at: null,
    revoked_at: null,
    created_at: access.issued_at,
    created_by: null,
  };
}

async function targetOf(
  place: Extract<Place, { kind: "principal" | "token" }>,
  source: Source,
): Promise<TargetFacts | null> {
  const id =
    place.kind === "principal" ? place.principal_id : (await source.token(place.token_id))?.principal_id;
  const principal = id === undefined ? null : await source.principal(id);
  if (principal === null) return null;
  return { principal_id: principal.id, kind: principal.kind, organization_id: principal.organization_id };
}

/** Oneself as a place: a user's own scope, a service account's organization. */
function selfOf({ id, kind, organization_id }: PrincipalRecord): {
  readonly key: OwnerKey;
  readonly target: TargetFacts;
} {
  const owner: Owner =
    organization_id === null
      ? { owner_type: "user", owner_id: id }
      : { owner_type: "organization", owner_id: organization_id };
  return {
    key: { ...owner, tenant_id: owner.owner_id },
    target: { principal_id: id, kind, organization_id },
  };
}

/** Where the rights for a place are held. */
function ownerFor(place: Place, target: TargetFacts | null): Owner | null {
  if (place.kind === "owner") return place.owner;
  if (target === null) return null;
  return target.organization_id === null
    ? { owner_type: "user", owner_id: target.principal_id }
    : { owner_type: "organization", owner_id: target.organization_id };
}
