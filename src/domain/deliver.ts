// Delivering what is in the outbox: each message until its receiver has said 2xx, with growing pauses, and for days;
// then it is a dead letter, which people list and replay. A message is delivered at least once, always under the same
// id. Attempts are shared by all replicas; a receiver that hangs holds a few of them and nobody else's.
import type { Attempt, DeliveryQueue, Reply, Settled, WebhookSender } from "./lifecycle-ports.ts";
import type { Clock } from "./ports.ts";

const IN_FLIGHT_MAX = 64;
/** With so many under way, a webhook, and a tenant with all of its webhooks, gets no more until one has ended. */
const PER_WEBHOOK = 4;
const PER_TENANT = 16;
/** Longer than an attempt may take: what is not settled by then was a dead replica's. */
const LEASE_SECONDS = 20;
/** Pauses after each failure: some three days in all, the last of which makes a dead letter. */
const PAUSES_SECONDS = [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000] as const;

export type DeliverDeps = {
  readonly queue: DeliveryQueue;
  readonly sender: Pick<WebhookSender, "send">;
  readonly clock: Clock;
  /** From 0 to 1: spreads attempts, so that what failed together is not tried again together. */
  readonly random: () => number;
  /** Key-check values of the master keys that secrets of webhooks can be opened with. */
  readonly keyChecks: () => readonly Uint8Array[];
  readonly onError: (error: unknown) => void;
  /** Told of each attempt that has ended: there is room again. */
  readonly onEnded: () => void;
};

export function createDeliveries(deps: DeliverDeps) {
  const { queue, sender, clock, random, keyChecks, onError, onEnded } = deps;
  const underWay = new Map<Attempt, Promise<void>>();

  function busy(of: (attempt: Attempt) => string, most: number): string[] {
    const counts = Map.groupBy(underWay.keys(), of);
    return [...counts].filter(([, each]) => each.length >= most).map(([id]) => id);
  }

  function outcomeOf({ attempts }: Attempt, { status, flaw }: Reply): Settled {
    if (status !== null && status >= 200 && status < 300) return { state: "delivered", status };
    const pause = PAUSES_SECONDS[attempts - 1];
    const seconds = (pause ?? 0) * (0.8 + 0.4 * random());
    const next_attempt_at = new Date(clock.now().getTime() + seconds * 1_000);
    const said = flaw ?? (status !== null && status >= 300 && status < 400 ? "redirect" : "status");
    return { state: pause === undefined ? "dead" : "pending", status, flaw: said, next_attempt_at };
  }

  async function attempt(message: Attempt): Promise<void> {
    const { message_id: id, url, webhook_id, sealed, body } = message;
    const reply = await sender.send({ id, url, webhook_id, sealed, body });
    await queue.settle(message, outcomeOf(message, reply), clock.now());
  }

  return {
    /** Begins what is due and there is room for; answers how many. Does not wait for receivers. */
    async begin(): Promise<number> {
      const room = IN_FLIGHT_MAX - underWay.size;
      if (room <= 0) return 0;
      const now = clock.now();
      const taken = await queue.claim({
        now,
        leaseUntil: new Date(now.getTime() + LEASE_SECONDS * 1_000),
        limit: room,
        busyWebhooks: busy(({ webhook_id }) => webhook_id, PER_WEBHOOK),
        busyTenants: busy(({ tenant_id }) => tenant_id, PER_TENANT),
        keyChecks: keyChecks(),
      });
      for (const message of taken) {
        const work = attempt(message)
          .catch(onError)
          .finally(() => {
            underWay.delete(message);
            onEnded();
          });
        underWay.set(message, work);
      }
      return taken.length;
    },

    /** Resolves when all that was begun has ended. */
    async drained(): Promise<void> {
      await Promise.all(underWay.values());
    },
  };
}
