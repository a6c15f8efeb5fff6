// How many refused credentials that may be guesses an address block gets answered 401 before it gets 429: 100 a minute.
// It slows guessing, and never stands in the way of a credential that verifies.
// Bounded in memory, whatever comes: past 50,000 blocks the oldest window is given up. Each replica counts for itself.
import type { RefusalLimit } from "../domain/admission.ts";
import type { Clock } from "../domain/ports.ts";

const REFUSALS_MAX = 100;
const WINDOW_MS = 60_000;
const BLOCKS_MAX = 50_000;

type Window = { readonly start: number; count: number };

/**
 * A fixed window for each block, from its first refusal on: whoever is over waits for its end and no longer, since
 * refusals within it do not lengthen it.
 */
export function createRefusalLimit(clock: Clock, blocksMax = BLOCKS_MAX): RefusalLimit {
  // A Map keeps its order, and a new window goes to the end: the first is the oldest.
  const windows = new Map<string, Window>();
  // A clock that was set back must not lock anybody out for longer.
  const isOver = ({ start }: Window, now: number): boolean => now - start >= WINDOW_MS || now < start;

  function open(block: string, now: number): Window {
    windows.delete(block);
    for (const [oldest, window] of windows) {
      if (windows.size < blocksMax && !isOver(window, now)) break;
      windows.delete(oldest);
    }
    const window = { start: now, count: 0 };
    windows.set(block, window);
    return window;
  }

  return {
    max: REFUSALS_MAX,
    count(block) {
      const now = clock.now().getTime();
      const known = windows.get(block);
      const window = known === undefined || isOver(known, now) ? open(block, now) : known;
      window.count += 1;
      if (window.count <= REFUSALS_MAX) return 0;
      return Math.max(1, Math.ceil((window.start + WINDOW_MS - now) / 1_000));
    },
  };
}
