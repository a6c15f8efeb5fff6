// Pages that are read by themselves may be a megabyte each, and making them takes the event loop. So they take turns:
// only so many are under way at once that others find a free connection, and as many are made in a turn of the loop.
import { unavailable } from "../domain/errors.ts";
import { createLimiter } from "../domain/limiter.ts";
import type { Reader } from "../domain/ports.ts";
import { connectionsLeft, turnTimeoutMs } from "./transactions.ts";

/** `settings`, in turns that go round the tenants. @throws BrokerError `unavailable` when the turn did not come */
export function pagesInTurn(settings: Reader["settings"], poolSize: number): Reader["settings"] {
  const max = Math.max(1, poolSize - connectionsLeft);
  // One place is left to others than whoever asks for the most: a page is made soon enough for the rest.
  const limiter = createLimiter(max, Math.max(1, max - 1));
  return async (query) => {
    const { select, key } = query;
    if (select.kind === "at" && select.match === "exact") return settings(query);
    if (!(await limiter.take(turnTimeoutMs, key.tenant_id)))
      throw unavailable("Too many pages are waiting for the database.");
    try {
      return await settings(query);
    } finally {
      // What becomes of the page goes first, and whoever else has something to do in this turn of the loop.
      setImmediate(() => limiter.give(key.tenant_id));
    }
  };
}
