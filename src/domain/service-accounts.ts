// Service accounts: what workers run as. An organization's owner makes, limits, disables and removes them.
import type { Caller, Need } from "./admission.ts";
import { keyOf } from "./admission.ts";
import { conflict, notFound } from "./errors.ts";
import type { Gate } from "./gate.ts";
import { assertOwnerRemains } from "./members.ts";
import { type PageInput, nextCursor, toPage } from "./paging.ts";
import type { NewId, PrincipalRecord, Reader, Transaction } from "./ports.ts";
import { changeDetails, disabledAt, newPrincipal } from "./principal.ts";
import { parseScope } from "./access.ts";
import { type ServiceAccount, toServiceAccount } from "./views.ts";
import { nothing } from "./steps.ts";

const atOrganization = (id: string): Need => ({
  ask: { action: "manage", path: null, breadth: "whole", unscoped: true },
  place: { kind: "owner", owner: { owner_type: "organization", owner_id: id } },
});
/** A service account's own organization; whoever has no right there learns nothing of whether it exists. */
const atServiceAccount = (id: string): Need => ({
  ask: { action: "manage", path: null, breadth: "whole", unscoped: true },
  place: { kind: "principal", principal_id: id },
});

export function createServiceAccounts(gate: Gate, newId: NewId) {
  return {
    createServiceAccount(
      caller: Caller,
      organizationId: string,
      input: { readonly name: string; readonly scopes?: readonly string[] },
    ): Promise<ServiceAccount> {
      return gate.change(caller, atOrganization(organizationId), {
        prepare: nothing,
        lock: (tx, grant) => tx.lockOwner(keyOf(grant)),
        apply: async (tx, grant) => {
          await assertName(tx, organizationId, input.name, null);
          const scopes = checkedScopes(input.scopes);
          const place = { organization_id: organizationId, scopes };
          const record = newPrincipal(newId(), "service_account", input.name, grant, place);
          await tx.insertPrincipal(record);
          return { result: toServiceAccount(record), target_id: record.id, details: { change: "created" } };
        },
      });
    },

    serviceAccounts(caller: Caller, organizationId: string, page: PageInput) {
      return gate.read(
        caller,
        { ...atOrganization(organizationId), ask: { action: "manage", path: null, breadth: "whole" } },
        async (_grant, reader) => ({ found: await reader.serviceAccountsOf(organizationId, toPage(page)) }),
        async (found) => ({
          service_accounts: found.rows.map(toServiceAccount),
          next_cursor: nextCursor(found, ({ id }) => id),
        }),
      );
    },

    serviceAccount(caller: Caller, id: string): Promise<ServiceAccount> {
      return gate.read(
        caller,
        { ...atServiceAccount(id), ask: { action: "manage", path: null, breadth: "whole" } },
        async (_grant, reader) => ({ found: await serviceAccountRecord(reader, id) }),
        async (found) => toServiceAccount(found),
      );
    },

    patchServiceAccount(
      caller: Caller,
      id: string,
      change: {
        readonly name?: string;
        readonly scopes?: readonly string[] | null;
        readonly disabled?: boolean;
      },
    ): Promise<ServiceAccount> {
      return gate.change(caller, atServiceAccount(id), {
        prepare: nothing,
        lock: (tx, grant) => tx.lockOwner(keyOf(grant)),
        apply: async (tx, grant) => {
          const was = await serviceAccountRecord(tx, id);
          const organizationId = keyOf(grant).owner_id;
          if (change.name !== undefined) await assertName(tx, organizationId, change.name, id);
          const is = {
            ...was,
            name: change.name ?? was.name,
            scopes: change.scopes === undefined ? was.scopes : checkedScopes(change.scopes ?? undefined),
            disabled_at: disabledAt(was, change.disabled, grant.at),
          };
          await tx.updatePrincipal(is);
          return { result: toServiceAccount(is), target_id: id, details: changeDetails(change) };
        },
      });
    },

    removeServiceAccount(caller: Caller, id: string): Promise<void> {
      return gate.change(caller, atServiceAccount(id), {
        prepare: nothing,
        lock: (tx, grant) => tx.lockOwner(keyOf(grant)),
        apply: async (tx, grant) => {
          await serviceAccountRecord(tx, id);
          await assertOwnerRemains(tx, keyOf(grant).owner_id, id);
          await tx.removeServiceAccount(id);
          return { result: undefined, target_id: id, details: { change: "removed" } };
        },
      });
    },
  };
}

async function serviceAccountRecord(reader: Pick<Reader, "principal">, id: string): Promise<PrincipalRecord> {
  const record = await reader.principal(id);
  if (record?.kind !== "service_account") throw notFound("There is no such service account.");
  return record;
}

async function assertName(
  tx: Transaction,
  organizationId: string,
  name: string,
  id: string | null,
): Promise<void> {
  const taken = await tx.serviceAccountByName(organizationId, name);
  if (taken !== null && taken.id !== id) throw conflict("A service account has this name.", taken.id);
}

/** Parsed and refused here, so that no ceiling rests that cannot be read back. */
function checkedScopes(scopes: readonly string[] | undefined): readonly string[] {
  for (const scope of scopes ?? []) parseScope(scope);
  return scopes ?? [];
}
