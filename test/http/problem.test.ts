// Whatever goes wrong is told by problem.ts alone: the right status for each code, and never a word of what was thrown.
import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { BrokerError, type ErrorCode } from "../../src/domain/errors.ts";
import { PROBLEMS } from "../../src/http/problem.ts";
import { CANARY, type TestApp, route, testApp } from "./app.ts";

let open: TestApp | null = null;
afterEach(async () => {
  await open?.app.close();
  open = null;
});

async function throwing(thrown: () => unknown): Promise<TestApp> {
  open = await testApp(
    route("GET", "/thing", () => {
      throw thrown();
    }),
  );
  return open;
}

const STATUSES: Record<ErrorCode, number> = {
  invalid_request: 400,
  invalid_reference: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  not_acceptable: 406,
  conflict: 409,
  expired: 410,
  destroyed: 410,
  precondition_failed: 412,
  too_large: 413,
  unsupported_media_type: 415,
  invalid_value: 422,
  rate_limited: 429,
  internal: 500,
  manager_failed: 502,
  unavailable: 503,
  invalid_client: 401,
  invalid_grant: 400,
  invalid_scope: 400,
  unsupported_grant_type: 400,
};

test("each code has its status, and the body is whole", async () => {
  let code: ErrorCode = "internal";
  const { app, auth } = await throwing(() => new BrokerError(code, "what went wrong", { paths: ["a/B/c"] }));
  for (const [each, status] of Object.entries(STATUSES)) {
    code = each as ErrorCode;
    const answer = await app.inject({ url: "/thing", headers: { ...auth, "x-request-id": "mine" } });
    expect(answer.statusCode).toBe(status);
    expect(answer.headers["content-type"]).toBe("application/problem+json");
    expect(answer.json()).toEqual({
      type: `urn:coffer:problem:${code}`,
      title: PROBLEMS[code].title,
      status,
      detail: "what went wrong",
      code,
      request_id: "mine",
      paths: ["a/B/c"],
    });
    expect(answer.headers["retry-after"]).toBe(status === 503 || status === 429 ? "1" : undefined);
  }
});

test.each([
  ["an error", () => new Error(CANARY)],
  [
    "an error that poses as the framework's",
    () => Object.assign(new Error(CANARY), { statusCode: 404, validation: [] }),
  ],
  ["an error whose message poses as a stack", () => new Error(`x\n    at ${CANARY} (file:///x.ts:1:1)`)],
  [
    "an error with telling fields",
    () => Object.assign(new Error("x"), { code: CANARY, name: CANARY, headers: { x: CANARY } }),
  ],
  ["an error with a cause", () => new Error("x", { cause: new Error(CANARY) })],
  ["a string", () => CANARY],
  ["a broker's error with a cause", () => new BrokerError("internal", "no", {}, new Error(CANARY))],
])("%s: fixed words out, none of it logged", async (_name, thrown) => {
  const { app, auth, log } = await throwing(thrown);
  const answer = await app.inject({ url: "/thing", headers: auth });
  expect(answer.statusCode).toBe(500);
  expect(answer.json()).toMatchObject({ code: "internal", title: "Internal error" });
  expect(answer.payload + JSON.stringify(answer.headers)).not.toContain(CANARY);
  expect(log()).not.toContain(CANARY);
  expect(log()).toContain('"fault"');
});

function fail(): never {
  throw new Error(CANARY);
}

test("an answer that cannot be serialized is a 500 that quotes nothing", async () => {
  open = await testApp(route("GET", "/thing", () => ({ text: { toString: fail } })));
  const answer = await open.app.inject({ url: "/thing", headers: open.auth });
  expect(answer.statusCode).toBe(500);
  expect(answer.headers.etag).toBeUndefined();
  expect(answer.payload).not.toContain(CANARY);
  expect(open.log()).not.toContain(CANARY);
});

test("fields that an answer's schema does not name stay here", async () => {
  open = await testApp(route("GET", "/thing", () => ({ text: "told", value: CANARY })));
  const answer = await open.app.inject({ url: "/thing", headers: open.auth });
  expect(answer.json()).toEqual({ text: "told" });
});

test("the uniform 403 is the same byte for byte but for the request id", async () => {
  const { app, auth } = await throwing(
    () => new BrokerError("forbidden", "You may not do this, or there is no such thing."),
  );
  const [one, other] = await Promise.all(
    ["aaaa", "bbbb"].map((id) => app.inject({ url: "/thing", headers: { ...auth, "x-request-id": id } })),
  );
  expect(one?.payload.replace("aaaa", "")).toBe(other?.payload.replace("bbbb", ""));
  expect(Object.keys(one?.headers ?? {})).toEqual(Object.keys(other?.headers ?? {}));
  expect(one?.headers["www-authenticate"]).toBeUndefined();
});

test("challenges say what RFC 6750 has them say", async () => {
  const { app, auth } = await throwing(
    () => new BrokerError("forbidden", "no", { reason: "token_scope", required: "write" }),
  );
  const scope = await app.inject({ url: "/thing", headers: auth });
  expect(scope.headers["www-authenticate"]).toBe('Bearer error="insufficient_scope"');
  expect(scope.json()).toMatchObject({ reason: "token_scope", required: "write" });
  const absent = await app.inject({ url: "/thing" });
  expect([absent.statusCode, absent.headers["www-authenticate"]]).toEqual([401, "Bearer"]);
  for (const authorization of [
    "Basic abc",
    "Bearer",
    "Bearer x",
    `Bearer ${"cfr_".padEnd(53, "A")}`,
    CANARY,
  ]) {
    const malformed = await app.inject({ url: "/thing", headers: { authorization } });
    expect([malformed.statusCode, malformed.headers["www-authenticate"]]).toEqual([
      401,
      'Bearer error="invalid_token"',
    ]);
  }
});

test("a bad token is told before anything else that is wrong, and asked about once", async () => {
  const refused = new BrokerError("unauthenticated", "The token is not valid.");
  open = await testApp(
    route("POST", "/thing", () => ({ text: "x" })),
    {},
    { identify: () => Promise.reject(refused) },
  );
  const { app, auth } = open;
  const wrong = [
    { payload: "{", headers: { "content-type": "application/json" } },
    { payload: "x", headers: { "content-type": "text/plain" } },
    { payload: "x".repeat(300_000), headers: { "content-type": "application/json" } },
    { payload: { name: 5 }, headers: {} },
    { payload: { name: "a" }, query: "?nope=1", headers: {} },
  ];
  for (const { payload, headers, query = "" } of wrong) {
    const answer = await app.inject({
      method: "POST",
      url: `/thing${query}`,
      payload,
      headers: { ...headers, ...auth },
    });
    expect(answer.statusCode).toBe(401);
  }
  expect(open.identified()).toBe(wrong.length);
});

test("a token that is well-formed is not looked up before the handler", async () => {
  open = await testApp(route("GET", "/thing", () => ({ text: "x" })));
  await open.app.inject({ url: "/thing", headers: open.auth });
  expect(open.identified()).toBe(0);
});

test("unknown routes are 404, known ones with another method 405; neither takes a token or reads a body", async () => {
  open = await testApp(route("GET", "/thing", () => ({ text: "x" })));
  const { app } = open;
  const lost = await app.inject({
    method: "POST",
    url: `/${CANARY}?${CANARY}`,
    payload: "{",
    headers: { "content-type": "application/json" },
  });
  expect([lost.statusCode, lost.json().code]).toEqual([404, "not_found"]);
  expect(lost.payload).not.toContain(CANARY);
  for (const method of ["POST", "OPTIONS", "DELETE", "TRACE"] as const) {
    const wrong = await app.inject({ method: method as "POST", url: "/thing?x=1" });
    expect([wrong.statusCode, wrong.headers.allow]).toEqual([405, "GET, HEAD"]);
  }
  const head = await app.inject({ method: "HEAD", url: "/thing", headers: open.auth });
  expect([head.statusCode, head.payload]).toEqual([200, ""]);
  const bad = await app.inject({ url: "/%zz" });
  expect([bad.statusCode, bad.json().code]).toEqual([400, "invalid_request"]);
  expect(bad.headers["x-content-type-options"]).toBe("nosniff");
  expect(open.log()).not.toContain(CANARY);
});

test("every answer has its id and the headers that keep it safe", async () => {
  open = await testApp(
    route("GET", "/thing", () => ({ text: "x" })),
    { publicUrl: "https://coffer.example" },
  );
  const { app, auth, token } = open;
  for (const [url, headers] of [
    ["/thing", auth],
    ["/thing", {}],
    ["/nope", {}],
    ["/healthz", {}],
  ] as const) {
    const answer = await app.inject({ url, headers });
    expect(answer.headers).toMatchObject({
      "x-request-id": expect.stringMatching(/^[0-9a-f-]{36}$/),
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "strict-transport-security": expect.any(String),
    });
  }
  for (const bad of ["a b", "x".repeat(129), "ü", "", token]) {
    const answer = await app.inject({ url: "/healthz", headers: { "x-request-id": bad } });
    expect(answer.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  }
});

test("what is no HTTP at all is told in a problem too", async () => {
  open = await testApp(route("GET", "/thing", () => ({ text: "x" })));
  await open.app.listen({ port: 0, host: "127.0.0.1" });
  const { port } = open.app.server.address() as AddressInfo;
  for (const [sent, status] of [
    [`${CANARY}\r\n\r\n`, "400"],
    [`GET / HTTP/1.1\r\nHost: x\r\nX: ${CANARY.repeat(2_000)}\r\n\r\n`, "431"],
  ] as const) {
    const told = await new Promise<string>((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => socket.write(sent));
      let text = "";
      socket.on("data", (chunk) => (text += String(chunk)));
      socket.on("close", () => resolve(text));
      socket.on("error", reject);
    });
    expect(told).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(told).toContain("application/problem+json");
    const { code, status: repeated } = JSON.parse(told.slice(told.indexOf("\r\n\r\n")));
    expect([code, repeated]).toEqual(["invalid_request", Number(status)]);
    expect(told).not.toContain(CANARY);
  }
  expect(open.log()).not.toContain(CANARY);
});
