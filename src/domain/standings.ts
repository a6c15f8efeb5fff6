// What a principal may know of its own standing, and what a manager may know of another's.
import { type Decision, type OwnerAction, decide, parseScope } from "./access.ts";
import type { Owner } from "./address.ts";
import type { Caller } from "./admission.ts";
import type { Gate } from "./gate.ts";
import type { PrincipalRecord } from "./ports.ts";
import { usesLeft } from "./views.ts";

export function createStandings(gate: Gate) {
  return {
    me(caller: Caller) {
      return gate.read(
        caller,
        { ask: { action: "identify" }, place: { kind: "self" } },
        async ({ principal }, reader) => ({ found: await reader.rolesOf(principal.id) }),
        async (roles, _permit, { principal, token, access }) => {
          // This very request has taken its use already, after the count was read.
          const left = usesLeft({ max_uses: token.max_uses, uses: token.uses + 1 });
          return {
            id: principal.id,
            kind: principal.kind,
            name: principal.name,
            admin: principal.admin,
            organization_id: principal.organization_id,
            roles: roles.map(({ owner_type, owner_id, role }) => ({ owner_type, owner_id, role })),
            token: {
              id: token.id,
              kind: access === null ? ("api" as const) : ("access" as const),
              expires_at: (access ?? token).expires_at?.toISOString() ?? null,
              scopes: [access?.scopes ?? [], token.scopes].find((each) => each.length > 0) ?? null,
              uses_left: left,
            },
          };
        },
      );
    },

    /** Whether a principal may do something: oneself, or anybody for whoever manages there. */
    access(
      caller: Caller,
      input: {
        readonly owner: Owner;
        readonly path: string | null;
        readonly action: OwnerAction;
        readonly principal_id?: string;
      },
    ): Promise<{ readonly allowed: boolean; readonly reason: string | null }> {
      const { owner, path, action, principal_id } = input;
      return gate.read(
        caller,
        {
          ask: { action: "identify" },
          place: { kind: "owner", owner },
          asked: {
            paths: path === null ? [] : [path],
            ...(principal_id === undefined ? {} : { target_id: principal_id }),
            details: { asked: action },
          },
        },
        async (grant, reader) => {
          if (principal_id === undefined || principal_id === grant.principal.id)
            return { found: toldOf(grant.decide(action, path)) };
          grant.require("manage", null);
          const principal = await reader.principal(principal_id);
          const standing = await reader.standing(principal_id, owner);
          const found =
            principal === null || principal.disabled_at !== null
              ? ({ verdict: "deny", reason: "insufficient_role", visible: false } as const)
              : decide(asFacts(principal), standing, action, path);
          return { found, action: "manage", target_id: principal_id };
        },
        async (decision) =>
          decision.verdict === "allow"
            ? { allowed: true, reason: null }
            : { allowed: false, reason: decision.reason },
      );
    },
  };
}

/** Who may not list there is told of an owner what they are told of one that is not there. */
function toldOf(decision: Decision): Decision {
  if (decision.verdict === "allow" || decision.visible) return decision;
  return { ...decision, reason: "insufficient_role" };
}

function asFacts({ id, kind, name, admin, organization_id, scopes }: PrincipalRecord) {
  const ceilings = scopes.length === 0 ? [] : [scopes.map(parseScope)];
  return { id, kind, name, admin, organization_id, ceilings };
}
