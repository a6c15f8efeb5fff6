// A broker that is killed again and again while it writes, destroys, purges and moves, with its manager's faults on. Each
// kill is at a random call to the manager, from a seed; in between time is made to pass in the database.
import pg from "pg";
import { expect, vi } from "vitest";
import { createDatabase } from "../harness/postgres.ts";
import { type Api, client, made, settingsUrl } from "../harness/broker.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";
import { type Cloud, idsIn } from "./clouds.ts";
import { pointedAt } from "./pointers.ts";

const PATHS = Array.from({ length: 12 }, (_, index) => `secret/Custom/s${index}`);
const STARTS_MAX = 5;
const PLACES = [{ storage: "manager" }, { storage: "envelope" }] as const;

/** As a supervisor does it: a start in the storm may find the manager away for all of its time, and says so. */
async function restarted(
  home: string,
  environment: Readonly<Record<string, string>>,
): Promise<BrokerProcess> {
  for (let tries = 1; ; tries++)
    try {
      return await spawnBroker(home, environment);
    } catch (error) {
      if (tries === STARTS_MAX || !/cannot be reached/.test(String(error))) throw error;
    }
}

type Acknowledged = { readonly path: string; readonly version: number; readonly value: string };

/** What was acknowledged, and what a caller had asked to be destroyed, whether or not that was answered. */
type Record_ = {
  readonly written: Acknowledged[];
  readonly ended: Set<string>;
  readonly purged: Set<string>;
  kills: number;
};

/** Two brokers, each with a cloud and a database of its own: the one starts while the other works. */
const LANES = 2;

/** Kills at `kills` random points in all. @returns how many there were, and what was acknowledged, for the test to judge */
export async function surviveKills(open: () => Promise<Cloud>, kills: number, seed: number) {
  const lanes = Array.from({ length: LANES }, async (_, lane) => {
    const cloud = await open();
    try {
      return await killAgainAndAgain(cloud, kills / LANES, seed + lane);
    } finally {
      await cloud.close();
    }
  });
  // Where one fails, the other has its broker ended before that is told.
  await Promise.allSettled(lanes);
  const records = await Promise.all(lanes);
  return {
    kills: records.reduce((sum, record) => sum + record.kills, 0),
    written: records.flatMap((record) => record.written),
  };
}

async function killAgainAndAgain(cloud: Cloud, kills: number, seed: number): Promise<Record_> {
  const database = await createDatabase();
  const home = await newHome();
  const random = mulberry(seed);
  const environment = { ...cloud.environment, DATABASE_URL: database.url, COFFER_RATE_LIMIT: "1000000" };
  const record: Record_ = { written: [], ended: new Set(), purged: new Set(), kills: 0 };
  let broker = await spawnBroker(home.path, environment);
  try {
    const admin = await broker.admin();
    const organization = await made(admin.post("/organizations", { body: { name: "acme" } }));
    const made_ = await made(
      admin.post(`/organizations/${organization.id}/projects`, { body: { name: "p" } }),
    );
    const work = { admin, project: made_.id as string, cloud, random, record };
    cloud.fake.storm({ seed, probability: 0.1, kinds: ["throttle", "reset", "cut_off", "status"] });
    while (record.kills < kills) {
      await killUnderLoad(broker, { ...work, admin: client(broker.url, admin.token) });
      record.kills += 1;
      await timePasses(database.url);
      broker = await restarted(home.path, environment);
    }
    cloud.fake.storm(null);
    const api = client(broker.url, admin.token);
    await settled(api, work.project, cloud, database.url);
    await everythingIsThere(api, work.project, record);
    return record;
  } finally {
    cloud.fake.storm(null);
    await broker.killAll();
    await home.remove();
    await database.drop();
  }
}

type Work = {
  readonly admin: Api;
  readonly project: string;
  readonly cloud: Cloud;
  readonly random: () => number;
  readonly record: Record_;
};

async function killUnderLoad(broker: BrokerProcess, work: Work): Promise<void> {
  const { cloud, random } = work;
  const doomed = new AbortController();
  cloud.fake.forgetCalls();
  const writers = Array.from({ length: 3 }, (_, index) => untilKilled(doomed.signal, work, index));
  const after = Math.floor(random() * 30);
  // At a call to the manager, or within the millisecond after it, so that what follows a call is hit as well.
  await vi.waitFor(() => expect(cloud.fake.calls().length).toBeGreaterThan(after), {
    timeout: 30_000,
    interval: 1,
  });
  await new Promise((resolve) => setTimeout(resolve, random() * 4));
  doomed.abort();
  await broker.killAll();
  await Promise.all(writers);
}

async function untilKilled(doomed: AbortSignal, work: Work, lane: number): Promise<void> {
  for (let turn = 0; !doomed.aborted; turn++) {
    try {
      await act(work, lane, turn);
    } catch (error) {
      // The connection of a request under way ends with the broker.
      if (!doomed.aborted || !(error instanceof TypeError)) throw error;
    }
  }
}

async function act({ admin, project, random, record }: Work, lane: number, turn: number): Promise<void> {
  const owner = { type: "project", id: project };
  // Each lane has paths of its own, so that what it knows of them is all there is to know.
  const path = PATHS[lane * 4 + Math.floor(random() * 4)] ?? "";
  const dice = random();
  if (dice < 0.7) {
    const value = `${path} ${lane}.${turn}.${record.kills}`;
    const { status, body } = await admin.put(settingsUrl(owner, path), { body: { value } });
    if (status < 300) record.written.push({ path, version: body.version, value });
    else expect([503, 502, 409]).toContain(status);
  } else if (dice < 0.8) {
    const last = record.written.findLast((each) => each.path === path);
    if (last === undefined || last.version < 2) return;
    const version = String(last.version - 1);
    record.ended.add(`${path}#${version}`);
    await admin.delete(settingsUrl(owner, path, { version }, "/settings/versions"));
  } else if (dice < 0.84) {
    record.purged.add(path);
    for (const each of record.written) if (each.path === path) record.ended.add(`${path}#${each.version}`);
    await admin.delete(settingsUrl(owner, path, { purge: "true" }));
  } else if (dice < 0.92) {
    const at = `/projects/${project}/manager`;
    await admin.put(at, { body: PLACES[Math.floor(random() * PLACES.length)] });
    await admin.post(`${at}/migrate`);
  }
}

/** Leases of who is dead run out, and what was put off is due. */
async function timePasses(databaseUrl: string): Promise<void> {
  const db = new pg.Client({ connectionString: databaseUrl });
  await db.connect();
  await db.query(
    "UPDATE managed_secrets SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL",
  );
  await db.query("UPDATE managed_secrets SET next_try_at = NULL");
  await db.query("UPDATE moves SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL");
  await db.end();
}

/** The sweeper has done its work: the manager holds what the database points at, and nothing else. */
async function settled(api: Api, project: string, cloud: Cloud, databaseUrl: string) {
  await vi.waitFor(
    async () => {
      await timePasses(databaseUrl);
      const { migration } = (await api.get(`/projects/${project}/manager`)).body;
      expect(migration.state).not.toBe("running");
      expect(idsIn(cloud)).toEqual(await pointedAt(databaseUrl));
    },
    { timeout: 40_000, interval: 500 },
  );
}

/** Every acknowledged write reads back, but for what a caller asked to be destroyed. */
async function everythingIsThere(api: Api, project: string, { written, ended }: Record_): Promise<void> {
  const owner = { type: "project", id: project };
  for (const { path, version, value } of written) {
    const answer = await api.get(settingsUrl(owner, path, { version: String(version) }, "/settings/value"));
    if (ended.has(`${path}#${version}`)) expect([200, 404, 410]).toContain(answer.status);
    else
      expect({ path, version, status: answer.status, value: answer.body.value }).toEqual({
        path,
        version,
        status: 200,
        value,
      });
  }
}

/** A small generator of numbers from 0 to below 1: the same seed, the same numbers. */
function mulberry(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
