// What the tests of keys stand on: values of each kind of owner, what a client sees of them, and a place in the
// database at which a process is held until it is killed.
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { expect } from "vitest";
import { type Api, type TestBroker, furnish, made, settingsUrl } from "../harness/broker.ts";
import { until } from "../harness/until.ts";

export type Stock = Awaited<ReturnType<typeof stock>>;

/** Values of a project, its organization and a user, in several versions, one destroyed and one soft-deleted. */
export async function stock(broker: Pick<TestBroker, "url" | "admin" | "as">, perOwner = 5) {
  const world = await furnish(broker);
  const { owner, organization, project } = world;
  const owners = [project, organization, { type: "user", id: owner.id }];
  const places: { owner: { type: string; id: string }; path: string }[] = [];
  for (const each of owners)
    for (let index = 0; index < perOwner; index++) {
      const path = `secret/Custom/s${index}`;
      for (const version of index % 2 === 0 ? [1, 2, 3] : [1])
        await made(
          owner.api.put(settingsUrl(each, path), { body: { value: `${each.type} ${path} ${version}` } }),
        );
      places.push({ owner: each, path });
    }
  const destroyed = settingsUrl(project, "secret/Custom/s0", { version: "1" }, "/settings/versions");
  await made(owner.api.delete(destroyed));
  await made(owner.api.put(settingsUrl(project, "secret/Custom/deleted"), { body: { value: "deleted" } }));
  await made(owner.api.delete(settingsUrl(project, "secret/Custom/deleted")));
  return { world, places, settings: places.length + 1 };
}

/** All that a client can see of a stock, by one replica, but for when it was last looked at. */
export async function seen(api: Api, { places }: Pick<Stock, "places">): Promise<unknown[]> {
  return Promise.all(
    places.map(async ({ owner, path }) => {
      const answer = await made(api.get(settingsUrl(owner, path, { decrypt: "true" })));
      const { versions } = await made(api.get(settingsUrl(owner, path, {}, "/settings/versions")));
      const values = await Promise.all(
        versions.map(async ({ version }: { version: number }) => {
          const at = settingsUrl(owner, path, { version: String(version) }, "/settings/value");
          const { status, body } = await api.get(at);
          return { version, status, value: body.value };
        }),
      );
      return [answer.settings.map(withoutAccess), versions.map(withoutAccess), values];
    }),
  );
}

function withoutAccess(row: Record<string, unknown>): unknown {
  return { ...row, last_accessed_at: null };
}

export async function query(
  databaseUrl: string,
  sql: string,
  values: unknown[] = [],
): Promise<Record<string, unknown>[]> {
  const connection = new pg.Client({ connectionString: databaseUrl });
  await connection.connect();
  try {
    return (await connection.query(sql, values)).rows;
  } finally {
    await connection.end();
  }
}

const idsOf = (rows: Record<string, unknown>[]): string[] => rows.map(({ id }) => String(id)).toSorted();

/** The ids of all keys that there are. */
export async function keysIn(databaseUrl: string) {
  return {
    data: idsOf(await query(databaseUrl, "SELECT id FROM data_keys")),
    keks: idsOf(await query(databaseUrl, "SELECT id FROM key_encryption_keys")),
  };
}

/** How often each setting was rewrapped, by the audit. */
export async function rewrapsIn(databaseUrl: string): Promise<number[]> {
  const rows = await query(
    databaseUrl,
    `SELECT count(*)::int AS times FROM audit_events WHERE operation = 'rewrapSetting'
      GROUP BY settings -> 0 ->> 'id'`,
  );
  return rows.map(({ times }) => Number(times));
}

/** Between two requests of a load: they go on all the time, and leave `work` some of the processor. */
export const LOAD_PAUSE_MS = 15;

/** Reads all of a stock again and again, every read of which must go well, while `work` goes on. */
export async function underReads(
  apis: readonly Api[],
  { places }: Pick<Stock, "places">,
  work: () => Promise<void>,
): Promise<number> {
  const state = { over: false, reads: 0 };
  const load = apis.map(async (api, who) => {
    for (let turn = who; !state.over; turn++) {
      const place = places[turn % places.length];
      if (place === undefined) throw new Error("there is a place");
      const { status, text } = await api.get(settingsUrl(place.owner, place.path, { decrypt: "true" }));
      expect([status, text.includes('"decrypted":true')]).toEqual([200, true]);
      state.reads += 1;
      await pause(LOAD_PAUSE_MS);
    }
  });
  try {
    await work();
  } finally {
    state.over = true;
    await Promise.all(load);
  }
  return state.reads;
}

const GATE = 4_242;

/**
 * Holds whoever does something (`UPDATE OF mac ON settings`) in the middle of its transaction.
 * `reached` resolves once somebody is held; `end` ends their sessions, as the system does for a process that is no
 * more, and holds nobody from then on.
 */
export async function holdAt(databaseUrl: string, what: string) {
  const connection = new pg.Client({ connectionString: databaseUrl });
  await connection.connect();
  const table = what.split(" ").at(-1) ?? "";
  await connection.query(`SELECT pg_advisory_lock(${GATE})`);
  await connection.query(`CREATE OR REPLACE FUNCTION hold_here() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock(${GATE}); RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END $$`);
  await connection.query(`CREATE TRIGGER hold_here BEFORE ${what} FOR EACH ROW EXECUTE FUNCTION hold_here()`);
  const held = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = ${GATE} AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
  return {
    async reached(ended: Promise<unknown>): Promise<void> {
      let isOver = false;
      void ended.finally(() => {
        isOver = true;
      });
      await until(what, async () => {
        if (((await connection.query(held)).rowCount ?? 0) > 0) return true;
        if (isOver) throw new Error(`the process ended before it did: ${what}`);
        return false;
      });
    },
    async end(): Promise<void> {
      await connection.query(`SELECT pg_terminate_backend(pid) FROM (${held}) AS held`);
      await connection.query(`SELECT pg_advisory_unlock(${GATE})`);
      await connection.query(`DROP TRIGGER hold_here ON ${table}`);
      await connection.end();
    },
  };
}

/** What a process needs to work on a broker's database. */
export function environmentOf(broker: Pick<TestBroker, "databaseUrl" | "masterKey" | "home">) {
  return {
    COFFER_HOME: `${broker.home}/cli`,
    DATABASE_URL: broker.databaseUrl,
    COFFER_MASTER_KEY: broker.masterKey,
  };
}
