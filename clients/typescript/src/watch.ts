// Polling with an ETag: a look at what has not changed is answered 304, opens nothing and yields nothing.
import { CofferError } from "./error.ts";
import type { Clock } from "./retry.ts";
import type { WatchOptions } from "./types.ts";

const INTERVAL_MS = 30_000;
/** Many workers that start at once do not stay in step. */
const SPREAD = 0.1;
/** Of 4xx: too slow, too early (both a proxy's), too often. */
const PASSING_REFUSALS: ReadonlySet<number> = new Set([408, 425, 429]);

/** An answer to a look: null when nothing has changed. */
export type Look<T> = { readonly etag: string | undefined; readonly text: string; readonly seen: T } | null;

/**
 * Whether looking again cannot mend it: the broker refuses us or the question, or there was no call to make. What else
 * there is comes from an outage: of the broker, of a secret manager, or of a proxy, whatever that says.
 */
function isFinal({ status, code }: CofferError): boolean {
  if (code === "invalid_options" || code === "no_token") return true;
  return status >= 400 && status < 500 && !PASSING_REFUSALS.has(status);
}

/** What `look` gives first, and again whenever it has changed. Ends when the signal aborts. */
export async function* watchChanges<T>(
  look: (etag: string | undefined) => Promise<Look<T>>,
  { signal, intervalMs = INTERVAL_MS, onError }: WatchOptions,
  clock: Clock,
): AsyncGenerator<T, void, undefined> {
  let last: { readonly etag: string | undefined; readonly text: string } | undefined;
  const isOver = (): boolean => signal?.aborted === true;
  while (!isOver()) {
    const found = await look(last?.etag).catch((error: unknown) => {
      if (isOver()) return null;
      if (!(error instanceof CofferError) || isFinal(error)) throw error;
      onError?.(error);
      return null;
    });
    if (found !== null) {
      // Another ETag may stand for other metadata alone, and a setting that follows "latest" never gives 304.
      const isNew = found.text !== last?.text;
      last = { etag: found.etag, text: found.text };
      if (isNew) yield found.seen;
    }
    const wait = intervalMs * (1 + SPREAD * (2 * clock.random() - 1));
    await clock.sleep(wait, signal).catch((error: unknown) => {
      if (!isOver()) throw error;
    });
  }
}
