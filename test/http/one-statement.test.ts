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
/** As many as one request may name. */
const HUNDRED = Array.from({ length: 100 }, (_, n) => `secret/Custom/hundred/n${n}`);
const TRIES_MAX = 5;
let changes = 0;
let broker: TestBroker;
let world: World;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  await changeAll();
});
afterAll(() => broker.close());

/** All that is read here, written anew. */
async function changeAll(): Promise<void> {
  const writer = settingsOf(world.writer.api, world.project);
  changes += 1;
  const settings = HUNDRED.map((path) => ({ path, value: `x${changes}` }));
  const at = settingsUrl(world.project, undefined, { conflict: "overwrite" }, "/settings/import");
  await made(world.writer.api.post(at, { body: { settings } }));
  for (const path of PATHS) {
    await made(writer.put(path, S3));
    await made(writer.put(path.replace("connect/S3", "secret/Custom/env"), "x"));
  }
}

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

test.each<[string, () => () => Promise<Answer>, string]>([
  ["a list", () => at("connect/S3/", { decrypt: "true" }), "confirm_reads_copying"],
  ["a strict read", () => at("connect/S3/a", {}, "/settings/value"), "confirm_reads"],
  [
    "rendering",
    () => at("secret/Custom/env/", { format: "json" }, "/settings/render"),
    "confirm_reads_copying",
  ],
  [
    "resolving many references",
    () => () =>
      resolve(
        world.writer.api,
        [...PATHS.toReversed(), `${PATHS[1]}#region`].map((path) => refOf(path, world.project)),
      ),
    "confirm_reads_copying",
  ],
  [
    "resolving a hundred references",
    () => () =>
      resolve(
        world.writer.api,
        HUNDRED.map((path) => refOf(path, world.project)),
      ),
    "confirm_reads_copying",
  ],
])("%s takes one statement, at first as well as later", async (_what, make, later) => {
  expect(await statementsOf(make())).toEqual(["read_ahead"]);
  await statementsOf(make());
  let again = await statementsOf(make());
  // A list is copied from the event of its first reading, and sent if that had no place in the log at once, since a seal
  // was just being made. So it is read for the first time once more.
  for (let tries = 1; tries < TRIES_MAX && again[0] === "confirm_reads" && again[0] !== later; tries++) {
    await changeAll();
    await make()();
    again = await statementsOf(make());
  }
  expect(again).toEqual([later]);
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
