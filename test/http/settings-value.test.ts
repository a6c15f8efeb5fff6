// Contract section 3, "Strict read of one value", and the fields that a Setting and its versions have.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { REGISTRY, S3, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { type SettingsApi, inSeconds, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
const TEXT = { accept: "text/plain" };

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  await made(writer.put("connect/S3/a", { ...S3, force_path_style: true }));
  await made(writer.put("connect/ContainerRegistry/r", REGISTRY));
  await made(writer.put("secret/Custom/c", "first"));
  await made(writer.put("secret/Custom/c", "second"));
});
afterAll(() => broker.close());

/** The type that a custom value comes as. */
const typeFor = async (accept: string) =>
  (await writer.value("secret/Custom/c", {}, { accept })).headers.get("content-type");

describe("the strict read", () => {
  test("answers {path, type, version, value} and nothing else, no-store", async () => {
    const { status, body, headers } = await writer.value("connect/S3/a");
    expect([status, body]).toEqual([
      200,
      { path: "connect/S3/a", type: "s3", version: 1, value: { ...S3, force_path_style: true } },
    ]);
    expect(headers.get("cache-control")).toBe("no-store");
  });

  test("version=N answers that version", async () => {
    expect((await writer.value("secret/Custom/c", { version: "1" })).body).toMatchObject({
      version: 1,
      value: "first",
    });
    expect((await writer.value("secret/Custom/c")).body).toMatchObject({ version: 2, value: "second" });
  });

  test("field answers that one field", async () => {
    expect((await writer.value("connect/S3/a", { field: "access_key_id" })).body.value).toBe(
      S3.access_key_id,
    );
    expect((await writer.value("connect/S3/a", { field: "force_path_style" })).body.value).toBe(true);
  });

  test("text/plain is the bare text: of a custom value, or of one field", async () => {
    const custom = await writer.value("secret/Custom/c", {}, TEXT);
    expect([custom.text, custom.headers.get("content-type")]).toEqual([
      "second",
      "text/plain; charset=utf-8",
    ]);
    expect((await writer.value("connect/ContainerRegistry/r", { field: "password" }, TEXT)).text).toBe(
      REGISTRY.password,
    );
    expect((await writer.value("connect/S3/a", { field: "force_path_style" }, TEXT)).text).toBe("true");
  });

  test("text/plain of a composite value without a field is 422, and names field", async () => {
    const { status, body } = await writer.value("connect/S3/a", {}, TEXT);
    expect([status, body.code, body.errors[0]]).toMatchObject([
      422,
      "invalid_value",
      { in: "query", pointer: "/field" },
    ]);
  });

  test("a field that the type does not have is 422; one that this value does not have is 404", async () => {
    for (const path of ["connect/S3/a", "secret/Custom/c"])
      expect((await writer.value(path, { field: "password" })).status).toBe(422);
    expect((await writer.value("connect/S3/a", { field: "region" })).status).toBe(404);
  });

  test("Accept is negotiated by weight and specificity; what cannot be had is 406", async () => {
    expect(await typeFor("*/*")).toMatch(/^application\/json/);
    expect(await typeFor("application/*")).toMatch(/^application\/json/);
    expect(await typeFor("text/*;q=0.5, application/json;q=0.4")).toMatch(/^text\/plain/);
    expect(await typeFor("text/plain;q=0, */*")).toMatch(/^application\/json/);
    expect(await typeFor("text/html, text/plain;q=0.1")).toMatch(/^text\/plain/);
    for (const accept of ["text/html", "image/*", "application/json;q=0"]) {
      const { status, body } = await writer.value("secret/Custom/c", {}, { accept });
      expect([status, body.code]).toEqual([406, "not_acceptable"]);
    }
  });

  test("is never a withheld row: 404, 403 and 410 instead", async () => {
    const missing = await writer.value("secret/Custom/none");
    expect([missing.status, missing.body.code]).toEqual([404, "not_found"]);
    const reader = settingsOf(world.reader.api, world.project);
    for (const path of ["secret/Custom/c", "secret/Custom/none"]) {
      const { status, body } = await reader.value(path);
      expect([status, body.reason, body.required]).toEqual([403, "insufficient_role", "decrypt"]);
    }
    expect((await writer.value("secret/Custom/c", { version: "3" })).status).toBe(404);
    await made(settingsOf(world.keeper.api, world.project).destroy("secret/Custom/c", 1));
    const destroyed = await writer.value("secret/Custom/c", { version: "1" });
    expect([destroyed.status, destroyed.body.code]).toEqual([410, "destroyed"]);
  });

  test("HEAD is the same without the body", async () => {
    const response = await fetch(broker.url + writer.url("secret/Custom/c", {}, "/settings/value"), {
      method: "HEAD",
      headers: { authorization: `Bearer ${world.writer.api.token}` },
    });
    expect([response.status, await response.text()]).toEqual([200, ""]);
    expect(response.headers.get("etag")).toBeTruthy();
  });
});

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const FIELDS = [
  ..."id ref owner_type owner_id path name type description labels storage manager version etag decrypted value".split(
    " ",
  ),
  ..."created_at created_by updated_at updated_by last_accessed_at expires_at rotate_after_days".split(" "),
  ..."rotation_due_at deleted_at purge_at".split(" "),
];

describe("a Setting", () => {
  test("has the fields of the contract and no others; location is absent for an envelope", async () => {
    const answers = [await writer.list("connect/S3/a"), await writer.open("connect/S3/a")];
    for (const { body } of answers) {
      expect(Object.keys(body).toSorted()).toEqual(["next_cursor", "settings"]);
      expect(Object.keys(body.settings[0]).toSorted()).toEqual(FIELDS.toSorted());
    }
    const reader = settingsOf(world.reader.api, world.project);
    const withheld = await reader.open("connect/S3/a");
    expect(Object.keys(withheld.body.settings[0]).toSorted()).toEqual([...FIELDS, "withheld"].toSorted());
    const put = await made(writer.put("secret/Custom/fields", "x"));
    expect(Object.keys(put).toSorted()).toEqual(FIELDS.toSorted());
  });

  test("says what it is: ref, name, ids as UUIDv7, times in RFC 3339 UTC", async () => {
    const { project, writer: by } = world;
    const setting = await made(
      writer.put("secret/Custom/deep/er/name", "x", {
        expires_at: "2199-01-02T03:04:05+01:00",
        rotate_after_days: 30,
        description: "d",
      }),
    );
    expect(setting).toMatchObject({
      ref: `project/${project.id}/secret/Custom/deep/er/name`,
      owner_type: "project",
      owner_id: project.id,
      name: "name",
      type: "custom",
      description: "d",
      labels: {},
      storage: "envelope",
      manager: "local",
      version: 1,
      decrypted: false,
      value: null,
      created_by: by.id,
      updated_by: by.id,
      last_accessed_at: null,
      expires_at: "2199-01-02T02:04:05.000Z",
      rotate_after_days: 30,
      deleted_at: null,
      purge_at: null,
    });
    expect(setting.id).toMatch(UUID_V7);
    for (const at of [setting.created_at, setting.updated_at, setting.expires_at, setting.rotation_due_at])
      expect(at).toMatch(TIME);
    expect(Date.parse(setting.rotation_due_at) - Date.parse(setting.created_at)).toBe(30 * 86_400_000);
  });

  test("a version has the fields of the contract and no others", async () => {
    const path = "secret/Custom/versioned";
    await made(writer.put(path, "1"));
    await made(writer.put(path, "2"));
    const { versions } = await made(writer.versions(path));
    expect(
      versions.map(({ version, state }: { version: number; state: string }) => [version, state]),
    ).toEqual([
      [1, "enabled"],
      [2, "enabled"],
    ]);
    const names = "version state created_at created_by last_accessed_at storage manager";
    expect(Object.keys(versions[0]).toSorted()).toEqual(names.split(" ").toSorted());
    expect(versions[0].created_at).toMatch(TIME);
    expect(versions[0].created_by).toBe(world.writer.id);
  });

  test("last_accessed_at moves on disclosure of the setting and of that version, and on nothing else", async () => {
    const path = "secret/Custom/watched";
    await made(writer.put(path, "1"));
    await made(writer.put(path, "2", { expires_at: inSeconds(3600) }));
    const seen = async () => (await writer.list(path)).body.settings[0].last_accessed_at;
    await writer.list(path);
    await writer.versions(path);
    await settingsOf(world.reader.api, world.project).open(path);
    expect(await seen()).toBeNull();
    await writer.value(path, { version: "1" });
    expect(await seen()).toMatch(TIME);
    const { versions } = await made(writer.versions(path));
    expect(versions[0].last_accessed_at).toMatch(TIME);
    expect(versions[1].last_accessed_at).toBeNull();
  });
});

describe("a user's own scope", () => {
  test("is that user's alone: not the instance admin's, not an organization owner's", async () => {
    const { admin } = broker;
    const { id } = await made(admin.get("/auth/me"));
    const mine = settingsOf(admin, { type: "user", id });
    await made(mine.put("secret/Custom/mine", "private"));
    expect((await mine.value("secret/Custom/mine")).body.value).toBe("private");
    for (const { api } of [world.owner, world.keeper]) {
      const other = settingsOf(api, { type: "user", id });
      expect((await other.list()).status).toBe(403);
      expect((await other.put("secret/Custom/mine", "x")).status).toBe(403);
    }
    const theirs = settingsOf(admin, { type: "user", id: world.owner.id });
    expect((await theirs.list()).status).toBe(403);
    expect((await settingsOf(admin, world.project).list()).status).toBe(403);
  });

  test("an organization has settings of its own, apart from its projects'", async () => {
    const { owner, organization, project } = world;
    await made(settingsOf(owner.api, organization).put("secret/Custom/c", "of the organization"));
    expect((await settingsOf(owner.api, organization).value("secret/Custom/c")).body.value).toBe(
      "of the organization",
    );
    expect((await settingsOf(owner.api, project).value("secret/Custom/c")).body.value).toBe("second");
  });
});
