// What keeps a manager in trouble from being asked for ever: a circuit breaker, and a limit to the calls at a time.
// Both are per replica and in memory. Neither waits without a bound, and neither counts a refusal as an outage: a
// manager that throttles or denies answers, so it is there.

/** `unknown`: the call ended before the manager had its time, which says nothing of it. */
export type Sign = "answered" | "outage" | "unknown";

export type Pass = { readonly isProbe: boolean };

export type Breaker = {
  /** For how many milliseconds nothing is sent; 0 when a call may ask to enter. */
  closedFor(): number;
  /** A call's way in; null: not now. Whoever got in leaves with `leave`, whatever happens. */
  enter(): Pass | null;
  leave(pass: Pass, sign: Sign): void;
};

export type BreakerBounds = { readonly outagesMax: number; readonly pauseMilliseconds: number };

/**
 * After `outagesMax` outages in a row nothing is sent for `pauseMilliseconds`; then one call at a time is, until one
 * has been answered. An answer opens the way at once, from whichever call it comes.
 */
export function createBreaker(now: () => number, { outagesMax, pauseMilliseconds }: BreakerBounds): Breaker {
  let outages = 0;
  /** When the pause ends; null where there is none. */
  let until: number | null = null;
  let isProbing = false;

  function closedFor(): number {
    if (until === null) return 0;
    const left = until - now();
    if (left > 0) return left;
    return isProbing ? pauseMilliseconds : 0;
  }

  function pause(): void {
    until = now() + pauseMilliseconds;
    outages = 0;
  }

  return {
    closedFor,
    enter() {
      if (closedFor() > 0) return null;
      if (until === null) return { isProbe: false };
      isProbing = true;
      return { isProbe: true };
    },
    leave({ isProbe }, sign) {
      if (isProbe) isProbing = false;
      if (sign === "answered") {
        outages = 0;
        until = null;
      } else if (sign === "outage" && until === null) {
        outages += 1;
        if (outages >= outagesMax) pause();
      } else if (sign === "outage" && isProbe) pause();
    },
  };
}

export type Limiter = {
  /**
   * Waits for a place; false when that did not come within `milliseconds`. Places go round the lanes that wait, and none
   * of them has more than half, so that whoever asks for much makes nobody wait for long who asks for little.
   * @param lane whose use it is: a tenant; null for what everybody needs
   */
  take(milliseconds: number, lane: string | null): Promise<boolean>;
  /** Gives back what `take` gave. */
  give(lane: string | null): void;
  /** How many are taken or waited for. */
  readonly busy: number;
};

export function createLimiter(max: number): Limiter {
  const laneMax = Math.max(1, Math.ceil(max / 2));
  const taken = new Map<string | null, number>();
  // Both keep their order: the lane that has waited longest for its turn, and in it the one that has waited longest.
  const waiting = new Map<string | null, Set<() => void>>();
  let total = 0;
  let waiters = 0;

  const hasRoom = (lane: string | null): boolean => lane === null || (taken.get(lane) ?? 0) < laneMax;

  function enter(lane: string | null): void {
    total += 1;
    taken.set(lane, (taken.get(lane) ?? 0) + 1);
  }

  function drop(lane: string | null, pass: () => void): void {
    const queue = waiting.get(lane);
    if (queue?.delete(pass) === true) waiters -= 1;
    if (queue?.size === 0) waiting.delete(lane);
  }

  /** Hands free places out, one a lane and turn. */
  function handOut(): void {
    for (const [lane, queue] of waiting) {
      if (total >= max) return;
      const [next] = queue;
      if (next === undefined || !hasRoom(lane)) continue;
      drop(lane, next);
      // The lane goes to the end of the line.
      const rest = waiting.get(lane);
      if (rest !== undefined && waiting.delete(lane)) waiting.set(lane, rest);
      enter(lane);
      next();
    }
  }

  return {
    async take(milliseconds, lane) {
      if (total < max && hasRoom(lane)) {
        enter(lane);
        return true;
      }
      return new Promise((settle) => {
        const pass = (): void => {
          clearTimeout(timer);
          settle(true);
        };
        const timer = setTimeout(() => {
          drop(lane, pass);
          settle(false);
        }, milliseconds);
        waiting.set(lane, (waiting.get(lane) ?? new Set()).add(pass));
        waiters += 1;
      });
    },
    give(lane) {
      total -= 1;
      const left = (taken.get(lane) ?? 1) - 1;
      if (left === 0) taken.delete(lane);
      else taken.set(lane, left);
      handOut();
    },
    get busy() {
      return total + waiters;
    },
  };
}
