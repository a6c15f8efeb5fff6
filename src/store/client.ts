// The one pool that Prisma and the driver share, and how its sessions are set. A session that hangs is ended by the
// server, never waited for without end. The time zone is fixed because Prisma's adapter drops a timestamp's offset.
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";
import { asBrokerError } from "./failures.ts";
import { PrismaClient } from "./generated/client.ts";

const statementTimeoutMs = 10_000;
const lockTimeoutMs = 8_000;
const idleInTransactionTimeoutMs = 15_000;
const connectTimeoutMs = 3_000;
/** Longer than the server's own: this one is for a server that does not answer at all. */
const queryTimeoutMs = 13_000;

export type ClientOptions = {
  readonly databaseUrl: string;
  readonly poolSize: number;
  readonly onBackgroundError: (error: unknown) => void;
};
export type Client = { readonly pool: pg.Pool; readonly prisma: PrismaClient };

/** Opens nothing yet: the first query does. What the URL itself says of time-outs wins over the values here. */
export function openClient({ databaseUrl, poolSize, onBackgroundError }: ClientOptions): Client {
  const pool = new pg.Pool({
    connectionString: withSessionSettings(databaseUrl),
    max: poolSize,
    keepAlive: true,
    // Connections stay, and with them their prepared statements.
    idleTimeoutMillis: 0,
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: queryTimeoutMs,
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
  const adapter = new PrismaPg(pool, { onPoolError: () => undefined, onConnectionError: report });
  return { pool, prisma: new PrismaClient({ adapter, errorFormat: "minimal" }) };
}

/**
 * Every replica's sessions agree on the clock's zone, and on READ COMMITTED: after a lock is had, the next statement
 * sees what its holder committed. The rest of the code counts on both, so these come last and win. Prepared statements
 * are planned once: planning them anew each time took several times as long as running them.
 */
function withSessionSettings(databaseUrl: string): string {
  // Not `new URL`, whose error repeats the text, password and all.
  const url = URL.parse(databaseUrl);
  if (url === null) throw new Error("the database's address is no URL");
  const ours =
    "-c TimeZone=UTC -c plan_cache_mode=force_generic_plan -c default_transaction_isolation=read\\ committed";
  url.searchParams.set("options", `${url.searchParams.get("options") ?? ""} ${ours}`.trim());
  return url.href;
}
