// A key-encryption key, sealed under the master key's subkey for it. Wherever it rests, in our database or in a cloud's
// manager, that is its form: a key moved to another tenant, id, manager or generation does not open, and who has the
// database and may write to the manager cannot put a key of theirs in its place.
import type { KeyObject } from "node:crypto";
import { BrokerError } from "../domain/errors.ts";
import { openBytes, sealBytes } from "./envelope.ts";
import type { KekIdentity } from "./key-guard.ts";

const associated = ({ tenant_id, id, manager, generation }: KekIdentity): readonly (string | number)[] => [
  tenant_id,
  id,
  manager,
  generation,
];

/** @returns 61 bytes for a key of 32 */
export function sealKek(wrapping: KeyObject, identity: KekIdentity, bytes: Uint8Array): Buffer {
  return sealBytes(wrapping, "coffer kek v1", associated(identity), bytes);
}

/** @throws BrokerError `manager_failed` for bytes that were not sealed for this key */
export function openKek(wrapping: KeyObject, identity: KekIdentity, sealed: Uint8Array): Buffer {
  try {
    return openBytes(wrapping, "coffer kek v1", associated(identity), sealed);
  } catch (error) {
    throw unusableKek(error);
  }
}

export function unusableKek(cause: unknown): BrokerError {
  const detail = "The key that guards this owner's data key cannot be used.";
  return new BrokerError("manager_failed", detail, {}, cause);
}
