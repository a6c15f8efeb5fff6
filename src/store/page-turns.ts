// What is read a page at a time may be a megabyte each, and making it takes the event loop. So pages take turns: only so
// many are read at once that others find a free connection, and as many are made in a turn of the loop.
import { INSTANCE_TENANT } from "../domain/audit.ts";
import { unavailable } from "../domain/errors.ts";
import { createLimiter } from "../domain/limiter.ts";
import type { Reader, SettingQuery } from "../domain/ports.ts";
import { connectionsLeft, turnTimeoutMs } from "./transactions.ts";

type Pages = Pick<Reader, "settings" | "audit" | "report" | "reportTotals">;

/**
 * Pages of settings, of the log and of reports, in turns that go round the tenants. What is one setting takes none.
 * @throws BrokerError `unavailable`, each of them, when its turn did not come
 */
export function pagesInTurn(reader: Pages, poolSize: number): Pages {
  const max = Math.max(1, poolSize - connectionsLeft);
  // One place is left to others than whoever asks for the most: a page is made soon enough for the rest.
  const limiter = createLimiter(max, Math.max(1, max - 1));

  async function inTurn<Page>(tenant: string, read: () => Promise<Page>): Promise<Page> {
    if (!(await limiter.take(turnTimeoutMs, tenant)))
      throw unavailable("Too many pages are waiting for the database.");
    try {
      return await read();
    } finally {
      // What becomes of the page goes first, and whoever else has something to do in this turn of the loop.
      setImmediate(() => limiter.give(tenant));
    }
  }

  return {
    settings: (query) =>
      isOne(query) ? reader.settings(query) : inTurn(query.key.tenant_id, () => reader.settings(query)),
    audit: (query) =>
      inTurn(query.place === "instance" ? INSTANCE_TENANT : query.place.tenant_id, () => reader.audit(query)),
    report: (query) => inTurn(query.key.tenant_id, () => reader.report(query)),
    reportTotals: (query) => inTurn(query.key.tenant_id, () => reader.reportTotals(query)),
  };
}

const isOne = ({ select }: SettingQuery): boolean => select.kind === "at" && select.match === "exact";
