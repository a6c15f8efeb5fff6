// Waiting that ends: for what no event tells of, and for what may never come. Each says what it waited for in vain,
// which a test's time-out does not. Between two looks there is a pause: the machine is needed by what is waited for.
import { setTimeout as pause } from "node:timers/promises";

const SECONDS = 60;
const LOOK_EVERY_MS = 20;

/** Looks until it holds. @throws Error that says what did not come */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  seconds = SECONDS,
): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await pause(LOOK_EVERY_MS);
  }
}

/** What a promise resolves with. `what` says, when it has not for so long, what was waited for. */
export async function inTime<Value>(
  what: () => string,
  promise: Promise<Value>,
  seconds = SECONDS,
): Promise<Value> {
  const over = new AbortController();
  const late = pause(seconds * 1_000, undefined, { signal: over.signal, ref: false }).then(
    () => Promise.reject(new Error(`not within ${seconds} s: ${what()}`)),
    () => new Promise<never>(() => undefined),
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
  }
}
