// Writes that wait share a commit: over real HTTP, with what is in the database as the witness. Members fail singly,
// rights are those at the lock, and what is acknowledged is there with its event and its outbox row.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";

let broker: TestBroker;
let second: TestBroker;
let world: World;
let driver: pg.Pool;

beforeAll(async () => {
  broker = await startBroker({ environment: { COFFER_QUOTA_SETTINGS: "150" } });
  second = await startBroker({ beside: broker });
  world = await furnish(broker);
  driver = new pg.Pool({ connectionString: broker.databaseUrl, max: 4 });
  driver.on("error", () => undefined);
  // The owner's data key is made by the first of all.
  await made(put("first", "1"));
});
afterAll(async () => {
  await driver.end();
  await second.close();
  await broker.close();
});

const path = (name: string): string => `secret/Custom/${name}`;
const put = (
  name: string,
  value: string,
  { api = world.writer.api, id = name, owner = world.project, headers = {} } = {},
) =>
  api.put(settingsUrl(owner, path(name)), { body: { value }, headers: { "x-request-id": id, ...headers } });
const valueOf = async (name: string) =>
  (await world.keeper.api.get(settingsUrl(world.project, path(name), {}, "/settings/value"))).body;

/** What became of each request, as the audit log has it. */
async function outcomesOf(ids: readonly string[]): Promise<Map<string, string>> {
  const { rows } = await driver.query(
    "SELECT request_id, outcome FROM audit_events WHERE request_id = ANY ($1)",
    [ids],
  );
  return new Map(rows.map((row) => [row.request_id, row.outcome]));
}

/** The transaction that last wrote each setting. (The log's rows are written once more, to get their positions.) */
async function commitsOf(names: readonly string[], owner = world.project): Promise<Map<string, string>> {
  const { rows } = await driver.query(
    "SELECT path, xmin::text AS commit FROM settings WHERE owner_id = $1 AND path = ANY ($2)",
    [owner.id, names.map(path)],
  );
  return new Map(rows.map((row) => [row.path, row.commit]));
}

/** Holds what every write holds, so that those who come meanwhile all wait. */
async function holdWrites() {
  const holder = await driver.connect();
  await holder.query("BEGIN");
  await holder.query("SELECT pg_advisory_xact_lock(4853201177)");
  return async (): Promise<void> => {
    await holder.query("COMMIT");
    holder.release();
  };
}

async function untilWaiting(pattern: string): Promise<void> {
  for (;;) {
    const { rows } = await driver.query(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1`,
      [pattern],
    );
    if (rows.length > 0) return;
  }
}

test("writers at once share commits; each one's setting, event and outbox row are in one", async () => {
  const names = Array.from({ length: 60 }, (_, n) => `many-${n}`);
  const answers = await Promise.all(names.map((name) => put(name, `value of ${name}`)));
  expect(answers.map(({ status }) => status)).toEqual(names.map(() => 201));
  expect([...(await outcomesOf(names)).values()]).toEqual(names.map(() => "allowed"));
  const commits = await commitsOf(names);
  expect(commits.size).toBe(names.length);
  expect(new Set(commits.values()).size).toBeLessThan(names.length / 2);

  const { rows } = await driver.query(
    `SELECT s.path, s.xmin::text AS setting, v.xmin::text AS version, l.xmin::text AS ledger, l.last_version
     FROM settings s JOIN setting_versions v ON v.setting_id = s.id JOIN path_ledger l ON l.owner_id = s.owner_id AND l.path = s.path
     WHERE s.path LIKE 'secret/Custom/many-%'`,
  );
  expect(rows).toHaveLength(names.length);
  for (const row of rows) {
    const commit = commits.get(row.path);
    expect([row.setting, row.version, row.ledger, row.last_version]).toEqual([commit, commit, commit, 1]);
  }
  const told = await driver.query(
    "SELECT path FROM change_events WHERE kind = 'setting.created' AND path LIKE 'secret/Custom/many-%'",
  );
  expect(told.rows).toHaveLength(names.length);
  expect(new Set(told.rows.map((row) => row.path))).toEqual(new Set(names.map(path)));
  const values = await Promise.all(names.map(valueOf));
  expect(values.map(({ value }) => value)).toEqual(names.map((name) => `value of ${name}`));
});

test("PATCH and DELETE share too, and so do writes of different owners", async () => {
  const names = Array.from({ length: 20 }, (_, n) => `many-${n}`);
  const { keeper, owner, organization, project } = world;
  const answers = await Promise.all([
    ...names.map((name, n) =>
      keeper.api.patch(settingsUrl(project, path(name)), {
        body: { description: `of ${n}` },
        headers: { "x-request-id": `patch-${name}` },
      }),
    ),
    ...names.map((_, n) =>
      keeper.api.delete(settingsUrl(project, path(`many-${20 + n}`)), {
        headers: { "x-request-id": `delete-${n}` },
      }),
    ),
    ...names.map((name) => put(name, "1", { api: owner.api, owner: organization, id: `org-${name}` })),
  ]);
  expect(answers.every(({ status }) => status < 300)).toBe(true);
  const ids = names.flatMap((name, n) => [`patch-${name}`, `delete-${n}`, `org-${name}`]);
  expect([...(await outcomesOf(ids)).values()]).toEqual(ids.map(() => "allowed"));
  const commits = [
    ...(await commitsOf([...names, ...names.map((_, n) => `many-${20 + n}`)])).values(),
    ...(await commitsOf(names, organization)).values(),
  ];
  expect(commits).toHaveLength(60);
  expect(new Set(commits).size).toBeLessThan(30);
  expect((await keeper.api.get(settingsUrl(project, path("many-3")))).body.settings[0].description).toBe(
    "of 3",
  );
  expect((await keeper.api.get(settingsUrl(project, path("many-23")))).body.settings).toEqual([]);
});

test("members fail singly: a precondition, no right, a path somebody has, a quota that is full", async () => {
  await made(put("locked", "1", { id: "before" }));
  const holder = await driver.connect();
  await holder.query("BEGIN");
  await holder.query("SELECT 1 FROM path_ledger WHERE path = $1 AND owner_id = $2 FOR UPDATE", [
    path("locked"),
    world.project.id,
  ]);
  const full = { type: "user", id: world.owner.id };
  await driver.query(
    `INSERT INTO settings SELECT $1, gen_random_uuid(), 'user', $1, 'secret/Custom/filler-' || n, type, NULL, '{}', 1, 1, current_since,
       NULL, NULL, created_at, created_by, updated_at, updated_by, NULL, NULL, NULL, mac
     FROM settings, generate_series(1, 150) n WHERE path = $2 AND owner_id = $3`,
    [world.owner.id, path("first"), world.project.id],
  );

  const release = await holdWrites();
  const good = Array.from({ length: 12 }, (_, n) => `mate-${n}`);
  // The first takes the transaction that waits, alone or not; the others share those after it.
  const leader = put("leader", "1");
  await untilWaiting("%pg_advisory_xact_lock_shared%");
  const mates = good.map((name) => put(name, "1"));
  const others = [
    put("many-1", "other", { id: "stale", headers: { "if-match": '"nothing-of-ours"' } }),
    put("many-2", "other", { id: "reader", api: world.reader.api }),
    put("many-3", "other", { id: "stranger", api: world.stranger.api }),
    put("over", "1", { id: "over", owner: full, api: world.owner.api }),
  ];
  let isLocked = true;
  const locked = put("locked", "2", { id: "locked" }).then((answer) => {
    expect(isLocked).toBe(false);
    return answer;
  });
  await new Promise((done) => setTimeout(done, 300));
  await release();

  const done = await Promise.all([leader, ...mates]);
  expect(done.every(({ status }) => status === 201)).toBe(true);
  expect((await Promise.all(others)).map(({ status }) => status)).toEqual([412, 403, 403, 409]);
  isLocked = false;
  await holder.query("COMMIT");
  holder.release();
  expect((await locked).body).toMatchObject({ version: 2 });

  expect(new Set((await commitsOf(good)).values()).size).toBeLessThan(good.length / 2);
  const refused = ["stale", "reader", "stranger", "over"];
  const outcomes = await outcomesOf([...refused, ...good, "locked"]);
  expect(refused.map((id) => outcomes.get(id))).toEqual(["failed", "denied", "denied", "failed"]);
  expect([...good, "locked"].every((id) => outcomes.get(id) === "allowed")).toBe(true);
  expect(await valueOf("many-1")).toMatchObject({ value: "value of many-1", version: 1 });
  const { rows } = await driver.query("SELECT 1 FROM settings WHERE path = $1", [path("over")]);
  expect(rows).toEqual([]);
});

test("who is refused among mates that commit leaves no path behind", async () => {
  const names = Array.from({ length: 40 }, (_, n) => `kept-or-not-${n}`);
  const isRefused = (n: number): boolean => n % 2 === 1;
  const answers = await Promise.all(
    names.map((name, n) => put(name, "value", isRefused(n) ? { headers: { "if-match": '"7"' } } : {})),
  );
  expect(answers.map(({ status }) => status)).toEqual(names.map((_, n) => (isRefused(n) ? 412 : 201)));
  const commits = await commitsOf(names);
  expect(new Set(commits.values()).size).toBeLessThan(commits.size);
  const { rows } = await driver.query("SELECT path FROM path_ledger WHERE path LIKE '%kept-or-not-%'");
  const kept = names.filter((_, n) => !isRefused(n));
  expect(new Set(rows.map((row) => row.path))).toEqual(new Set(kept.map(path)));
});

test("a right taken before the lock is had is a refusal, among mates who keep theirs", async () => {
  const { owner, project } = world;
  const leaver = await world.worker("write");
  await made(put("leaver", "1", { api: leaver.api, id: "leaver-before" }));
  const release = await holdWrites();
  const leader = put("lead", "1");
  await untilWaiting("%pg_advisory_xact_lock_shared%");
  const mate = put("stays", "1");
  const refused = put("leaver", "2", { api: leaver.api, id: "leaver-after" });
  await new Promise((done) => setTimeout(done, 200));
  // Straight in the database: over HTTP this would wait as well.
  await driver.query("DELETE FROM memberships WHERE owner_id = $1 AND principal_id = $2", [
    project.id,
    leaver.id,
  ]);
  await release();
  expect((await refused).status).toBe(403);
  expect([(await leader).status, (await mate).status]).toEqual([201, 201]);
  expect((await outcomesOf(["leaver-after"])).get("leaver-after")).toBe("denied");
  expect(
    (await owner.api.get(settingsUrl(project, path("leaver"), {}, "/settings/value"))).body.version,
  ).toBe(1);
});

test("two replicas write the same paths: no version is given twice, and no update under If-Match is lost", async () => {
  const names = ["hot-0", "hot-1", "hot-2"];
  const apis = [world.keeper.api, second.as(world.keeper.api.token)];
  const writes = Array.from({ length: 90 }, (_, n) => ({
    name: names[n % 3] ?? "",
    n,
    api: apis[n % 2] ?? world.keeper.api,
  }));
  const answers = await Promise.all(
    writes.map(async ({ name, n, api }) => ({
      name,
      n,
      answer: await put(name, `${n}`, { api, id: `hot-${n}` }),
    })),
  );
  expect(answers.every(({ answer }) => answer.status < 300)).toBe(true);
  for (const name of names) {
    const versions = answers
      .filter((each) => each.name === name)
      .map(({ answer }) => answer.body.version as number);
    expect(versions.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, n) => n + 1));
    const last = answers.find((each) => each.name === name && each.answer.body.version === 30);
    expect(await valueOf(name)).toMatchObject({ value: String(last?.n), version: 30 });
  }
  expect((await outcomesOf(writes.map(({ n }) => `hot-${n}`))).size).toBe(90);

  const { headers } = await world.keeper.api.get(
    settingsUrl(world.project, path("hot-0"), {}, "/settings/value"),
  );
  const tag = headers.get("etag") ?? "";
  const raced = await Promise.all(
    Array.from({ length: 10 }, (_, n) =>
      put("hot-0", `race ${n}`, {
        api: apis[n % 2] ?? world.keeper.api,
        id: `race-${n}`,
        headers: { "if-match": tag },
      }),
    ),
  );
  const statuses = raced.map(({ status }) => status);
  expect(statuses.filter((status) => status === 200)).toHaveLength(1);
  expect(statuses.filter((status) => status === 412)).toHaveLength(9);
});

test("a shared transaction whose connection is ended fails as a whole, and leaves nothing half", async () => {
  const release = await holdWrites();
  const leader = put("ended-0", "1");
  await untilWaiting("%pg_advisory_xact_lock_shared%");
  await driver.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND query LIKE '%pg_advisory_xact_lock_shared%' AND pid <> pg_backend_pid()`,
  );
  expect((await leader).status).toBe(503);
  await release();
  const { rows } = await driver.query("SELECT 1 FROM path_ledger WHERE path = $1", [path("ended-0")]);
  expect(rows).toEqual([]);
  expect((await put("ended-0", "1", { id: "ended-again" })).status).toBe(201);
});
