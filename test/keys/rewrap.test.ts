// `coffer keys rewrap`: values move to the current keys while brokers serve, whatever kills it, and the old keys go.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type TestBroker, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { coffer, spawnCoffer } from "../harness/process.ts";
import {
  type Stock,
  environmentOf,
  holdAt,
  keysIn,
  query,
  rewrapsIn,
  seen,
  stock,
  underReads,
} from "./kit.ts";

const REWRAP = ["keys", "rewrap", "--grace-seconds", "0"];
const DONE = "Nothing is left under old keys.\n";
vi.setConfig({ testTimeout: 120_000 });

let broker: TestBroker;
let all: Stock;
let environment: Readonly<Record<string, string>>;

beforeEach(async () => {
  broker = await startBroker();
  all = await stock(broker);
  environment = environmentOf(broker);
});
afterEach(() => broker.close());

const rotate = async () => expect((await coffer(["keys", "rotate"], environment)).code).toBe(0);

/** Data keys and KEKs that were there before, and still are. */
async function leftOf(before: Awaited<ReturnType<typeof keysIn>>): Promise<string[]> {
  const now = await keysIn(broker.databaseUrl);
  return [...before.data, ...before.keks].filter((id) => [...now.data, ...now.keks].includes(id));
}

test("moves all values under read load, with no failed read, nothing that a client could tell, and the old keys gone", async () => {
  const other = await startBroker({ beside: broker });
  const { api } = all.world.owner;
  const before = { keys: await keysIn(broker.databaseUrl), seen: await seen(api, all) };
  await rotate();
  const reads = await underReads([api, other.as(api.token), api], all, async () => {
    const { code, stdout, stderr } = await coffer(REWRAP, environment);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain(`rewrapped ${all.settings} of ${all.settings} settings\n`);
    expect(stdout).toContain("removed 3 data keys and 2 key-encryption keys\n");
    expect(stdout.endsWith(DONE)).toBe(true);
  });
  expect(reads).toBeGreaterThan(0);
  expect(await leftOf(before.keys)).toEqual([]);
  expect(await seen(api, all)).toEqual(before.seen);
  const fresh = await startBroker({ beside: broker });
  expect(await seen(fresh.as(api.token), all)).toEqual(before.seen);
  await made(api.post(settingsUrl(all.world.project, "secret/Custom/deleted", {}, "/settings/restore")));
  const restored = settingsUrl(all.world.project, "secret/Custom/deleted", {}, "/settings/value");
  expect((await fresh.as(api.token).get(restored)).body.value).toBe("deleted");
  await fresh.close();
  await other.close();
});

test("run again has nothing to do and says so, and rewraps nothing that is current", async () => {
  const { code, stdout } = await coffer(REWRAP, environment);
  expect([code, stdout]).toEqual([0, `removed 0 data keys and 0 key-encryption keys\n${DONE}`]);
  expect(await rewrapsIn(broker.databaseUrl)).toEqual([]);
});

test("killed in the middle of every kind of step, it loses nothing, and the next one goes on", async () => {
  const { api } = all.world.owner;
  const before = { keys: await keysIn(broker.databaseUrl), seen: await seen(api, all) };
  await rotate();
  const steps = [
    "INSERT ON key_encryption_keys",
    "INSERT ON data_keys",
    "UPDATE OF mac ON setting_versions",
    "UPDATE OF unused_at ON data_keys",
    "DELETE ON data_keys",
    "DELETE ON key_encryption_keys",
  ];
  for (const step of steps) {
    const place = await holdAt(broker.databaseUrl, step);
    const process = spawnCoffer(REWRAP, environment);
    await place.reached(process.ended);
    expect((await process.kill()).code).toBe(null);
    await place.end();
    expect([step, await seen(api, all)]).toEqual([step, before.seen]);
  }
  const { code, stdout } = await coffer(REWRAP, environment);
  expect([code, stdout.endsWith(DONE)]).toEqual([0, true]);
  expect(await leftOf(before.keys)).toEqual([]);
  const fresh = await startBroker({ beside: broker });
  expect(await seen(fresh.as(api.token), all)).toEqual(before.seen);
  await fresh.close();
});

test("three that run at once, while others write, do each setting once, and end with nothing left", async () => {
  const before = await keysIn(broker.databaseUrl);
  await rotate();
  const { owner, project } = all.world;
  const state = { isOver: false };
  const written: string[] = [];
  const writer = (async () => {
    for (let turn = 0; !state.isOver; turn++) {
      const value = `written ${turn}`;
      await made(owner.api.put(settingsUrl(project, "secret/Custom/s2"), { body: { value } }));
      written.push(value);
    }
  })();
  const ended = await Promise.all([1, 2, 3].map(() => coffer(REWRAP, environment)));
  state.isOver = true;
  await writer;
  expect(ended.map(({ code, stderr }) => [code, stderr])).toEqual([
    [0, ""],
    [0, ""],
    [0, ""],
  ]);
  // The one that is written to may be looked at again; it has as many transactions as it took.
  const times = (await rewrapsIn(broker.databaseUrl)).toSorted((a, b) => a - b);
  expect(times.slice(0, -1)).toEqual(times.slice(1).map(() => 1));
  expect(await leftOf(before)).toEqual([]);
  const { versions } = await made(
    owner.api.get(settingsUrl(project, "secret/Custom/s2", {}, "/settings/versions")),
  );
  expect(versions).toHaveLength(3 + written.length);
});

test("a data key that nothing is under stays for its grace, and goes when that is over", async () => {
  const before = await keysIn(broker.databaseUrl);
  await rotate();
  const process = spawnCoffer(["keys", "rewrap", "--grace-seconds", "3600"], environment);
  await process.said("old keys go at");
  await process.kill();
  expect(await leftOf(before)).toHaveLength(before.data.length + before.keks.length);
  await query(broker.databaseUrl, "UPDATE data_keys SET unused_at = unused_at - interval '1 hour'");
  const { code } = await coffer(["keys", "rewrap", "--grace-seconds", "3600"], environment);
  expect(code).toBe(0);
  expect(await leftOf(before)).toEqual([]);
});

test("a row that was altered is neither moved nor signed anew: it is named, and the exit code is 1", async () => {
  const { owner, project } = all.world;
  await query(
    broker.databaseUrl,
    "UPDATE settings SET expires_at = now() + interval '1 day' WHERE path = 'secret/Custom/s1' AND owner_id = $1",
    [project.id],
  );
  const row = `SELECT v.mac, v.data_key_id, v.sealed, s.mac AS setting FROM settings s
    JOIN setting_versions v ON v.setting_id = s.id WHERE s.path = 'secret/Custom/s1' AND s.owner_id = $1`;
  const before = await query(broker.databaseUrl, row, [project.id]);
  await rotate();
  const { code, stdout, stderr } = await coffer(REWRAP, environment);
  expect(code).toBe(1);
  expect(stderr).toContain(`not rewrapped: project/${project.id}/secret/Custom/s1 (damaged)`);
  expect(stdout).not.toContain(DONE);
  expect(await query(broker.databaseUrl, row, [project.id])).toEqual(before);
  const altered = await owner.api.get(settingsUrl(project, "secret/Custom/s1", {}, "/settings/value"));
  expect(altered.status).toBe(502);
  const whole = await owner.api.get(settingsUrl(project, "secret/Custom/s2", {}, "/settings/value"));
  expect(whole.status).toBe(200);
  expect((await keysIn(broker.databaseUrl)).data).toHaveLength(4);
});
