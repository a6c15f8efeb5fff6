// Replicas on one database: processes that start together on an empty one, see each other's writes at once, and agree
// on who may do what from one answer to the next. A replica with another key serves nothing.
import { randomBytes } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type Answer,
  type Api,
  type World,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { type TestDatabase, emptyDatabase } from "../harness/postgres.ts";
import { type BrokerProcess, coffer, newHome, spawnBroker } from "../harness/process.ts";

const ROUNDS = 25;
let home: Awaited<ReturnType<typeof newHome>>;
let database: TestDatabase;
let environment: Readonly<Record<string, string>>;
let one: BrokerProcess;
let other: BrokerProcess;
let admin: Api;
let world: World;

beforeAll(async () => {
  home = await newHome();
  database = await emptyDatabase();
  environment = {
    DATABASE_URL: database.url,
    COFFER_MASTER_KEY: randomBytes(32).toString("base64"),
    COFFER_RATE_LIMIT: "1000000",
  };
  [one, other] = (await Promise.all(
    ["one", "other"].map((name) => spawnBroker(join(home.path, name), environment)),
  )) as [BrokerProcess, BrokerProcess];
  const [token = ""] = await adminTokens();
  admin = client(one.url, token);
  world = await furnish({ url: one.url, admin, as: (token) => one.as(token) });
  await made(
    world.owner.api.put(settingsUrl(world.project, "secret/Custom/a"), { body: { value: "first" } }),
  );
});

afterAll(async () => {
  await Promise.all([one, other].map((each) => each.stop()));
  await database.drop();
  await home.remove();
});

async function adminTokens(): Promise<string[]> {
  const names = await readdir(home.path);
  const found = await Promise.all(
    names.map((name) => readFile(join(home.path, name, "admin.token"), "utf8").catch(() => "")),
  );
  return found.filter((text) => text !== "");
}

async function query(sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  const connection = new pg.Client({ connectionString: database.url });
  await connection.connect();
  try {
    return (await connection.query(sql, values)).rows;
  } finally {
    await connection.end();
  }
}

const LOAD_PAUSE_MS = 5;

/** Both replicas are kept busy with reads, every one of which must go well, while `work` goes on. */
async function underLoad(work: () => Promise<void>): Promise<void> {
  const state = { over: false };
  const url = settingsUrl(world.project, "secret/Custom/a", { decrypt: "true" });
  const load = [one, other, one, other].map(async (replica) => {
    const api = replica.as(world.writer.api.token);
    while (!state.over) {
      expect((await api.get(url)).status).toBe(200);
      await pause(LOAD_PAUSE_MS);
    }
  });
  try {
    await work();
  } finally {
    state.over = true;
    await Promise.all(load);
  }
}

test("that start together on an empty database apply the migrations once and make one admin", async () => {
  expect(await adminTokens()).toHaveLength(1);
  const known = (await readdir(new URL("../../prisma/migrations", import.meta.url))).filter(
    (name) => !name.includes("."),
  );
  const applied = await query("SELECT migration_name FROM _prisma_migrations ORDER BY 1");
  expect(applied.map((row) => row["migration_name"])).toEqual(known.toSorted());
  const [first] = await query(
    "SELECT (SELECT count(*)::int FROM principals WHERE admin) AS admins, (SELECT count(*)::int FROM instance) AS instances",
  );
  expect(first).toEqual({ admins: 1, instances: 1 });
  for (const replica of [one, other])
    expect((await replica.as(admin.token).get("/auth/me")).body.admin).toBe(true);
});

test("a third with another master key refuses to start and says why", async () => {
  const wrong = randomBytes(32).toString("hex");
  const { code, stdout, stderr } = await coffer(["serve"], {
    ...environment,
    COFFER_MASTER_KEY: wrong,
    COFFER_HOME: join(home.path, "third"),
    COFFER_PORT: "0",
  });
  expect(code).toBe(1);
  expect(stderr).toContain("The master key is not the one that this database was made with.");
  expect(stdout + stderr).not.toContain(wrong);
  expect(stdout).not.toContain("coffer is ready");
});

test("what one writes the other reads in its next answer", async () => {
  const { writer, project } = world;
  const [here, there] = [one.as(writer.api.token), other.as(writer.api.token)];
  await underLoad(async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const value = `value ${round}`;
      const [from, to] = round % 2 === 0 ? [here, there] : [there, here];
      const { version } = await made(from.put(settingsUrl(project, "secret/Custom/b"), { body: { value } }));
      const read = await to.get(settingsUrl(project, "secret/Custom/b", {}, "/settings/value"));
      expect(read.body).toMatchObject({ value, version });
    }
  });
});

test("a role taken away on one is refused by the other's very next answer, and one given is honoured", async () => {
  const { project, owner } = world;
  const worker = await world.worker(null);
  const here = one.as(owner.api.token);
  const there = other.as(worker.api.token);
  const read = (): Promise<Answer> =>
    there.get(settingsUrl(project, "secret/Custom/a", {}, "/settings/value"));
  const seat = `/projects/${project.id}/members/${worker.id}`;
  await underLoad(async () => {
    for (let round = 0; round < ROUNDS; round++) {
      await made(here.put(seat, { body: { role: "write" } }));
      expect((await read()).status).toBe(200);
      await made(here.put(seat, { body: { role: "read" } }));
      expect((await read()).status).toBe(403);
      await made(here.put(seat, { body: { role: "write" } }));
      expect((await read()).status).toBe(200);
      await made(here.delete(seat));
      expect((await read()).status).toBe(403);
    }
  });
});

test("a user disabled on one is refused by the other's very next answer", async () => {
  const { id, enrolment_code: code } = await made(admin.post("/users", { body: { name: "Una" } }));
  const { token } = await made(client(one.url, "").post("/auth/enrol", { body: { code } }));
  const there = other.as(token);
  await underLoad(async () => {
    for (let round = 0; round < ROUNDS; round++) {
      await made(admin.patch(`/users/${id}`, { body: { disabled: true } }));
      expect((await there.get("/auth/me")).status).toBe(401);
      await made(admin.patch(`/users/${id}`, { body: { disabled: false } }));
      expect((await there.get("/auth/me")).status).toBe(200);
    }
  });
});

test("a token revoked on one is refused by the other's very next answer, with its children", async () => {
  const here = one.as(world.owner.api.token);
  await underLoad(async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const parent = await made(here.post("/tokens", { body: { name: "parent" } }));
      const child = await made(one.as(parent.token).post("/tokens", { body: { name: "child" } }));
      for (const { token } of [parent, child])
        expect((await other.as(token).get("/auth/me")).status).toBe(200);
      await made(here.delete(`/tokens/${parent.id}`));
      for (const { token } of [child, parent])
        expect((await other.as(token).get("/auth/me")).status).toBe(401);
    }
  });
});

test("sweepers that run at once purge what is due once each, and nothing else", async () => {
  const first = await startBroker();
  const second = await startBroker({ beside: first });
  const pool = new pg.Client({ connectionString: first.databaseUrl });
  await pool.connect();
  try {
    const { owner, keeper, project } = await furnish(first);
    const paths = Array.from({ length: 30 }, (_, index) => `secret/Custom/s${index}`);
    for (const path of paths) {
      await made(owner.api.put(settingsUrl(project, path), { body: { value: path } }));
      await made(owner.api.delete(settingsUrl(project, path)));
    }
    const due = paths.slice(0, 24);
    await pool.query("UPDATE settings SET purge_at = now() - interval '1 second' WHERE path = ANY ($1)", [
      due,
    ]);
    const sweeps = [first, second, first, second].map((broker) => broker.service.broker.purgeDue(100));
    const purged = (await Promise.all(sweeps)).reduce((sum, each) => sum + each, 0);
    expect(purged).toBe(due.length);
    const { body } = await keeper.api.get(
      `/audit?owner_type=project&owner_id=${project.id}&action=housekeep`,
    );
    const named = body.events.flatMap((event: { settings: { path: string }[] }) =>
      event.settings.map(({ path }) => path),
    );
    expect(named.toSorted()).toEqual(due.toSorted());
    const left = await owner.api.get(settingsUrl(project, "secret/Custom", { include_deleted: "true" }));
    expect(left.body.settings.map(({ path }: { path: string }) => path)).toEqual(paths.slice(24).toSorted());
  } finally {
    await pool.end();
    await second.close();
    await first.close();
  }
});
