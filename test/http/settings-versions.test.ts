// Contract section 3: deleting, restoring, purging, reviving; a setting's versions, destroying and rolling back.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { type SettingsApi, attack, later, pathsOf, scoped, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
let keeper: SettingsApi;
let names = 0;
const fresh = () => `secret/Custom/v${(names += 1)}`;
const codeOf = ({ status, body }: Answer) => [status, body.code];
const DAY = 86_400;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  keeper = settingsOf(world.keeper.api, world.project);
});
afterAll(() => broker.close());

describe("DELETE is soft", () => {
  test("204: gone from lists and reads, recoverable for 30 days", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    const deleted = await writer.remove(path);
    expect([deleted.status, deleted.text]).toEqual([204, ""]);
    expect(pathsOf(await writer.list("secret/Custom"))).not.toContain(path);
    expect(codeOf(await writer.value(path))).toEqual([404, "not_found"]);
    expect((await writer.versions(path)).status).toBe(404);
    expect((await writer.remove(path)).status).toBe(404);
    const [row] = (await writer.list(path, { include_deleted: "true", match: "exact" })).body.settings;
    expect((Date.parse(row.purge_at) - Date.parse(row.deleted_at)) / 1000).toBe(30 * DAY);
  });

  test("restore brings it back with its value, and is 409 for a live one, 404 for none", async () => {
    const path = fresh();
    const before = await made(writer.put(path, "1", { description: "kept" }));
    expect(codeOf(await writer.restore(path))).toEqual([409, "conflict"]);
    await made(writer.remove(path));
    const after = await writer.restore(path);
    expect([after.status, after.body]).toMatchObject([
      200,
      { id: before.id, version: 1, description: "kept", deleted_at: null, purge_at: null },
    ]);
    expect((await writer.value(path)).body.value).toBe("1");
    expect((await writer.restore(fresh())).status).toBe(404);
  });

  test("a PUT revives: 201, the same id, the next version, metadata as given; old versions are there", async () => {
    const path = fresh();
    const before = await made(
      writer.put(path, "1", { description: "old", labels: { a: "1" }, rotate_after_days: 9 }),
    );
    await made(writer.remove(path));
    const revived = await writer.put(path, "1", { labels: { b: "2" } });
    expect([revived.status, revived.body]).toMatchObject([
      201,
      {
        id: before.id,
        version: 2,
        description: null,
        rotate_after_days: null,
        deleted_at: null,
        purge_at: null,
      },
    ]);
    expect(revived.body.labels).toEqual({ b: "2" });
    expect((await writer.value(path, { version: "1" })).body.value).toBe("1");
  });

  test("after its time it is purged, and the path's number goes on", async () => {
    const path = fresh();
    const { id } = await made(writer.put(path, "1"));
    await made(writer.remove(path));
    await later(30 * DAY + 1, async () => {
      // Whether the sweeper came by yet or not.
      expect(codeOf(await writer.restore(path))).toEqual([404, "not_found"]);
      await broker.service.broker.purgeDue(100);
    });
    expect(pathsOf(await writer.list("secret/Custom", { include_deleted: "true" }))).not.toContain(path);
    expect((await writer.restore(path)).status).toBe(404);
    const again = await writer.put(path, "2");
    expect([again.status, again.body.version]).toEqual([201, 2]);
    expect(again.body.id).not.toBe(id);
  });

  test("one that somebody else called deleted and overdue is not purged, and stays once that is put back", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    await attack(broker, "UPDATE settings SET deleted_at = now(), purge_at = now() WHERE path = $1", [path]);
    const due = "SELECT FROM settings WHERE path = $1 AND purge_at <= now()";
    await until("the purge put off", async () => {
      await broker.service.broker.purgeDue(100);
      return (await attack(broker, due, [path])).rowCount === 0;
    });
    await attack(broker, "UPDATE settings SET deleted_at = NULL, purge_at = NULL WHERE path = $1", [path]);
    expect((await writer.value(path)).body.value).toBe("1");
  });
});

describe("purge", () => {
  test("needs destroy; destroys every value at once; a PUT after it: 201, new id, next version, the old ones 410", async () => {
    const path = fresh();
    const { id } = await made(writer.put(path, "1"));
    await made(writer.put(path, "2"));
    const refused = await writer.purge(path);
    expect([refused.status, refused.body.required]).toEqual([403, "destroy"]);
    expect((await keeper.purge(path)).status).toBe(204);
    expect(
      (await attack(broker, "SELECT 1 FROM setting_versions WHERE setting_id = $1", [id])).rowCount,
    ).toBe(0);
    expect((await writer.value(path)).status).toBe(404);
    expect((await keeper.purge(path)).status).toBe(404);
    const again = await writer.put(path, "3");
    expect([again.status, again.body.version]).toEqual([201, 3]);
    expect(again.body.id).not.toBe(id);
    for (const version of ["1", "2"]) {
      expect(codeOf(await writer.value(path, { version }))).toEqual([410, "destroyed"]);
      expect(codeOf(await writer.open(path, { version }))).toEqual([410, "destroyed"]);
      expect(codeOf(await writer.rollback(path, Number(version)))).toEqual([410, "destroyed"]);
      expect(codeOf(await keeper.destroy(path, Number(version)))).toEqual([410, "destroyed"]);
    }
    expect((await writer.value(path, { version: "4" })).status).toBe(404);
    expect(
      (await made(writer.versions(path))).versions.map(({ version }: { version: number }) => version),
    ).toEqual([3]);
  });

  test("takes a soft-deleted setting too", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    await made(writer.remove(path));
    expect((await keeper.purge(path)).status).toBe(204);
    expect((await writer.restore(path)).status).toBe(404);
  });

  test("purge=false is a soft delete", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    expect((await world.writer.api.delete(writer.url(path, { purge: "false" }))).status).toBe(204);
    await made(writer.restore(path));
  });
});

describe("version=N", () => {
  test("gives that version's value, number and ETag, with the setting's metadata", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    await made(writer.put(path, "2", { description: "now" }));
    const { body } = await writer.open(path, { version: "1" });
    expect(body.settings).toMatchObject([{ version: 1, value: "1", decrypted: true, description: "now" }]);
  });

  test("only with a full path: 400 under a prefix, 404 where no setting stands, 404 for an unknown number", async () => {
    const path = fresh();
    await made(writer.put(`${path}/x`, "1"));
    for (const prefix of ["secret/Custom", `${path}/`, undefined])
      expect(codeOf(await writer.list(prefix, { version: "1" }))).toEqual([400, "invalid_request"]);
    expect((await writer.list(`${path}/x`, { version: "1", match: "under" })).status).toBe(400);
    expect((await writer.list(path, { version: "1" })).status).toBe(404);
    expect((await writer.list(`${path}/x`, { version: "2" })).status).toBe(404);
  });
});

describe("destroying a version", () => {
  test("needs destroy; the value is gone for ever: 410 at once, `destroyed` in the list, others untouched", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    await made(writer.put(path, "2"));
    expect((await writer.destroy(path, 1)).status).toBe(403);
    expect((await keeper.destroy(path, 1)).status).toBe(204);
    expect((await keeper.destroy(path, 1)).status).toBe(204);
    expect(codeOf(await writer.value(path, { version: "1" }))).toEqual([410, "destroyed"]);
    expect(codeOf(await writer.open(path, { version: "1" }))).toEqual([410, "destroyed"]);
    expect(codeOf(await writer.rollback(path, 1))).toEqual([410, "destroyed"]);
    const { versions } = await made(writer.versions(path));
    expect(versions.map(({ state }: { state: string }) => state)).toEqual(["destroyed", "enabled"]);
    expect((await writer.value(path)).body.value).toBe("2");
    const { rows } = await attack(
      broker,
      "SELECT v.sealed FROM setting_versions v JOIN settings s ON s.id = v.setting_id WHERE s.path = $1 AND version = 1",
      [path],
    );
    expect(rows).toEqual([{ sealed: null }]);
  });

  test("the current one: 410 in the strict read, a withheld row in a list, and a PUT makes the next", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    const tag = (await writer.list(path)).headers.get("etag");
    await made(keeper.destroy(path, 1));
    expect((await writer.list(path)).headers.get("etag")).not.toBe(tag);
    expect(codeOf(await writer.value(path))).toEqual([410, "destroyed"]);
    const { status, body } = await writer.open(path);
    expect([status, body.settings[0].withheld]).toEqual([200, "destroyed"]);
    expect((await writer.put(path, "1")).body.version).toBe(2);
    expect((await writer.value(path)).body.value).toBe("1");
  });

  test("an unknown one is 404, one of a setting that is not there too", async () => {
    const path = fresh();
    expect((await keeper.destroy(path, 1)).status).toBe(404);
    await made(writer.put(path, "1"));
    expect((await keeper.destroy(path, 2)).status).toBe(404);
  });
});

describe("rollback", () => {
  test("makes a new version with N's value and leaves the rest as it is", async () => {
    const path = fresh();
    await made(writer.put(path, "1"));
    await made(writer.put(path, "2", { description: "kept" }));
    const { status, body, headers, text } = await writer.rollback(path, 1);
    expect([status, body.version, body.description, body.value]).toEqual([200, 3, "kept", null]);
    expect(headers.get("etag")).toBe(body.etag);
    expect(text).not.toContain('"1"');
    expect((await writer.value(path)).body).toMatchObject({ version: 3, value: "1" });
    expect((await writer.value(path, { version: "2" })).body.value).toBe("2");
  });

  test("needs write and a version that is there", async () => {
    const path = fresh();
    expect((await writer.rollback(path, 1)).status).toBe(404);
    await made(writer.put(path, "1"));
    expect((await writer.rollback(path, 2)).status).toBe(404);
    expect((await settingsOf(world.reader.api, world.project).rollback(path, 1)).status).toBe(403);
    const { project } = world;
    const narrow = settingsOf(
      await scoped(broker, world.writer.api, `decrypt:project/${project.id}`),
      project,
    );
    expect((await narrow.rollback(path, 1)).body).toMatchObject({ reason: "token_scope", required: "write" });
    await made(writer.remove(path));
    expect((await writer.rollback(path, 1)).status).toBe(404);
  });
});
