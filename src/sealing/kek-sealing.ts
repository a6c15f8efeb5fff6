// A key-encryption key, sealed under the master key's subkey for it. Wherever it rests, in our database or in a cloud's
// manager, that is its form: a key moved to another tenant, id, manager or generation does not open, and who has the
// database and may write to the manager cannot put a key of theirs in its place.
import { BrokerError } from "../domain/errors.ts";
import { type Associated, EnvelopeError, associatedData, openBytes, sealBytes } from "./envelope.ts";
import type { KekIdentity } from "./key-guard.ts";
import type { MasterKeys } from "./master-key.ts";
import { type MasterKeyRing, openUnderAny } from "./master-key-ring.ts";

const associatedWith = ({ tenant_id, id, manager, generation }: KekIdentity): Associated =>
  associatedData("coffer kek v1", [tenant_id, id, manager, generation]);

/** @returns 61 bytes for a key of 32 */
export function sealKek({ kekWrapping }: MasterKeys, identity: KekIdentity, bytes: Uint8Array): Buffer {
  return sealBytes(kekWrapping, associatedWith(identity), bytes);
}

/**
 * The key, and the master key that it is under: any of the ring's.
 * @throws BrokerError `manager_failed` for bytes that were not sealed for this key
 */
export function openKek(
  ring: MasterKeyRing,
  identity: KekIdentity,
  sealed: Uint8Array,
): { readonly bytes: Buffer; readonly under: MasterKeys } {
  try {
    return openUnderAny(ring, ({ kekWrapping }) => openBytes(kekWrapping, associatedWith(identity), sealed));
  } catch (error) {
    throw error instanceof EnvelopeError ? unusableKek(error) : error;
  }
}

export function unusableKek(cause: unknown): BrokerError {
  const detail = "The key that guards this owner's data key cannot be used.";
  return new BrokerError("manager_failed", detail, {}, cause);
}
