// The keys that access tokens are signed with: made at the first start and whenever an operator says so. A retired
// key stays published until all that it signed has expired, so that a rotation refuses nobody.
import type { SigningKeyMaker } from "./federation-ports.ts";
import type { Gate } from "./gate.ts";

/** Longer than an access token lives, by as much as clocks and caches of others may differ. */
export const OVERLAP_MS = 3_600_000;

export function createSigning(gate: Gate, keys: SigningKeyMaker) {
  return {
    /** Makes the first key of an instance that has none; answers its id, or null when there is one. */
    createFirstSigningKey: (): Promise<string | null> => rotate("createFirstSigningKey", true),
    /** Makes a new key that signs from now on; answers its id. */
    rotateSigningKey: (): Promise<string | null> => rotate("rotateSigningKey", false),
  };

  function rotate(operation: string, onlyFirst: boolean): Promise<string | null> {
    return gate.housekeep(operation, async (tx, now) => {
      await tx.lockInstance();
      const known = await tx.signingKeys();
      if (onlyFirst && known.length > 0) return null;
      const fresh = await keys.make(now);
      await tx.insertSigningKey(fresh);
      for (const { id, retired_at } of known) {
        if (retired_at === null) await tx.retireSigningKey(id, now);
        else if (retired_at.getTime() + OVERLAP_MS < now.getTime()) await tx.removeSigningKey(id);
      }
      return { result: fresh.id, key: null, target_id: fresh.id, details: { change: "signing_key_made" } };
    });
  }
}
