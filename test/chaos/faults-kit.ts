// A stand for faults: a broker as a process, on a PostgreSQL of the test's own, behind a proxy of the test's own, under
// a small load all the time. Whatever happens between them, every request gets a defined answer in bounded time, what
// was acknowledged is there afterwards, and the broker goes back to work without being touched.
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { expect } from "vitest";
import { type Api, type World, client, furnish, made, settingsUrl } from "../harness/broker.ts";
import { type OwnPostgres, type Settings, startOwnPostgres } from "../harness/own-postgres.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";
import { type Proxy, startProxy } from "../harness/proxy.ts";
import { until } from "../harness/until.ts";
import { KEPT, type Load, type Seen, VALUE, startLoad, wentWell } from "./faults-load-kit.ts";

const POOL = 6;

export type Stand = {
  readonly server: OwnPostgres;
  readonly proxy: Proxy;
  readonly broker: BrokerProcess;
  readonly world: World;
  readonly databaseUrl: string;
  close(): Promise<void>;
};

export type StandOptions = {
  readonly settings?: Settings;
  readonly environment?: Readonly<Record<string, string>>;
  /** Where the database is to rest, given the server. */
  readonly prepare?: (server: OwnPostgres) => Promise<string>;
};

export async function startStand({ settings, environment, prepare }: StandOptions = {}): Promise<Stand> {
  const server = await startOwnPostgres(settings);
  const proxy = await startProxy(server.port);
  const home = await newHome();
  const databaseUrl = await (prepare ?? ((each) => each.createDatabase("coffer")))(server);
  const broker = await spawnBroker(home.path, {
    DATABASE_URL: proxy.through(databaseUrl),
    COFFER_MASTER_KEY: randomBytes(32).toString("hex"),
    COFFER_RATE_LIMIT: "1000000",
    COFFER_DATABASE_POOL_SIZE: String(POOL),
    ...environment,
  });
  const admin = await broker.admin();
  const world = await furnish({ url: broker.url, admin, as: (token) => broker.as(token) });
  await made(world.writer.api.put(settingsUrl(world.project, KEPT), { body: { value: VALUE } }));
  return {
    server,
    proxy,
    broker,
    world,
    databaseUrl,
    async close() {
      await broker.stop();
      await proxy.close();
      await server.remove();
      await home.remove();
    },
  };
}

export type Told = {
  readonly sent: number;
  readonly acknowledged: number;
  readonly refused: number;
  readonly lost: number;
  readonly slowestMs: number;
  /** From the fault's end to the first read and the first write that went well, for good. */
  readonly recoveredMs: number;
};

export type Bounds = {
  /** No answer takes longer, whatever happens. */
  readonly latencyMs: number;
  /** From the fault's end on, all goes well again after so long. */
  readonly recoveryMs: number;
  /** Whether some requests must have been refused: then the fault is known to have been one. */
  readonly refuses?: boolean;
};

/**
 * Runs the load, causes a fault, ends it, waits for all to go well, and holds the promises. `cause` gets the load, and
 * resolves when the fault is over.
 */
export async function survive(
  stand: Stand,
  name: string,
  cause: (load: Load) => Promise<void>,
  bounds: Bounds,
  apis: readonly Api[] = [stand.world.keeper.api],
): Promise<Told> {
  const load = startLoad(stand, apis);
  await load.until(() => wentWell(load, 0, 5));
  await cause(load);
  const over = performance.now();
  await load.until(() => wentWell(load, over, 5));
  // Whoever began while it lasted has ended by now, or is seen to below.
  await load.end();
  const told = await tell(stand, load.seen, over);
  const { sent, acknowledged, refused, lost, slowestMs, recoveredMs } = told;
  console.log(
    `| ${name} | ${sent} | ${acknowledged} | ${refused} | ${lost} | ${Math.round(slowestMs)} ms | ${Math.round(recoveredMs)} ms |`,
  );
  const odd = load.seen.filter(({ status }) => status >= 300 && status !== 503);
  expect(odd).toEqual([]);
  for (const { status, code, retryAfter } of load.seen) {
    if (status < 300) continue;
    expect(code).toBe("unavailable");
    expect(Number(retryAfter)).toBeGreaterThanOrEqual(1);
  }
  if (bounds.refuses !== false) expect(refused).toBeGreaterThan(0);
  expect(lost).toBe(0);
  expect(slowestMs).toBeLessThan(bounds.latencyMs);
  expect(recoveredMs).toBeLessThan(bounds.recoveryMs);
  await atRest(stand);
  return told;
}

async function tell(stand: Stand, seen: readonly Seen[], over: number): Promise<Told> {
  const good = seen.filter(({ status }) => status < 300);
  // Sent after the fault's end, and refused all the same: the fault was not over for it.
  const late = seen.filter(({ at, status, milliseconds }) => status >= 300 && at + milliseconds > over);
  const firsts = (["read", "write"] as const).map((kind) =>
    Math.min(
      ...good
        .filter((each) => each.kind === kind && each.at >= over)
        .map(({ at, milliseconds }) => at + milliseconds - over),
    ),
  );
  return {
    sent: seen.length,
    acknowledged: good.length,
    refused: seen.length - good.length,
    lost: await lostOf(stand, good),
    slowestMs: Math.max(...seen.map(({ milliseconds }) => milliseconds)),
    recoveredMs: Math.max(...firsts, ...late.map(({ at, milliseconds }) => at + milliseconds - over)),
  };
}

/** Acknowledged writes whose version is not there, and acknowledged requests that are not in the audit. */
async function lostOf({ world, proxy, broker, databaseUrl }: Stand, good: readonly Seen[]): Promise<number> {
  const api = client(broker.url, world.keeper.api.token);
  let lost = 0;
  const written = good.filter(({ kind }) => kind === "write");
  for (const path of new Set(written.map((each) => each.path))) {
    const { versions } = await made(api.get(settingsUrl(world.project, path, {}, "/settings/versions")));
    const there = new Set(versions.map(({ version }: { version: number }) => version));
    lost += written.filter((each) => each.path === path && !there.has(each.version)).length;
  }
  const audited = await idsOnRecord(proxy.through(databaseUrl), world.project.id);
  return lost + good.filter(({ id }) => !audited.has(id)).length;
}

async function idsOnRecord(url: string, ownerId: string): Promise<Set<string>> {
  const { default: pg } = await import("pg");
  const database = new pg.Client({ connectionString: url });
  await database.connect();
  try {
    const { rows } = await database.query(
      "SELECT request_id FROM audit_events WHERE owner_id = $1 AND outcome = 'allowed'",
      [ownerId],
    );
    return new Set(rows.map(({ request_id }) => request_id));
  } finally {
    await database.end();
  }
}

/** The broker's sessions at the server that the proxy leads to. */
export async function sessions(server: OwnPostgres): Promise<Readonly<Record<string, number>>> {
  const rows = await server.sql(
    "SELECT coalesce(state, 'none') AS state, count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'coffer' GROUP BY 1",
  );
  return Object.fromEntries(rows.map(({ state, n }) => [String(state), Number(n)]));
}

/** No connection is held: not in the pool, not at the server; and all of the pool can be used at once. */
export async function atRest({ broker, world, proxy }: Stand, server?: OwnPostgres): Promise<void> {
  const api = client(broker.url, world.keeper.api.token);
  const url = settingsUrl(world.project, KEPT, {}, "/settings/value");
  const all = await Promise.all(Array.from({ length: 2 * POOL }, () => api.get(url)));
  expect(all.map(({ status }) => status)).toEqual(all.map(() => 200));
  expect(await heldConnections(broker)).toEqual({ in_use: 0, waiting: 0 });
  expect(proxy.open()).toBeLessThanOrEqual(POOL);
  if (server === undefined) return;
  // The broker's own work is in a transaction now and then; one that stays in it was left behind.
  await until("no session is in a transaction", async () => {
    const { active: _active, idle: _idle, ...others } = await sessions(server);
    return Object.keys(others).length === 0;
  });
}

/**
 * What the pool has given out and not got back. A sweep may be at work just now, and what the broker's own work asked of
 * a server that fell silent is given up after 13 s, or 15 s in a transaction: a connection that is held longer is lost.
 */
async function heldConnections({ url }: BrokerProcess): Promise<{ in_use: number; waiting: number }> {
  let held = { in_use: -1, waiting: -1 };
  for (let tries = 0; tries < 300; tries++) {
    const { text } = await client(url, "").get("/metrics");
    const count = (state: string): number =>
      Number(new RegExp(`coffer_database_connections\\{state="${state}"\\} (\\d+)`).exec(text)?.[1] ?? -1);
    held = { in_use: count("in_use"), waiting: count("waiting") };
    if (held.in_use === 0 && held.waiting === 0) break;
    await pause(100);
  }
  return held;
}
