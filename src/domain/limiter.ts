// So many at once of what is dear, the others in line: per replica and in memory, fair among tenants, and nobody waits
// without a bound.

export type Limiter = {
  /**
   * Waits for a place; false when that did not come within `milliseconds`, or the lane's line is full. Places go round
   * the lanes that wait, and none of them has more than its share, so that whoever asks for much makes nobody wait for
   * long who asks for little.
   * @param lane whose use it is: a tenant; null for what everybody needs, which has no share
   */
  take(milliseconds: number, lane: string | null): Promise<boolean>;
  /** Gives back what `take` gave. */
  give(lane: string | null): void;
  /** How many are taken or waited for. */
  readonly busy: number;
};

export type LaneBounds = {
  /** The places that one lane may have: half of them unless told otherwise. */
  readonly laneMax?: number;
  /** Those who may wait in one lane; one more is told at once that there is no place. */
  readonly lineMax?: number;
};

/** How long a request waits for its turn. */
export const TURN_MS = 10_000;

/** @param max the places in all */
export function createLimiter(max: number, bounds: LaneBounds = {}): Limiter {
  const { laneMax = Math.max(1, Math.ceil(max / 2)), lineMax = Number.POSITIVE_INFINITY } = bounds;
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
      if ((waiting.get(lane)?.size ?? 0) >= lineMax) return false;
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
