// `coffer keys rotate`: what is there stays readable, what is written from then on is under new keys, on all replicas.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { coffer } from "../harness/process.ts";
import { until } from "../harness/until.ts";
import { type Stock, environmentOf, keysIn, query, seen, stock } from "./kit.ts";

let one: TestBroker;
let other: TestBroker;
let all: Stock;

beforeAll(async () => {
  one = await startBroker();
  other = await startBroker({ beside: one });
  all = await stock(one);
});
afterAll(async () => {
  await other.close();
  await one.close();
});

/** The data key that a project's setting is under, with its generation and that of its KEK. */
async function keyOf(path: string) {
  const [row] = await query(
    one.databaseUrl,
    `SELECT d.id, d.generation, k.generation AS kek FROM settings s
      JOIN setting_versions v ON v.setting_id = s.id AND v.version = s.current_version
      JOIN data_keys d ON d.id = v.data_key_id JOIN key_encryption_keys k ON k.id = d.kek_id
      WHERE s.path = $1 AND s.owner_id = $2`,
    [path, all.world.project.id],
  );
  return row;
}

const put = (broker: TestBroker, path: string, value: string) =>
  made(broker.as(all.world.owner.api.token).put(settingsUrl(all.world.project, path), { body: { value } }));

test("a rotation leaves what is there as it is, and every next write is under a new key below a new KEK", async () => {
  const { api } = all.world.owner;
  const before = { keys: await keysIn(one.databaseUrl), seen: await seen(api, all) };
  expect(await keyOf("secret/Custom/s1")).toMatchObject({ generation: 1, kek: 1 });

  const { code, stdout } = await coffer(["keys", "rotate"], environmentOf(one));
  expect([code, stdout]).toEqual([0, expect.stringContaining("coffer keys rewrap")]);
  expect(await keysIn(one.databaseUrl)).toEqual(before.keys);
  expect(await seen(api, all)).toEqual(before.seen);

  await put(other, "secret/Custom/new", "by the other");
  await put(one, "secret/Custom/new-too", "by the one");
  const made = await keyOf("secret/Custom/new");
  expect(made).toMatchObject({ generation: 2, kek: 2 });
  expect(await keyOf("secret/Custom/new-too")).toEqual(made);
  expect(await seen(other.as(api.token), all)).toEqual(before.seen);
});

test("a write that has its key before a rotation, and its turn after it, is under a new key", async () => {
  const path = "secret/Custom/queued";
  await put(one, path, "first");
  const connection = new pg.Client({ connectionString: one.databaseUrl });
  await connection.connect();
  await connection.query("BEGIN");
  await connection.query("SELECT FROM path_ledger WHERE path = $1 FOR UPDATE", [path]);
  const writing = put(one, path, "second");
  const waiting = "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
  await until("the write in its queue", async () => (await query(one.databaseUrl, waiting)).length > 0);
  const before = await keyOf(path);
  await other.service.broker.rotateKeys();
  await connection.query("COMMIT");
  await connection.end();
  expect(await writing).toMatchObject({ version: 2 });
  expect(Number((await keyOf(path))?.["generation"])).toBe(Number(before?.["generation"]) + 1);
});

test("a rotation while many write: what begins after it is under the new keys, and all replicas agree on those", async () => {
  let isRotated = false;
  const after: string[] = [];
  let count = 0;
  const writers = [one, other, one, other].map(async (broker) => {
    for (let more = 6; more > 0; ) {
      const path = `secret/Custom/w${count++}`;
      if (isRotated) {
        after.push(path);
        more -= 1;
      }
      await put(broker, path, path);
    }
  });
  const { code } = await coffer(["keys", "rotate"], environmentOf(one));
  isRotated = true;
  await Promise.all(writers);
  expect(code).toBe(0);
  const keys = await Promise.all(after.map(keyOf));
  expect(new Set(keys.map((each) => JSON.stringify(each))).size).toBe(1);
  expect(keys[0]).toMatchObject({ generation: 4, kek: 4 });
});

test("a replica whose clock is behind or ahead makes one key after a rotation, and not one a write", async () => {
  const [{ at } = {}] = await query(
    one.databaseUrl,
    "UPDATE instance SET keys_rotated_at = now() + interval '1 hour' RETURNING keys_rotated_at AS at",
  );
  await put(one, "secret/Custom/behind", "a");
  const key = await keyOf("secret/Custom/behind");
  await put(other, "secret/Custom/behind", "b");
  expect(await keyOf("secret/Custom/behind")).toEqual(key);
  // All that was made is older than the next rotation, whatever the clocks say.
  expect((await coffer(["keys", "rotate"], environmentOf(one))).code).toBe(0);
  const [next] = await query(one.databaseUrl, "SELECT keys_rotated_at > $1 AS later FROM instance", [at]);
  expect(next).toEqual({ later: true });
  await put(one, "secret/Custom/behind", "c");
  expect((await keyOf("secret/Custom/behind"))?.["id"]).not.toBe(key?.["id"]);
});

test("each rotation is on record, in the instance's log", async () => {
  const { events } = await made(one.admin.get("/audit?owner_type=instance&action=housekeep&limit=100"));
  const rotations = events.filter(({ operation }: { operation: string }) => operation === "rotateKeys");
  expect(rotations).toHaveLength(4);
  expect(rotations[0]).toMatchObject({ outcome: "allowed", details: { change: "keys_rotated" } });
});
