// What is read a page at a time may be a megabyte each, and making it takes the event loop. So pages take turns: only so
// many are read at once that others find a free connection, and few are made between two looks at the sockets. A place is
// given back when the rows are there; a page whose event waits for the log has none any more.
import { unavailable } from "../domain/errors.ts";
import { TURN_MS, createLimiter } from "../domain/limiter.ts";
import type { Clock, Reader, SettingQuery } from "../domain/ports.ts";
import { connectionsLeft } from "./transactions.ts";

/** More would take the loop, however many connections there are. */
const pagesMax = 7;
/** Those of a tenant in line: half of the requests that are worked on at once where COFFER_REQUESTS_MAX is not set. */
const lineMax = 250;

/** Reads a page in its tenant's turn. @throws BrokerError `unavailable` when that did not come in time */
export type PageTurn = <Page>(
  tenant: string,
  read: () => Promise<Page>,
  milliseconds?: number,
) => Promise<Page>;

/** Turns that go round the tenants. */
export function createPageTurns(poolSize: number): PageTurn {
  const max = Math.max(1, Math.min(pagesMax, poolSize - connectionsLeft));
  // Where there are two places, one is left to others than whoever asks for the most.
  const limiter = createLimiter(max, { laneMax: Math.max(1, max - 1), lineMax });
  return async (tenant, read, milliseconds = TURN_MS) => {
    if (!(await limiter.take(milliseconds, tenant)))
      throw unavailable("Too many pages are waiting for the database.");
    try {
      return await read();
    } finally {
      // What becomes of the page goes first.
      setImmediate(() => limiter.give(tenant));
    }
  };
}

type Pages = Pick<Reader, "settings" | "report">;

/** Pages of settings and of reports, in turns. What is one setting takes none. */
export function pagesInTurn(reader: Pages, inTurn: PageTurn, clock: Clock): Pages {
  /** A clock that was set back lengthens nothing. */
  function waitOf({ asked_at }: SettingQuery): number {
    const left = asked_at.getTime() + TURN_MS - clock.now().getTime();
    return Math.min(TURN_MS, Math.max(0, left));
  }

  return {
    async settings(query) {
      if (isOne(query)) return reader.settings(query);
      const one = oneOf(query);
      const page = one === null ? null : await reader.settings(one);
      if (page?.exact === true) return page;
      return inTurn(query.key.tenant_id, () => reader.settings(query), waitOf(query));
    },
    report: (query) => inTurn(query.key.tenant_id, () => reader.report(query)),
  };
}

const isOne = ({ select }: SettingQuery): boolean => select.kind === "at" && select.match === "exact";

/** The live setting at the very path, where that is what is asked for if there is one. */
function oneOf(query: SettingQuery): SettingQuery | null {
  const { select, after } = query;
  if (select.kind !== "at" || after !== null) return null;
  return { ...query, select: { ...select, match: "exact" }, include_deleted: false };
}
