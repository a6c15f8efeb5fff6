// Two replicas that move an owner's values, and settle what lies in a manager, at the same time: each value goes to the
// cloud once, and the log has one event for each.
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { type SettingsApi, settingsOf } from "../http/settings-kit.ts";
import { type Cloud, startAws } from "./clouds.ts";

const COUNT = 20;
const PATHS = Array.from({ length: COUNT }, (_, index) => `secret/Custom/shared-${index}`);

let cloud: Cloud;
let one: TestBroker;
let other: TestBroker;
let world: World;
let settings: SettingsApi;

beforeAll(async () => {
  cloud = await startAws();
  const environment = {
    ...cloud.environment,
    COFFER_MANAGER: "local",
    COFFER_MANAGERS_ENABLED: "local,aws",
  };
  one = await startBroker({ environment });
  other = await startBroker({ beside: one, environment });
  world = await furnish(one);
  settings = settingsOf(world.writer.api, world.project);
});
afterAll(async () => {
  await other?.close();
  await one?.close();
  await cloud?.close();
});

async function eventsOf(operation: string): Promise<string[]> {
  const database = new pg.Client({ connectionString: one.databaseUrl });
  await database.connect();
  try {
    const { rows } = await database.query(
      `SELECT setting ->> 'path' AS path FROM audit_events, jsonb_array_elements(settings) setting
       WHERE operation = $1 AND outcome = 'allowed'`,
      [operation],
    );
    return rows.map(({ path }) => path);
  } finally {
    await database.end();
  }
}

test("both at once: each setting is moved once, and none twice", async () => {
  for (const path of PATHS) await settings.put(path, `value of ${path}`);
  const at = `/projects/${world.project.id}/manager`;
  await made(world.owner.api.put(at, { body: { storage: "manager", manager: "aws" } }));
  cloud.fake.forgetCalls();
  expect((await world.owner.api.post(`${at}/migrate`)).status).toBe(202);
  const brokers = [one, other, one, other].map(({ service }) => service.broker);
  // A call that finds all of it taken by others comes back at once: asked again and again, as replicas do.
  await vi.waitFor(
    async () => {
      await Promise.all(brokers.flatMap((each) => [each.runMoves(), each.settleManagedSecrets(100)]));
      expect((await made(world.owner.api.get(at))).migration).toMatchObject({ state: "done", failed: [] });
    },
    { timeout: 20_000, interval: 20 },
  );
  expect((await eventsOf("moveSetting")).toSorted()).toEqual(PATHS.toSorted());
  expect(cloud.fake.calls(cloud.operations.create)).toHaveLength(COUNT);
  const values = cloud.held().flatMap((held) => [...held.values.values()]);
  expect(values.toSorted()).toEqual(PATHS.map((path) => `value of ${path}`).toSorted());
});

test("both at once: what was purged is dropped from the cloud once", async () => {
  for (const path of PATHS)
    expect((await settingsOf(world.owner.api, world.project).purge(path)).status).toBe(204);
  await vi.waitFor(
    async () => {
      await Promise.all([one, other].map(({ service }) => service.broker.settleManagedSecrets(100)));
      expect(cloud.held()).toEqual([]);
    },
    { timeout: 20_000, interval: 20 },
  );
  expect(cloud.fake.calls(cloud.operations.drop)).toHaveLength(COUNT);
});
