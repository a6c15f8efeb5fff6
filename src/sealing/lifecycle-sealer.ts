// Seals the secrets that webhooks are signed with, each bound to its webhook; and the public parts of generated key
// pairs, each bound to its version: no secrets, but nobody else's key must ever be shown in their place. Under the
// current master key; what is under any of the ring's is opened.
import { associatedData, openBytes, sealBytes } from "./envelope.ts";
import { type MasterKeyRing, openUnderAny } from "./master-key-ring.ts";

type Purpose = "coffer webhook secret v1" | "coffer public part v1";
type Place = readonly (string | number)[];

/** @throws from what opens: EnvelopeError, which says nothing of the content */
export function createLifecycleSealer(ring: MasterKeyRing) {
  const seal = (purpose: Purpose, place: Place, bytes: Uint8Array): Uint8Array =>
    sealBytes(ring.current().lifecycleSealing, associatedData(purpose, place), bytes);
  const open = (purpose: Purpose, place: Place, sealed: Uint8Array) =>
    openUnderAny(ring, ({ lifecycleSealing }) =>
      openBytes(lifecycleSealing, associatedData(purpose, place), sealed),
    );

  /** The same under the current master key; null for what is. */
  function reseal(purpose: Purpose, place: Place, sealed: Uint8Array): Uint8Array | null {
    const { bytes, under } = open(purpose, place, sealed);
    try {
      return under === ring.current() ? null : seal(purpose, place, bytes);
    } finally {
      bytes.fill(0);
    }
  }

  return {
    webhookSecret: {
      seal: (webhookId: string, bytes: Uint8Array) => seal("coffer webhook secret v1", [webhookId], bytes),
      open: (webhookId: string, sealed: Uint8Array): Buffer =>
        open("coffer webhook secret v1", [webhookId], sealed).bytes,
      reseal: (webhookId: string, sealed: Uint8Array) =>
        reseal("coffer webhook secret v1", [webhookId], sealed),
    },
    publicPart: {
      seal: (settingId: string, version: number, text: string) =>
        seal("coffer public part v1", [settingId, version], Buffer.from(text, "utf8")),
      open: (settingId: string, version: number, sealed: Uint8Array): string =>
        open("coffer public part v1", [settingId, version], sealed).bytes.toString("utf8"),
      reseal: (settingId: string, version: number, sealed: Uint8Array) =>
        reseal("coffer public part v1", [settingId, version], sealed),
    },
  };
}
