// Seals the secrets that webhooks are signed with, each bound to its webhook; and the public parts of generated key
// pairs, each bound to its version: no secrets, but nobody else's key must ever be shown in their place.
import type { KeyObject } from "node:crypto";
import { openBytes, sealBytes } from "./envelope.ts";

/** @throws from what opens: EnvelopeError, which says nothing of the content */
export function createLifecycleSealer(key: KeyObject) {
  return {
    webhookSecret: {
      seal: (webhookId: string, bytes: Uint8Array): Uint8Array =>
        sealBytes(key, "coffer webhook secret v1", [webhookId], bytes),
      open: (webhookId: string, sealed: Uint8Array): Buffer =>
        openBytes(key, "coffer webhook secret v1", [webhookId], sealed),
    },
    publicPart: {
      seal: (settingId: string, version: number, text: string): Uint8Array =>
        sealBytes(key, "coffer public part v1", [settingId, version], Buffer.from(text, "utf8")),
      open: (settingId: string, version: number, sealed: Uint8Array): string =>
        openBytes(key, "coffer public part v1", [settingId, version], sealed).toString("utf8"),
    },
  };
}
