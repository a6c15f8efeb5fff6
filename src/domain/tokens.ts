// API tokens: made, listed, revoked, and had for an enrolment code. A token made for oneself is the child of the
// one it was made with: no wider, no longer-lived, within its addresses, and it dies with it.
import { formatScope, parseScope, scopesWithin } from "./access.ts";
import { assertCidrs, cidrsWithin } from "./cidr.ts";
import type { Owner } from "./address.ts";
import { badInput, conflict, notFound } from "./errors.ts";
import type { RequestContext } from "./audit.ts";
import { type Caller, type Grant, type Need, Refused } from "./admission.ts";
import type { Gate } from "./gate.ts";
import { type PageInput, nextCursor, toPage } from "./paging.ts";
import type { NewId, NewToken, Page, PrincipalRecord, TokenRecord, Transaction } from "./ports.ts";
import { type Token, toToken } from "./views.ts";
import { nothing } from "./steps.ts";

/** Randomness and hashing for tokens and codes; auth/api-token.ts. */
export type TokenMaker = {
  readonly newToken: () => { readonly token: string; readonly hash: Buffer };
  readonly newEnrolmentCode: () => { readonly code: string; readonly hash: Buffer };
  readonly hashEnrolmentCode: (code: string) => Buffer | null;
  /** The SHA-256 of an API token; null for text that is none. */
  readonly hashToken: (token: string) => Buffer | null;
};

const DAY_MS = 86_400_000;
const DAYS_DEFAULT = 90;
/** What a person is enrolled with: no token made with it lives longer, so this one lives as long as any may. */
const DAYS_MAX = 365;

export type TokenInput = {
  readonly name: string;
  readonly principal_id?: string;
  readonly expires_in_days?: number;
  readonly scopes?: readonly string[];
  readonly max_uses?: number;
  readonly allowed_cidrs?: readonly string[];
};
/** `token` is shown this once. */
export type MadeToken = Token & { readonly token: string };

const placeOf = (principalId: string | undefined): Need["place"] =>
  principalId === undefined ? { kind: "self" } : { kind: "principal", principal_id: principalId };

export function createTokens(gate: Gate, tokens: TokenMaker, newId: NewId) {
  /** A token of one's own, within what its maker may. */
  function child(grant: Grant, input: TokenInput, blank: TokenRecord): TokenRecord {
    const parent = grant.token;
    const scopes = input.scopes?.map(parseScope) ?? null;
    const held = parent.scopes.length === 0 ? null : parent.scopes.map(parseScope);
    if (scopes !== null && !scopesWithin(scopes, held)) grant.refuse("token_scope", "token");
    const cidrs = input.allowed_cidrs ?? parent.allowed_cidrs;
    if (!cidrsWithin(cidrs, parent.allowed_cidrs)) grant.refuse("token_scope", "token");
    const latest = parent.expires_at;
    const asked = blank.expires_at;
    const surplus = latest === null || asked === null ? 0 : asked.getTime() - latest.getTime();
    const tooLate = surplus > 0;
    // As many days as the parent was given, asked for a little later, are cut down to the parent's.
    if (surplus >= DAY_MS && input.expires_in_days !== undefined)
      throw badInput(
        "invalid_value",
        "body",
        "/expires_in_days",
        "A token does not outlive the one it is made with.",
      );
    return {
      ...blank,
      parent_id: parent.id,
      scopes: scopes?.map(formatScope) ?? parent.scopes,
      allowed_cidrs: cidrs,
      expires_at: tooLate ? latest : asked,
    };
  }

  async function insert(tx: Transaction, record: TokenRecord): Promise<MadeToken> {
    const { token, hash } = tokens.newToken();
    const row: NewToken = { ...record, hash };
    await tx.insertToken(row);
    return { ...toToken(record), token };
  }

  function blank(principalId: string, now: Date, input: TokenInput): TokenRecord {
    return {
      id: newId(),
      principal_id: principalId,
      name: input.name,
      parent_id: null,
      made_with: null,
      scopes: (input.scopes ?? []).map((text) => formatScope(parseScope(text))),
      max_uses: input.max_uses ?? null,
      uses: 0,
      allowed_cidrs: input.allowed_cidrs ?? [],
      expires_at: new Date(now.getTime() + (input.expires_in_days ?? DAYS_DEFAULT) * DAY_MS),
      last_used_at: null,
      revoked_at: null,
      created_at: now,
      created_by: principalId,
    };
  }

  return {
    /** For oneself, or for a service account of an organization that one owns. */
    createToken(caller: Caller, input: TokenInput): Promise<MadeToken> {
      assertCidrs(input.allowed_cidrs ?? []);
      for (const scope of input.scopes ?? []) parseScope(scope);
      const need: Need = {
        ask: { action: "token", admin: false, making: true },
        place: placeOf(input.principal_id),
      };
      return gate.change(caller, need, {
        prepare: nothing,
        lock: nothing,
        apply: async (tx, grant) => {
          const principalId = grant.target?.principal_id ?? grant.principal.id;
          const own = principalId === grant.principal.id;
          const made = blank(principalId, grant.at, input);
          // What is short-lived or counted would otherwise be changed for something that is neither. A person who
          // signed in may still make tokens for the service accounts of an organization that they own.
          const mayMake = grant.access === null || (grant.principal.kind === "user" && !own);
          if (!mayMake || grant.token.max_uses !== null) grant.refuse("token_scope", "token");
          const made_with = grant.access === null ? grant.token.id : grant.access.token_id;
          const stamp = { made_with, created_by: grant.principal.id };
          const record = { ...(own ? child(grant, input, made) : made), ...stamp };
          const details = { change: "token_made", token_id: record.id };
          return { result: await insert(tx, record), target_id: principalId, details };
        },
      });
    },

    tokens(caller: Caller, input: PageInput & { readonly principal_id?: string }) {
      const need: Need = {
        ask: { action: "token", admin: false, making: false },
        place: placeOf(input.principal_id),
      };
      return gate.read(
        caller,
        need,
        async (grant, reader) => ({
          found: await reader.tokensOf(grant.target?.principal_id ?? grant.principal.id, toPage(input)),
        }),
        async (found) => ({
          tokens: found.rows.map(toToken),
          next_cursor: nextCursor(found, ({ id }) => id),
        }),
      );
    },

    token(caller: Caller, id: string): Promise<Token> {
      return gate.read(
        caller,
        { ask: { action: "token", admin: false, making: false }, place: { kind: "token", token_id: id } },
        async (_grant, reader) => ({ found: (await reader.token(id)) ?? gone(), details: { token_id: id } }),
        async (found) => toToken(found),
      );
    },

    /**
     * Revokes a token and its children on all replicas; `made`: also those it made for others. Of their own a scoped
     * token revokes itself and what came of it: one that leaked must not end all that its principal has.
     */
    revokeToken(caller: Caller, id: string, made: boolean): Promise<void> {
      return gate.change(
        caller,
        { ask: { action: "token", admin: true, making: false }, place: { kind: "token", token_id: id } },
        {
          prepare: nothing,
          lock: nothing,
          apply: async (tx, grant) => {
            const isOwn = grant.target?.principal_id === grant.principal.id;
            if (isOwn && isScoped(grant) && !(await isOfItsLine(tx, id, grant.token.id)))
              grant.refuse("token_scope", "token");
            const revoked = await tx.revokeToken(id, made, grant.at);
            return {
              result: undefined,
              details: { change: "token_revoked", token_id: id, revoked: String(revoked) },
            };
          },
        },
      );
    },

    /** Changes an enrolment code for its user's first token. */
    enrol(
      context: RequestContext,
      input: { readonly code: string; readonly name?: string },
    ): Promise<MadeToken> {
      return gate.signIn(context, null, "unauthenticated", async (tx, now) => {
        const codeHash = tokens.hashEnrolmentCode(input.code);
        const principalId = codeHash === null ? null : await tx.takeEnrolment(codeHash, now);
        const principal = principalId === null ? null : await tx.principal(principalId);
        if (principal === null || principal.disabled_at !== null) throw new Refused("enrolment_code");
        const made = await insert(
          tx,
          blank(principal.id, now, { name: input.name ?? "enrolment", expires_in_days: DAYS_MAX }),
        );
        const details = { change: "token_made", token_id: made.id };
        const key = { owner_type: "user", owner_id: principal.id, tenant_id: principal.id } as const;
        return { result: made, principal_id: principal.id, token_id: made.id, key, details };
      });
    },

    /**
     * For who has the machine: a token for a principal or, named by null, for the first enabled admin, who is made
     * where there is none. Its owner's log says so; an admin's, the instance's.
     * @throws BrokerError `not_found` or `conflict` for a principal that is not there, or is disabled
     */
    async createOperatorToken(input: {
      readonly principal_id: string | null;
      readonly name: string;
      readonly expires_in_days: number;
    }): Promise<{ readonly token: string; readonly principal_id: string }> {
      const made = await gate.housekeep("createOperatorToken", async (tx, now) => {
        await tx.lockInstance();
        const named =
          input.principal_id === null ? null : ((await tx.principal(input.principal_id)) ?? gone());
        if (named !== null && named.disabled_at !== null) throw conflict("The principal is disabled.");
        const principal = named ?? (await firstAdmin(tx)) ?? newAdmin(newId(), now);
        const isNew = principal.created_at === now;
        if (isNew) await tx.insertPrincipal(principal);
        const { name, expires_in_days } = input;
        const record = { ...blank(principal.id, now, { name, expires_in_days }), created_by: null };
        const { token } = await insert(tx, record);
        const owner: Owner | null =
          principal.organization_id !== null
            ? { owner_type: "organization", owner_id: principal.organization_id }
            : principal.admin
              ? null
              : { owner_type: "user", owner_id: principal.id };
        return {
          result: { token, principal_id: principal.id },
          key: owner === null ? null : { ...owner, tenant_id: owner.owner_id },
          target_id: principal.id,
          details: { change: "token_made", token_id: record.id, ...(isNew ? { admin: "true" } : {}) },
        };
      });
      return made ?? gone();
    },

    /**
     * The first start's admin, when the instance has no principal yet; null when it has. `keep` puts the token
     * where the operator finds it, before the database says that it exists.
     */
    createFirstAdmin(keep: (token: string) => Promise<void>): Promise<string | null> {
      return gate.housekeep(
        "createFirstAdmin",
        async (tx, now) => {
          await tx.lockInstance();
          const { rows } = await tx.users({ after: null, limit: 1 });
          if (rows.length > 0) return null;
          const admin = newAdmin(newId(), now);
          const { id } = admin;
          await tx.insertPrincipal(admin);
          const record = {
            ...blank(id, now, { name: "first admin token" }),
            expires_at: null,
            created_by: null,
          };
          const { token } = await insert(tx, record);
          await keep(token);
          return { result: id, key: null, target_id: id, details: { change: "created", admin: "true" } };
        },
        () => ({ kind: "first_admin" }),
      );
    },
  };
}

/** Of the credential itself: what caps a service account caps all its tokens alike. */
const isScoped = ({ token, access }: Grant): boolean =>
  token.scopes.length > 0 || (access?.scopes.length ?? 0) > 0;

/** Whether a token is another, or its child, or a child's, and so on. */
async function isOfItsLine(tx: Transaction, id: string, ancestor: string): Promise<boolean> {
  for (let at: string | null = id; at !== null; at = (await tx.token(at))?.parent_id ?? null)
    if (at === ancestor) return true;
  return false;
}

function newAdmin(id: string, now: Date): PrincipalRecord {
  const created = { created_at: now, created_by: null };
  const blankUser = { email: null, organization_id: null, scopes: [], disabled_at: null };
  return { id, kind: "user", name: "admin", admin: true, ...blankUser, ...created };
}

const USERS_AT_ONCE = 100;

/** The oldest admin who is not disabled. */
async function firstAdmin(tx: Transaction): Promise<PrincipalRecord | null> {
  for (let after: string | null = null; ; ) {
    const { rows, more }: Page<PrincipalRecord> = await tx.users({ after, limit: USERS_AT_ONCE });
    const found = rows.find(({ admin, disabled_at }) => admin && disabled_at === null);
    if (found !== undefined || !more) return found ?? null;
    after = rows.at(-1)?.id ?? null;
  }
}

/** It was there when the right was decided, and is gone since. */
function gone(): never {
  throw notFound();
}
