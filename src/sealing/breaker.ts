// What keeps a manager in trouble from being asked for ever: a circuit breaker. It is per replica and in memory, and does
// not count a refusal as an outage: a manager that throttles or denies answers, so it is there.

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
