// What is logged and counted, and how little.
import { afterEach, expect, test } from "vitest";
import { describeError } from "../../src/http/logging.ts";
import { charge } from "../../src/http/limits.ts";
import type { Checks } from "../../src/http/routes/service.ts";
import { CANARY, type TestApp, route, testApp } from "./app.ts";

let open: TestApp | null = null;
afterEach(async () => {
  await open?.app.close();
  open = null;
});

test("one line a request, with the route's pattern and nothing of what was sent", async () => {
  open = await testApp(
    route("POST", "/thing/:id", () => ({ text: CANARY })),
    {},
    {},
  );
  await open.app.inject({
    method: "POST",
    url: `/thing/${CANARY}?word=one`,
    headers: { ...open.auth, "x-request-id": "mine", cookie: CANARY, "user-agent": CANARY },
    payload: { name: "a", labels: { [CANARY]: CANARY } },
  });
  const lines = open.log().trim().split("\n");
  expect(lines).toHaveLength(1);
  const { time, duration_ms: took, ...line } = JSON.parse(lines[0] ?? "");
  expect(line).toEqual({
    level: "info",
    request_id: "mine",
    method: "POST",
    route: "/thing/:id",
    status: 200,
    msg: "request",
  });
  expect(Date.parse(time)).toBeGreaterThan(0);
  expect(took).toBeGreaterThan(0);
  expect(open.log()).not.toContain(CANARY);
  expect(open.log()).not.toContain(open.token);
});

test("a logger that is handed what it should not have leaves it out", () => {
  const error = new Error(CANARY, { cause: new TypeError(CANARY) });
  const described = JSON.stringify(describeError(error));
  expect(described).toContain("TypeError");
  expect(described).toContain("logging.test.ts");
  expect(described).not.toContain(CANARY);
  error.message = "changed";
  expect(JSON.stringify(describeError(error))).not.toContain(CANARY);
  expect(describeError(CANARY)).toEqual({ name: "string" });
});

test("metrics count requests, opened values and denials by closed words", async () => {
  open = await testApp(
    route("GET", "/thing", (request) => {
      charge(request, 3);
      return { text: "x" };
    }),
  );
  const { app, auth } = open;
  await app.inject({ url: "/thing", headers: auth });
  await app.inject({ url: "/thing" });
  await app.inject({ method: "PROPFIND" as "GET", url: `/${CANARY}` });
  const { payload } = await app.inject({ url: "/metrics" });
  expect(payload).toContain('coffer_http_requests_total{method="GET",route="/thing",status="200"} 1');
  expect(payload).toContain("coffer_values_opened_total 3");
  expect(payload).toContain('coffer_problems_total{code="unauthenticated"} 1');
  expect(payload).toContain("coffer_http_requests_under_way 1");
  expect(payload).not.toContain(CANARY);
});

test("readiness tells what is away, without keeping anybody waiting", async () => {
  const checks: Checks = { database: "ok", audit: "unavailable", managers: { local: "ok" } };
  let health = () => Promise.resolve(checks);
  let asked = 0;
  open = await testApp(() => undefined, {
    health: () => {
      asked += 1;
      return health();
    },
  });
  const { app } = open;
  expect((await app.inject({ url: "/healthz" })).json()).toEqual({ status: "ok" });
  const away = await app.inject({ url: "/readyz" });
  expect([away.statusCode, away.headers["retry-after"]]).toEqual([503, "2"]);
  expect(away.json()).toEqual({ status: "unavailable", checks });
  health = () => Promise.reject(new Error(CANARY));
  expect((await app.inject({ url: "/readyz" })).statusCode).toBe(503);
  health = () => new Promise(() => undefined);
  asked = 0;
  const answers = await Promise.all([1, 2, 3].map(() => app.inject({ url: "/readyz" })));
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([503, 503, 503]);
  expect(asked).toBe(1);
  expect(open.log()).not.toContain(CANARY);
});

test("closing lets what is under way finish, and closes its connection", async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
  open = await testApp(
    route("GET", "/thing", async () => {
      enter();
      await held;
      return { text: "done" };
    }),
  );
  const { app, auth } = open;
  const address = await app.listen({ port: 0, host: "127.0.0.1" });
  const answer = fetch(`${address}/thing`, { headers: auth });
  await entered;
  const closed = app.close();
  await expect(fetch(`${address}/healthz`)).rejects.toThrow(/fetch failed/);
  release();
  const { headers, status } = await answer;
  expect([status, headers.get("connection")]).toEqual([200, "close"]);
  await closed;
});
