// The one pool that Prisma and the driver share, and how its sessions are set. A session that hangs is ended by the
// server, never waited for without end. The time zone is fixed because Prisma's adapter drops a timestamp's offset.
import type { Duplex } from "node:stream";
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";
import { asBrokerError, isOfItsConnection, isOfItsServer } from "./failures.ts";
import { PrismaClient } from "./generated/client.ts";
import { watchSilence } from "./silence.ts";

const statementTimeoutMs = 10_000;
const lockTimeoutMs = 8_000;
const idleInTransactionTimeoutMs = 15_000;
const connectTimeoutMs = 3_000;
/** Longer than the server's own: this one is for a server that does not answer at all. */
const silenceMaxMs = 12_500;

const statementNamesMax = 300;

export type ClientOptions = {
  readonly databaseUrl: string;
  readonly poolSize: number;
  readonly onBackgroundError: (error: unknown) => void;
};
export type Client = { readonly pool: pg.Pool; readonly prisma: PrismaClient };

/** Opens nothing yet: the first query does. What the URL itself says of time-outs wins over the values here. */
export function openClient({ databaseUrl, poolSize, onBackgroundError }: ClientOptions): Client {
  const settings = sessionSettingsOf(databaseUrl);
  const pool = new pg.Pool({
    Client: Session,
    connectionString: settings.url,
    max: poolSize,
    keepAlive: true,
    // What is asked of a connection before it has answered is sent at once, and answered in order.
    pipeline: true,
    // Connections stay, and with them their prepared statements.
    idleTimeoutMillis: 0,
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    lock_timeout: lockTimeoutMs,
    idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
    application_name: "coffer",
  });
  // The driver's error carries the client, and with that its password: only the state goes on.
  const report = (error: unknown): void => {
    if (!pool.ending) onBackgroundError(asBrokerError(error));
  };
  // Without a listener a lost idle connection would end the process.
  pool.on("error", report);
  endUseless(pool, settings.silenceMaxMs, report);
  const adapter = new PrismaPg(pool, {
    onPoolError: () => undefined,
    onConnectionError: report,
    statementNameGenerator: createNames(),
  });
  return { pool, prisma: new PrismaClient({ adapter, errorFormat: "minimal" }) };
}

let begun = 0;

/** A session's place among all that this process began, those that are still being made included. */
class Session extends pg.Client {
  readonly place = (begun += 1);
}

/**
 * Prisma gives a connection back as good whatever happened on it. One whose server fell silent would be handed out
 * again, each time for as long as a time-out; one to a server that has become read-only would stay there for ever.
 * Ended at once, it leaves the pool when it is given back, and what is still asked of it fails at once. Where another
 * server is the primary now, all that are open or being made go too: else each of them would fail once, whenever its turn
 * comes, and until then read what the old one has.
 */
function endUseless(pool: pg.Pool, silenceMs: number, report: (error: unknown) => void): void {
  const silence = watchSilence(silenceMs, cutOff);
  let leftUpTo = 0;
  const placeOf = (client: pg.PoolClient): number => (client as unknown as Session).place;

  function failed(client: pg.PoolClient, error: unknown): void {
    if (!isOfItsConnection(error)) return;
    end(client);
    leave(client, error);
  }

  /** What an earlier one is told later says nothing of those that were begun meanwhile, maybe at the new primary. */
  function leave(client: pg.PoolClient, failure: unknown): void {
    if (!isOfItsServer(failure) || placeOf(client) <= leftUpTo) return;
    leftUpTo = begun;
    // The idle ones are given back, and judged then.
    for (let idle = pool.idleCount; idle > 0; idle -= 1)
      pool.connect().then((each) => each.release(), report);
  }

  pool.on("connect", (client) => {
    const answers = silence.of(client);
    const query = client.query.bind(client) as (...given: readonly unknown[]) => unknown;
    const watched = (...given: readonly unknown[]): unknown => {
      // With a callback it is the pool's own doing, which gives up a connection at any error, but none beside it.
      const callback = given.at(-1);
      if (typeof callback === "function") {
        const told = (error: unknown, ...rest: readonly unknown[]): unknown => {
          answers.came();
          leave(client, error);
          return (callback as (...all: readonly unknown[]) => unknown)(error, ...rest);
        };
        answers.awaited();
        return query(...given.slice(0, -1), told);
      }
      const answer = query(...given);
      if (!(answer instanceof Promise)) return answer;
      answers.awaited();
      answer.then(answers.came, (error: unknown) => {
        answers.came();
        failed(client, error);
      });
      return answer;
    };
    Object.assign(client, { query: watched });
  });
  pool.on("release", (_error, client) => {
    if (placeOf(client) <= leftUpTo) end(client);
  });
  pool.on("remove", (client) => silence.forget(client));
}

// The pool's type leaves out what each of its clients has.
type Whole = pg.Client & { readonly connection: { readonly stream: Duplex } };

function end(client: pg.PoolClient): void {
  (client as unknown as Whole).end().catch(() => undefined);
}

/** One that takes leave of a silent server would wait for its answer, and all that is asked of it with it. */
function cutOff(client: pg.PoolClient): void {
  end(client);
  (client as unknown as Whole).connection.stream.destroy();
}

/**
 * Names for Prisma's statements too, so that each is parsed and planned once a connection. Lists of values make texts of
 * any length, so there is a bound: whatever comes later has no name.
 */
function createNames(): (query: { readonly sql: string }) => string {
  const names = new Map<string, string>();
  return ({ sql }) => {
    const known = names.get(sql);
    if (known !== undefined) return known;
    if (names.size >= statementNamesMax) return "";
    const name = `prisma_${names.size}`;
    names.set(sql, name);
    return name;
  };
}

/**
 * Every replica's sessions agree on the clock's zone, and on READ COMMITTED: after a lock is had, the next statement
 * sees what its holder committed. The rest of the code counts on both, so these come last and win. Prepared statements
 * are planned once: planning them anew each time took several times as long as running them. A page that is looked up
 * is hardly dearer than one that is read in order, as in memory or on a solid disk: else all of a principal's
 * memberships were gone through for the one at an owner.
 */
function sessionSettingsOf(databaseUrl: string): { readonly url: string; readonly silenceMaxMs: number } {
  // Not `new URL`, whose error repeats the text, password and all.
  const url = URL.parse(databaseUrl);
  if (url === null) throw new Error("the database's address is no URL");
  const { searchParams } = url;
  const ours =
    "-c TimeZone=UTC -c plan_cache_mode=force_generic_plan -c random_page_cost=1.1 -c default_transaction_isolation=read\\ committed";
  searchParams.set("options", `${searchParams.get("options") ?? ""} ${ours}`.trim());
  const told = searchParams.get("query_timeout");
  // Ours to keep (silence.ts), and not the driver's.
  searchParams.delete("query_timeout");
  const ofServer = Number(searchParams.get("statement_timeout"));
  const usual = Math.max(silenceMaxMs, ofServer > 0 ? ofServer + silenceMaxMs - statementTimeoutMs : 0);
  return { url: url.href, silenceMaxMs: told === null ? usual : Number(told) || Number.POSITIVE_INFINITY };
}
