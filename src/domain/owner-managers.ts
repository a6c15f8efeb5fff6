// Where an owner's new settings go, said by who manages it, and the moving of what is there already. A project follows its
// organization and that the instance, unless it says otherwise; users follow the instance.
import type { Owner } from "./address.ts";
import { type Caller, type Need, keyOf } from "./admission.ts";
import { badInput, conflict } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { MoveRecord } from "./manager-store-ports.ts";
import type { Moves } from "./moves.ts";
import { type UsualPlacement, isSensible, usualPlacement } from "./placement.ts";
import type { NewId, OwnerKey, Reader } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import { MANAGERS, type Placement, STORAGES } from "./setting.ts";
import { nothing } from "./steps.ts";

/** The contract's answer of `/organizations/{id}/manager`. */
export type OwnerManager = UsualPlacement & {
  readonly migration: Pick<MoveRecord, "total" | "done" | "failed"> & {
    readonly state: MoveRecord["state"] | "none";
  };
};

export type OwnerManagerInput = { readonly storage?: string; readonly manager?: string };

const managed = (owner: Owner): Need => ({
  ask: { action: "manage", path: null, breadth: "whole" },
  place: { kind: "owner", owner },
});

export function createOwnerManagers(gate: Gate, vault: Vault, moves: Pick<Moves, "soon">, newId: NewId) {
  async function viewOf(reader: Reader, key: OwnerKey): Promise<OwnerManager> {
    const move = await reader.move(key);
    const { state = "none" as const, total = 0, done = 0, failed = [] } = move ?? {};
    return { ...(await usualPlacement(reader, vault, key)), migration: { state, total, done, failed } };
  }

  /** What is asked for, as a place that values may go to here. @throws BrokerError `invalid_value` */
  function placementIn({ storage, manager }: OwnerManagerInput, usual: Placement): Placement {
    const chosen = MANAGERS.find((each) => each === (manager ?? usual.manager));
    const fallback = chosen === "local" ? "envelope" : usual.storage;
    const kind = STORAGES.find((each) => each === (storage ?? fallback));
    if (
      chosen === undefined ||
      kind === undefined ||
      kind === "external" ||
      !vault.isEnabled(chosen) ||
      !isSensible({ storage: kind, manager: chosen })
    ) {
      const pointer = storage === undefined ? "/manager" : "/storage";
      throw badInput("invalid_value", "body", pointer, "This storage and manager are not enabled here.");
    }
    return { storage: kind, manager: chosen };
  }

  return {
    ownerManager(caller: Caller, owner: Owner): Promise<OwnerManager> {
      return gate.read(
        caller,
        managed(owner),
        async (grant, reader) => ({ found: await viewOf(reader, keyOf(grant)) }),
        async (found) => found,
      );
    },

    putOwnerManager(caller: Caller, owner: Owner, input: OwnerManagerInput): Promise<OwnerManager> {
      return gate.change(caller, managed(owner), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(owner),
        apply: async (tx, grant) => {
          const key = keyOf(grant);
          const placement = placementIn(input, await usualPlacement(tx, vault, key));
          await tx.putOwnerManager(key, placement, grant.principal.id, grant.at);
          return { result: await viewOf(tx, key), details: { change: "manager_set", ...placement } };
        },
      });
    },

    /** From now on it inherits. */
    removeOwnerManager(caller: Caller, owner: Owner): Promise<void> {
      return gate.change(caller, managed(owner), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(owner),
        apply: async (tx, grant) => {
          await tx.removeOwnerManager(keyOf(grant));
          return { result: undefined, details: { change: "manager_unset" } };
        },
      });
    },

    /** Begins to move all enabled versions to where new ones go. @throws BrokerError `conflict` while a move runs */
    async migrate(caller: Caller, owner: Owner): Promise<OwnerManager> {
      const begun = await gate.change(caller, managed(owner), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(owner),
        apply: async (tx, grant) => {
          const key = keyOf(grant);
          if ((await tx.move(key))?.state === "running") throw conflict("A migration is running already.");
          const { storage, manager } = await usualPlacement(tx, vault, key);
          if (!vault.isEnabled(manager))
            throw conflict("The manager that it would move to is not enabled here.");
          const { tenant_id, owner_type, owner_id } = key;
          await tx.putMove({
            tenant_id,
            owner_type,
            owner_id,
            id: newId(),
            storage,
            manager,
            state: "running",
            total: await tx.countSettingsToMove(key),
            done: 0,
            failed: [],
            cursor: null,
            started_at: grant.at,
            started_by: grant.principal.id,
            finished_at: null,
          });
          return {
            result: await viewOf(tx, key),
            details: { change: "migration_started", storage, manager },
          };
        },
      });
      moves.soon();
      return begun;
    },
  };
}
