// Contract section 3, "List and read": what a path selects, pages, filters, and what is withheld.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Api,
  REGISTRY,
  S3,
  type TestBroker,
  type World,
  furnish,
  made,
  startBroker,
} from "../harness/broker.ts";
import { type SettingsApi, attack, inSeconds, later, pathsOf, scoped, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
let reader: SettingsApi;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  reader = settingsOf(world.reader.api, world.project);
  for (const path of [
    "connect/S3/a",
    "connect/S3/a/deep",
    "connect/S3/a-b",
    "connect/S3/b/x",
    "connect/S3/b.y",
  ])
    await made(writer.put(path, { ...S3, bucket: path }));
  await made(writer.put("secret/Custom/one", "1", { labels: { team: "vision", tier: "a:b" } }));
  await made(writer.put("secret/Custom/two", "2", { labels: { team: "speech" } }));
  await made(writer.put("connect/ContainerRegistry/main", REGISTRY));
});
afterAll(() => broker.close());

describe("what a path selects", () => {
  test("match=auto: a live setting at exactly the path is that one alone, whatever lies under it", async () => {
    expect(pathsOf(await writer.list("connect/S3/a"))).toEqual(["connect/S3/a"]);
  });

  test("match=auto: where no setting stands, what lies under the path, segment by segment", async () => {
    expect(pathsOf(await writer.list("connect/S3/b"))).toEqual(["connect/S3/b/x"]);
    expect(pathsOf(await writer.list("connect"))).toEqual([
      "connect/ContainerRegistry/main",
      "connect/S3/a",
      "connect/S3/a-b",
      "connect/S3/a/deep",
      "connect/S3/b.y",
      "connect/S3/b/x",
    ]);
  });

  test("match=under and a trailing slash: what lies under it, and never the setting at the path itself", async () => {
    expect(pathsOf(await writer.list("connect/S3/a", { match: "under" }))).toEqual(["connect/S3/a/deep"]);
    expect(pathsOf(await writer.list("connect/S3/a/"))).toEqual(["connect/S3/a/deep"]);
    expect(pathsOf(await writer.list("connect/S3/a/", { match: "under" }))).toEqual(["connect/S3/a/deep"]);
  });

  test("match=exact: that setting, or 404", async () => {
    expect(pathsOf(await writer.list("connect/S3/a", { match: "exact" }))).toEqual(["connect/S3/a"]);
    for (const path of ["connect/S3/b", "connect/S3/none", "connect/S3"]) {
      const missing = await writer.list(path, { match: "exact" });
      expect([missing.status, missing.body.code]).toEqual([404, "not_found"]);
    }
  });

  test("match=exact never says 404 to who may not list there", async () => {
    const stranger = settingsOf(world.stranger.api, world.project);
    for (const path of ["connect/S3/none", "connect/S3"])
      expect((await stranger.list(path, { match: "exact" })).status).toBe(403);
  });

  test("no path: all of the owner's, ordered by path", async () => {
    const paths = pathsOf(await writer.list());
    expect(paths).toHaveLength(8);
    expect(paths).toEqual(paths.toSorted());
  });

  test("no match is 200 with an empty list", async () => {
    for (const path of ["connect/S3/none", "connect/S3/none/", "connect/S3/a/deep/er"]) {
      const { status, body } = await writer.list(path);
      expect([status, body]).toEqual([200, { settings: [], next_cursor: null }]);
    }
  });

  test("paths are case-sensitive", async () => {
    expect(pathsOf(await writer.list("connect/S3/A"))).toEqual([]);
  });

  test("another owner's settings never appear", async () => {
    const { owner, organization } = world;
    expect(pathsOf(await settingsOf(owner.api, organization).list())).toEqual([]);
  });
});

describe("filters", () => {
  test("type and label narrow the list", async () => {
    expect(pathsOf(await writer.list(undefined, { type: "container_registry" }))).toEqual([
      "connect/ContainerRegistry/main",
    ]);
    expect(pathsOf(await writer.list(undefined, { label: "team:vision" }))).toEqual(["secret/Custom/one"]);
    expect(pathsOf(await writer.list("secret/Custom", { label: "team:none" }))).toEqual([]);
    expect(pathsOf(await writer.list("secret", { label: "team:speech", type: "s3" }))).toEqual([]);
  });

  test("a label's value may hold a colon", async () => {
    expect(pathsOf(await writer.list(undefined, { label: "tier:a:b" }))).toEqual(["secret/Custom/one"]);
  });

  test("a full path that the filter does not fit is an empty list without an ETag", async () => {
    const { status, body, headers } = await writer.list("secret/Custom/one", { label: "team:speech" });
    expect([status, body.settings, headers.get("etag")]).toEqual([200, [], null]);
  });
});

describe("pages", () => {
  test("limit cuts pages; following next_cursor to null gives all, once each", async () => {
    const all = pathsOf(await writer.list());
    for (const limit of ["1", "3", "8"]) {
      const seen: string[] = [];
      let query: Record<string, string> = { limit };
      for (let more = true; more; ) {
        const page = await writer.list(undefined, query);
        expect(page.body.settings.length).toBeLessThanOrEqual(Number(limit));
        seen.push(...pathsOf(page));
        more = page.body.next_cursor !== null;
        query = { limit, cursor: page.body.next_cursor };
      }
      expect(seen).toEqual(all);
    }
  });

  test("a cursor survives inserts and deletes around it", async () => {
    const base = "secret/Custom/paged";
    for (const name of ["b", "d", "f"]) await made(writer.put(`${base}/${name}`, name));
    const first = await writer.list(base, { limit: "2" });
    expect(pathsOf(first)).toEqual([`${base}/b`, `${base}/d`]);
    await made(writer.remove(`${base}/d`));
    for (const name of ["a", "e"]) await made(writer.put(`${base}/${name}`, name));
    await made(writer.put(base, "now a setting stands at the path itself"));
    const second = await writer.list(base, { limit: "2", cursor: first.body.next_cursor });
    expect(pathsOf(second)).toEqual([`${base}/e`, `${base}/f`]);
    expect(second.body.next_cursor).toBeNull();
  });

  test("a page of values ends early past 1 MiB, and nothing is lost", async () => {
    const base = "secret/Custom/big";
    const value = "x".repeat(65_536);
    await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        made(writer.put(`${base}/${String(index).padStart(2, "0")}`, value)),
      ),
    );
    const first = await writer.open(base);
    expect(first.body.settings.length).toBeLessThan(20);
    expect(first.body.settings.length).toBeGreaterThanOrEqual(16);
    expect(first.body.next_cursor).not.toBeNull();
    const second = await writer.open(base, { cursor: first.body.next_cursor });
    expect(second.body.next_cursor).toBeNull();
    expect([...pathsOf(first), ...pathsOf(second)]).toEqual(pathsOf(await writer.list(base)));
    for (const { decrypted } of [...first.body.settings, ...second.body.settings])
      expect(decrypted).toBe(true);
  });

  test("a cursor does not tell that more lies out of the token's sight, however much", async () => {
    const base = "secret/Custom/large";
    const names = Array.from({ length: 20 }, (_, index) => String(index).padStart(2, "0"));
    await Promise.all(names.map((name) => made(writer.put(`${base}/${name}`, "x".repeat(65_536)))));
    const { project } = world;
    const opened = async (...seen: readonly string[]) => {
      const scopes = seen.map((name) => `decrypt:project/${project.id}/${base}/${name}`);
      const narrow = settingsOf(await scoped(broker, world.writer.api, ...scopes), project);
      const first = await narrow.open(base);
      const { next_cursor } = first.body;
      return [pathsOf(first), next_cursor && pathsOf(await narrow.open(base, { cursor: next_cursor }))];
    };
    expect(await opened("00")).toEqual([[`${base}/00`], null]);
    expect(await opened("00", "19")).toEqual([[`${base}/00`], [`${base}/19`]]);
  });

  test("a cursor names nothing that the token may not list, and no page before the last is empty", async () => {
    const base = "secret/Custom/veiled";
    for (const name of ["1-hidden", "2-seen", "3-hidden", "4-hidden", "5-seen", "6-hidden"])
      await made(writer.put(`${base}/${name}`, name));
    const { project } = world;
    const scope = (name: string) => `list:project/${project.id}/${base}/${name}`;
    const narrow = settingsOf(
      await scoped(broker, world.writer.api, scope("2-seen"), scope("5-seen")),
      project,
    );
    const seen: string[] = [];
    let query: Record<string, string> = { limit: "1" };
    for (let more = true; more; ) {
      const page = await narrow.list(base, query);
      const { next_cursor } = page.body;
      expect(page.body.settings.length === 1 || next_cursor === null).toBe(true);
      expect(Buffer.from(next_cursor ?? "", "base64url").toString()).not.toContain("hidden");
      seen.push(...pathsOf(page));
      more = next_cursor !== null;
      query = { limit: "1", cursor: next_cursor };
    }
    expect(seen).toEqual([`${base}/2-seen`, `${base}/5-seen`]);
  });
});

describe("values in a list", () => {
  test("decrypt=false touches no ciphertext: it answers where opening fails", async () => {
    const path = "secret/Custom/damaged";
    await made(writer.put(path, "whole"));
    await attack(
      broker,
      "UPDATE setting_versions SET sealed = '\\x00' WHERE setting_id = (SELECT id FROM settings WHERE path = $1)",
      [path],
    );
    const { status, body } = await writer.list(path);
    expect([status, body.settings[0].value, body.settings[0].decrypted]).toEqual([200, null, false]);
    expect("withheld" in body.settings[0]).toBe(false);
    expect((await writer.open(path)).status).toBe(502);
    await made(settingsOf(world.keeper.api, world.project).purge(path));
  });

  test("a caller who may list but not decrypt gets 200 with each row withheld: insufficient_role", async () => {
    const { status, body, text } = await reader.open("connect/S3");
    expect(status).toBe(200);
    expect(body.settings).toHaveLength(5);
    for (const each of body.settings)
      expect(each).toMatchObject({ decrypted: false, value: null, withheld: "insufficient_role" });
    expect(text).not.toContain(S3.secret_access_key);
  });

  test("rows outside the token's scope to decrypt are withheld: token_scope; those outside its scope to list are left out", async () => {
    const { project } = world;
    const at = `project/${project.id}/connect/S3`;
    const api: Api = await scoped(broker, world.writer.api, `decrypt:${at}/a`, `list:${at}/b`);
    const { body } = await settingsOf(api, project).open("connect/S3");
    expect(
      body.settings.map((each: { path: string; withheld?: string }) => [each.path, each.withheld]),
    ).toEqual([
      ["connect/S3/a", undefined],
      ["connect/S3/a/deep", undefined],
      ["connect/S3/b/x", "token_scope"],
    ]);
  });

  test("an exact path outside the token's scope is 403, whether or not it exists", async () => {
    const { project } = world;
    const api = settingsOf(
      await scoped(broker, world.writer.api, `list:project/${project.id}/connect/S3/a`),
      project,
    );
    for (const path of ["connect/S3/a-b", "connect/S3/none"])
      expect((await api.list(path, { match: "exact" })).status).toBe(403);
    expect((await api.list("connect/S3/a-b")).status).toBe(403);
  });

  test("whether a setting stands at a path that the token may not list is not told by what lies under it", async () => {
    const { project } = world;
    const at = `list:project/${project.id}/connect/S3`;
    const api = settingsOf(await scoped(broker, world.writer.api, `${at}/a/deep`, `${at}/b/x`), project);
    expect(pathsOf(await api.list("connect/S3/a"))).toEqual(["connect/S3/a/deep"]);
    expect(pathsOf(await api.list("connect/S3/b"))).toEqual(["connect/S3/b/x"]);
    for (const query of [{ match: "exact" }, { version: "1" }])
      for (const path of ["connect/S3/a", "connect/S3/b"])
        expect((await api.list(path, query)).status).toBe(403);
  });

  test("an expired setting is withheld in a list, and 410 expired in the strict read", async () => {
    const path = "secret/Custom/short-lived";
    await made(writer.put(path, "gone soon", { expires_at: inSeconds(60) }));
    expect((await writer.open(path)).body.settings[0].decrypted).toBe(true);
    await later(61, async () => {
      const { status, body, text } = await writer.open(path);
      expect([status, body.settings[0].withheld, body.settings[0].value]).toEqual([200, "expired", null]);
      expect(text).not.toContain("gone soon");
      const strict = await writer.value(path);
      expect([strict.status, strict.body.code]).toEqual([410, "expired"]);
    });
  });

  test("a soft-deleted setting is shown with include_deleted, by its own path too, and its value is withheld", async () => {
    const path = "secret/Custom/dropped";
    await made(writer.put(path, "bygone"));
    await made(writer.put(`${path}/below`, "alive"));
    await made(writer.remove(path));
    expect(pathsOf(await writer.list(path))).toEqual([`${path}/below`]);
    const shown = await writer.open(path, { include_deleted: "true" });
    expect(pathsOf(shown)).toEqual([path, `${path}/below`]);
    expect(shown.body.settings[0]).toMatchObject({ decrypted: false, value: null, withheld: "deleted" });
    expect(shown.body.settings[0].purge_at > shown.body.settings[0].deleted_at).toBe(true);
    expect(pathsOf(await writer.list(path, { include_deleted: "true", match: "exact" }))).toEqual([path]);
    expect(pathsOf(await writer.list("secret/Custom", { include_deleted: "true" }))).toContain(path);
    expect(pathsOf(await writer.list("secret/Custom"))).not.toContain(path);
    const pinned = { include_deleted: "true", version: "1" };
    expect(pathsOf(await writer.list(path, pinned))).toEqual([path]);
    expect(pathsOf(await writer.list(path, { ...pinned, match: "exact" }))).toEqual([path]);
  });
});
