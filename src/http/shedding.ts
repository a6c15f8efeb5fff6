// Turning requests away before the broker collapses under them: past so many that are worked on at once, or while the
// event loop runs late, one more gets 503 at once, before its token is looked at, and those under way keep their pace.
// What tells of the broker itself (health, metrics, documents) is always answered. Only work counts: a request that is
// still arriving, or an answer that its client does not read, takes nobody's place.
import type { FastifyRequest, RouteOptions } from "fastify";
import { BrokerError } from "../domain/errors.ts";
import type { ShedReason } from "./metrics-inside.ts";
import { stateOf } from "./request-state.ts";

export type SheddingOptions = {
  /** Requests that are worked on at once. */
  readonly requestsMax: number;
  /** How late the event loop may be; 0: as late as it likes. */
  readonly loopDelayMaxMs: number;
};

export const NO_SHEDDING: SheddingOptions = { requestsMax: Number.POSITIVE_INFINITY, loopDelayMaxMs: 0 };

const LOOK_EVERY_MS = 100;
const RETRY_AFTER_SECONDS = 1;

/**
 * Not a fault: nothing is wrong but that there is too much. One for all: to note where each was made was a tenth to a
 * fifth of what turning a request away costs.
 */
export const SHED: BrokerError = Object.freeze(
  new BrokerError(
    "unavailable",
    "Too much is under way just now; try again.",
    Object.freeze({ retry_after_seconds: RETRY_AFTER_SECONDS }),
  ),
);

export function createShedder(
  { requestsMax, loopDelayMaxMs }: SheddingOptions,
  onShed: (reason: ShedReason) => void,
) {
  let running = 0;
  /** Of the last two looks the better: one long pause, at the start or for a collection, is not yet too much. */
  let lateMs = 0;
  let timer: NodeJS.Timeout | null = null;
  const counted = new WeakSet();

  if (loopDelayMaxMs > 0) {
    let last = performance.now();
    let before = 0;
    timer = setInterval(() => {
      const now = performance.now();
      const late = now - last - LOOK_EVERY_MS;
      lateMs = Math.min(before, late);
      before = late;
      last = now;
    }, LOOK_EVERY_MS).unref();
  }

  function refusal(): BrokerError | null {
    const reason =
      running >= requestsMax
        ? "requests_under_way"
        : loopDelayMaxMs > 0 && lateMs > loopDelayMaxMs
          ? "event_loop"
          : null;
    if (reason === null) return null;
    onShed(reason);
    return SHED;
  }

  /** Gives the request's place back, once. */
  function leave(request: FastifyRequest): void {
    const state = stateOf(request);
    if (state.isWorkedOn) running -= 1;
    state.isWorkedOn = false;
  }

  return {
    /** What to answer in place of work; null when there is room. */
    refusal,
    /** Has a route's handler counted while it works, and turned away when there is no room by then. */
    count(route: RouteOptions): void {
      const { handler } = route;
      if (counted.has(handler)) return;
      const counting: RouteOptions["handler"] = async function (request, reply) {
        const refused = refusal();
        if (refused !== null) throw refused;
        stateOf(request).isWorkedOn = true;
        running += 1;
        try {
          return await handler.call(this, request, reply);
        } finally {
          leave(request);
        }
      };
      counted.add(counting);
      route.handler = counting;
    },
    /** The work is done once its answer begins: how long that takes (a stream, a slow reader) is not the broker's. */
    answering(request: FastifyRequest): void {
      leave(request);
    },
    close(): void {
      if (timer !== null) clearInterval(timer);
    },
  };
}
