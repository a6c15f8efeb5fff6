// Contract section 3, "Write": PUT and PATCH.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { REGISTRY, S3, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { type SettingsApi, inSeconds, later, scoped, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
let keeper: SettingsApi;
let names = 0;
const fresh = () => `secret/Custom/w${(names += 1)}`;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  keeper = settingsOf(world.keeper.api, world.project);
});
afterAll(() => broker.close());

describe("PUT", () => {
  test("201 when it creates, 200 with the next version otherwise", async () => {
    const path = fresh();
    const first = await writer.put(path, "1");
    expect([first.status, first.body.version]).toEqual([201, 1]);
    const second = await writer.put(path, "2");
    expect([second.status, second.body.version, second.body.id]).toEqual([200, 2, first.body.id]);
  });

  test("never echoes the value", async () => {
    const answers = [
      await writer.put(fresh(), "echo-me-not"),
      await writer.put("connect/S3/e", { ...S3, bucket: "echo-me-not" }),
      await writer.put("connect/S3/e", { ...S3, bucket: "echo-me-not" }),
    ];
    for (const { text, body } of answers) {
      expect(text).not.toContain("echo-me-not");
      expect([body.value, body.decrypted, "withheld" in body]).toEqual([null, false, false]);
    }
  });

  test("omitted fields keep what they were, null clears", async () => {
    const path = fresh();
    const given = {
      description: "d",
      labels: { a: "1", b: "2" },
      expires_at: "2199-01-01T00:00:00.000Z",
      rotate_after_days: 7,
    };
    await made(writer.put(path, "1", given));
    expect(await made(writer.put(path, "2"))).toMatchObject(given);
    expect(await made(writer.put(path, "3", { labels: { c: "3" } }))).toMatchObject({
      ...given,
      labels: { c: "3" },
    });
    const cleared = await made(
      writer.put(path, "4", { description: null, labels: null, expires_at: null, rotate_after_days: null }),
    );
    expect(cleared).toMatchObject({
      description: null,
      labels: {},
      expires_at: null,
      rotate_after_days: null,
      rotation_due_at: null,
    });
    expect(cleared.labels).toEqual({});
  });

  test("that would leave expires_at in the past is 422, whether given or kept", async () => {
    const path = fresh();
    const past = await writer.put(path, "1", { expires_at: inSeconds(-1) });
    expect([past.status, past.body.errors[0].pointer]).toEqual([422, "/expires_at"]);
    await made(writer.put(path, "1", { expires_at: inSeconds(60) }));
    await later(61, async () => {
      expect((await writer.put(path, "2")).status).toBe(422);
      expect((await writer.put(path, "1")).status).toBe(422);
      expect((await writer.put(path, "2", { expires_at: null })).body.version).toBe(2);
    });
  });

  test("a value equal to the current one makes no version; other given fields still apply", async () => {
    const path = "connect/S3/same";
    const first = await made(writer.put(path, S3));
    const again = await writer.put(path, {
      secret_access_key: S3.secret_access_key,
      access_key_id: S3.access_key_id,
    });
    expect([again.status, again.body.version, again.body.etag, again.body.updated_at]).toEqual([
      200,
      1,
      first.etag,
      first.updated_at,
    ]);
    const described = await made(writer.put(path, S3, { description: "new" }));
    expect([described.version, described.description]).toEqual([1, "new"]);
    expect(described.etag).not.toBe(first.etag);
    await made(writer.put(path, { ...S3, region: "eu" }));
    expect((await made(writer.put(path, S3))).version).toBe(3);
  });

  test("but a caller who may write and not decrypt learns nothing by it: always a version", async () => {
    const path = fresh();
    const { project } = world;
    const api = settingsOf(await scoped(broker, world.writer.api, `write:project/${project.id}`), project);
    await made(api.put(path, "same"));
    const again = await api.put(path, "same");
    expect([again.status, again.body.version]).toEqual([200, 2]);
    expect((await api.value(path)).status).toBe(403);
    expect((await api.list(path)).status).toBe(403);
  });

  test("storage or manager other than an enabled one is 422; the usual one may be named", async () => {
    const path = fresh();
    for (const given of [{ storage: "manager" }, { manager: "aws" }, { storage: "external", manager: "gcp" }])
      for (const api of [writer, keeper]) {
        const { status, body } = await api.put(path, "1", given);
        expect([status, body.code]).toEqual([422, "invalid_value"]);
      }
    expect((await writer.put(path, "1", { storage: "envelope", manager: "local" })).status).toBe(201);
  });

  test("by who may not: a reader, an admin and a stranger are refused, and nothing is there", async () => {
    const path = fresh();
    for (const api of [world.reader.api, world.stranger.api, broker.admin])
      expect((await settingsOf(api, world.project).put(path, "1")).status).toBe(403);
    expect((await writer.list(path)).body.settings).toEqual([]);
  });
});

/** The bytes of a plain answer, as they are: `text()` would take a byte order mark away. */
async function rawText(path: string) {
  const response = await fetch(broker.url + writer.url(path, {}, "/settings/value"), {
    headers: { authorization: `Bearer ${world.writer.api.token}`, accept: "text/plain" },
  });
  return { text: Buffer.from(await response.arrayBuffer()).toString("utf8") };
}

describe("values", () => {
  test("each type takes all its fields, and gives them back as they were", async () => {
    const full = {
      ...S3,
      session_token: "t",
      region: "r",
      bucket: "b",
      endpoint: "https://e",
      force_path_style: false,
    };
    await made(writer.put("connect/S3/full", full));
    expect((await writer.value("connect/S3/full")).body.value).toEqual(full);
    const registry = { ...REGISTRY, email: "a@b.c" };
    await made(writer.put("connect/ContainerRegistry/full", registry));
    expect((await writer.value("connect/ContainerRegistry/full")).body.value).toEqual(registry);
    expect((await writer.open("connect/ContainerRegistry/full")).body.settings[0].value).toEqual(registry);
  });

  test("any UTF-8 text without NUL comes back as it was, from both reads and as plain text", async () => {
    const path = fresh();
    const character = fc
      .string({ unit: "binary", minLength: 1, maxLength: 200 })
      .filter((text) => !text.includes("\0"));
    const hard = fc.constantFrom(
      "\ufeffbom",
      "\u2028\u2029",
      '"\\\n\r\t',
      " ",
      "{}",
      "null",
      "__proto__",
      "[redacted]",
      "é\u0301",
      "🦀",
    );
    await fc.assert(
      fc.asyncProperty(fc.oneof(character, hard), async (value) => {
        await made(writer.put(path, value));
        const { text: bare } = await rawText(path);
        expect((await writer.value(path)).body.value).toBe(value);
        expect((await writer.open(path)).body.settings[0].value).toBe(value);
        expect(bare).toBe(value);
      }),
      { numRuns: 60 },
    );
  });

  test("any text fits any field of a composite value", async () => {
    const part = fc
      .string({ unit: "binary", minLength: 1, maxLength: 80 })
      .filter((text) => !text.includes("\0"));
    await fc.assert(
      fc.asyncProperty(
        fc.record({ access_key_id: part, secret_access_key: part, bucket: part }),
        async (value) => {
          await made(writer.put("connect/S3/any", value));
          expect((await writer.value("connect/S3/any")).body.value).toEqual(value);
        },
      ),
      { numRuns: 30 },
    );
  });

  test("64 KiB exactly is taken, counted in bytes of UTF-8; one byte more is 413", async () => {
    const path = fresh();
    for (const value of ["x".repeat(65_536), "é".repeat(32_768), "🦀".repeat(16_384), '"'.repeat(65_536)]) {
      await made(writer.put(path, value));
      expect((await writer.value(path)).body.value).toBe(value);
    }
    for (const value of ["x".repeat(65_537), `${"é".repeat(32_768)}x`]) {
      const { status, body } = await writer.put(path, value);
      expect([status, body.code]).toEqual([413, "too_large"]);
    }
  });
});

const labelsOf = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, "v"]));

describe("PATCH", () => {
  test.each(["application/json", "application/merge-patch+json"])(
    "as %s merges metadata and makes no version",
    async (type) => {
      const path = fresh();
      const before = await made(
        writer.put(path, "1", { description: "d", labels: { a: "1", b: "2" }, rotate_after_days: 7 }),
      );
      const { status, body, headers } = await writer.patch(
        path,
        { labels: { b: null, c: "3" }, rotate_after_days: null },
        { "content-type": type },
      );
      expect(status).toBe(200);
      expect(body).toMatchObject({
        version: 1,
        description: "d",
        labels: { a: "1", c: "3" },
        rotate_after_days: null,
        value: null,
      });
      expect(body.labels).toEqual({ a: "1", c: "3" });
      expect(headers.get("etag")).toBe(body.etag);
      expect(body.etag).not.toBe(before.etag);
    },
  );

  test("labels: null removes all; an empty patch changes nothing", async () => {
    const path = fresh();
    const before = await made(writer.put(path, "1", { labels: { a: "1" } }));
    expect((await made(writer.patch(path, {}))).etag).toBe(before.etag);
    expect((await made(writer.patch(path, { labels: null }))).labels).toEqual({});
  });

  test("of a setting that is not there, or is soft-deleted, is 404", async () => {
    const path = fresh();
    expect((await writer.patch(path, { description: "d" })).status).toBe(404);
    await made(writer.put(path, "1"));
    await made(writer.remove(path));
    expect((await writer.patch(path, { description: "d" })).status).toBe(404);
  });

  test("a value is not to be patched", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    expect((await writer.patch(path, { value: "2" })).status).toBe(400);
    expect((await writer.value(path)).body.value).toBe("1");
  });

  test("64 labels are the most, also when they come in two patches", async () => {
    const path = fresh();
    await made(writer.put(path, "1", { labels: labelsOf(64) }));
    expect((await writer.patch(path, { labels: { more: "v" } })).status).toBe(422);
    await made(writer.patch(path, { labels: { k0: null, more: "v" } }));
  });

  test("a label may have any name that objects have of themselves", async () => {
    const path = fresh();
    const labels = { constructor: "c", toString: "t", hasOwnProperty: "h", valueOf: "v", "a/b.c-d_e": "" };
    expect((await made(writer.put(path, "1", { labels }))).labels).toEqual(labels);
    expect((await made(writer.patch(path, { labels: { constructor: null } }))).labels).not.toHaveProperty(
      "constructor",
      "c",
    );
    expect((await writer.list(undefined, { label: "toString:t" })).body.settings).toHaveLength(1);
  });
});
