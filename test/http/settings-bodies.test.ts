// Bad bodies to /settings get the status that the contract names, and an answer that repeats none of them.
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { type SettingsApi, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
const PATH = "secret/Custom/input";
const SECRET = "do-not-repeat-me";

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  await made(writer.put(PATH, "1"));
});
afterAll(() => broker.close());

const BAD = [400, "invalid_request"];
const codeOf = ({ status, body }: { status: number; body: { code: string } }) => [status, body.code];

/** A PUT whose body is these very bytes. */
async function raw(
  body: string | Uint8Array,
  headers: Record<string, string> = { "content-type": "application/json" },
  method: "PUT" | "PATCH" = "PUT",
) {
  const response = await fetch(broker.url + writer.url(PATH), {
    method,
    body,
    headers: { authorization: `Bearer ${world.writer.api.token}`, ...headers },
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: text === "" ? null : JSON.parse(text),
  };
}

/** A PUT's body of so many bytes. */
const bodyOf = (bytes: number) => `{"value": "1"${" ".repeat(bytes - 14)}}`;

describe("bodies", () => {
  test.each([
    ["no JSON", `{"value": "${SECRET}"`],
    ["nothing", ""],
    ["an array", `["${SECRET}"]`],
    ["a text", `"${SECRET}"`],
    ["null", "null"],
    ["an unknown field", `{"value": "1", "${SECRET}": 1}`],
    ["a duplicate key", `{"value": "1", "value": "${SECRET}"}`],
    ["a duplicate key, escaped", `{"value": "1", "\\u0076alue": "${SECRET}"}`],
    ["a duplicate key within", `{"value": "1", "labels": {"a": "1", "a": "${SECRET}"}}`],
    ["__proto__", `{"value": "1", "__proto__": {"x": "${SECRET}"}}`],
    ["__proto__ within", `{"value": "1", "labels": {"__proto__": "${SECRET}"}}`],
    ["a description that is no text", `{"value": "1", "description": ["${SECRET}"]}`],
    ["a lone surrogate in a description", `{"value": "1", "description": "${SECRET}\\ud800"}`],
    ["a NUL in a label", `{"value": "1", "labels": {"a": "\\u0000${SECRET}"}}`],
    ["a label of no allowed name", `{"value": "1", "labels": {"a b${SECRET}": "x"}}`],
    ["a number of days that is none", `{"value": "1", "rotate_after_days": 1.5}`],
  ])("%s: 400, and nothing of it is repeated", async (_name, body) => {
    const answer = await raw(body);
    expect(codeOf(answer)).toEqual(BAD);
    expect(answer.text).not.toContain(SECRET);
    expect(broker.log()).not.toContain(SECRET);
  });

  test.each([
    "soon",
    "2199-02-30T00:00:00Z",
    "2199-01-01",
    "2199-01-01T00:00:00",
    "2199-01-01T23:59:60Z",
    "9999-12-31T23:59:59-14:00",
    "+012345-01-01T00:00:00Z",
  ])("an expires_at of %s is refused, and named", async (expires_at) => {
    for (const answer of [
      await writer.put(PATH, "1", { expires_at }),
      await writer.patch(PATH, { expires_at }),
    ]) {
      expect([400, 422]).toContain(answer.status);
      expect(answer.body.errors).toMatchObject([{ in: "body", pointer: "/expires_at" }]);
    }
  });

  test("the same name in two objects, colons and quotes in texts are no duplicates", async () => {
    const body = {
      value: 'a":"a", "value": "\\',
      labels: { value: '{"x":1,"x":2}', labels: ":" },
      description: '\\":',
    };
    expect((await raw(JSON.stringify(body))).status).toBe(200);
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: "binary", maxLength: 40 }).filter((text) => !text.includes("\0")),
        async (description) => {
          expect((await raw(JSON.stringify({ value: "1", description }))).status).toBe(200);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("invalid UTF-8 is 400", async () => {
    const bytes = Buffer.concat([Buffer.from('{"value": "'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
    expect(codeOf(await raw(bytes))).toEqual(BAD);
  });

  test("another media type is 415, with PATCH too", async () => {
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "application/xml",
      "application/merge-patch+json",
    ])
      expect(codeOf(await raw('{"value": "1"}', { "content-type": type }))).toEqual([
        415,
        "unsupported_media_type",
      ]);
    expect(codeOf(await raw("{}", { "content-type": "text/plain" }, "PATCH"))).toEqual([
      415,
      "unsupported_media_type",
    ]);
    expect((await raw('{"value": "1"}', { "content-type": "application/json; charset=utf-8" })).status).toBe(
      200,
    );
  });

  test("no type at all is 415 as well; with PATCH it is told which patches are taken, and where else not", async () => {
    for (const type of ["text/plain", "json"]) {
      const patch = await raw("{}", { "content-type": type }, "PATCH");
      expect(codeOf(patch)).toEqual([415, "unsupported_media_type"]);
      expect(patch.body.detail).toBe("The body is to be application/json or application/merge-patch+json.");
      expect(patch.headers.get("accept-patch")).toBe("application/merge-patch+json, application/json");
      const put = await raw('{"value": "1"}', { "content-type": type });
      expect(put.body.detail).toBe("The body is to be application/json.");
      for (const { headers } of [patch, put]) expect(headers.get("accept-encoding")).toBeNull();
      expect(put.headers.get("accept-patch")).toBeNull();
    }
  });

  test("a body with a coding is 415, whether it has that coding or not, and none is taken by it", async () => {
    const json = "application/json";
    const plain = `{"value": "${SECRET}"}`;
    for (const [coding, body] of [
      ["br", plain],
      ["gzip", gzipSync(plain)],
      ["identity, gzip", gzipSync(plain)],
    ] as const) {
      for (const type of [json, "text/plain"]) {
        const answer = await raw(body, { "content-type": type, "content-encoding": coding });
        expect(codeOf(answer)).toEqual([415, "unsupported_media_type"]);
        expect(answer.body.detail).toBe("The body is to come without a Content-Encoding.");
        expect(answer.headers.get("accept-encoding")).toBe("identity");
      }
    }
    const patch = await raw("{}", { "content-type": json, "content-encoding": "br" }, "PATCH");
    expect([patch.status, patch.headers.get("accept-patch")]).toEqual([415, null]);
    for (const coding of ["identity", "Identity", ""])
      expect((await raw('{"value": "1"}', { "content-type": json, "content-encoding": coding })).status).toBe(
        200,
      );
  });

  test("a coding of no body, or of one that is not cared for, is passed over", async () => {
    const headers = { "content-encoding": "gzip" };
    const nothing = await raw("", { ...headers, "content-type": "application/json" });
    expect(codeOf(nothing)).toEqual(BAD);
    const { owner, project } = world;
    const ignored = await owner.api.post(settingsOf(owner.api, project).url(PATH, {}, "/settings/restore"), {
      body: "{}",
      headers,
    });
    expect(codeOf(ignored)).toEqual([409, "conflict"]);
  });

  test("a form with a coding is refused in OAuth's words, with the same header", async () => {
    const answer = await fetch(`${broker.url}/auth/token`, {
      method: "POST",
      body: "grant_type=client_credentials",
      headers: { "content-type": "application/x-www-form-urlencoded", "content-encoding": "br" },
    });
    expect([answer.status, answer.headers.get("accept-encoding")]).toEqual([415, "identity"]);
    expect(await answer.json()).toMatchObject({
      error: "invalid_request",
      error_description: "The body is to come without a Content-Encoding.",
    });
  });

  test("a bad token is told before a coding, and nothing of the coding", async () => {
    const answer = await raw("{}", {
      authorization: `Bearer cfr_${"0".repeat(49)}`,
      "content-type": "application/json",
      "content-encoding": "br",
    });
    expect([answer.status, answer.headers.get("accept-encoding")]).toEqual([401, null]);
  });

  test("over 256 KiB is 413, exactly that is not", async () => {
    expect((await raw(bodyOf(262_144))).status).toBe(200);
    expect(codeOf(await raw(bodyOf(262_145)))).toEqual([413, "too_large"]);
    expect(codeOf(await raw(JSON.stringify({ value: "x".repeat(65_537) })))).toEqual([413, "too_large"]);
  });

  test("no value is refused, and named", async () => {
    const answer = await raw("{}");
    expect([400, 422]).toContain(answer.status);
    expect(answer.body.errors[0].pointer).toBe("/value");
  });
});
