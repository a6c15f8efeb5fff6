// Seals the private keys that access tokens are signed with, each bound to its key id, under the current master key;
// opens what is under any of the ring's.
import { associatedData, openBytes, sealBytes } from "./envelope.ts";
import type { MasterKeys } from "./master-key.ts";
import { type MasterKeyRing, openUnderAny } from "./master-key-ring.ts";

/** @throws from `open`: EnvelopeError, which says nothing of the content */
export function createSigningKeySealer(ring: MasterKeyRing) {
  const opened = (keyId: string, sealed: Uint8Array) =>
    openUnderAny(ring, ({ signingKeySealing }: MasterKeys) =>
      openBytes(signingKeySealing, associatedData("coffer signing key v1", [keyId]), sealed),
    );
  const seal = (keyId: string, bytes: Uint8Array): Uint8Array =>
    sealBytes(ring.current().signingKeySealing, associatedData("coffer signing key v1", [keyId]), bytes);
  return {
    seal,
    open: (keyId: string, sealed: Uint8Array): Buffer => opened(keyId, sealed).bytes,
    /** The same key under the current master key; null for one that is. */
    reseal(keyId: string, sealed: Uint8Array): Uint8Array | null {
      const { bytes, under } = opened(keyId, sealed);
      try {
        return under === ring.current() ? null : seal(keyId, bytes);
      } finally {
        bytes.fill(0);
      }
    },
  };
}
