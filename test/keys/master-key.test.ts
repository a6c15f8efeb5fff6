// The master key replaced, step by step as docs/operations.md has it: two replicas, restarted one after the other, under
// reads and writes of which none may fail. Every wrong step refuses, and says why.
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, type Api, client, made, settingsUrl } from "../harness/broker.ts";
import { type TestDatabase, createDatabase } from "../harness/postgres.ts";
import { type BrokerProcess, coffer, newHome, spawnBroker, spawnCoffer } from "../harness/process.ts";
import { until } from "../harness/until.ts";
import { LOAD_PAUSE_MS, type Stock, holdAt, query, seen, stock } from "./kit.ts";

const REWRAP = ["keys", "rewrap", "--grace-seconds", "0"];
const latest = randomBytes(32).toString("hex");
const [OLD, NEW] = [randomBytes(32).toString("hex"), randomBytes(32).toString("base64")];
const WORKERS = 4;

let home: Awaited<ReturnType<typeof newHome>>;
let database: TestDatabase;
let token: string;
let all: Stock;
let clientToken: string;
const replicas: BrokerProcess[] = [];
/** Those that requests go to: one that is about to stop is taken out before it does, as a proxy would. */
let serving: BrokerProcess[] = [];

type Keys = Readonly<Record<string, string>>;
const withOld: Keys = { COFFER_MASTER_KEY: OLD };
const withNew: Keys = { COFFER_MASTER_KEY: NEW };
let withBoth: Keys;

const environment = (keys: Keys) => ({
  DATABASE_URL: database.url,
  COFFER_RATE_LIMIT: "1000000",
  COFFER_HOME: join(home.path, "cli"),
  ...keys,
});
const start = (name: string, keys: Keys) =>
  spawnBroker(join(home.path, name), { ...environment(keys), COFFER_HOME: join(home.path, name) });
const refusal = (keys: Keys) =>
  coffer(["serve"], { ...environment(keys), COFFER_HOME: join(home.path, "refused"), COFFER_PORT: "0" });

beforeAll(async () => {
  home = await newHome();
  database = await createDatabase();
  const file = join(home.path, "next.key");
  await writeFile(file, NEW, { mode: 0o600 });
  withBoth = { COFFER_MASTER_KEY: OLD, COFFER_MASTER_KEY_NEXT_FILE: file };
  const first = await start("one", withOld);
  const admin = await first.admin();
  token = admin.token;
  all = await stock({ url: first.url, admin, as: (other) => first.as(other) });
  clientToken = all.world.owner.api.token;
  replicas.push(first, await start("two", withOld));
  serving = [...replicas];
});
afterAll(async () => {
  await Promise.all(replicas.map((each) => each.stop()));
  await database.drop();
  await home.remove();
});

/** How many requests are under way at each replica. */
const underWay = new Map<string, number>();

/** As behind a load balancer: a replica is asked nothing more, and answers what it was asked, before it is stopped. */
async function restartEach(keys: Keys): Promise<void> {
  for (const [index, name] of ["one", "two"].entries()) {
    const before = replicas[index];
    serving = serving.filter((each) => each !== before);
    await until("the replica's requests are over", () => !underWay.get(before?.url ?? ""));
    expect((await before?.stop())?.code).toBe(0);
    const after = await start(name, keys);
    replicas[index] = after;
    serving = [...serving, after];
  }
}

/** Reads and writes at whichever replica serves; every answer must be a success, and every value the last written. */
async function underLoad(work: () => Promise<void>): Promise<number> {
  const state = { over: false, requests: 0 };
  const load = Array.from({ length: WORKERS }, async (_, who) => {
    const path = `secret/Custom/own${who}`;
    for (let turn = 0; !state.over; turn++) {
      const asking = async (ask: (api: Api) => Promise<Answer>): Promise<Answer> => {
        const [first, last = first] = serving;
        const url = (turn % 2 === 0 ? first : last)?.url ?? "";
        const count = (by: number): void => void underWay.set(url, (underWay.get(url) ?? 0) + by);
        count(1);
        return ask(client(url, clientToken)).finally(() => count(-1));
      };
      const value = `value ${turn}`;
      const written = await asking((api) =>
        api.put(settingsUrl(all.world.project, path), { body: { value } }),
      );
      expect([written.status < 300, written.text]).toEqual([true, written.text]);
      const read = await asking((api) =>
        api.get(settingsUrl(all.world.project, path, {}, "/settings/value")),
      );
      expect([read.status, read.body.value]).toEqual([200, value]);
      const place = all.places[turn % all.places.length];
      if (place === undefined) throw new Error("there is a place");
      const old = await asking((api) => api.get(settingsUrl(place.owner, place.path, { decrypt: "true" })));
      expect([old.status, old.body.settings?.[0]?.decrypted]).toEqual([200, true]);
      state.requests += 3;
      await pause(LOAD_PAUSE_MS);
    }
  });
  const failed = Promise.all(load);
  // A failure is told at once, and not when all is over.
  await Promise.race([work(), failed.then(() => undefined)]).finally(() => {
    state.over = true;
  });
  await failed;
  return state.requests;
}

const checks = async () => {
  const [row] = await query(database.url, "SELECT key_check, previous_key_check FROM instance");
  return row ?? {};
};

let earlierAuditKey: string;

test("the whole of it, with two replicas under load: no request fails, and no wrong step does harm", async () => {
  const before = await seen(client(replicas[0]?.url ?? "", clientToken), all);
  const firstChecks = await checks();
  earlierAuditKey = (await coffer(["audit", "key"], environment(withOld))).stdout.trim();
  const requests = await underLoad(async () => {
    const early = await coffer(["keys", "replace-master"], environment(withOld));
    expect([early.code, early.stderr]).toEqual([1, expect.stringContaining("COFFER_MASTER_KEY_NEXT_FILE")]);
    const wrong = await refusal(withNew);
    expect([wrong.code, wrong.stderr]).toEqual([
      1,
      expect.stringContaining("not the one that this database"),
    ]);

    await restartEach(withBoth);
    // One more replica, which nobody writes to until all is over.
    const quiet = await start("quiet", withBoth);
    expect(await checks()).toEqual(firstChecks);
    const flip = await coffer(["keys", "replace-master"], environment(withBoth));
    expect([flip.code, flip.stderr]).toEqual([0, ""]);
    expect((await checks())["previous_key_check"]).toEqual(firstChecks["key_check"]);

    for (const keys of [withOld, withNew]) {
      const refused = await refusal(keys);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("is being replaced")]);
      expect(refused.stderr).toContain("coffer keys rewrap");
    }
    const twice = await coffer(["keys", "replace-master"], environment(withBoth));
    expect([twice.code, twice.stderr]).toEqual([1, expect.stringContaining("in force already")]);

    for (const step of ["UPDATE OF sealed ON signing_keys", "UPDATE OF sealed ON key_encryption_keys"]) {
      const place = await holdAt(database.url, step);
      const process = spawnCoffer(REWRAP, environment(withBoth));
      await place.reached(process.ended);
      await process.kill();
      await place.end();
    }
    const rewrap = await coffer(REWRAP, environment(withBoth));
    expect([rewrap.code, rewrap.stderr]).toEqual([0, ""]);
    expect(rewrap.stdout).toContain("Nothing is left under the earlier master key");
    expect((await checks())["previous_key_check"]).toBeNull();
    const body = { settings: [{ path: "secret/Custom/imported", value: "late" }] };
    const url = settingsUrl(all.world.project, undefined, {}, "/settings/import");
    await made(client(quiet.url, clientToken).post(url, { body }));
    expect((await quiet.stop()).code).toBe(0);

    await restartEach(withNew);
    const imported = settingsUrl(all.world.project, "secret/Custom/imported", {}, "/settings/value");
    expect((await client(replicas[0]?.url ?? "", clientToken).get(imported)).body.value).toBe("late");
    const late = await refusal(withOld);
    expect([late.code, late.stderr]).toEqual([1, expect.stringContaining("not the one that this database")]);
  });
  expect(requests).toBeGreaterThan(0);
  expect(await seen(client(replicas[0]?.url ?? "", clientToken), all)).toEqual(before);
  const { keys } = await made(client(replicas[1]?.url ?? "", "").get("/.well-known/jwks.json"));
  expect(keys.length).toBeGreaterThan(0);
  const { events } = await made(
    client(replicas[0]?.url ?? "", token).get("/audit?owner_type=instance&action=housekeep&limit=100"),
  );
  const changes = events.map(({ details }: { details: { change: string } }) => details.change);
  expect(changes).toEqual(
    expect.arrayContaining(["master_key_named", "master_key_replaced", "signing_keys_resealed"]),
  );
}, 180_000);

test("the audit log of before verifies under the new key, for whoever names the earlier key, and else does not", async () => {
  const verify = (keys: Keys) => coffer(["audit", "verify"], environment(keys));
  const named = await verify({ ...withNew, COFFER_AUDIT_EARLIER_KEYS: earlierAuditKey });
  expect([named.code, named.stderr]).toEqual([0, ""]);
  const unnamed = await verify(withNew);
  expect(unnamed.code).toBe(1);
  expect(unnamed.stdout + unnamed.stderr).toContain("seal_forged");
});

test("an altered row is not signed under the new key, and does not keep the old key in use, whatever kills the rewrap", async () => {
  const next = latest;
  const both = { COFFER_MASTER_KEY: NEW, COFFER_MASTER_KEY_NEXT: next };
  const { project } = all.world;
  await query(
    database.url,
    "UPDATE settings SET expires_at = now() + interval '1 day' WHERE path = 'secret/Custom/s1' AND owner_id = $1",
    [project.id],
  );
  const macs = `SELECT s.mac AS setting, v.mac FROM settings s JOIN setting_versions v ON v.setting_id = s.id
    WHERE s.path = 'secret/Custom/s1' AND s.owner_id = $1`;
  const before = await query(database.url, macs, [project.id]);
  await restartEach(both);
  expect((await coffer(["keys", "replace-master"], environment(both))).code).toBe(0);
  for (const step of [
    "UPDATE OF mac ON settings",
    "UPDATE OF mac ON setting_versions",
    "UPDATE OF previous_key_check ON instance",
  ]) {
    const place = await holdAt(database.url, step);
    const process = spawnCoffer(REWRAP, environment(both));
    await place.reached(process.ended);
    await process.kill();
    await place.end();
  }
  const rewrap = await coffer(REWRAP, environment(both));
  expect([rewrap.code, rewrap.stderr]).toEqual([1, expect.stringContaining("secret/Custom/s1 (damaged)")]);
  expect(rewrap.stdout).toContain("Nothing is left under the earlier master key");
  expect(await query(database.url, macs, [project.id])).toEqual(before);
  await restartEach({ COFFER_MASTER_KEY: next });
  const api = client(replicas[0]?.url ?? "", clientToken);
  const { status } = await api.get(settingsUrl(project, "secret/Custom/s1", {}, "/settings/value"));
  expect(status).toBe(502);
  const whole = await api.get(settingsUrl(project, "secret/Custom/s2", {}, "/settings/value"));
  expect(whole.status).toBe(200);
}, 120_000);

test("a replica that was not given the new key writes nothing once that is in force", async () => {
  const { key_check } = await checks();
  await query(database.url, "UPDATE instance SET key_check = $1", [randomBytes(32)]);
  const api = client(replicas[0]?.url ?? "", clientToken);
  const { project } = all.world;
  const refused = await api.put(settingsUrl(project, "secret/Custom/s2"), { body: { value: "new" } });
  expect([refused.status, refused.body.code]).toEqual([503, "unavailable"]);
  await query(database.url, "UPDATE instance SET key_check = $1", [key_check]);
});

test("an altered webhook keeps the earlier key in use, and the rewrap says so until it is gone", async () => {
  const [was, next] = [latest, randomBytes(32).toString("hex")];
  const both = { COFFER_MASTER_KEY: was, COFFER_MASTER_KEY_NEXT: next };
  const hooks = settingsUrl(all.world.project, undefined, {}, "/webhooks");
  const body = { url: "https://hooks.example.com/coffer", events: ["setting.created"] };
  const { id } = await made(client(replicas[0]?.url ?? "", clientToken).post(hooks, { body }));
  await query(
    database.url,
    "UPDATE webhooks SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) WHERE id = $1",
    [id],
  );
  expect((await coffer(["keys", "replace-master"], environment(both))).code).toBe(0);
  const told = await coffer(REWRAP, environment(both));
  expect([told.code, told.stderr]).toEqual([1, expect.stringContaining("1 rows of webhooks")]);
  expect(told.stdout).not.toContain("Nothing is left");
  expect((await checks())["previous_key_check"]).not.toBeNull();
  await query(database.url, "DELETE FROM webhooks WHERE id = $1", [id]);
  const after = await coffer(REWRAP, environment(both));
  expect(after.stdout).toContain("Nothing is left under the earlier master key");
}, 60_000);
