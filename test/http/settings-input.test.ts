// Bad input of every kind to /settings gets the status that the contract names, and an answer that repeats none of it.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  REGISTRY,
  S3,
  type TestBroker,
  type World,
  furnish,
  made,
  startBroker,
} from "../harness/broker.ts";
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

const get = (suffix: string): Promise<Answer> => world.writer.api.get(writer.url(PATH) + suffix);
const codeOf = ({ status, body }: Answer) => [status, body.code];
const BAD = [400, "invalid_request"];
const INVALID = [422, "invalid_value"];

test("a refusal says what is asked for, and says it once", async () => {
  const { api } = world.writer;
  const said = async (answer: Promise<Answer>) =>
    (await answer).body.errors.map(({ detail }: { detail: string }) => detail);
  expect(await said(api.get("/settings?owner_type=project&owner_id=x"))).toEqual([
    "owner_id must be a UUID.",
  ]);
  expect(await said(get("&label=team"))).toEqual(["label must be a label, key:value."]);
  expect(await said(api.get("/tokens?cursor="))).toEqual(["cursor must not be empty."]);
  expect(await said(api.put(writer.url(PATH), { body: { value: "1", expires_at: 5 } }))).toEqual([
    "expires_at must be a string.",
  ]);
});

describe("cursors", () => {
  const cursor = (text: string): string => `&cursor=${Buffer.from(text).toString("base64url")}`;
  const list = (suffix: string): Promise<Answer> => world.writer.api.get(writer.url(undefined) + suffix);

  test("one that no page ended with is refused: none could tell it from the end of the list", async () => {
    for (const text of ["zzz", " ", "../..", "secret/Custom", "secret/Else/a", world.project.id, `${PATH}/`])
      expect([text, ...codeOf(await list(cursor(text)))]).toEqual([text, ...BAD]);
    expect((await list(cursor(`${PATH}-was`))).status).toBe(200);
  });

  test("an exact path takes none: what is there is never told as missing", async () => {
    expect(codeOf(await get(`&match=exact${cursor(`${PATH}-z`)}`))).toEqual(BAD);
    expect(codeOf(await get(`&match=exact${cursor("secret/Custom/a")}`))).toEqual(BAD);
  });
});

describe("parameters", () => {
  test.each([
    ["repeated", `&path=${PATH}`],
    ["repeated with the same text", "&decrypt=true&decrypt=true"],
    ["unknown", "&colour=blue"],
    ["another route's", "&purge=true"],
    ["no boolean", "&decrypt=1"],
    ["an empty boolean", "&decrypt="],
    ["a limit below 1", "&limit=0"],
    ["a limit above 1000", "&limit=1001"],
    ["no integer", "&limit=1e2"],
    ["a version below 1", "&version=0"],
    ["a version past all bounds", "&version=99999999999"],
    ["an unknown match", "&match=prefix"],
    ["an unknown type", "&type=azure"],
    ["a label without a colon", "&label=team"],
    ["a foreign cursor", "&cursor=%21%21"],
    ["bad percent-encoding", "&label=%E0%A4%A"],
    ["encoded invalid UTF-8", "&label=a:%FF"],
    ["a NUL", "&label=a:%00"],
    ["an encoded lone surrogate", "&label=a:%ED%A0%80"],
    ["a name of Object's", "&__proto__=x"],
  ])("%s: 400", async (_name, suffix) => {
    expect(codeOf(await get(suffix))).toEqual(BAD);
  });

  test("owner_type and owner_id are needed, and must be what they claim to be", async () => {
    const { api } = world.writer;
    const { id } = world.project;
    for (const query of [
      "",
      `owner_type=project`,
      `owner_id=${id}`,
      `owner_type=instance&owner_id=${id}`,
      "owner_type=project&owner_id=1",
    ])
      expect(codeOf(await api.get(`/settings?${query}`))).toEqual(BAD);
    expect((await api.get(`/settings?owner_type=project&owner_id=${id.toUpperCase()}`)).status).toBe(200);
  });

  test("path is needed on every verb that changes something", async () => {
    const { api } = world.writer;
    const query = `owner_type=project&owner_id=${world.project.id}`;
    expect((await api.put(`/settings?${query}`, { body: { value: "1" } })).status).toBe(400);
    expect((await api.delete(`/settings?${query}`)).status).toBe(400);
    expect((await api.post(`/settings/restore?${query}`)).status).toBe(400);
    expect((await api.get(`/settings/value?${query}`)).status).toBe(400);
  });

  test("a problem says in which part, at which pointer, and its request id", async () => {
    const { body, headers } = await get("&limit=0");
    expect(headers.get("content-type")).toBe("application/problem+json");
    expect(body).toMatchObject({
      status: 400,
      code: "invalid_request",
      request_id: headers.get("x-request-id"),
    });
    expect(body.errors[0]).toMatchObject({ in: "query", pointer: "/limit" });
  });
});

describe("paths", () => {
  const long = "x".repeat(65);
  test.each([
    "",
    "/secret/Custom/a",
    "secret//Custom/a",
    "secret/Custom/.",
    "secret/Custom/..",
    "secret/Custom/a/../b",
    "secret/Custom/-a",
    "secret/Custom/.a",
    "secret/Custom/a b",
    "secret/Custom/ä",
    "secret/Custom/a%b",
    "secret/Custom/a\\b",
    `secret/Custom/${long}`,
    `secret/Custom/${"x/".repeat(260)}x`,
  ])("%s breaks the grammar: 400 on every verb", async (path) => {
    for (const answer of [
      await writer.list(path),
      await writer.value(path),
      await writer.put(path, "1"),
      await writer.remove(path),
      await writer.versions(path),
    ])
      expect(codeOf(answer)).toEqual(BAD);
  });

  test("an unknown prefix is 422 and lists the known ones", async () => {
    for (const path of ["connect/Azure/a", "secret/custom/a", "elsewhere/S3/a"])
      for (const answer of [
        await writer.list(path),
        await writer.value(path),
        await writer.put(path, "1"),
        await writer.remove(path),
      ]) {
        expect(codeOf(answer)).toEqual(INVALID);
        for (const prefix of ["secret/Custom", "connect/S3", "connect/ContainerRegistry"])
          expect(answer.text).toContain(prefix);
      }
  });

  test("the longest paths and segments work, and every character that is allowed", async () => {
    const longest = `secret/Custom/${`${"x".repeat(61)}/`.repeat(8)}xx`;
    expect(longest).toHaveLength(512);
    for (const path of [longest, `secret/Custom/${"y".repeat(64)}`, "secret/Custom/_A.b@c-d_9/0"]) {
      await made(writer.put(path, "1"));
      expect((await writer.value(path)).body.value).toBe("1");
    }
    expect((await writer.put(`${longest}x`, "1")).status).toBe(400);
  });

  test("_ and % stand for themselves in a prefix", async () => {
    await made(writer.put("secret/Custom/a_c/x", "1"));
    await made(writer.put("secret/Custom/abc/x", "1"));
    expect((await writer.list("secret/Custom/a_c/")).body.settings).toHaveLength(1);
  });
});

describe("values", () => {
  test.each([
    ["secret/Custom/v", "", "/value"],
    ["secret/Custom/v", 5, "/value"],
    ["secret/Custom/v", null, "/value"],
    ["secret/Custom/v", { value: SECRET }, "/value"],
    ["secret/Custom/v", `${SECRET}\0`, "/value"],
    ["secret/Custom/v", `${SECRET}\ud800`, "/value"],
    ["connect/S3/v", SECRET, "/value"],
    ["connect/S3/v", [SECRET], "/value"],
    ["connect/S3/v", { access_key_id: SECRET }, "/value/secret_access_key"],
    ["connect/S3/v", { ...S3, [SECRET]: "x" }, "/value"],
    ["connect/S3/v", { ...S3, foo: SECRET }, "/value/foo"],
    ["connect/S3/v", { ...S3, constructor: SECRET }, "/value/constructor"],
    ["connect/S3/v", { ...S3, region: 7 }, "/value/region"],
    ["connect/S3/v", { ...S3, region: null }, "/value/region"],
    ["connect/S3/v", { ...S3, bucket: "" }, "/value/bucket"],
    ["connect/S3/v", { ...S3, force_path_style: SECRET }, "/value/force_path_style"],
    ["connect/ContainerRegistry/v", { ...REGISTRY, password: undefined }, "/value/password"],
    ["connect/ContainerRegistry/v", S3, "/value/registry"],
  ])("%s: %j is 422, naming the field and never the content", async (path, value, pointer) => {
    const answer = await writer.put(path, value);
    expect(codeOf(answer)).toEqual(INVALID);
    expect(answer.body.errors.map((each: { pointer: string }) => each.pointer)).toContain(pointer);
    expect(answer.text).not.toContain(SECRET);
    expect(broker.log()).not.toContain(SECRET);
  });

  test("unknown fields are named where they look like fields, and not without end", async () => {
    const said = async (more: object): Promise<string[]> =>
      (await writer.put("connect/S3/v", { ...S3, ...more })).body.errors.map(
        ({ pointer, detail }: { pointer: string; detail: string }) => `${pointer} ${detail.split(";")[0]}`,
      );
    const unknown = "/value value has an unknown field";
    expect(await said({ foo: "x", secret_key: "x" })).toEqual([
      "/value/foo foo is no field of this type",
      "/value/secret_key secret_key is no field of this type",
      unknown,
    ]);
    for (const name of ["AKIAEXAMPLE", "hunter2", "wJalrXUtnFEMI", "x".repeat(33), "a-b", "_a", "a__b", ""])
      expect([name, await said({ [name]: "x" })]).toEqual([name, [unknown]]);
    const many = Object.fromEntries(Array.from({ length: 26 * 26 }, (_, n) => [lettersOf(n), "x"]));
    const named = [0, 1, 2].map((n) => `/value/${lettersOf(n)} ${lettersOf(n)} is no field of this type`);
    expect(await said(many)).toEqual([...named, unknown]);
  });
});

const lettersOf = (n: number): string =>
  String.fromCharCode(97 + Math.floor(n / 26)) + String.fromCharCode(97 + (n % 26));

/** What a 405 allows. */
const methodsOf = async (api: Promise<Answer>) => {
  const { status, headers, body } = await api;
  expect([status, body.code]).toEqual([405, "method_not_allowed"]);
  return (headers.get("allow") ?? "").split(", ").toSorted();
};

describe("methods", () => {
  test("405 with Allow", async () => {
    const { api } = world.writer;
    expect(await methodsOf(api.post("/settings"))).toEqual(["DELETE", "GET", "HEAD", "PATCH", "PUT"]);
    expect(await methodsOf(api.put("/settings/value"))).toEqual(["GET", "HEAD"]);
    expect(await methodsOf(api.get("/settings/restore"))).toEqual(["POST"]);
    expect(await methodsOf(api.patch("/settings/versions"))).toEqual(["DELETE", "GET", "HEAD"]);
  });

  test("whoever sends rubbish with a bad token hears of the token alone", async () => {
    const { token } = world.writer.api;
    const bad = settingsOf(
      broker.as(`${token.slice(0, -1)}${token.endsWith("0") ? "1" : "0"}`),
      world.project,
    );
    for (const answer of [
      await bad.list("..", { limit: "0" }),
      await bad.put("x", 1),
      await bad.list("connect/Azure"),
    ]) {
      expect(codeOf(answer)).toEqual([401, "unauthenticated"]);
      expect(answer.headers.get("www-authenticate")).toBe('Bearer error="invalid_token"');
    }
  });
});
