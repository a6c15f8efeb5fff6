// What is due and what is dead, as the report tells it; who would miss what is to go.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { narrower, projectOf, sql } from "./rights-kit.ts";
import { eventsOf, inSeconds, later, scoped, settingsOf } from "./settings-kit.ts";

const DAY = 86_400;

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
});
afterAll(() => broker.close());

type Owner = { type: string; id: string };
const report = (api: World["owner"]["api"], owner: Owner = world.project, query = {}) =>
  api.get(settingsUrl(owner, undefined, query, "/settings/report"));
const findingsOf = (body: { settings: { path: string; findings: string[] }[] }) =>
  Object.fromEntries(body.settings.map(({ path, findings }) => [path.split("/").at(-1), findings]));

describe("the report", () => {
  test("names what is overdue, expiring, expired, never read, unread, and readers pinned to an old version", async () => {
    const settings = settingsOf(world.writer.api, world.project);
    const path = (name: string) => `secret/Custom/found/${name}`;
    await made(settings.put(path("fine"), "x"));
    await made(settings.put(path("overdue"), "x", { rotate_after_days: 5 }));
    await made(settings.put(path("expired"), "x", { expires_at: inSeconds(9 * DAY) }));
    await made(settings.put(path("expiring"), "x", { expires_at: inSeconds(20 * DAY) }));
    await made(settings.put(path("unread"), "x"));
    await made(settings.put(path("pinned"), "x"));
    await made(settings.put(path("never"), "x"));
    for (const name of ["fine", "overdue", "expired", "expiring", "unread", "pinned"])
      await made(settings.value(path(name)));
    await later(9 * DAY - 60, () => made(settings.put(path("pinned"), "y")));
    await later(10 * DAY, async () => {
      await made(settings.value(path("pinned"), { version: "1" }));
      for (const name of ["fine", "overdue", "expiring"]) await made(settings.value(path(name)));
      const { body } = await report(world.reader.api, world.project, { unused_days: "5", within_days: "15" });
      expect(findingsOf(body)).toEqual({
        overdue: ["rotation_overdue"],
        expired: ["expired", "unread"],
        expiring: ["expiring"],
        unread: ["unread"],
        pinned: ["pinned_readers"],
        never: ["never_read"],
      });
      expect(body.totals).toEqual({
        settings: 7,
        rotation_overdue: 1,
        expiring: 1,
        expired: 1,
        never_read: 1,
        unread: 2,
        pinned_readers: 1,
      });
      const pinned = body.settings.find((each: { path: string }) => each.path === path("pinned"));
      expect(pinned).toMatchObject({
        version: 2,
        pinned_readers: [{ principal_id: world.writer.id, version: 1, last_read_at: expect.any(String) }],
      });
      const overdue = body.settings.find((each: { path: string }) => each.path === path("overdue"));
      expect(Date.parse(overdue.rotation_due_at)).toBeLessThan(Date.now());
    });
  });

  test("comes in pages that together are the whole", async () => {
    const whole = (await report(world.reader.api)).body;
    const paths: string[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const query: Record<string, string> = { limit: "2", ...(cursor === "" ? {} : { cursor }) };
      const { body } = await report(world.reader.api, world.project, query);
      expect(body.totals).toEqual(whole.totals);
      paths.push(...body.settings.map(({ path }: { path: string }) => path));
      cursor = body.next_cursor;
    }
    expect(paths).toEqual(whole.settings.map(({ path }: { path: string }) => path));
    const bad = { cursor: Buffer.from("no-uuid/x").toString("base64url") };
    expect((await report(world.reader.api, world.project, bad)).status).toBe(400);
  });

  test("an organization's owner sees all its projects; another member, and a confined token, only what is theirs", async () => {
    const { owner, organization, reader } = world;
    const second = await projectOf(owner.api, organization, "second");
    await made(settingsOf(owner.api, second).put("secret/Custom/elsewhere", "x"));
    await made(settingsOf(owner.api, organization).put("secret/Custom/above", "x"));
    const owners = (body: { settings: { owner_id: string }[] }) =>
      new Set(body.settings.map(({ owner_id }) => owner_id));
    expect(owners((await report(owner.api, organization)).body)).toEqual(
      new Set([organization.id, second.id, world.project.id]),
    );
    await made(
      owner.api.put(`/organizations/${organization.id}/members/${reader.id}`, { body: { role: "read" } }),
    );
    expect(owners((await report(reader.api, organization)).body)).toEqual(new Set([organization.id]));
    const confined = await scoped(broker, owner.api, `list:organization/${organization.id}`);
    expect(owners((await report(confined, organization)).body)).toEqual(new Set([organization.id]));
    const narrow = await scoped(broker, owner.api, `list:project/${world.project.id}/secret/Custom/found`);
    expect((await report(narrow)).status).toBe(403);
    expect((await report(world.stranger.api)).status).toBe(403);
  });

  test("tokens unused or about to expire: of service accounts to whoever may list them, else one's own", async () => {
    const { owner, organization, worker } = world;
    const idle = await worker("read");
    const { api: brief, id } = await narrower(broker, owner.api, {
      principal_id: idle.id,
      expires_in_days: 3,
    });
    await made(brief.get("/auth/me"));
    const tokensOf = async (api: World["owner"]["api"], at: Owner) =>
      (await report(api, at, { within_days: "7", unused_days: "1" })).body.tokens;
    expect(await tokensOf(owner.api, organization)).toEqual([
      expect.objectContaining({ id, principal_id: idle.id, name: "narrow", findings: ["expiring"] }),
    ]);
    expect(await tokensOf(owner.api, world.project)).toEqual([expect.objectContaining({ id })]);
    expect(await tokensOf(world.keeper.api, world.project)).toEqual([]);
    await sql(
      broker,
      `UPDATE tokens SET created_at = created_at - interval '2 days' WHERE id = '${idle.token_id}'`,
    );
    expect(await tokensOf(owner.api, organization)).toEqual([
      expect.objectContaining({ id: idle.token_id, findings: ["unused"], last_used_at: null }),
      expect.objectContaining({ id }),
    ]);
  });
});

describe("a dry run of a removal", () => {
  const path = "secret/Custom/doomed";
  const ask = (api: World["owner"]["api"], query = {}, at = "/settings") =>
    api.delete(settingsUrl(world.project, path, { dry_run: "true", ...query }, at));

  test("says who read it lately, of all versions or of one, and changes nothing", async () => {
    const settings = settingsOf(world.writer.api, world.project);
    await made(settings.put(path, "one"));
    expect((await ask(world.writer.api)).body).toMatchObject({
      readers: [],
      last_accessed_at: null,
      days: 90,
    });
    await made(settings.value(path));
    await made(settings.put(path, "two"));
    await made(settingsOf(world.keeper.api, world.project).value(path));
    const answer = await ask(world.writer.api);
    expect(answer.status).toBe(200);
    const whoAndWhich = (each: { principal_id: string; version: number }) => [
      each.principal_id,
      each.version,
    ];
    expect(answer.body.readers.map(whoAndWhich)).toEqual([
      [world.keeper.id, 2],
      [world.writer.id, 1],
    ]);
    const one = await ask(world.keeper.api, { version: "1" }, "/settings/versions");
    expect(one.body.readers.map(whoAndWhich)).toEqual([[world.writer.id, 1]]);
    expect((await later(10 * DAY, () => ask(world.writer.api, { days: "5" }))).body.readers).toEqual([]);
    expect((await settings.value(path)).body).toMatchObject({ value: "two", version: 2 });
    expect(await eventsOf(world, answer)).toMatchObject([
      { action: "list", operation: "deleteSetting", outcome: "allowed", details: { dry_run: "true" } },
    ]);
  });

  test("is held to the preconditions that the removal would be", async () => {
    const held = (tag: string, at = path) =>
      world.keeper.api.delete(settingsUrl(world.project, at, { dry_run: "true" }), {
        headers: { "if-match": tag },
      });
    expect((await held('"0"')).status).toBe(412);
    expect((await held("*", "secret/Custom/none")).status).toBe(412);
    expect((await held("*")).status).toBe(200);
  });

  test("finds what the removal would: what is deleted already can be purged, no version that never was destroyed", async () => {
    const at = "secret/Custom/deleted";
    const keeper = (query: Record<string, string>, where = "/settings") =>
      world.keeper.api.delete(settingsUrl(world.project, at, query, where));
    await made(settingsOf(world.keeper.api, world.project).put(at, "one"));
    expect((await keeper({ version: "77", dry_run: "true" }, "/settings/versions")).status).toBe(404);
    expect((await keeper({ version: "77" }, "/settings/versions")).status).toBe(404);
    await made(keeper({}));
    expect((await keeper({ dry_run: "true" })).status).toBe(404);
    expect((await keeper({ purge: "true", dry_run: "true" })).status).toBe(200);
    expect((await keeper({ purge: "true" })).status).toBe(204);
    expect((await keeper({ purge: "true", dry_run: "true" })).status).toBe(404);
  });

  test("takes the right that the removal takes", async () => {
    expect((await ask(world.reader.api)).status).toBe(403);
    expect((await ask(world.writer.api, { purge: "true" })).status).toBe(403);
    expect((await ask(world.writer.api, { version: "1" }, "/settings/versions")).status).toBe(403);
    expect((await ask(world.keeper.api, { purge: "true" })).status).toBe(200);
    const none = settingsUrl(world.project, "secret/Custom/none", { dry_run: "true" });
    expect((await world.writer.api.delete(none)).status).toBe(404);
    expect((await world.stranger.api.delete(none)).status).toBe(403);
  });
});
