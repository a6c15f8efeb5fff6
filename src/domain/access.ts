// Who may do what: roles, actions, scopes, and the one pure function that decides.
// Rights are the role's, cut down by every scope ceiling (token, service account); nothing adds a right.
// A right is decided from facts that were read for this very request, never from a cache.
import { type Owner, OWNER_TYPES, isAtOrUnder, isUuid } from "./address.ts";
import { type DenialReason, badInput } from "./errors.ts";

export const ROLES = ["read", "write", "owner"] as const;
export type Role = (typeof ROLES)[number];

/** What one may do at an owner. */
export const OWNER_ACTIONS = ["list", "decrypt", "write", "destroy", "manage"] as const;
export type OwnerAction = (typeof OWNER_ACTIONS)[number];

/**
 * What one may do elsewhere. `identify`: see oneself; `token`: make, list and revoke one's own tokens;
 * `administer`: the instance admin's; `lookup`: find a user by exact email; `sign_in`: obtain a token;
 * `housekeep`: the broker's own background work.
 */
export const OTHER_ACTIONS = ["identify", "token", "administer", "lookup", "sign_in", "housekeep"] as const;
export type OtherAction = (typeof OTHER_ACTIONS)[number];
export type Action = OwnerAction | OtherAction;
export const ACTIONS = [...OWNER_ACTIONS, ...OTHER_ACTIONS] as const;

/** Contract section 2's table, as data: the store's statement may evaluate it too. */
export const ACTIONS_BY_ROLE: Readonly<Record<Role, readonly OwnerAction[]>> = {
  read: ["list"],
  write: ["list", "decrypt", "write"],
  owner: ["list", "decrypt", "write", "destroy", "manage"],
};

/** A ceiling on one action at one place; its path means itself and all under it. */
export type Scope = { readonly action: OwnerAction; readonly owner: Owner; readonly path: string | null };

const SCOPE = /^([a-z]+):([a-z]+)\/([0-9a-fA-F-]{36})(?:\/(.+))?$/;
const SCOPE_PATH = /^[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}(\/[A-Za-z0-9_][A-Za-z0-9._@-]{0,63})*$/;

export const SCOPE_FORM = "A scope is <action>:<owner_type>/<owner_id>[/<path>].";

/**
 * Parses `<action>:<owner_type>/<owner_id>[/<path>]`.
 * @throws BrokerError `invalid_value` when it is no scope; the text is not repeated.
 */
export function parseScope(text: string): Scope {
  const scope = scopeOf(text);
  if (scope === null) throw badInput("invalid_value", "body", "/scopes", SCOPE_FORM);
  return scope;
}

/** Null where it is no scope. */
export function scopeOf(text: string): Scope | null {
  const [, action, ownerType, ownerId = "", path = null] = SCOPE.exec(text) ?? [];
  const knownAction = OWNER_ACTIONS.find((each) => each === action);
  const knownType = OWNER_TYPES.find((each) => each === ownerType);
  const goodPath = path === null || (path.length <= 512 && SCOPE_PATH.test(path));
  if (knownAction === undefined || knownType === undefined || !isUuid(ownerId) || !goodPath) return null;
  return { action: knownAction, owner: { owner_type: knownType, owner_id: ownerId.toLowerCase() }, path };
}

export function formatScope(scope: Scope): string {
  const path = scope.path === null ? "" : `/${scope.path}`;
  return `${scope.action}:${scope.owner.owner_type}/${scope.owner.owner_id}${path}`;
}

/** `decrypt` brings `list` with it; no other action brings another. Data, as the table above. */
const BROUGHT_BY: Readonly<Record<OwnerAction, readonly OwnerAction[]>> = {
  list: ["list", "decrypt"],
  decrypt: ["decrypt"],
  write: ["write"],
  destroy: ["destroy"],
  manage: ["manage"],
};

function brings(held: OwnerAction, wanted: OwnerAction): boolean {
  return BROUGHT_BY[wanted].includes(held);
}

function sameOwner(one: Owner, other: Owner): boolean {
  return one.owner_type === other.owner_type && one.owner_id === other.owner_id;
}

/** Whether one scope covers an action on all of a place (`path` null: the owner as a whole). */
function scopeCovers(scope: Scope, action: OwnerAction, owner: Owner, path: string | null): boolean {
  if (!brings(scope.action, action) || !sameOwner(scope.owner, owner)) return false;
  return scope.path === null || (path !== null && isAtOrUnder(path, scope.path));
}

/** Whether one scope covers at least something at or under a place. */
function scopeTouches(scope: Scope, action: OwnerAction, owner: Owner, path: string | null): boolean {
  if (scopeCovers(scope, action, owner, path)) return true;
  if (!brings(scope.action, action) || !sameOwner(scope.owner, owner) || scope.path === null) return false;
  return path === null || isAtOrUnder(scope.path, path);
}

/** True when everything that `inner` allows is allowed by some one scope of `outer`; null means no ceiling. */
export function scopesWithin(inner: readonly Scope[] | null, outer: readonly Scope[] | null): boolean {
  if (outer === null) return true;
  if (inner === null) return false;
  return inner.every((each) => outer.some((held) => scopeCovers(held, each.action, each.owner, each.path)));
}

/** Whether a ceiling, as texts, lets one do something with all of a place; an empty one does. */
export function ceilingCovers(
  scopes: readonly string[],
  action: OwnerAction,
  owner: Owner,
  path: string | null,
): boolean {
  return scopes.length === 0 || scopes.some((text) => scopeCovers(parseScope(text), action, owner, path));
}

export type PrincipalKind = "user" | "service_account";

/** Who presents the credential, as the database says now. */
export type PrincipalFacts = {
  readonly id: string;
  readonly kind: PrincipalKind;
  readonly name: string;
  readonly admin: boolean;
  /** The organization that a service account belongs to; null for a user. */
  readonly organization_id: string | null;
  /** The ceilings in force: the token's and the service account's. Each must allow. */
  readonly ceilings: readonly (readonly Scope[])[];
};

/** What the database says of the principal's standing at one owner. */
export type StandingFacts = {
  readonly owner: Owner;
  /** The shard key: the organization of an organization or project, the user of a user's own scope. */
  readonly tenant_id: string;
  readonly role_at_owner: Role | null;
  readonly role_at_organization: Role | null;
};

/** The role in force at an owner: contract section 2's inheritance, and nothing else. */
export function effectiveRole(principal: PrincipalFacts, standing: StandingFacts): Role | null {
  const { owner, tenant_id } = standing;
  switch (owner.owner_type) {
    case "user":
      return principal.kind === "user" && owner.owner_id === principal.id ? "owner" : null;
    case "organization":
    case "project": {
      // A service account holds roles in its own organization only, whatever a row may say.
      if (principal.kind === "service_account" && principal.organization_id !== tenant_id) return null;
      if (owner.owner_type === "organization") return standing.role_at_owner;
      return standing.role_at_organization === "owner" ? "owner" : standing.role_at_owner;
    }
  }
}

export type Decision =
  | { readonly verdict: "allow" }
  /** `visible`: the caller may list there, so the reason may be told. */
  | { readonly verdict: "deny"; readonly reason: DenialReason; readonly visible: boolean };

const ALLOW: Decision = { verdict: "allow" };

function deny(reason: DenialReason, visible: boolean): Decision {
  return { verdict: "deny", reason, visible };
}

/** `whole`: the action on exactly this place. `some`: on at least something at or under it (listing). */
export type Breadth = "whole" | "some";

/** Whether each of the principal's ceilings lets them, whatever their roles. */
export function isWithinCeilings(
  { ceilings }: Pick<PrincipalFacts, "ceilings">,
  action: OwnerAction,
  owner: Owner,
  path: string | null,
  breadth: Breadth = "whole",
): boolean {
  const test = breadth === "some" ? scopeTouches : scopeCovers;
  return ceilings.every((ceiling) => ceiling.some((scope) => test(scope, action, owner, path)));
}

/**
 * Decides one action at one place. `path` null means the owner as a whole.
 * The table is roles × actions; each ceiling must then cover the place as well.
 */
export function decide(
  principal: PrincipalFacts,
  standing: StandingFacts | null,
  action: OwnerAction,
  path: string | null,
  breadth: Breadth = "whole",
): Decision {
  if (standing === null) return deny("insufficient_role", false);
  const role = effectiveRole(principal, standing);
  if (role === null) return deny("insufficient_role", false);
  const isRoles = ACTIONS_BY_ROLE[role].includes(action);
  if (isRoles && isWithinCeilings(principal, action, standing.owner, path, breadth)) return ALLOW;
  // Every role may list, so whether the caller may know of the owner is up to the ceilings alone.
  return deny(isRoles ? "token_scope" : "insufficient_role", mayGlimpse(principal, standing.owner));
}

/** The instance admin's power; a scoped credential never carries it. */
function decideAdminister(principal: PrincipalFacts): Decision {
  if (!principal.admin) return deny("insufficient_role", false);
  return principal.ceilings.length === 0 ? ALLOW : deny("token_scope", true);
}

/** Another principal that a request is about: its tokens, or a service account itself. */
export type TargetFacts = {
  readonly principal_id: string;
  readonly kind: PrincipalKind;
  readonly organization_id: string | null;
};

/** All that a decision may look at, read together for this request. */
export type Facts = {
  readonly principal: PrincipalFacts;
  readonly standing: StandingFacts | null;
  readonly target: TargetFacts | null;
  readonly owns_an_organization: boolean;
};

/** What a use case asks of the gate. */
export type Ask =
  | {
      readonly action: OwnerAction;
      readonly path: string | null;
      readonly breadth: Breadth;
      /** What gives power to somebody else is not for a scoped credential. */
      readonly unscoped?: true;
    }
  | { readonly action: "identify" | "sign_in" | "administer" | "lookup" }
  /** On the target principal's tokens; `admin`: an instance admin may too (revoking); `making`: a new one. */
  | { readonly action: "token"; readonly admin: boolean; readonly making: boolean };

/** The whole rule: every ask, decided from the facts alone. */
export function judge(facts: Facts, ask: Ask): Decision {
  const { principal, standing, target } = facts;
  switch (ask.action) {
    case "identify":
    case "sign_in":
      return ALLOW;
    case "administer":
      return decideAdminister(principal);
    case "lookup":
      return facts.owns_an_organization && principal.ceilings.length === 0
        ? ALLOW
        : decideAdminister(principal);
    case "token": {
      const none = deny("insufficient_role", false);
      if (target !== null && target.principal_id === principal.id) return ALLOW;
      const asAdmin = ask.admin ? decideAdminister(principal) : none;
      if (asAdmin.verdict === "allow") return target === null ? none : ALLOW;
      if (target?.kind !== "service_account") return asAdmin;
      const decision = unlessScoped(principal, decide(principal, standing, "manage", null), ask.making);
      // A scoped admin is told of the scope whether or not there is such a token, and whosever it is.
      return decision.verdict === "deny" && !decision.visible && asAdmin.visible ? asAdmin : decision;
    }
    case "list":
    case "decrypt":
    case "write":
    case "destroy":
    case "manage": {
      const decision = decide(principal, standing, ask.action, ask.path, ask.breadth);
      return unlessScoped(principal, decision, ask.unscoped === true);
    }
  }
}

function unlessScoped(principal: PrincipalFacts, decision: Decision, unscoped: boolean): Decision {
  if (decision.verdict === "deny" || !unscoped || principal.ceilings.length === 0) return decision;
  return deny("token_scope", true);
}

/** Whether there is a place at an owner that every ceiling lets one list; without any, the roles decide alone. */
export function mayGlimpse({ ceilings }: PrincipalFacts, owner: Owner): boolean {
  const held = ceilings.map((ceiling) => ceiling.filter((scope) => scopeTouches(scope, "list", owner, null)));
  const places = [null, ...held.flat().map(({ path }) => path)];
  return places.some((path) =>
    held.every((ceiling) => ceiling.some((scope) => scopeCovers(scope, "list", owner, path))),
  );
}
