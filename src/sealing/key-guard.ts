// What a manager does for the key hierarchy: it guards key-encryption keys, and nothing else.
// A guard gives a key back only for the very record that it was protected for.
import type { SecretAddress } from "../domain/manager-ports.ts";
import type { KekRecord } from "../domain/sealing-ports.ts";
import type { MasterKeys } from "./master-key.ts";

/** Which key it is; a guard binds all of it to the protected bytes. */
export type KekIdentity = Pick<KekRecord, "tenant_id" | "id" | "manager" | "generation">;

export type KeyGuard = {
  /**
   * What the record of a new key is to hold, before anything is asked of a manager: the bytes sealed under a master
   * key, or the address of the secret that is to hold them. Does not keep the buffer.
   */
  protect(
    identity: KekIdentity,
    bytes: Uint8Array,
    under: MasterKeys,
  ): Promise<{
    readonly sealed: Uint8Array | null;
    readonly secret: { readonly address: SecretAddress; readonly version_id: null } | null;
  }>;
  /**
   * For a committed record whose secret is not confirmed: makes sure that it is there, with a key in it, durably.
   * Several racers may; the first one's key is the one.
   * @returns the version that holds the key, and the master key that it is under
   * @throws BrokerError `manager_failed` or `unavailable`
   */
  confirm(
    record: KekRecord,
    under: MasterKeys,
  ): Promise<{ readonly version_id: string; readonly under: MasterKeys }>;
  /**
   * The 32 key bytes, in a buffer that the caller zeroes, and the master key that they are under.
   * @throws BrokerError `manager_failed` when trying again cannot help, else `unavailable`
   */
  recover(record: KekRecord): Promise<{ readonly bytes: Buffer; readonly under: MasterKeys }>;
};
