// What a token may cost, by a clock that the test turns.
import { expect, test } from "vitest";
import { Buckets, charge } from "../../src/http/limits.ts";
import { route, testApp } from "./app.ts";

function turning() {
  let now = 1_000_000;
  return { clock: { now: () => new Date(now) }, pass: (milliseconds: number) => void (now += milliseconds) };
}

test("a request is one unit, an opened value one more, debts are paid before the next request", async () => {
  const { clock, pass } = turning();
  let opened = 0;
  const { app, auth, identified } = await testApp(
    route("GET", "/thing", (request) => {
      charge(request, opened);
      return { text: "x" };
    }),
    {
      clock,
      limits: { unitsPerSecond: 10, publicPerSecond: 10, tokenlessPerSecond: 10, addressPerSecond: 0 },
    },
  );
  const ask = () => app.inject({ url: "/thing", headers: auth });
  const first = await ask();
  expect(first.headers).toMatchObject({
    "ratelimit-limit": "10",
    "ratelimit-remaining": "9",
    "ratelimit-reset": "1",
  });
  opened = 28;
  const costly = await ask();
  expect([costly.statusCode, costly.headers["ratelimit-remaining"]]).toEqual([200, "0"]);
  const refused = await ask();
  expect([refused.statusCode, refused.json().code]).toEqual([429, "rate_limited"]);
  expect(refused.headers).toMatchObject({
    "retry-after": "3",
    "ratelimit-remaining": "0",
    "ratelimit-reset": "3",
  });
  pass(2_999);
  expect((await ask()).statusCode).toBe(200);
  opened = 0;
  pass(60_000);
  expect((await ask()).headers["ratelimit-remaining"]).toBe("9");
  // Nobody was asked who calls: a refusal costs nothing.
  expect(identified()).toBe(0);
  await app.close();
});

test("each token has its own allowance, and one without a token has none to lose", async () => {
  const { clock } = turning();
  const limits = { unitsPerSecond: 1, publicPerSecond: 1, tokenlessPerSecond: 1, addressPerSecond: 0 };
  const one = await testApp(
    route("GET", "/thing", () => ({ text: "x" })),
    { clock, limits },
  );
  const ask = async (headers: object) =>
    (await one.app.inject({ url: "/thing", headers: { ...headers } })).statusCode;
  expect(await ask(one.auth)).toBe(200);
  expect(await ask(one.auth)).toBe(429);
  const other = await testApp(() => undefined);
  expect(await ask(other.auth)).toBe(200);
  expect(await ask({})).toBe(401);
  await Promise.all([one.app.close(), other.app.close()]);
});

test("without a token an address is told so 401 up to so many times a second, then 429; others are not", async () => {
  const { clock, pass } = turning();
  const limits = { unitsPerSecond: 10, publicPerSecond: 10, tokenlessPerSecond: 3, addressPerSecond: 0 };
  const { app, auth } = await testApp(
    route("GET", "/thing", () => ({ text: "x" })),
    { clock, limits },
  );
  const ask = (remoteAddress: string, headers = {}) => app.inject({ url: "/thing", headers, remoteAddress });
  for (let each = 0; each < 3; each++) expect((await ask("192.0.2.1")).statusCode).toBe(401);
  const refused = await ask("192.0.2.1");
  expect([refused.statusCode, refused.json().code, refused.headers["retry-after"]]).toEqual([
    429,
    "rate_limited",
    "1",
  ]);
  expect((await ask("192.0.2.2")).statusCode).toBe(401);
  expect((await ask("192.0.2.1", auth)).statusCode).toBe(200);
  pass(1_000);
  expect((await ask("192.0.2.1")).statusCode).toBe(401);
  await app.close();
});

test("memory is bounded, and a clock set back neither fills nor empties", () => {
  const { clock, pass } = turning();
  const buckets = new Buckets(10, clock, 2);
  buckets.of("a").units = 1;
  buckets.of("b").units = 2;
  expect(buckets.of("a").units).toBe(1);
  buckets.of("c");
  expect(buckets.of("a").units).toBe(1);
  expect(buckets.of("b").units).toBe(10);
  const known = buckets.of("b");
  known.units = 3;
  pass(-5_000);
  expect(buckets.of("b").units).toBe(3);
  pass(100);
  expect(buckets.of("b").units).toBe(4);
});
