// Contract section 3: ETag and 304 of reads, If-Match and If-None-Match of writes, and racing writers.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  S3,
  type TestBroker,
  type World,
  furnish,
  made,
  startBroker,
} from "../harness/broker.ts";
import { type SettingsApi, eventsOf, inSeconds, later, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
let keeper: SettingsApi;
let reader: SettingsApi;
let names = 0;
const fresh = () => `secret/Custom/p${(names += 1)}`;
const etagOf = ({ headers }: Answer): string => headers.get("etag") ?? "";
const codeOf = ({ status, body }: Answer) => [status, body.code];
const FAILED = [412, "precondition_failed"];

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  keeper = settingsOf(world.keeper.api, world.project);
  reader = settingsOf(world.reader.api, world.project);
});
afterAll(() => broker.close());

describe("ETag of a full path", () => {
  test("is a strong tag, the same in header and body; a list of several has none", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    for (const answer of [await writer.list(path), await writer.open(path), await reader.open(path)]) {
      expect(etagOf(answer)).toMatch(/^"[^"]+"$/);
      expect(answer.body.settings[0].etag).toBe(etagOf(answer));
    }
    expect((await writer.list("secret/Custom")).headers.get("etag")).toBeNull();
    const put = await writer.put(path, "2");
    expect([etagOf(put), put.body.etag]).toEqual([
      etagOf(await writer.list(path)),
      etagOf(await writer.list(path)),
    ]);
  });

  test("differs between metadata, decrypted and each kind of withheld, and between versions", async () => {
    const path = fresh();
    await made(writer.put(path, "1", { expires_at: inSeconds(60) }));
    await made(writer.put(path, "2"));
    const tags = [
      await writer.list(path),
      await writer.open(path),
      await writer.open(path, { version: "1" }),
      await reader.open(path),
      await later(61, () => writer.open(path)),
      await writer.value(path),
      await writer.value(path, {}, { accept: "text/plain" }),
    ].map(etagOf);
    expect(new Set(tags).size).toBe(tags.length);
  });

  test("changes with anything in the body but last_accessed_at", async () => {
    const path = fresh();
    const tags = [etagOf(await writer.put(path, "1"))];
    const step = async (answer: Promise<Answer>) => {
      await made(answer);
      tags.push(etagOf(await writer.list(path)));
    };
    await step(writer.put(path, "2"));
    await step(writer.patch(path, { description: "d" }));
    await step(writer.patch(path, { labels: { a: "b" } }));
    await step(writer.patch(path, { expires_at: inSeconds(3600) }));
    await step(writer.patch(path, { rotate_after_days: 3 }));
    await step(writer.rollback(path, 1));
    await made(writer.remove(path));
    await step(writer.restore(path));
    await made(keeper.purge(path));
    await step(writer.put(path, "1"));
    expect(new Set(tags).size).toBe(tags.length);
    const before = await writer.list(path);
    await made(writer.value(path));
    const after = await writer.list(path);
    expect(after.body.settings[0].last_accessed_at).not.toBe(before.body.settings[0].last_accessed_at);
    expect(etagOf(after)).toBe(etagOf(before));
  });
});

describe("If-None-Match of a read", () => {
  test("304 with the ETag and no body, in lists of tags, and by weak comparison", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    for (const read of [writer.list, writer.open, writer.value]) {
      const tag = etagOf(await read(path));
      for (const given of [tag, `"x", ${tag}`, `W/${tag}`, `,"a" ,, W/${tag},`]) {
        const answer = await read(path, {}, { "if-none-match": given });
        expect([answer.status, answer.text, etagOf(answer)]).toEqual([304, "", tag]);
      }
      for (const given of ['"x"', tag.replace(/"$/, 'x"'), "*"])
        expect((await read(path, {}, { "if-none-match": given })).status).toBe(200);
    }
  });

  test("only where a 200 would carry that very body", async () => {
    const path = fresh();
    await made(writer.put(path, "1", { expires_at: inSeconds(60) }));
    const opened = { "if-none-match": etagOf(await writer.open(path)) };
    expect((await writer.list(path, {}, opened)).status).toBe(200);
    expect((await reader.open(path, {}, opened)).status).toBe(200);
    expect((await writer.value(path, {}, opened)).status).toBe(200);
    await later(61, async () => {
      expect((await writer.open(path, {}, opened)).body.settings[0].withheld).toBe("expired");
      expect(
        (await writer.value(path, {}, { "if-none-match": etagOf(await writer.list(path)) })).status,
      ).toBe(410);
    });
    await made(writer.patch(path, { description: "new" }));
    expect((await writer.open(path, {}, opened)).status).toBe(200);
  });

  test("not for a field that the value has not, with whatever tag", async () => {
    const path = "connect/S3/fieldless";
    await made(writer.put(path, { access_key_id: "a", secret_access_key: "b", region: "r" }));
    const tag = { "if-none-match": etagOf(await writer.value(path, { field: "region" })) };
    expect((await writer.value(path, { field: "region" }, tag)).status).toBe(304);
    const made_up = { "if-none-match": tag["if-none-match"].replace("region", "bucket") };
    expect((await writer.value(path, { field: "bucket" }, made_up)).status).toBe(404);
  });

  test("needs the same rights: a tag is no way around a 403", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    const tag = { "if-none-match": etagOf(await writer.value(path)) };
    expect((await reader.value(path, {}, tag)).status).toBe(403);
    expect((await settingsOf(world.stranger.api, world.project).list(path, {}, tag)).status).toBe(403);
  });

  test("is audited as the read it is, and moves last_accessed_at where it stands for a value", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    const metadata = await writer.list(path, {}, { "if-none-match": etagOf(await writer.list(path)) });
    expect((await eventsOf(world, metadata))[0]).toMatchObject({ action: "list", outcome: "allowed", path });
    const tag = etagOf(await writer.open(path));
    const before = (await writer.list(path)).body.settings[0].last_accessed_at;
    await later(5, async () => {
      const again = await writer.open(path, {}, { "if-none-match": tag });
      expect(again.status).toBe(304);
      expect((await eventsOf(world, again))[0]).toMatchObject({
        action: "decrypt",
        outcome: "allowed",
        path,
      });
    });
    expect((await writer.list(path)).body.settings[0].last_accessed_at > before).toBe(true);
  });

  test("what is no entity tag is 400", async () => {
    for (const given of ["abc", '"unclosed', 'W/"a" "b"', ","])
      expect((await writer.list(fresh(), {}, { "if-none-match": given })).status).toBe(400);
  });
});

describe("preconditions of a write", () => {
  test('If-Match takes the ETag of any reading, or "<version>"; 412 when it is not current', async () => {
    const path = fresh();
    const first = etagOf(await writer.put(path, "1"));
    await made(writer.put(path, "2", {}, { "if-match": first }));
    expect(codeOf(await writer.put(path, "3", {}, { "if-match": first }))).toEqual(FAILED);
    expect(codeOf(await writer.put(path, "3", {}, { "if-match": '"1"' }))).toEqual(FAILED);
    await made(writer.put(path, "3", {}, { "if-match": '"2"' }));
    await made(writer.put(path, "4", {}, { "if-match": etagOf(await writer.value(path)) }));
    await made(writer.patch(path, { description: "d" }, { "if-match": etagOf(await writer.open(path)) }));
    await made(writer.put(path, "5", {}, { "if-match": `"x", ${etagOf(await reader.open(path))}` }));
    await made(writer.put(path, "6", {}, { "if-match": "*" }));
  });

  test("a weak tag, and the tag of an older version, are not the current state", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    const current = etagOf(await writer.put(path, "2"));
    expect(codeOf(await writer.put(path, "3", {}, { "if-match": `W/${current}` }))).toEqual(FAILED);
    const older = etagOf(await writer.open(path, { version: "1" }));
    expect(codeOf(await writer.put(path, "3", {}, { "if-match": older }))).toEqual(FAILED);
  });

  test("If-None-Match: * is 412 when it exists, and 201 when it does not", async () => {
    const path = fresh();
    const star = { "if-none-match": "*" };
    expect((await writer.put(path, "1", {}, star)).status).toBe(201);
    expect(codeOf(await writer.put(path, "1", {}, star))).toEqual(FAILED);
  });

  test("are judged first: before 404, 409, 410, and before what is wrong with the value", async () => {
    const path = fresh();
    const stale = { "if-match": '"7"' };
    expect(codeOf(await writer.patch(path, { description: "d" }, stale))).toEqual(FAILED);
    expect(codeOf(await writer.remove(path, stale))).toEqual(FAILED);
    expect(codeOf(await keeper.purge(path, stale))).toEqual(FAILED);
    expect(codeOf(await writer.restore(path, stale))).toEqual(FAILED);
    expect(codeOf(await writer.rollback(path, 1, stale))).toEqual(FAILED);
    expect(codeOf(await keeper.destroy(path, 1, stale))).toEqual(FAILED);
    await made(writer.put(path, "1"));
    expect(codeOf(await writer.restore(path, stale))).toEqual(FAILED);
    expect(codeOf(await writer.rollback(path, 9, stale))).toEqual(FAILED);
    expect(codeOf(await writer.put(path, 5, {}, stale))).toEqual(FAILED);
    expect(codeOf(await writer.put(path, "2", { expires_at: "2001-01-01T00:00:00Z" }, stale))).toEqual(
      FAILED,
    );
    expect(codeOf(await writer.put(path, "2", { storage: "manager", manager: "aws" }, stale))).toEqual(
      FAILED,
    );
  });

  test("but after the right: who may not write hears 403", async () => {
    expect((await reader.put(fresh(), "1", {}, { "if-match": '"7"' })).status).toBe(403);
  });

  test("see a soft-deleted setting as absent", async () => {
    const path = fresh();
    const tag = etagOf(await writer.put(path, "1"));
    await made(writer.remove(path));
    for (const given of [tag, '"1"', "*"]) {
      expect(codeOf(await writer.put(path, "2", {}, { "if-match": given }))).toEqual(FAILED);
      expect(codeOf(await writer.restore(path, { "if-match": given }))).toEqual(FAILED);
      expect(codeOf(await writer.rollback(path, 1, { "if-match": given }))).toEqual(FAILED);
    }
    expect((await writer.put(path, "2", {}, { "if-none-match": "*" })).status).toBe(201);
  });

  test("of 50 racing writers with one If-Match exactly one wins and 49 get 412", async () => {
    const path = fresh();
    const tag = etagOf(await writer.put(path, "start"));
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => writer.put(path, `racer ${index}`, {}, { "if-match": tag })),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    expect(statuses.filter((status) => status === 412)).toHaveLength(49);
    const winner = answers.findIndex(({ status }) => status === 200);
    expect((await writer.value(path)).body).toMatchObject({ version: 2, value: `racer ${winner}` });
  });

  test("of 20 racing creators with If-None-Match: * exactly one wins", async () => {
    const path = "connect/S3/raced";
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        writer.put(path, { ...S3, bucket: `b${index}` }, {}, { "if-none-match": "*" }),
      ),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 412)).toHaveLength(19);
  });

  test("30 free writers all land: versions 1 to 30 without gap or repeat", async () => {
    const path = fresh();
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, index) => writer.put(path, `free ${index}`)),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    const numbers = answers.map(({ body }) => body.version).toSorted((one, other) => one - other);
    expect(numbers).toEqual(Array.from({ length: 30 }, (_, index) => index + 1));
    const { versions } = await made(writer.versions(path));
    expect(versions).toHaveLength(30);
    for (const [index, { body }] of answers.entries())
      expect((await writer.value(path, { version: String(body.version) })).body.value).toBe(`free ${index}`);
  });
});

test("a header that is longer than openapi.yaml says is told, whatever it would have come to", async () => {
  const path = fresh();
  await made(writer.put(path, "1"));
  const long = `"${"x".repeat(5_000)}"`;
  for (const [name, answer] of [
    ["if-match", await writer.put(path, "2", {}, { "if-match": long })],
    ["if-none-match", await writer.put(path, "2", {}, { "if-none-match": long })],
    ["if-none-match", await writer.list(path, {}, { "if-none-match": long })],
  ] as const) {
    expect([name, ...codeOf(answer)]).toEqual([name, 400, "invalid_request"]);
    expect(answer.body.errors).toEqual([
      { in: "header", pointer: `/${name}`, detail: `${name} must have at most 4096 characters.` },
    ]);
  }
});
