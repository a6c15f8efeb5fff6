// Signs and sends messages to receivers that tenants named, by the Standard Webhooks scheme: HMAC-SHA-256 over the id,
// the time and the body, under a secret that was shown once and rests sealed. The address rules are those of key sets
// (outbound.ts): no redirect, no private address, no lingering. What a receiver says is nothing but a status and a few
// bytes; no error, log or event quotes it.
import { createHmac, randomBytes } from "node:crypto";
import { badInput } from "../domain/errors.ts";
import type { WebhookSender } from "../domain/lifecycle-ports.ts";
import type { Clock } from "../domain/ports.ts";
import { OutboundError, parseAddress } from "./outbound-address.ts";
import { type OutboundRules, post } from "./outbound.ts";

const SECRET_BYTES = 32;
const SECRET_PREFIX = "whsec_";
const ANSWER_MS_MAX = 10_000;

export type WebhookSenderOptions = {
  readonly clock: Clock;
  readonly rules: OutboundRules;
  readonly sealer: {
    seal(webhookId: string, bytes: Uint8Array): Uint8Array;
    open(webhookId: string, sealed: Uint8Array): Buffer;
  };
  /** When a message that is sent now has to have been answered; after ten seconds unless given. */
  readonly deadline?: () => AbortSignal;
};

export function createWebhookSender({ clock, rules, sealer, deadline }: WebhookSenderOptions): WebhookSender {
  const ends = deadline ?? (() => AbortSignal.timeout(ANSWER_MS_MAX));

  function signatureOf(webhookId: string, sealed: Uint8Array, content: string): string {
    const secret = sealer.open(webhookId, sealed);
    try {
      return `v1,${createHmac("sha256", secret).update(content, "utf8").digest("base64")}`;
    } finally {
      secret.fill(0);
    }
  }

  return {
    assertUsable(url) {
      try {
        parseAddress(url, rules.allowedPrivate);
      } catch {
        const detail =
          "url is https (or http to this machine), names no user, and no address that is private.";
        throw badInput("invalid_value", "body", "/url", detail);
      }
    },

    newSecret(webhookId) {
      const bytes = randomBytes(SECRET_BYTES);
      const secret = SECRET_PREFIX + bytes.toString("base64");
      const sealed = sealer.seal(webhookId, bytes);
      bytes.fill(0);
      return { secret, sealed };
    },

    async send({ id, url, webhook_id, sealed, body }) {
      const timestamp = String(Math.floor(clock.now().getTime() / 1_000));
      try {
        const headers = {
          "content-type": "application/json",
          "content-length": String(Buffer.byteLength(body)),
          "webhook-id": id,
          "webhook-timestamp": timestamp,
          "webhook-signature": signatureOf(webhook_id, sealed, `${id}.${timestamp}.${body}`),
        };
        return { ...(await post(url, { headers, body }, rules, ends())), flaw: null };
      } catch (error) {
        // A secret that does not open is no receiver's fault; it is told like one, and the delivery comes to light.
        const flaw = error instanceof OutboundError ? error.flaw : "secret";
        return { status: null, flaw, body: "" };
      }
    },
  };
}
