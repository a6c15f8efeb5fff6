// When to try again: exponential backoff with full jitter, never before the broker's Retry-After, and bounded in
// number and in time. Time and chance come from a `Clock`, so that a test waits for nothing.

/** Limits of trying again. */
export type RetryPolicy = {
  /** Requests in all, the first included. */
  readonly attempts: number;
  /** The first wait is up to this long; each further one up to twice as long as the one before. */
  readonly baseMs: number;
  /** No wait of our own choosing is longer. */
  readonly maxWaitMs: number;
  /** From the first request to the start of the last. A Retry-After beyond it is not waited for. */
  readonly totalMs: number;
};

export const RETRY_DEFAULT: RetryPolicy = { attempts: 6, baseMs: 250, maxWaitMs: 10_000, totalMs: 45_000 };
export const RETRY_NEVER: RetryPolicy = { attempts: 1, baseMs: 0, maxWaitMs: 0, totalMs: 0 };

export type Clock = {
  now(): number;
  /** 0 to 1, as Math.random. */
  random(): number;
  /** Rejects with the signal's reason when that aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
};

export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  sleep: (ms, signal) =>
    abortable(
      (stopped) =>
        new Promise((resolve) => {
          const timer = setTimeout(resolve, ms);
          stopped(() => clearTimeout(timer));
        }),
      signal,
    ),
};

/** What `start` promises, unless the signal aborts first. `start` may say what to do then. */
export async function abortable<T>(
  start: (stopped: (action: () => void) => void) => Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (signal === undefined) return start(() => undefined);
  signal.throwIfAborted();
  const actions: (() => void)[] = [];
  let abort = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => {
      for (const action of actions) action();
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([start((action) => actions.push(action)), aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** The waits of one call. */
export function createBackoff(policy: RetryPolicy, clock: Clock) {
  const started = clock.now();
  let requests = 1;
  return {
    /** How long to wait before the next request; null: that was the last one. */
    next(retryAfterMs: number | undefined): number | null {
      if (requests >= policy.attempts) return null;
      const step = Math.min(policy.maxWaitMs, policy.baseMs * 2 ** (requests - 1));
      // Above a Retry-After there is jitter too: all who were refused at once were told the same.
      const wait = Math.round((retryAfterMs ?? 0) + clock.random() * step);
      if (clock.now() - started + wait > policy.totalMs) return null;
      requests += 1;
      return wait;
    },
  };
}
