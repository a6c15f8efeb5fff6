// An organization's identity providers: whose tokens stand for its service accounts. Its owners say so, with an
// unscoped credential. A change of a provider ends at once every access token that was had through it.
import { formatScope, parseScope } from "./access.ts";
import type { Owner } from "./address.ts";
import { type Caller, type Grant, type Need, about, keyOf } from "./admission.ts";
import { type Binding, assertBinding } from "./binding.ts";
import { badInput, conflict, notFound } from "./errors.ts";
import type { Gate } from "./gate.ts";
import { type PageInput, nextCursor, toPage } from "./paging.ts";
import type { IdentityProviderRecord, IdentityVerifier } from "./federation-ports.ts";
import type { NewId, Transaction } from "./ports.ts";
import { nothing } from "./steps.ts";

const PROVIDERS_MAX = 20;
/** Each exchange may have to read what there is of all of an organization's, before it knows of any token that it is good. */
const STORED_LENGTH_MAX = 65_536;

export type IdentityProviderInput = {
  readonly issuer: string;
  readonly audience: string;
  readonly jwks_uri: string | null;
  /** A JSON Web Key Set (RFC 7517) with public keys; exactly one of the two is given. */
  readonly jwks: { readonly keys: readonly Readonly<Record<string, unknown>>[] } | null;
  readonly bindings: readonly Binding[];
};
export type IdentityProvider = IdentityProviderInput & {
  readonly id: string;
  readonly organization_id: string;
  readonly created_at: string;
  readonly created_by: string;
  readonly updated_at: string;
};

const atOrganization = (id: string): Need => ({
  ask: { action: "manage", path: null, breadth: "whole", unscoped: true },
  place: { kind: "owner", owner: { owner_type: "organization", owner_id: id } satisfies Owner },
});
const seenAt = (id: string): Need => ({
  ...atOrganization(id),
  ask: { action: "manage", path: null, breadth: "whole" },
});

export function createIdentityProviders(
  gate: Gate,
  verifier: Pick<IdentityVerifier, "assertUsable">,
  newId: NewId,
) {
  /** @throws BrokerError `invalid_value` for what could never verify, or would bind somebody else's account */
  async function checked(tx: Transaction, organizationId: string, input: IdentityProviderInput) {
    for (const [index, { service_account_id }] of input.bindings.entries()) {
      const account = await tx.principal(service_account_id.toLowerCase());
      if (account?.kind !== "service_account" || account.organization_id !== organizationId)
        throw badInput(
          "invalid_value",
          "body",
          `/bindings/${index}/service_account_id`,
          "service_account_id names no service account of this organization.",
        );
    }
    const bindings = input.bindings.map((binding) => ({
      ...binding,
      service_account_id: binding.service_account_id.toLowerCase(),
      scopes: binding.scopes?.map((scope) => formatScope(parseScope(scope))) ?? null,
    }));
    return { ...input, bindings };
  }

  /** All that can be said without the database. */
  function assertInput(input: IdentityProviderInput): void {
    for (const [index, binding] of input.bindings.entries()) assertBinding(binding, index);
    verifier.assertUsable(input);
    const keys = JSON.stringify(input.jwks).length;
    const bindings = JSON.stringify(input.bindings).length;
    if (keys + bindings > STORED_LENGTH_MAX)
      throw badInput(
        "invalid_value",
        "body",
        keys > bindings ? "/jwks" : "/bindings",
        `jwks and bindings together have at most ${STORED_LENGTH_MAX} characters, as JSON.`,
      );
  }

  return {
    createIdentityProvider(
      caller: Caller,
      organizationId: string,
      input: IdentityProviderInput,
    ): Promise<IdentityProvider> {
      return gate.change(caller, atOrganization(organizationId), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner({ owner_type: "organization", owner_id: organizationId }),
        apply: async (tx, grant) => {
          assertMayVouch(grant);
          assertInput(input);
          const fields = await checked(tx, organizationId, input);
          const { rows } = await tx.identityProvidersOf(organizationId, {
            after: null,
            limit: PROVIDERS_MAX,
          });
          if (rows.length >= PROVIDERS_MAX)
            throw conflict(`An organization has at most ${PROVIDERS_MAX} identity providers.`);
          const stamp = { created_at: grant.at, created_by: grant.principal.id, updated_at: grant.at };
          const record = { ...fields, id: newId(), organization_id: organizationId, revision: 1, ...stamp };
          await tx.putIdentityProvider(record);
          return {
            result: toView(record),
            target_id: record.id,
            details: { change: "created", issuer: input.issuer },
          };
        },
      });
    },

    identityProviders(caller: Caller, organizationId: string, page: PageInput) {
      return gate.read(
        caller,
        seenAt(organizationId),
        async (_grant, reader) => ({ found: await reader.identityProvidersOf(organizationId, toPage(page)) }),
        async (found) => ({
          identity_providers: found.rows.map(toView),
          next_cursor: nextCursor(found, ({ id }) => id),
        }),
      );
    },

    identityProvider(caller: Caller, organizationId: string, id: string): Promise<IdentityProvider> {
      return gate.read(
        caller,
        about(seenAt(organizationId), id),
        async (_grant, reader) => ({
          found: (await reader.identityProvider(organizationId, id)) ?? missing(),
        }),
        async (found) => toView(found),
      );
    },

    putIdentityProvider(
      caller: Caller,
      organizationId: string,
      id: string,
      input: IdentityProviderInput,
    ): Promise<IdentityProvider> {
      return gate.change(caller, about(atOrganization(organizationId), id), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner({ owner_type: "organization", owner_id: organizationId }),
        apply: async (tx, grant) => {
          const was = (await tx.identityProvider(keyOf(grant).owner_id, id)) ?? missing();
          assertMayVouch(grant);
          assertInput(input);
          const fields = await checked(tx, organizationId, input);
          const record = { ...was, ...fields, revision: was.revision + 1, updated_at: grant.at };
          await tx.putIdentityProvider(record);
          return {
            result: toView(record),
            details: { change: "replaced", issuer: input.issuer },
          };
        },
      });
    },

    removeIdentityProvider(caller: Caller, organizationId: string, id: string): Promise<void> {
      return gate.change(caller, about(atOrganization(organizationId), id), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner({ owner_type: "organization", owner_id: organizationId }),
        apply: async (tx) => {
          const was = (await tx.identityProvider(organizationId, id)) ?? missing();
          await tx.removeIdentityProvider(organizationId, id);
          return { result: undefined, details: { change: "removed", issuer: was.issuer } };
        },
      });
    },
  };
}

/** Whoever may say whose tokens are good can make themselves some: what may make no tokens may not say so either. */
function assertMayVouch(grant: Grant): void {
  const isShortLived = grant.access !== null && grant.principal.kind === "service_account";
  if (isShortLived || grant.token.max_uses !== null) grant.refuse("token_scope", "manage");
}

function missing(): never {
  throw notFound("There is no such identity provider.");
}

function toView(record: IdentityProviderRecord): IdentityProvider {
  const { id, organization_id, issuer, audience, jwks_uri, jwks, bindings, created_by } = record;
  const times = { created_at: record.created_at.toISOString(), updated_at: record.updated_at.toISOString() };
  return { id, organization_id, issuer, audience, jwks_uri, jwks, bindings, created_by, ...times };
}
