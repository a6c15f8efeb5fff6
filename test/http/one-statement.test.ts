// What a job does as it starts: each is one statement of the database's, the event in it; but for a foreign token.
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Answer, S3, type TestBroker, type World } from "../harness/broker.ts";
import { furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { SUBJECT, bound, ci, providersOf, register } from "./federation-kit.ts";
import { refOf, resolve } from "./references-kit.ts";
import { settingsOf } from "./settings-kit.ts";
import { exchange } from "./sign-in-kit.ts";

const PATHS = ["a", "b", "c", "d", "e", "f"].map((name) => `connect/S3/${name}`);
let broker: TestBroker;
let world: World;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  const writer = settingsOf(world.writer.api, world.project);
  for (const path of PATHS) await made(writer.put(path, S3));
  for (const path of PATHS) await made(writer.put(path.replace("connect/S3", "secret/Custom/env"), "x"));
});
afterAll(() => broker.close());

/** All that admit, find or record; others come by themselves, now and then. */
const OF_READING = /^(admit|confirm_reads|read_ahead|record|setting|standing|trusted|workloads)/;

/** The statements that it takes. */
async function statementsOf(ask: () => Promise<Answer>): Promise<readonly string[]> {
  const names: string[] = [];
  const { submit } = pg.Query.prototype;
  const spy = vi.spyOn(pg.Query.prototype, "submit").mockImplementation(function (
    this: pg.Query,
    connection,
  ) {
    names.push((this as { name?: string }).name ?? "no name");
    return submit.call(this, connection);
  });
  try {
    expect((await ask()).status).toBe(200);
  } finally {
    spy.mockRestore();
  }
  return names.filter((name) => OF_READING.test(name));
}

const at = (path: string, query: Record<string, string>, route?: string) => () =>
  world.writer.api.get(settingsUrl(world.project, path, query, route));

// A list is copied from an earlier event, and sent where that had no place in the log yet: a seal was just being made.
const COPYING = /^confirm_reads(_copying)?$/;

test.each<[string, () => () => Promise<Answer>, RegExp]>([
  ["a list", () => at("connect/S3/", { decrypt: "true" }), COPYING],
  ["a strict read", () => at("connect/S3/a", {}, "/settings/value"), /^confirm_reads$/],
  ["rendering", () => at("secret/Custom/env/", { format: "json" }, "/settings/render"), COPYING],
  [
    "resolving many references",
    () => () =>
      resolve(
        world.writer.api,
        [...PATHS.toReversed(), `${PATHS[1]}#region`].map((path) => refOf(path, world.project)),
      ),
    COPYING,
  ],
])("%s takes one statement, at first as well as later", async (_what, make, later) => {
  expect(await statementsOf(make())).toEqual(["read_ahead"]);
  await statementsOf(make());
  expect(await statementsOf(make())).toEqual([expect.stringMatching(later)]);
});

test("exchanging a workload's token takes two look-ups and its event, in no transaction", async () => {
  const { id } = await register(world, bound(world.writer.id));
  const ask = () => exchange(broker, ci.token({ sub: SUBJECT }), { client_id: world.writer.id });
  const found = ["workloads_many", "trusted_providers", "workloads_many", "record"];
  expect(await statementsOf(ask)).toEqual(found);
  const known = ["workloads_many", "workloads_many", "record"];
  expect(await statementsOf(ask)).toEqual(known);
  await made(world.owner.api.put(`${providersOf(world)}/${id}`, { body: bound(world.writer.id) }));
  expect(await statementsOf(ask)).toEqual(found);
  expect(await statementsOf(ask)).toEqual(known);
});
