// Input is read strictly, and refused without being repeated.
import { afterEach, expect, test } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import { entityTags, negotiate, timeOf } from "../../src/http/parsing.ts";
import { CANARY, type TestApp, route, testApp } from "./app.ts";

let open: TestApp | null = null;
afterEach(async () => {
  await open?.app.close();
  open = null;
});

async function echo(method: "GET" | "POST" | "PATCH" | "DELETE"): Promise<TestApp> {
  open = await testApp(
    route(method, "/thing", ({ query, body }: { query: object; body: unknown }) => ({
      text: JSON.stringify([{ ...query }, body ?? null]),
    })),
  );
  return open;
}

type Given = { readonly query?: string; readonly payload?: string | Buffer; readonly type?: string };

async function send({ app, auth }: TestApp, method: "GET" | "POST" | "PATCH" | "DELETE", given: Given) {
  const { query = "", payload, type = "application/json" } = given;
  const headers = payload === undefined ? auth : { ...auth, "content-type": type };
  return app.inject({
    method,
    url: `/thing${query}`,
    headers,
    ...(payload === undefined ? {} : { payload }),
  });
}

test.each([
  ["?count=5&flag=true&word=one", { count: 5, flag: true, word: "one" }],
  ["?count=-5&flag=false", { count: -5, flag: false }],
  ["?&count=0&&", { count: 0 }],
  ["?word=%6fne", { word: "one" }],
  ["?", {}],
])("the query %s is taken", async (query, expected) => {
  const answer = await send(await echo("GET"), "GET", { query });
  expect(JSON.parse(answer.json().text)).toEqual([expected, null]);
});

test.each([
  "?count=1e3",
  "?count=%205",
  "?count=+5",
  "?count=0x10",
  "?count=05",
  "?count=5.0",
  "?count=",
  "?count=99999999999999999999",
  "?flag=1",
  "?flag=TRUE",
  "?flag",
  "?word=three",
  "?count=1&count=2",
  "?count=1&%63ount=1",
  `?${CANARY}=1`,
  `?word=${CANARY}`,
  "?__proto__=1",
  "?constructor=1",
  "?word=%zz",
  "?word=%ff",
  "?word=%00",
  "?word=one%00",
])("the query %s is 400, and not repeated", async (query) => {
  const answer = await send(await echo("GET"), "GET", { query });
  expect([answer.statusCode, answer.json().code]).toEqual([400, "invalid_request"]);
  expect(answer.json().errors.length).toBeGreaterThan(0);
  expect(answer.json().errors[0].in).toBe("query");
  expect(answer.payload).not.toContain(CANARY);
  expect(open?.log()).not.toContain(CANARY);
});

test("bodies are JSON in UTF-8, and nothing in them is made something else", async () => {
  const app = await echo("POST");
  const good = await send(app, "POST", {
    payload: '{"name":"a","labels":{"__proto":"x","constructor":"y"}}',
  });
  expect(JSON.parse(good.json().text)[1]).toEqual({ name: "a", labels: { __proto: "x", constructor: "y" } });
  const bom = await send(app, "POST", {
    payload: '\u{feff}{"name":"a"}',
    type: "Application/JSON; charset=utf-8",
  });
  expect(bom.statusCode).toBe(200);
});

test.each([
  ["not JSON", `{"name": ${CANARY}`],
  ["not UTF-8", Buffer.from([0x22, 0xff, 0xfe, 0x22])],
  ["a lone surrogate's bytes", Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])],
  ["__proto__", '{"name":"a","__proto__":{"x":1}}'],
  ["an escaped __proto__", '{"name":"a","\\u005f\\u005fproto__":{"x":1}}'],
  ["a half-escaped __proto__", '{"name":"a","labels":{"_\\u005F\\u0070roto__":"x"}}'],
  ["constructor.prototype", '{"name":"a","labels":{"constructor":{"prototype":{}}}}'],
  ["a number in place of text", '{"name":5}'],
  ["text in place of a number", '{"name":"a","size":"5"}'],
  ["an unknown field", `{"name":"a","${CANARY}":1}`],
  ["a bad value under a made-up name", `{"name":"a","labels":{"${CANARY}":5}}`],
  ["a value that breaks a pattern", `{"name":"${CANARY.toUpperCase().slice(0, 8)}"}`],
  ["a missing field", "{}"],
  ["an array", "[]"],
  ["null", "null"],
  ["nothing", ""],
  ["much nesting", `${"[".repeat(100_000)}${"]".repeat(100_000)}`],
  ["much nesting that looks for trouble", `${'{"__p":'.repeat(20_000)}1${"}".repeat(20_000)}`],
])("%s is 400, and not repeated", async (_name, payload) => {
  const answer = await send(await echo("POST"), "POST", { payload });
  expect([answer.statusCode, answer.json().code]).toEqual([400, "invalid_request"]);
  expect(answer.payload.toLowerCase()).not.toContain(CANARY.slice(0, 8));
  expect(open?.log().toLowerCase()).not.toContain(CANARY.slice(0, 8));
  expect(({} as { x?: number }).x).toBeUndefined();
});

test("what is wrong is told by pointer and rule, all of it", async () => {
  const payload = '{"size":0,"labels":{"k":5},"name":"toolonganame1"}';
  const answer = await send(await echo("POST"), "POST", { payload });
  expect(answer.json().errors).toEqual([
    { in: "body", pointer: "/name", detail: "name must have at most 10 characters." },
    { in: "body", pointer: "/name", detail: "name does not have the form that is asked for." },
    { in: "body", pointer: "/size", detail: "size must be >= 1." },
    { in: "body", pointer: "/labels/*", detail: "labels/* must be a string." },
  ]);
});

test("a flood of wrong entries is told in part", async () => {
  const labels = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`k${index}`, index]));
  const answer = await send(await echo("POST"), "POST", { payload: JSON.stringify({ name: "a", labels }) });
  expect(answer.json().errors.length).toBeLessThanOrEqual(16);
});

test("other media types are 415; a merge patch is taken where the route says so", async () => {
  const payload = '{"name":"a"}';
  const post = await echo("POST");
  for (const type of [
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/merge-patch+json",
    CANARY,
    "a/b",
  ]) {
    const answer = await send(post, "POST", { payload, type });
    expect([answer.statusCode, answer.json().code]).toEqual([415, "unsupported_media_type"]);
    expect(answer.payload).not.toContain(CANARY);
  }
  await post.app.close();
  const patched = await send(await echo("PATCH"), "PATCH", { payload, type: "application/merge-patch+json" });
  expect(patched.statusCode).toBe(200);
});

test("a body over 256 KiB is 413, announced or not", async () => {
  const answer = await send(await echo("POST"), "POST", { payload: `{"name":"${"a".repeat(262_144)}"}` });
  expect([answer.statusCode, answer.json().code]).toEqual([413, "too_large"]);
});

test("where no body belongs, none and an ignored one are both fine", async () => {
  const app = await echo("DELETE");
  for (const given of [{}, { payload: "" }, { payload: "{" }, { payload: "x", type: "text/plain" }]) {
    const answer = await send(app, "DELETE", given);
    expect(JSON.parse(answer.json().text)).toEqual([{}, null]);
  }
});

test.each([
  [undefined, []],
  ["*", ["*"]],
  ['"a"', ['"a"']],
  ['"a", W/"b" ,"c,d"', ['"a"', 'W/"b"', '"c,d"']],
  ['"a",, "b",', ['"a"', '"b"']],
  ['""', ['""']],
])("entity tags: %s", (header, expected) => {
  expect(entityTags(header)).toEqual(expected);
});

test.each([
  "",
  "a",
  '"a',
  '"a" "b"',
  "*, *",
  '*, "a"',
  'w/"a"',
  '"a"b',
  '"a b"',
  ",",
  Array(65).fill('"a"').join(","),
])("no entity tags: %s", (header) => {
  expect(() => entityTags(header)).toThrow(BrokerError);
});

test.each([
  ["2026-01-15T09:30:00Z", "2026-01-15T09:30:00.000Z"],
  ["2026-01-15t09:30:00.123456z", "2026-01-15T09:30:00.123Z"],
  ["2026-01-15T09:30:00+05:30", "2026-01-15T04:00:00.000Z"],
  ["2028-02-29T00:00:00-00:00", "2028-02-29T00:00:00.000Z"],
])("the time %s", (text, expected) => {
  expect(timeOf(text, "body", "/expires_at").toISOString()).toBe(expected);
});

test.each([
  "2026-01-15",
  "2026-01-15T09:30:00",
  "2026-01-15 09:30:00Z",
  "2026-02-29T00:00:00Z",
  "2026-13-01T00:00:00Z",
  "2026-01-15T24:00:00Z",
  "2026-01-15T09:30:60Z",
  "2026-01-15T09:30:00+24:00",
  "+002026-01-15T09:30:00Z",
  "9999-12-31T23:59:59-14:00",
  "0001-01-01T00:00:00+14:00",
  CANARY,
  "",
])("no time: %s", (text) => {
  const refused = (() => {
    try {
      return timeOf(text, "body", "/expires_at");
    } catch (error) {
      return error as BrokerError;
    }
  })();
  expect(refused).toBeInstanceOf(BrokerError);
  expect((refused as BrokerError).message).not.toContain(CANARY);
  expect((refused as BrokerError).fields.errors).toMatchObject([{ in: "body", pointer: "/expires_at" }]);
});

function wants(accept?: string): string {
  return negotiate({ headers: { accept } } as never, ["application/json", "text/plain"]);
}

test("Accept is met or refused", () => {
  expect(wants()).toBe("application/json");
  expect(wants("*/*")).toBe("application/json");
  expect(wants("text/plain")).toBe("text/plain");
  expect(wants("text/*;q=0.9, application/json;q=0.5")).toBe("text/plain");
  expect(wants("text/plain;q=0, */*")).toBe("application/json");
  expect(wants("TEXT/PLAIN; charset=utf-8")).toBe("text/plain");
  expect(() => wants("text/html")).toThrow(BrokerError);
  expect(() => wants("application/json;q=0")).toThrow(BrokerError);
});
