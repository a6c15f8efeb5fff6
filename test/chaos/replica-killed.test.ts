// Two replicas on one PostgreSQL. One is killed under load, without a word: the other goes on, what either acknowledged
// is there, nothing of the dead one stays at the server, and it comes back. What both do in the background is done once.
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Api, type World, furnish, made, settingsUrl } from "../harness/broker.ts";
import { type OwnPostgres, startOwnPostgres } from "../harness/own-postgres.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";
import { until } from "../harness/until.ts";

const CLIENTS = 6;
const ENOUGH = 60;

let home: Awaited<ReturnType<typeof newHome>>;
let server: OwnPostgres;
let environment: Readonly<Record<string, string>>;
let replicas: BrokerProcess[];
let world: World;
let admin: Api;

const start = (name: string): Promise<BrokerProcess> => spawnBroker(join(home.path, name), environment);

beforeAll(async () => {
  home = await newHome();
  server = await startOwnPostgres();
  environment = {
    DATABASE_URL: await server.createDatabase("coffer"),
    COFFER_MASTER_KEY: randomBytes(32).toString("hex"),
    COFFER_RATE_LIMIT: "1000000",
    COFFER_DATABASE_POOL_SIZE: "6",
  };
  // Whichever is first migrates and writes the token; both on an empty database at once is replicas.test.ts's.
  replicas = [await start("one"), await start("other")];
  admin = await (replicas[0] as BrokerProcess).admin();
  const [one] = replicas as [BrokerProcess];
  world = await furnish({ url: one.url, admin, as: (token) => one.as(token) });
}, 120_000);
afterAll(async () => {
  await Promise.all(replicas.map((each) => each.stop()));
  await server.remove();
  await home.remove();
});

type Done = { readonly path: string; readonly version: number; readonly id: string };

/** As a proxy before both does it: the next one is asked when the first does not answer. A PUT may be repeated. */
async function put(
  path: string,
  value: string,
  id: string,
  first: number,
): Promise<{ done: Done | null; tries: number }> {
  for (let tries = 1; tries <= replicas.length; tries++) {
    const replica = replicas[(first + tries) % replicas.length] as BrokerProcess;
    try {
      const { status, body } = await replica
        .as(world.writer.api.token)
        .put(settingsUrl(world.project, path), { body: { value }, headers: { "x-request-id": id } });
      if (status < 300) return { done: { path, version: body.version, id }, tries };
      expect([status, body.code]).toEqual([503, "unavailable"]);
    } catch (error) {
      // Nobody listens there, or it died under the request.
      if (!(error instanceof TypeError)) throw error;
    }
  }
  return { done: null, tries: replicas.length };
}

test("a replica killed: the other goes on at once, nothing acknowledged is lost, no session stays, it comes back", async () => {
  const acknowledged: Done[] = [];
  let [sent, repeated, unanswered] = [0, 0, 0];
  const state = { over: false };
  const load = Array.from({ length: CLIENTS }, async (_, who) => {
    for (let turn = 0; !state.over; turn++) {
      const id = `k-${who}-${turn}`;
      sent += 1;
      const { done, tries } = await put(`secret/Custom/k${who}`, `value of ${id}`, id, turn);
      if (done === null) unanswered += 1;
      else acknowledged.push(done);
      if (tries > 1) repeated += 1;
    }
  });
  const atLeast = (count: number): Promise<void> =>
    until(`${count} acknowledged writes`, () => acknowledged.length >= count);
  await atLeast(ENOUGH);
  const victim = replicas[1] as BrokerProcess;
  const killedAt = performance.now();
  await victim.killAll();
  const before = acknowledged.length;
  await atLeast(before + 1);
  const gap = performance.now() - killedAt;
  await atLeast(before + ENOUGH);
  // The server finds out by itself that the dead one's sessions are nobody's.
  await expect
    .poll(
      async () =>
        (
          await server.sql(
            "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'coffer'",
          )
        )[0]?.["n"],
      { timeout: 10_000 },
    )
    .toBeLessThanOrEqual(6);
  replicas[1] = await start("other");
  await atLeast(acknowledged.length + ENOUGH);
  state.over = true;
  await Promise.all(load);

  let lost = 0;
  const { keeper, project } = world;
  for (const path of new Set(acknowledged.map((each) => each.path))) {
    const { versions } = await made(keeper.api.get(settingsUrl(project, path, {}, "/settings/versions")));
    const there = new Set(versions.map(({ version }: { version: number }) => version));
    lost += acknowledged.filter((each) => each.path === path && !there.has(each.version)).length;
  }
  const numbers = acknowledged.map(({ path, version }) => `${path} ${version}`);
  console.log(
    `| replica killed (of two) | ${sent} | ${acknowledged.length} | ${unanswered} | ${lost} | ${repeated} asked the other one | ${Math.round(gap)} ms |`,
  );
  expect(lost).toBe(0);
  expect(unanswered).toBe(0);
  expect(new Set(numbers).size).toBe(numbers.length);
}, 120_000);

test("racing writers on both replicas: with one If-Match exactly one wins, and numbers never repeat", async () => {
  const { project, writer } = world;
  const url = settingsUrl(project, "secret/Custom/raced");
  await made((replicas[0] as BrokerProcess).as(writer.api.token).put(url, { body: { value: "first" } }));
  for (let round = 1; round <= 5; round++) {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, who) =>
        (replicas[who % 2] as BrokerProcess).as(writer.api.token).put(url, {
          body: { value: `${round} by ${who}` },
          headers: { "if-match": `"${round}"` },
        }),
      ),
    );
    const statuses = answers.map(({ status }) => status).toSorted((a, b) => a - b);
    expect(statuses).toEqual([200, ...Array.from({ length: 7 }, () => 412)]);
  }
  const { versions } = await made(
    world.keeper.api.get(settingsUrl(project, "secret/Custom/raced", {}, "/settings/versions")),
  );
  expect(
    versions.map(({ version }: { version: number }) => version).toSorted((a: number, b: number) => a - b),
  ).toEqual([1, 2, 3, 4, 5, 6]);
  // One event for each version: neither replica did, or told of, the other's work.
  const { events } = await made(
    world.keeper.api.get(
      `/audit?owner_type=project&owner_id=${project.id}&path=secret/Custom/raced&action=write&outcome=allowed`,
    ),
  );
  expect(events).toHaveLength(6);
});
