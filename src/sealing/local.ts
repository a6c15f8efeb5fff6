// The manager `local`: key-encryption keys rest in PostgreSQL, sealed under the instance's master key. Whoever has the
// database without the master key has nothing; a sealed key moved to another tenant, id, manager or generation does
// not open. It makes no network call and keeps nothing in memory but the master keys' subkeys.
import { openKek, sealKek, unusableKek } from "./kek-sealing.ts";
import type { KeyGuard } from "./key-guard.ts";
import type { MasterKeyRing } from "./master-key-ring.ts";

/**
 * It seals one key per tenant and generation, so the 2^32 sealings under one master key that NIST SP 800-38D allows
 * with random nonces are out of reach.
 */
export function createLocalGuard(ring: MasterKeyRing): KeyGuard {
  return {
    async protect(identity, bytes, under) {
      return { sealed: sealKek(under, identity, bytes), secret: null };
    },
    async confirm() {
      throw new Error("a local key rests in its record");
    },
    async recover(record) {
      if (record.sealed === null)
        throw unusableKek(new Error("the record of a local key holds no sealed key"));
      return openKek(ring, record, record.sealed);
    },
  };
}
