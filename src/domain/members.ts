// Members: who holds which role at an organization or a project. Owners say so, nobody else; the last enabled
// owner of an organization is never removed or demoted.
import type { Role } from "./access.ts";
import type { Owner } from "./address.ts";
import { conflict, notFound } from "./errors.ts";
import { type Caller, type Need, about, keyOf } from "./admission.ts";
import type { Gate } from "./gate.ts";
import { type PageInput, nextCursor, toPage } from "./paging.ts";
import type { PrincipalRecord, Transaction } from "./ports.ts";
import { type Member, toMember } from "./views.ts";
import { nothing } from "./steps.ts";

/** Roles are held at these; a user's own scope has none to give. */
export type SharedOwner = Owner & { readonly owner_type: "organization" | "project" };

const seen = (owner: Owner): Need => ({
  ask: { action: "manage", path: null, breadth: "whole" },
  place: { kind: "owner", owner },
});
/** Whose role was to be changed, and to what, is on record even where it may not be. */
const granted = (owner: Owner, principalId: string, role?: Role): Need => ({
  ask: { action: "manage", path: null, breadth: "whole", unscoped: true },
  place: { kind: "owner", owner },
  asked: { target_id: principalId, ...(role === undefined ? {} : { details: { role } }) },
});

/** @throws BrokerError `conflict` when nobody enabled would own the organization any more */
export async function assertOwnerRemains(
  tx: Transaction,
  organizationId: string,
  leaving: string,
): Promise<void> {
  const member = await tx.member({ owner_type: "organization", owner_id: organizationId }, leaving);
  if (member?.role === "owner" && (await tx.otherOwners(organizationId, leaving)) === 0)
    throw conflict("An organization's last owner is not removed or demoted.");
}

export function createMembers(gate: Gate) {
  return {
    members(caller: Caller, owner: SharedOwner, page: PageInput) {
      return gate.read(
        caller,
        seen(owner),
        async (_grant, reader) => ({ found: await reader.members(owner, toPage(page)) }),
        async (found) => ({
          members: found.rows.map(toMember),
          next_cursor: nextCursor(found, ({ principal_id }) => principal_id),
        }),
      );
    },

    member(caller: Caller, owner: SharedOwner, principalId: string): Promise<Member> {
      return gate.read(
        caller,
        about(seen(owner), principalId),
        async (_grant, reader) => {
          const found = await reader.member(owner, principalId);
          if (found === null) throw notFound("There is no such member.");
          return { found };
        },
        async (found) => toMember(found),
      );
    },

    putMember(
      caller: Caller,
      owner: SharedOwner,
      principalId: string,
      role: Role,
    ): Promise<{ readonly created: boolean; readonly member: Member }> {
      return gate.change(caller, granted(owner, principalId, role), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(owner),
        apply: async (tx, grant) => {
          const { tenant_id } = keyOf(grant);
          const principal = await tx.principal(principalId);
          if (principal === null || !mayJoin(principal, tenant_id))
            throw notFound("There is no such principal.");
          const was = await tx.member(owner, principalId);
          if (owner.owner_type === "organization" && role !== "owner")
            await assertOwnerRemains(tx, owner.owner_id, principalId);
          const stamp =
            was === null
              ? { created_at: grant.at, created_by: grant.principal.id }
              : { created_at: was.created_at, created_by: was.created_by };
          const { owner_type, owner_id } = owner;
          const record = { owner_type, owner_id, tenant_id, principal_id: principalId, role, ...stamp };
          await tx.putMember(record);
          return {
            result: {
              created: was === null,
              member: toMember({ ...record, kind: principal.kind, name: principal.name }),
            },
            target_id: principalId,
            details: { change: "role_given", role, ...(was === null ? {} : { role_before: was.role }) },
          };
        },
      });
    },

    removeMember(caller: Caller, owner: SharedOwner, principalId: string): Promise<void> {
      return gate.change(caller, granted(owner, principalId), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(owner),
        apply: async (tx) => {
          const was = await tx.member(owner, principalId);
          if (was === null) throw notFound("There is no such member.");
          if (owner.owner_type === "organization") await assertOwnerRemains(tx, owner.owner_id, principalId);
          await tx.removeMember(owner, principalId);
          const details = { change: "role_taken", role_before: was.role };
          return { result: undefined, target_id: principalId, details };
        },
      });
    },
  };
}

/** A service account holds roles in its own organization and its projects only. */
function mayJoin(principal: PrincipalRecord, organizationId: string): boolean {
  return principal.kind === "user" || principal.organization_id === organizationId;
}
