// Revocation under load: two replicas whose reads go in batches as full as sixty-four callers make them. Whoever loses
// a token or a role on one replica is refused by every request that begins after that was acknowledged, on both; nobody
// else is ever refused, or given another's value. What a batched read leaves on record is what one by itself does.
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type Api,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";

const CALLERS = 32;
const ROUNDS = 4;
const PATHS = Array.from({ length: 8 }, (_, index) => `secret/Custom/s${index}`);
let one: TestBroker;
let other: TestBroker;
let world: World;

beforeAll(async () => {
  one = await startBroker();
  other = await startBroker({ beside: one });
  world = await furnish(one);
  for (const path of PATHS)
    await made(world.owner.api.put(settingsUrl(world.project, path), { body: { value: `of ${path}` } }));
});
afterAll(async () => {
  await other.close();
  await one.close();
});

type Worker = { id: string; token_id: string; api: Api };
type Load = { over: boolean; read: number };

/** Reads with one token on one replica until it is refused; what began after `lost.since` must be. */
async function keepReading(
  broker: TestBroker,
  worker: Worker,
  load: Load,
  lost: { since: number },
  id: string,
) {
  const api = broker.as(worker.api.token);
  for (let turn = 0; !load.over; turn++) {
    const path = PATHS[turn % PATHS.length] ?? "";
    const began = performance.now();
    const url = settingsUrl(world.project, path, { decrypt: "true" });
    const { status, body } = await api.get(url, { headers: { "x-request-id": `${id}-${turn}` } });
    if (status === 200) {
      expect(began).toBeLessThan(lost.since);
      expect(body.settings.map(({ value }: { value: string }) => value)).toEqual([`of ${path}`]);
      load.read += 1;
    } else {
      // One refusal is enough: too many from one address would be limited.
      expect([401, 403]).toContain(status);
      return;
    }
  }
}

test("a token or a role that is lost on one replica is lost in every request that begins after that", async () => {
  const keepers = world.writer;
  for (let round = 0; round < ROUNDS; round++) {
    const victims = await Promise.all([world.worker("write"), world.worker("write")]);
    const [byToken, byRole] = victims as [Worker, Worker];
    const load: Load = { over: false, read: 0 };
    const never = { since: Number.POSITIVE_INFINITY };
    const lost = victims.map(() => ({ since: Number.POSITIVE_INFINITY })) as [
      { since: number },
      { since: number },
    ];
    const readers = [one, other].flatMap((broker, where) =>
      Array.from({ length: CALLERS }, (_, who) => {
        const id = `r${round}-${where}-${who}`;
        if (who % 4 === 0) return keepReading(broker, byToken, load, lost[0], id);
        if (who % 4 === 1) return keepReading(broker, byRole, load, lost[1], id);
        // Nobody else is ever refused.
        return keepReading(broker, keepers, load, never, id).then(() => expect(load.over).toBe(true));
      }),
    );
    const all = Promise.all(readers);
    const until = async (reads: number): Promise<void> => {
      while (load.read < reads) await Promise.race([all, new Promise(setImmediate)]);
    };
    await until(200);
    await made(world.owner.api.delete(`/tokens/${byToken.token_id}`));
    lost[0].since = performance.now();
    await made(world.owner.api.delete(`/projects/${world.project.id}/members/${byRole.id}`));
    lost[1].since = performance.now();
    await until(load.read + 200);
    load.over = true;
    await all;
    for (const broker of [one, other]) {
      const url = settingsUrl(world.project, PATHS[0], { decrypt: "true" });
      expect((await broker.as(byToken.api.token).get(url)).status).toBe(401);
      expect((await broker.as(byRole.api.token).get(url)).status).toBe(403);
      expect((await broker.as(keepers.api.token).get(url)).status).toBe(200);
    }
  }
}, 120_000);

test("a read in a batch leaves the event that one by itself leaves", async () => {
  const api = one.as(world.writer.api.token);
  const eventsOf = async (id: string) => {
    const query = `owner_type=project&owner_id=${world.project.id}&request_id=${id}`;
    const { events } = await made(world.owner.api.get(`/audit?${query}`));
    const own = new Set(["id", "at", "request_id"]);
    return events.map((each: object) =>
      Object.fromEntries(Object.entries(each).filter(([name]) => !own.has(name))),
    );
  };
  for (const path of ["secret/Custom", PATHS[0] ?? ""])
    for (const decrypt of ["true", "false"]) {
      // A type in the query is one of the things that are asked for step by step.
      const alone = `alone-${path.length}-${decrypt}`;
      await made(
        api.get(settingsUrl(world.project, path, { decrypt, type: "custom" }), {
          headers: { "x-request-id": alone },
        }),
      );
      const ids = Array.from({ length: CALLERS }, (_, index) => `batched-${path.length}-${decrypt}-${index}`);
      await Promise.all(
        ids.map((id) =>
          made(api.get(settingsUrl(world.project, path, { decrypt }), { headers: { "x-request-id": id } })),
        ),
      );
      const expected = await eventsOf(alone);
      expect(expected).toHaveLength(1);
      for (const id of ids) expect(await eventsOf(id)).toEqual(expected);
    }
});
