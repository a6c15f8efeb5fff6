// The operator's work on keys: a rotation, a new master key, and moving what rests under the old ones until they can go.
// A rotation decides, and what follows from it is decided from the database at each write; so replicas need not be told.
// No key is removed while anything is under it, nor before who read the row before that has had the time to open it.
import { conflict, unavailable } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { OldKeys } from "./key-ports.ts";
import type { ManagedSecrets } from "./managed-secrets.ts";
import type { Clock, NewId, Store, Transaction } from "./ports.ts";
import { type LifecycleReseal, createReseal } from "./reseal.ts";
import { type SettingsProgress, type Unmoved, createRewrap } from "./rewrap.ts";
import type { Vault } from "./sealing-ports.ts";
import type { createSigning } from "./signing.ts";

/** How often, and how long after one another, keys are looked for that nothing seems to hold. */
const LAST_LOOKS = 10;
const LAST_LOOK_MS = 200;
const BATCH = 100;

export type RewrapProgress =
  | SettingsProgress
  /** Old data keys with nothing under them, which are kept for those who read a row before it was moved. */
  | { readonly kind: "waiting"; readonly dataKeys: number; readonly until: Date };
export type RewrapOutcome = {
  readonly unmoved: readonly Unmoved[];
  readonly dataKeysRemoved: number;
  readonly keksRemoved: number;
  /** Other rows (webhooks, public parts, secrets in managers) that no key finds true: altered outside the broker. */
  readonly altered: number;
  /** Old keys that still are there, since something is under them. */
  readonly left: number;
  /** Whether a master key is being replaced, and if so, whether nothing is under the earlier one any more. */
  readonly replacement: "none" | "under_way" | "done";
};

export type KeysDeps = {
  readonly gate: Gate;
  readonly store: Pick<Store, "reader">;
  readonly vault: Vault;
  readonly managed: Pick<ManagedSecrets, "settle">;
  readonly signing: Pick<ReturnType<typeof createSigning>, "resealSigningKeys">;
  readonly lifecycle: LifecycleReseal;
  readonly clock: Clock;
  readonly newId: NewId;
};

export function createKeys({ gate, store, vault, managed, signing, lifecycle, clock, newId }: KeysDeps) {
  const { reader } = store;
  const rewrapSettings = createRewrap({ gate, reader, vault, newId });

  const reseal = createReseal(gate, vault, lifecycle);

  /** All that can be put under the master key in force without a value being touched. @returns what could not be */
  async function resealKeys(): Promise<number> {
    const left = await reseal();
    await signing.resealSigningKeys();
    const count = await vault.resealKeks();
    if (count === 0) return left;
    const details = { change: "keks_resealed", count: String(count) };
    await gate.housekeep("resealKeks", async () => ({ result: null, key: null, details }));
    return left;
  }

  async function removed(
    operation: string,
    change: string,
    remove: (tx: Transaction, now: Date) => Promise<number>,
  ): Promise<number> {
    for (let sum = 0; ; ) {
      const count = await gate.housekeep(operation, async (tx, now) => {
        const some = await remove(tx, now);
        const details = { change, count: String(some) };
        return some === 0 ? null : { result: some, key: null, details };
      });
      if (count === null) return sum;
      sum += count;
    }
  }

  /** Removes what can go by now. @returns how many went, and what there still is */
  async function removeOld(graceSeconds: number) {
    await gate.housekeep("noteUnusedDataKeys", async (tx, now) => {
      await tx.noteUnusedDataKeys(now);
      return null;
    });
    const dataKeys = await removed("removeDataKeys", "data_keys_removed", (tx, now) =>
      tx.removeDataKeys(new Date(now.getTime() - graceSeconds * 1_000), BATCH),
    );
    const keks = await removed("removeKeks", "keks_removed", (tx) => tx.removeKeks(BATCH));
    // Their secrets in managers; those that a manager does not let go of now are the sweeper's.
    if (keks > 0) await managed.settle(null, BATCH);
    return { dataKeys, keks, old: await reader.oldKeys() };
  }

  /** Says that nothing is under the earlier master key. */
  async function endReplacement(): Promise<void> {
    await gate.housekeep("endMasterKeyReplacement", async (tx) => {
      await tx.lockInstance();
      const { key_check, previous_key_check } = await tx.lockKeys();
      if (key_check === null || previous_key_check === null) return null;
      await tx.putKeyChecks(key_check, null);
      return { result: null, key: null, details: { change: "master_key_replaced" } };
    });
  }

  /** Whether a master key is being replaced here. @throws BrokerError when this process was not given both */
  async function isReplacing(): Promise<boolean> {
    const { key_check, previous_key_check } = await reader.epoch();
    for (const each of [key_check, previous_key_check])
      if (each !== null && !vault.hasMasterKey(each))
        throw unavailable("The master key is being replaced, and this process was not given both.");
    return previous_key_check !== null;
  }

  return {
    /** From here on owners get new keys at their next write; what is there stays readable. */
    async rotateKeys(): Promise<void> {
      await gate.housekeep("rotateKeys", async (tx, now) => {
        await tx.lockInstance();
        await tx.lockKeys();
        await tx.rotateKeys(now);
        return { result: null, key: null, details: { change: "keys_rotated" } };
      });
    },

    /**
     * Makes the next master key the one that all is made under, and rotates the keys below it; what is under the
     * earlier one stays readable to who has both.
     * @throws BrokerError `conflict` when this process has no next key, or that is in force already
     */
    async replaceMasterKey(): Promise<void> {
      const next = vault.nextKeyCheck;
      if (next === null)
        throw conflict(
          "No next master key is given: set COFFER_MASTER_KEY_NEXT_FILE, for all replicas first.",
        );
      await gate.housekeep("replaceMasterKey", async (tx, now) => {
        await tx.lockInstance();
        const { key_check, previous_key_check } = await tx.lockKeys();
        if (key_check === null || previous_key_check !== null || Buffer.from(key_check).equals(next))
          throw conflict("The next master key is in force already: go on with `coffer keys rewrap`.");
        await tx.putKeyChecks(next, key_check);
        await tx.rotateKeys(now);
        return { result: null, key: null, details: { change: "master_key_named" } };
      });
    },

    /**
     * Moves what is under old keys to the current ones, and removes the old. Resumable, and any number of processes may
     * do it at once. @param graceSeconds how long a data key stays once nothing is under it
     */
    async rewrapKeys(
      graceSeconds: number,
      onProgress: (progress: RewrapProgress) => void,
    ): Promise<RewrapOutcome> {
      const replacing = await isReplacing();
      const unsealed = replacing ? await resealKeys() : 0;
      let unmoved = await rewrapSettings(replacing, onProgress);
      const sum = { dataKeys: 0, keks: 0 };
      let old: OldKeys;
      for (let looks = 0; ; ) {
        const now = await removeOld(graceSeconds);
        sum.dataKeys += now.dataKeys;
        sum.keks += now.keks;
        old = now.old;
        // Rotated meanwhile.
        if (old.settings > 0 && unmoved.length === 0) unmoved = await rewrapSettings(false, onProgress);
        else if (old.unused_since !== null) await wait(old.unused_since, old.unused);
        // Another process may have moved the last setting since, or be about to remove what it has locked.
        else if (old.data_keys + old.keks > 0 && unmoved.length === 0 && looks < LAST_LOOKS) {
          looks += 1;
          await new Promise((resolve) => setTimeout(resolve, LAST_LOOK_MS));
        } else break;
      }
      const isBlocked = unmoved.some(({ code }) => code !== "damaged") || old.cloud_keks > 0 || unsealed > 0;
      if (replacing && !isBlocked) await endReplacement();
      return {
        unmoved,
        dataKeysRemoved: sum.dataKeys,
        keksRemoved: sum.keks,
        altered: unsealed,
        left: old.data_keys + old.keks,
        replacement: replacing ? (isBlocked ? "under_way" : "done") : "none",
      };

      async function wait(since: Date, dataKeys: number): Promise<void> {
        const until = new Date(since.getTime() + graceSeconds * 1_000);
        onProgress({ kind: "waiting", dataKeys, until });
        const milliseconds = Math.max(100, until.getTime() - clock.now().getTime());
        await new Promise((resolve) => setTimeout(resolve, milliseconds));
      }
    },
  };
}
