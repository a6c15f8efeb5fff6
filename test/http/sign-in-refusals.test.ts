// Brute force: refused sign-ins are limited per address and per client id, and never a good one for their sake.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, client, furnish, made, startBroker } from "../harness/broker.ts";
import { SUBJECT, bound, ci, register } from "./federation-kit.ts";
import { EXCHANGE, ID_TOKEN_TYPE, accessOf, exchange, signIn, withCredentials } from "./sign-in-kit.ts";

let broker: TestBroker;
let world: World;

beforeAll(async () => {
  broker = await startBroker({ environment: { COFFER_TRUSTED_PROXIES: "127.0.0.1" } });
  world = await furnish(broker);
});
afterAll(() => broker.close());

const grant = { grant_type: "client_credentials" };
const from = (address: string) => ({ "x-forwarded-for": address });

describe("failed sign-ins are limited", () => {
  test("per address: past 100 a minute 429 with Retry-After; a good one still passes, and others' addresses do", async () => {
    const { writer } = world;
    const here = from("198.51.100.1");
    const wrong = (index: number) =>
      signIn(broker, { ...grant, client_id: `guess-${index}`, client_secret: "x" }, here);
    const guesses = await Promise.all(Array.from({ length: 150 }, (_, index) => wrong(index)));
    const limited = guesses.filter(({ status }) => status === 429);
    expect([guesses.filter(({ status }) => status === 401).length, limited.length]).toEqual([100, 50]);
    for (const { body, headers } of limited) {
      expect(body.error).toBe("slow_down");
      expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
    }
    const good = { ...grant, client_id: writer.id, client_secret: writer.api.token };
    expect((await signIn(broker, good, here)).status).toBe(200);
    expect((await signIn(broker, { ...grant, client_id: "x" }, from("198.51.100.2"))).status).toBe(401);
  });

  test("per client id, from however many addresses and however it is spelt; a good one still passes", async () => {
    const { stranger, reader } = world;
    const guess = (index: number) => {
      const client_id = index % 2 === 0 ? stranger.id : stranger.id.toUpperCase();
      return signIn(broker, { ...grant, client_id, client_secret: "x" }, from(`192.0.2.${index}`));
    };
    const guesses = await Promise.all(Array.from({ length: 120 }, (_, index) => guess(index)));
    expect(guesses.filter(({ status }) => status === 429)).toHaveLength(20);
    const good = { ...grant, client_id: stranger.id, client_secret: stranger.api.token };
    expect((await signIn(broker, good, from("192.0.2.201"))).status).toBe(200);
    const other = { ...grant, client_id: reader.id, client_secret: "x" };
    expect((await signIn(broker, other, from("192.0.2.202"))).status).toBe(401);
  });
});

test("failed exchanges are limited per service account, and a good one still passes", async () => {
  const { keeper } = world;
  await register(world, bound(keeper.id));
  const answers = await Promise.all(
    Array.from({ length: 110 }, (_, index) =>
      signIn(
        broker,
        {
          grant_type: EXCHANGE,
          subject_token: "a.b.c",
          subject_token_type: ID_TOKEN_TYPE,
          client_id: keeper.id,
        },
        { "x-forwarded-for": `192.0.2.${index}` },
      ),
    ),
  );
  expect(answers.filter(({ status }) => status === 429)).toHaveLength(10);
  expect((await exchange(broker, ci.token({ sub: SUBJECT }), { client_id: keeper.id })).status).toBe(200);
});

test("the audit counts refused sign-ins of an address and a reason in one event", async () => {
  const { writer } = world;
  const here = from("198.51.100.77");
  for (let count = 0; count < 3; count++)
    await signIn(broker, { ...grant, client_id: writer.id, client_secret: "x" }, here);
  const { events } = await made(broker.admin.get("/audit?owner_type=instance&action=sign_in&limit=1000"));
  const mine = events.filter(({ ip }: { ip: string }) => ip === "198.51.100.77");
  expect(mine.reduce((sum: number, { count }: { count: number }) => sum + count, 0)).toBe(3);
  expect(mine[0]).toMatchObject({ outcome: "denied", reason: "unknown", principal_id: null });
});

test("access tokens of one API token share an allowance: to have many is not to have more", async () => {
  const narrow = await startBroker({ beside: broker, environment: { COFFER_RATE_LIMIT: "5" } });
  const { writer, reader } = world;
  const jwtOf = ({ id, api }: typeof writer) => accessOf(withCredentials(narrow, id, api.token));
  const [one, two, theirs] = [await jwtOf(writer), await jwtOf(writer), await jwtOf(reader)];
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) => client(narrow.url, index % 2 === 0 ? one : two).get("/auth/me")),
  );
  const limited = answers.filter(({ status }) => status === 429);
  expect(limited.length).toBeGreaterThanOrEqual(10);
  expect(limited[0]?.headers.get("ratelimit-limit")).toBe("5");
  expect((await client(narrow.url, theirs).get("/auth/me")).status).toBe(200);
  await narrow.close();
});
