// Users: enrolled, disabled, removed by an instance admin. An enrolment code is given once, when a user is made, so
// that an admin cannot become somebody who is there already. The last admin is never removed, demoted or disabled.
import type { Owner } from "./address.ts";
import { type Caller, type Need, about } from "./admission.ts";
import { conflict, notFound } from "./errors.ts";
import type { Gate } from "./gate.ts";
import { type PageInput, nextCursor, toPage } from "./paging.ts";
import type { NewId, PrincipalRecord, Reader, Transaction } from "./ports.ts";
import type { TokenMaker } from "./tokens.ts";
import type { Vault } from "./sealing-ports.ts";
import { changeDetails, disabledAt, newPrincipal } from "./principal.ts";
import { type User, toUser } from "./views.ts";
import { nothing } from "./steps.ts";

const HOUR_MS = 3_600_000;
const ENROLMENT_HOURS = 24;

const administer: Need = { ask: { action: "administer" }, place: { kind: "instance" } };

export function createUsers(gate: Gate, vault: Vault, tokens: TokenMaker, newId: NewId) {
  return {
    /** Makes a user and the code that is good for that user's first token, once, within 24 hours. */
    createUser(
      caller: Caller,
      input: { readonly name: string; readonly email: string | null },
    ): Promise<User & { readonly enrolment_code: string }> {
      return gate.change(caller, administer, {
        prepare: nothing,
        lock: nothing,
        apply: async (tx, grant) => {
          const taken = input.email === null ? null : await tx.userByEmail(input.email);
          if (taken !== null) throw conflict("A user has this email.", taken.id);
          const record = newPrincipal(newId(), "user", input.name, grant, { email: input.email });
          await tx.insertPrincipal(record);
          const { code, hash } = tokens.newEnrolmentCode();
          const expiresAt = new Date(grant.at.getTime() + ENROLMENT_HOURS * HOUR_MS);
          await tx.insertEnrolment(hash, record.id, expiresAt);
          const result = { ...toUser(record), enrolment_code: code };
          return { result, target_id: record.id, details: { change: "created" } };
        },
      });
    },

    /** For instance admins; `email`, exact, also for whoever owns an organization. */
    users(caller: Caller, input: PageInput & { readonly email?: string }) {
      const { email } = input;
      const need: Need =
        email === undefined ? administer : { ask: { action: "lookup" }, place: { kind: "instance" } };
      return gate.read(
        caller,
        need,
        async (_grant, reader) => {
          if (email === undefined) return { found: await reader.users(toPage(input)) };
          const found = await reader.userByEmail(email);
          return { found: { rows: found === null ? [] : [found], more: false } };
        },
        async (found) => ({ users: found.rows.map(toUser), next_cursor: nextCursor(found, ({ id }) => id) }),
      );
    },

    user(caller: Caller, id: string): Promise<User> {
      return gate.read(
        caller,
        about(administer, id),
        async (_grant, reader) => ({ found: await userRecord(reader, id) }),
        async (found) => toUser(found),
      );
    },

    patchUser(
      caller: Caller,
      id: string,
      change: { readonly admin?: boolean; readonly disabled?: boolean; readonly name?: string },
    ): Promise<User> {
      return gate.change(caller, about(administer, id), {
        prepare: nothing,
        lock: (tx) => tx.lockInstance(),
        apply: async (tx, grant) => {
          const was = await userRecord(tx, id);
          const disabled_at = disabledAt(was, change.disabled, grant.at);
          const is = { ...was, admin: change.admin ?? was.admin, name: change.name ?? was.name, disabled_at };
          if (isActiveAdmin(was) && !isActiveAdmin(is)) await assertAdminRemains(tx, id);
          await tx.updatePrincipal(is);
          return { result: toUser(is), details: changeDetails(change) };
        },
      });
    },

    /** Removes a user with their own scope. */
    async removeUser(caller: Caller, id: string, purge: boolean): Promise<void> {
      const owner: Owner = { owner_type: "user", owner_id: id };
      await gate.change(caller, about(administer, id), {
        prepare: nothing,
        lock: (tx) => tx.lockInstance(),
        apply: async (tx) => {
          const was = await userRecord(tx, id);
          if (isActiveAdmin(was)) await assertAdminRemains(tx, id);
          await assertOwnsNothingAlone(tx, id);
          // Once more, when nobody can make an owner of them any more.
          await tx.lockOwner(owner);
          await assertOwnsNothingAlone(tx, id);
          if (!purge && (await tx.hasSettings(owner)))
            throw conflict(
              "The user still has settings (soft-deleted ones count); purge=true destroys them.",
            );
          const subjects = (await tx.removeOwner(owner)).map((each) => ({ ...each, version: null }));
          return { result: undefined, subjects, details: { change: "removed" } };
        },
      });
      vault.forget(id);
    },
  };
}

async function userRecord(reader: Pick<Reader, "principal">, id: string): Promise<PrincipalRecord> {
  const record = await reader.principal(id);
  if (record?.kind !== "user") throw notFound("There is no such user.");
  return record;
}

const isActiveAdmin = (user: PrincipalRecord): boolean => user.admin && user.disabled_at === null;

async function assertOwnsNothingAlone(tx: Transaction, id: string): Promise<void> {
  if ((await tx.organizationsOnlyOwnedBy(id)).length > 0)
    throw conflict("The user is the last owner of an organization.");
}

async function assertAdminRemains(tx: Transaction, leaving: string): Promise<void> {
  if ((await tx.otherAdmins(leaving)) === 0)
    throw conflict("The last admin is not removed, demoted or disabled.");
}
