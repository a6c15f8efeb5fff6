// What a manager does for the key hierarchy: it guards key-encryption keys, and nothing else.
// A guard gives a key back only for the very record that it was protected for.
import type { KekRecord } from "../domain/sealing-ports.ts";

/** Which key it is; a guard binds all of it to the protected bytes. */
export type KekIdentity = Pick<KekRecord, "tenant_id" | "id" | "manager" | "generation">;

export type KeyGuard = {
  /**
   * Takes 32 key bytes into its care, durably, before it answers; does not keep the buffer.
   * @returns what the record is to hold: sealed bytes, or null when the manager itself keeps the key under the
   * identity. Of several racers' keys one is recorded; the others may stay behind, and guard nothing.
   * @throws BrokerError `manager_failed` or `unavailable`
   */
  protect(identity: KekIdentity, bytes: Uint8Array): Promise<Uint8Array | null>;
  /**
   * The 32 key bytes, in a buffer that the caller zeroes.
   * @throws BrokerError `manager_failed` when trying again cannot help, else `unavailable`
   */
  recover(record: KekRecord): Promise<Buffer>;
};
