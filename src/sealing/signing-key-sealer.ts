// Seals the private keys that access tokens are signed with, each bound to its key id, under a subkey of the master key.
import type { KeyObject } from "node:crypto";
import { openBytes, sealBytes } from "./envelope.ts";

/** @throws from `open`: EnvelopeError, which says nothing of the content */
export function createSigningKeySealer(key: KeyObject) {
  return {
    seal: (keyId: string, bytes: Uint8Array): Uint8Array =>
      sealBytes(key, "coffer signing key v1", [keyId], bytes),
    open: (keyId: string, sealed: Uint8Array): Buffer =>
      openBytes(key, "coffer signing key v1", [keyId], sealed),
  };
}
