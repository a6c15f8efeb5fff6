// Polling with an ETag: a look at what has not changed is answered 304, opens nothing and yields nothing.
import { CofferError } from "./error.ts";
import type { Clock } from "./retry.ts";
import type { WatchOptions } from "./types.ts";

const INTERVAL_MS = 30_000;
/** Many workers that start at once do not stay in step. */
const SPREAD = 0.1;

/** An answer to a look: null when nothing has changed. */
export type Look<T> = { readonly etag: string | undefined; readonly text: string; readonly seen: T } | null;

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
      if (!(error instanceof CofferError) || !error.temporary) throw error;
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
