// The keys that access tokens are signed with: made at the first start and whenever an operator says so. A retired
// key stays published until all that it signed has expired, so that a rotation refuses nobody.
import type { SigningKeyMaker } from "./federation-ports.ts";
import type { Gate } from "./gate.ts";
import type { WaitingWork } from "./lifecycle-ports.ts";
import type { Vault } from "./sealing-ports.ts";

/** Longer than an access token lives, by as much as clocks and caches of others may differ. */
export const OVERLAP_MS = 3_600_000;

export function createSigning(gate: Gate, keys: SigningKeyMaker, vault: Pick<Vault, "signUnder">) {
  return {
    /** Makes the first key of an instance that has none; answers its id, or null when there is one. */
    createFirstSigningKey: (): Promise<string | null> => rotate("createFirstSigningKey", true),
    /** Makes a new key that signs from now on; answers its id. */
    rotateSigningKey: (): Promise<string | null> => rotate("rotateSigningKey", false),
    /**
     * Puts the keys under the master key in force; answers how many were under another.
     * @throws Error that says nothing of the content, for a key that is under none that this process was given
     */
    async resealSigningKeys(): Promise<number> {
      const count = await gate.housekeep("resealSigningKeys", async (tx) => {
        await tx.lockInstance();
        vault.signUnder(await tx.heldKeyCheck());
        let resealed = 0;
        for (const { id, sealed } of await tx.signingKeys()) {
          const anew = keys.reseal(id, sealed);
          if (anew !== null) await tx.putSigningKeySealed(id, anew);
          if (anew !== null) resealed += 1;
        }
        const details = { change: "signing_keys_resealed", count: String(resealed) };
        return resealed === 0 ? null : { result: resealed, key: null, details };
      });
      return count ?? 0;
    },
  };

  function rotate(operation: string, onlyFirst: boolean): Promise<string | null> {
    const waiting = onlyFirst ? (): WaitingWork => ({ kind: "first_signing_key" }) : undefined;
    return gate.housekeep(
      operation,
      async (tx, now) => {
        await tx.lockInstance();
        const known = await tx.signingKeys();
        if (onlyFirst && known.length > 0) return null;
        vault.signUnder(await tx.heldKeyCheck());
        const fresh = await keys.make(now);
        await tx.insertSigningKey(fresh);
        for (const { id, retired_at } of known) {
          if (retired_at === null) await tx.retireSigningKey(id, now);
          else if (retired_at.getTime() + OVERLAP_MS < now.getTime()) await tx.removeSigningKey(id);
        }
        return { result: fresh.id, key: null, target_id: fresh.id, details: { change: "signing_key_made" } };
      },
      waiting,
    );
  }
}
