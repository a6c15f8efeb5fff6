// The wall clock steps, forth and back, while a broker serves: rights and limits hold, nothing is locked up, the log
// that a collector tails loses nothing and repeats nothing, and what has an end ends by the clock as it is now.
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import {
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";

const HOUR = 3_600_000;
let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker({ environment: { COFFER_RATE_LIMIT: "1000" } });
  world = await furnish(broker);
  await made(world.writer.api.put(secret(), { body: { value: "first" } }));
});
afterEach(() => void vi.useRealTimers());
afterAll(() => broker.close());

const secret = (rest = {}, at = "/settings") => settingsUrl(world.project, "secret/Custom/a", rest, at);

/** Steps the clock of everything in this process by so much; timers go on as they were. */
function step(milliseconds: number): void {
  const now = Date.now();
  vi.useRealTimers();
  vi.useFakeTimers({ toFake: ["Date"], now: now + milliseconds });
}

async function accessToken(): Promise<string> {
  const { status, body } = await client(broker.url, "").post("/auth/token", {
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      grant_type: "client_credentials",
      client_id: world.writer.id,
      client_secret: world.writer.api.token,
    }).toString(),
  });
  expect(status).toBe(200);
  return body.access_token;
}

async function readAndWrite(value: string): Promise<void> {
  const { api } = world.writer;
  expect((await api.put(secret(), { body: { value } })).status).toBe(200);
  expect((await api.get(secret({}, "/settings/value"))).body.value).toBe(value);
  const token = await accessToken();
  expect((await broker.as(token).get(secret({}, "/settings/value"))).status).toBe(200);
}

/** All of the project's log in a collector's order, from a cursor on. */
async function tail(cursor: string | null): Promise<{ ids: string[]; cursor: string }> {
  const more = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
  const { body } = await world.keeper.api.get(
    `/audit?owner_type=project&owner_id=${world.project.id}&order=asc&limit=1000${more}`,
  );
  return { ids: body.events.map(({ id }: { id: string }) => id), cursor: body.next_cursor };
}

test("an hour forth: access tokens had before have ended, API tokens and everything else go on", async () => {
  const before = await accessToken();
  step(HOUR);
  expect((await broker.as(before).get(secret({}, "/settings/value"))).status).toBe(401);
  await readAndWrite("an hour on");
});

test("an hour back: nothing is locked up, and a limit that was reached is not reached for an hour", async () => {
  await readAndWrite("before the step back");
  const { cursor } = await tail(null);
  step(-HOUR);
  await readAndWrite("after the step back");
  const after = await tail(cursor);
  const again = await tail(after.cursor);
  // What was written under the earlier time is not missed by who had read up to the later one.
  expect(after.ids.length).toBeGreaterThanOrEqual(3);
  expect(new Set([...after.ids, ...again.ids]).size).toBe(after.ids.length + again.ids.length);
  // 1,000 units a second: the bucket is emptied while the clock stands, then fills by the clock as it is now.
  const { api } = world.reader;
  const statuses: number[] = [];
  while (statuses.length < 1_100) {
    const some = await Promise.all(Array.from({ length: 100 }, () => api.get("/auth/me")));
    statuses.push(...some.map(({ status }) => status));
  }
  expect([statuses.indexOf(429), new Set(statuses)]).toEqual([1_000, new Set([200, 429])]);
  step(2_000);
  expect((await api.get("/auth/me")).status).toBe(200);
});

test("back and forth under load: every request is answered well", async () => {
  const steps = [HOUR, -2 * HOUR, 30_000, -30_000, 24 * HOUR, -23 * HOUR];
  for (const milliseconds of steps) {
    step(milliseconds);
    const { api } = world.writer;
    const answers = await Promise.all(Array.from({ length: 10 }, () => api.get(secret({ decrypt: "true" }))));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    await readAndWrite(`after a step of ${milliseconds} ms`);
  }
});
