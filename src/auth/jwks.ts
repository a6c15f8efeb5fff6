// The key sets of providers, by address: kept, refreshed, and never waited for on another's behalf. Whatever a server
// does (hangs, fails, floods, turns its keys over), it costs a bounded number of short fetches, and only those who ask
// for its keys notice.
// A set is good for 10 minutes, and while its address fails for an hour: long enough for a provider's bad quarter of
// an hour, short enough that a key it withdrew is soon gone even from a broker that is kept from seeing so.
import type { Clock } from "../domain/ports.ts";
import { OutboundError, type OutboundFlaw } from "./outbound-address.ts";
import { type PublicKey, readKeySet } from "./public-keys.ts";

const FRESH_MS = 10 * 60_000;
const STALE_MS = 60 * 60_000;
/** A token's `kid` comes from anybody: an unknown one may not make us ask more often than this. */
const UNKNOWN_KID_INTERVAL_MS = 30_000;
const FAILED_INTERVAL_MS = 10_000;

export type KeySetBounds = {
  /** Addresses that are remembered; past it, the least recently used one is forgotten. */
  readonly addressesMax: number;
  /** Fetches under way; one more ends the oldest of them. */
  readonly fetchesMax: number;
};

const BOUNDS: KeySetBounds = { addressesMax: 1_000, fetchesMax: 64 };

export type KeySetDeps = {
  readonly clock: Clock;
  /** Ends by the signal at the latest. */
  readonly fetchSet: (address: string, signal: AbortSignal) => Promise<unknown>;
  /** When a fetch that begins now has to have ended. */
  readonly deadline: () => AbortSignal;
  /** For the log; the host alone, since a path may hold what its owner calls a secret. */
  readonly onFailure: (host: string, flaw: OutboundFlaw) => void;
};

export type KeySets = {
  /**
   * The keys at an address; none when they cannot be had. Never throws.
   * @param kid what the token names: when it is not among the keys, they are asked for anew
   */
  keysAt(address: string, kid: string | null): Promise<readonly PublicKey[]>;
};

/** Times are in milliseconds; -Infinity: never. */
type Known = {
  keys: readonly PublicKey[];
  keysSince: number;
  failedAt: number;
  askedForKidAt: number;
};

type Fetch = { readonly ended: Promise<void>; readonly end: () => void };

export function createKeySets(deps: KeySetDeps, bounds: KeySetBounds = BOUNDS): KeySets {
  // A Map keeps its order: here the least recently used is the first, there the longest under way.
  const knowns = new Map<string, Known>();
  const fetches = new Map<string, Fetch>();
  const nowMs = (): number => deps.clock.now().getTime();

  function knownAt(address: string): Known {
    const never = Number.NEGATIVE_INFINITY;
    const known = knowns.get(address) ?? {
      keys: [],
      keysSince: never,
      failedAt: never,
      askedForKidAt: never,
    };
    knowns.delete(address);
    knowns.set(address, known);
    for (const [oldest] of knowns) {
      if (knowns.size <= bounds.addressesMax) break;
      knowns.delete(oldest);
    }
    return known;
  }

  /** The fetch under way for an address, or a new one; it settles without a throw. */
  function refresh(address: string, known: Known): Promise<void> {
    const under = fetches.get(address);
    if (under !== undefined) return under.ended;
    // Waiting for a free place would let those who hang hold up those who answer; the longest under way is theirs.
    for (const [oldest, { end }] of fetches) {
      if (fetches.size < bounds.fetchesMax) break;
      fetches.delete(oldest);
      end();
    }
    const controller = new AbortController();
    const signal = AbortSignal.any([controller.signal, deps.deadline()]);
    const fetch: Fetch = { ended: fetchInto(known, address, signal), end: () => controller.abort() };
    fetches.set(address, fetch);
    const forget = (): void => {
      if (fetches.get(address) === fetch) fetches.delete(address);
    };
    return fetch.ended.then(forget);
  }

  async function fetchInto(known: Known, address: string, signal: AbortSignal): Promise<void> {
    try {
      const keys = readKeySet(await deps.fetchSet(address, signal));
      if (keys === null) throw new OutboundError("content");
      // Keys that are gone from the set are gone here, be it all of them.
      Object.assign(known, { keys, keysSince: nowMs(), failedAt: Number.NEGATIVE_INFINITY });
    } catch (error) {
      known.failedAt = nowMs();
      deps.onFailure(
        URL.parse(address)?.host ?? "",
        error instanceof OutboundError ? error.flaw : "connection",
      );
    }
  }

  return {
    async keysAt(address, kid) {
      const known = knownAt(address);
      const now = nowMs();
      const isKnown = kid === null || known.keys.some((key) => key.kid === kid);
      const isFresh = isWithinMs(known.keysSince, now, FRESH_MS);
      const mayAskForKid = !isWithinMs(known.askedForKidAt, now, UNKNOWN_KID_INTERVAL_MS);
      const mayTryAgain = !isWithinMs(known.failedAt, now, FAILED_INTERVAL_MS);
      const mayBegin = mayTryAgain && (!isFresh || mayAskForKid);
      if ((!isFresh || !isKnown) && (mayBegin || fetches.has(address))) {
        if (isFresh && mayAskForKid) known.askedForKidAt = now;
        await refresh(address, known);
      }
      return isWithinMs(known.keysSince, nowMs(), STALE_MS) ? known.keys : [];
    },
  };
}

/** A clock that was set back lengthens nothing. */
function isWithinMs(since: number, now: number, ms: number): boolean {
  return now >= since && now - since < ms;
}
