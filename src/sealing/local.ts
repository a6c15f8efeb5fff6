// The manager `local`: key-encryption keys rest in PostgreSQL, sealed under the instance's master key. Whoever has the
// database without the master key has nothing; a sealed key moved to another tenant, id, manager or generation does
// not open. It makes no network call and keeps nothing in memory but the one wrapping key.
import type { KeyObject } from "node:crypto";
import { BrokerError } from "../domain/errors.ts";
import { openBytes, sealBytes } from "./envelope.ts";
import type { KekIdentity, KeyGuard } from "./key-guard.ts";

const associated = ({ tenant_id, id, manager, generation }: KekIdentity): readonly (string | number)[] => [
  tenant_id,
  id,
  manager,
  generation,
];

/**
 * A guard under `wrapping`, the master key's subkey for this. It seals one key per tenant and generation, so the
 * 2^32 sealings that NIST SP 800-38D allows with random nonces are out of reach.
 */
export function createLocalGuard(wrapping: KeyObject): KeyGuard {
  return {
    async protect(identity, bytes) {
      return sealBytes(wrapping, "coffer kek v1", associated(identity), bytes);
    },
    async recover(record) {
      try {
        if (record.sealed === null) throw new Error("the record of a local key holds no sealed key");
        return openBytes(wrapping, "coffer kek v1", associated(record), record.sealed);
      } catch (error) {
        throw new BrokerError(
          "manager_failed",
          "The key that guards this owner's data key cannot be used.",
          {},
          error,
        );
      }
    },
  };
}
