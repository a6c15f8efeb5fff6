// Load shedding and the limit by address: past what is worked on at once, or while the event loop is late, one more is
// 503 at once; what tells of the broker itself is always answered; and nothing holds a place but work.
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { Body, CANARY, type TestApp, route, testApp } from "./app.ts";
import type { App } from "../../src/http/app.ts";
import { Fields, answer, stream } from "../../src/http/schemas/kit.ts";
import { Type } from "@fastify/type-provider-typebox";
import { problems, publicProblems } from "../../src/http/problem.ts";

const limits = {
  unitsPerSecond: 1_000,
  publicPerSecond: 1_000,
  tokenlessPerSecond: 1_000,
  addressPerSecond: 0,
};

/** Requests that end when they are told to. */
function held() {
  const waiting: (() => void)[] = [];
  const handle = (): Promise<{ text: string }> =>
    new Promise((resolve) => waiting.push(() => resolve({ text: "x" })));
  return { handle, waiting, releaseAll: () => waiting.splice(0).forEach((release) => release()) };
}

const metricOf = async ({ app }: TestApp, line: string): Promise<number> => {
  const { body } = await app.inject("/metrics");
  return Number(
    body
      .split("\n")
      .find((each) => each.startsWith(line))
      ?.split(" ")
      .at(-1),
  );
};

test("one more than may be worked on at once is 503 with Retry-After; then there is room again", async () => {
  const { handle, waiting, releaseAll } = held();
  const one = await testApp(route("GET", "/thing", handle), {
    shedding: { requestsMax: 2, loopDelayMaxMs: 0 },
  });
  const ask = () => one.app.inject({ url: "/thing", headers: one.auth });
  const first = [ask(), ask()];
  await expect.poll(() => waiting.length).toBe(2);
  const refused = await ask();
  expect([refused.statusCode, refused.json().code, refused.headers["retry-after"]]).toEqual([
    503,
    "unavailable",
    "1",
  ]);
  for (const url of ["/healthz", "/readyz", "/metrics", "/openapi.json"])
    expect((await one.app.inject(url)).statusCode).toBe(200);
  expect(await metricOf(one, 'coffer_requests_shed_total{reason="requests_under_way"}')).toBe(1);
  expect(one.identified()).toBe(0);
  releaseAll();
  expect((await Promise.all(first)).map(({ statusCode }) => statusCode)).toEqual([200, 200]);
  const again = ask();
  await expect.poll(() => waiting.length).toBe(1);
  releaseAll();
  expect((await again).statusCode).toBe(200);
  // It is no fault, and a flood of them does not fill the log with some.
  expect(one.log()).not.toContain('"fault"');
  await one.app.close();
});

test("a handler that throws gives its place back", async () => {
  const one = await testApp(
    route("GET", "/thing", () => {
      throw new Error(CANARY);
    }),
    { shedding: { requestsMax: 1, loopDelayMaxMs: 0 } },
  );
  for (let turn = 0; turn < 3; turn++)
    expect((await one.app.inject({ url: "/thing", headers: one.auth })).statusCode).toBe(500);
  await one.app.close();
});

test("while the event loop is late everything that is work is 503, and soon after it is not", async () => {
  const one = await testApp(
    route("GET", "/thing", () => ({ text: "x" })),
    { shedding: { requestsMax: 100, loopDelayMaxMs: 150 } },
  );
  const ask = () => one.app.inject({ url: "/thing", headers: one.auth });
  const stopped = (): void => {
    const until = performance.now() + 400;
    while (performance.now() < until);
  };
  // Once is not too much yet; twice in a row is. Each time the timer that was held up has its turn.
  stopped();
  await new Promise((resolve) => setTimeout(resolve));
  expect((await ask()).statusCode).toBe(200);
  stopped();
  await new Promise((resolve) => setTimeout(resolve));
  stopped();
  await expect.poll(async () => (await ask()).statusCode, { interval: 1, timeout: 90 }).toBe(503);
  expect((await one.app.inject("/healthz")).statusCode).toBe(200);
  await expect.poll(async () => (await ask()).statusCode).toBe(200);
  expect(await metricOf(one, 'coffer_requests_shed_total{reason="event_loop"}')).toBeGreaterThan(0);
  await one.app.close();
});

function publicPost(app: App): void {
  app.post(
    "/enter",
    {
      config: { action: "public" },
      schema: {
        operationId: "enter",
        tags: ["Tokens"],
        summary: "A test's",
        body: Body,
        response: { 200: answer("In.", Fields({ text: Type.String() })), ...publicProblems(503) },
      },
    },
    async () => ({ text: "x" }),
  );
  route("GET", "/thing", () => ({ text: "x" }))(app);
}

test("an address has its own limit over all its tokens and all without any, health left out", async () => {
  let now = 1_000_000;
  const one = await testApp(publicPost, {
    limits: { ...limits, addressPerSecond: 3 },
    clock: { now: () => new Date(now) },
  });
  const ask = (token: string, remoteAddress = "192.0.2.1") =>
    one.app.inject({ url: "/thing", headers: { authorization: token }, remoteAddress });
  expect((await ask(one.auth.authorization)).statusCode).toBe(200);
  expect((await ask("Bearer nonsense")).statusCode).toBe(401);
  const entered = await one.app.inject({
    method: "POST",
    url: "/enter",
    payload: { name: "a" },
    remoteAddress: "192.0.2.1",
  });
  expect(entered.statusCode).toBe(200);
  const refused = await ask(one.auth.authorization);
  expect([refused.statusCode, refused.json().code, refused.headers["retry-after"]]).toEqual([
    429,
    "rate_limited",
    "1",
  ]);
  expect((await ask(one.auth.authorization, "192.0.2.2")).statusCode).toBe(200);
  // An IPv6 host has a whole /64.
  for (let host = 1; host <= 3; host++)
    expect((await ask(one.auth.authorization, `2001:db8::${host}`)).statusCode).toBe(200);
  expect((await ask(one.auth.authorization, "2001:db8::4")).statusCode).toBe(429);
  for (let turn = 0; turn < 5; turn++)
    expect((await one.app.inject({ url: "/healthz", remoteAddress: "192.0.2.1" })).statusCode).toBe(200);
  now += 1_000;
  expect((await ask(one.auth.authorization)).statusCode).toBe(200);
  await one.app.close();
});

test("an answer that goes on, or that nobody reads to its end, takes nobody's place", async () => {
  const open: Readable[] = [];
  const one = await testApp(
    (app: App): void => {
      app.get(
        "/stream",
        {
          config: { action: "list" },
          schema: {
            operationId: "stream",
            tags: ["Settings"],
            summary: "A test's",
            response: { 200: stream("It goes on.", "begun"), ...problems() },
          },
        },
        async (_request, reply) => {
          const out = new Readable({ read: () => undefined });
          out.push("begun\n");
          open.push(out);
          return reply.type("text/event-stream").send(out);
        },
      );
      route("GET", "/thing", () => ({ text: "x" }))(app);
    },
    { shedding: { requestsMax: 1, loopDelayMaxMs: 0 } },
  );
  const url = await one.app.listen({ host: "127.0.0.1", port: 0 });
  const headers = one.auth;
  const streams = [await fetch(`${url}/stream`, { headers }), await fetch(`${url}/stream`, { headers })];
  expect(streams.map(({ status }) => status)).toEqual([200, 200]);
  expect((await fetch(`${url}/thing`, { headers })).status).toBe(200);
  for (const each of open) each.push(null);
  for (const each of streams) expect(await each.text()).toBe("begun\n");
  await one.app.close();
});

test("every route that is work says that it may be 503", () => {
  expect(Object.keys(problems())).toContain("503");
});
