// Many settings at once, all or none; and settings on their way to another owner, with both sides' rights.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  S3,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { projectOf, sql } from "./rights-kit.ts";
import { eventsOf, pathsOf, scoped, settingsOf } from "./settings-kit.ts";

type Event = { id: string; outcome: string; settings: { path: string }[] };

let broker: TestBroker;
let world: World;
let other: { type: string; id: string };
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  other = await projectOf(world.owner.api, world.organization, "other");
});
afterAll(() => broker.close());

const url = (query = {}) => settingsUrl(world.project, undefined, query, "/settings/import");
const imported = (settings: object[], query = {}, api = world.writer.api) =>
  api.post(url(query), { body: { settings } });
const custom = (name: string, value = `value of ${name}`) => ({ path: `secret/Custom/${name}`, value });

describe("import", () => {
  test("writes all, with metadata, in one event that names them; a second time nothing is written", async () => {
    const settings = [
      { ...custom("one/b"), labels: { team: "vision" }, rotate_after_days: 30 },
      custom("one/a"),
      { path: "connect/S3/one", value: S3 },
    ];
    const answer = await imported(settings);
    expect(answer.body).toEqual({
      dry_run: false,
      results: ["connect/S3/one", "secret/Custom/one/a", "secret/Custom/one/b"].map((path) => ({
        path,
        outcome: "created",
        version: 1,
      })),
    });
    const [event] = await eventsOf(world, answer);
    expect(event).toMatchObject({ action: "write", operation: "importSettings", details: { written: "3" } });
    expect(event.settings.map(({ path }: { path: string }) => path)).toEqual(
      answer.body.results.map(({ path }: { path: string }) => path),
    );
    const { settings: found } = await made(
      settingsOf(world.writer.api, world.project).open("secret/Custom/one"),
    );
    expect(found).toMatchObject([
      { value: "value of one/a" },
      { value: "value of one/b", labels: { team: "vision" }, rotate_after_days: 30 },
    ]);
    const again = await made(imported([custom("one/a"), { path: "connect/S3/one", value: S3 }]));
    expect(again.results.map(({ outcome }: { outcome: string }) => outcome)).toEqual([
      "unchanged",
      "unchanged",
    ]);
  });

  test("with `fail` one that exists stops all; `skip` leaves it; `overwrite` gives it a version", async () => {
    await made(imported([custom("two/a")]));
    const both = [custom("two/a", "new"), custom("two/b")];
    const refused = await imported(both);
    expect([refused.status, refused.body.code, refused.body.paths]).toEqual([
      409,
      "conflict",
      ["secret/Custom/two/a"],
    ]);
    const settings = settingsOf(world.writer.api, world.project);
    expect(pathsOf(await settings.list("secret/Custom/two"))).toEqual(["secret/Custom/two/a"]);
    const outcomes = async (query: object) =>
      (await made(imported(both, query))).results.map((each: { outcome: string; version: number }) => [
        each.outcome,
        each.version,
      ]);
    expect(await outcomes({ conflict: "overwrite", dry_run: "true" })).toEqual([
      ["overwritten", 1],
      ["created", 0],
    ]);
    expect(await outcomes({ conflict: "skip" })).toEqual([
      ["skipped", 1],
      ["created", 1],
    ]);
    expect((await settings.value("secret/Custom/two/a")).body.value).toBe("value of two/a");
    expect(await outcomes({ conflict: "overwrite" })).toEqual([
      ["overwritten", 2],
      ["unchanged", 1],
    ]);
    expect((await settings.value("secret/Custom/two/a")).body.value).toBe("new");
  });

  test("what is wrong is told all at once, by pointer and without content, and nothing is written", async () => {
    const { status, body, text } = await imported([
      custom("three/good"),
      { path: "secret/Custom/three/bad", value: "" },
      { path: "connect/S3/three", value: { access_key_id: "canary-7f3a9c" } },
      custom("three/good"),
      { path: "nowhere/Custom/x", value: "x" },
    ]);
    expect([status, body.code]).toEqual([422, "invalid_value"]);
    const pointers = body.errors.map(({ pointer }: { pointer: string }) => pointer);
    expect(pointers).toEqual([
      "/settings/1/value",
      "/settings/2/value/secret_access_key",
      "/settings/3/path",
      expect.stringMatching(/^\/settings\/4/),
    ]);
    expect(text).not.toContain("canary-7f3a9c");
    const settings = settingsOf(world.writer.api, world.project);
    expect(pathsOf(await settings.list("secret/Custom/three"))).toEqual([]);
  });

  test("a .env file: what `format=dotenv` renders comes back as it was", async () => {
    const text = `# a comment
export PLAIN=simple # and another
EMPTY_LINE_BELOW='literal \\n $HOME'

QUOTED="two\\nlines and \\"quotes\\""
mixedCase='spans
two lines'
`;
    const body = { dotenv: text, under: "secret/Custom/app" };
    const { results } = await made(world.writer.api.post(url(), { body }));
    expect(results.length).toBe(4);
    const render = settingsUrl(world.project, "secret/Custom/app", { format: "json" }, "/settings/render");
    const rendered = await made(world.writer.api.get(render));
    const names = typeof rendered === "string" ? JSON.parse(rendered) : rendered;
    expect(names).toEqual({
      PLAIN: "simple",
      EMPTY_LINE_BELOW: "literal \\n $HOME",
      QUOTED: 'two\nlines and "quotes"',
      mixedCase: "spans\ntwo lines",
    });
    const bad = await world.writer.api.post(url(), { body: { dotenv: "A=1\ncanary-7f3a9c\n" } });
    expect([bad.status, bad.body.errors]).toEqual([
      422,
      [{ in: "body", pointer: "/dotenv", detail: "Line 2 is neither an assignment nor a comment." }],
    ]);
  });

  test("rights: a reader may not; a scoped writer writes within its scope or nothing", async () => {
    expect((await imported([custom("four/a")], {}, world.reader.api)).status).toBe(403);
    expect((await imported([custom("four/a")], { dry_run: "true" }, world.reader.api)).status).toBe(403);
    expect((await imported([custom("four/a")], {}, world.stranger.api)).status).toBe(403);
    const narrow = await scoped(
      broker,
      world.owner.api,
      `write:project/${world.project.id}/secret/Custom/four`,
      `list:project/${world.project.id}/secret/Custom/four`,
    );
    expect((await imported([custom("four/a"), custom("five/a")], {}, narrow)).status).toBe(403);
    const settings = settingsOf(world.writer.api, world.project);
    expect(pathsOf(await settings.list("secret/Custom/four"))).toEqual([]);
    expect((await imported([custom("four/a")], {}, narrow)).status).toBe(200);
    const neither = await world.writer.api.post(url(), { body: {} });
    expect([neither.status, neither.body.code]).toEqual([400, "invalid_request"]);
  });

  test("after a restore new paths have numbers that no backup has seen, like any write's", async () => {
    await sql(broker, "UPDATE instance SET version_floor = 1000000");
    const { results } = await made(imported([custom("restored/a"), custom("restored/b")]));
    await sql(broker, "UPDATE instance SET version_floor = 0");
    expect(results.map(({ version }: { version: number }) => version)).toEqual([1_000_001, 1_000_001]);
  });

  test("two imports of the same paths at once: each is whole", async () => {
    const names = Array.from({ length: 40 }, (_, index) => `race/${index}`);
    const [one, two] = await Promise.all([
      imported(
        names.map((name) => custom(name, "one")),
        { conflict: "overwrite" },
      ),
      imported(
        names.toReversed().map((name) => custom(name, "two")),
        { conflict: "overwrite" },
      ),
    ]);
    expect([one.status, two.status]).toEqual([200, 200]);
    const { settings } = await made(settingsOf(world.writer.api, world.project).open("secret/Custom/race"));
    expect(
      new Set(settings.map(({ value, version }: { value: string; version: number }) => `${value} ${version}`))
        .size,
    ).toBe(1);
  });
});

describe("copy and move", () => {
  const at = (path: string, verb: string, owner = world.project) =>
    settingsUrl(owner, path, {}, `/settings/${verb}`);
  const to = (path: string, owner = other) => ({ owner_type: owner.type, owner_id: owner.id, path });

  test("value and metadata are copied; both owners' logs say so; what exists is not overwritten unasked", async () => {
    const path = "secret/Custom/copied";
    const here = settingsOf(world.owner.api, world.project);
    const there = settingsOf(world.owner.api, other);
    await made(here.put(path, "copied value", { labels: { team: "vision" }, description: "told" }));
    const answer = await world.owner.api.post(at(path, "copy"), { body: { to: to(path) } });
    expect([answer.status, answer.body.owner_id, answer.body.version]).toEqual([200, other.id, 1]);
    expect((await made(there.open(path))).settings).toMatchObject([
      { value: "copied value", labels: { team: "vision" }, description: "told" },
    ]);
    expect((await eventsOf(world, answer))[0]).toMatchObject({
      action: "decrypt",
      details: { to: `project/${other.id}/${path}` },
    });
    expect((await eventsOf(world, answer, other))[0]).toMatchObject({
      action: "write",
      operation: "copySetting",
    });
    expect((await world.owner.api.post(at(path, "copy"), { body: { to: to(path) } })).status).toBe(412);
    const again = { body: { to: to(path), overwrite: true } };
    expect((await world.owner.api.post(at(path, "copy"), again)).status).toBe(200);
    const type = await world.owner.api.post(at(path, "copy"), { body: { to: to("connect/S3/copied") } });
    expect(type.status).toBe(422);
  });

  test("a move leaves the source deleted, and restorable", async () => {
    const path = "secret/Custom/moved";
    const here = settingsOf(world.owner.api, world.project);
    await made(here.put(path, "moved value"));
    const answer = await world.owner.api.post(at(path, "move"), {
      body: { to: to("secret/Custom/arrived") },
    });
    expect(answer.status).toBe(200);
    expect((await here.value(path)).status).toBe(404);
    const there = settingsOf(world.owner.api, other);
    expect((await there.value("secret/Custom/arrived")).body.value).toBe("moved value");
    expect((await here.restore(path)).status).toBe(200);
  });

  test("each side decides: no decrypt at the source, no write at the target, no delete of what is moved", async () => {
    const path = "secret/Custom/guarded";
    await made(settingsOf(world.owner.api, world.project).put(path, "guarded"));
    const copy = { body: { to: to(path) } };
    expect((await world.reader.api.post(at(path, "copy"), copy)).status).toBe(403);
    const nowhere = await world.owner.api.post(at(path, "copy"), { body: { to: to("secret//x") } });
    expect(nowhere.body).toMatchObject({ status: 400, errors: [{ in: "body", pointer: "/to/path" }] });
    expect((await world.writer.api.post(at(path, "copy"), copy)).status).toBe(403);
    const { owner } = world;
    const readOnly = await scoped(
      broker,
      owner.api,
      `decrypt:project/${world.project.id}`,
      `write:project/${other.id}`,
      `list:project/${other.id}`,
    );
    expect((await readOnly.post(at(path, "move"), copy)).status).toBe(403);
    expect((await settingsOf(owner.api, other).value(path)).status).toBe(404);
    expect((await readOnly.post(at(path, "copy"), copy)).status).toBe(200);
    expect((await owner.api.post(at("secret/Custom/none", "copy"), copy)).status).toBe(404);
  });

  test("what the source allowed and the target refused is failed at the source, and follows", async () => {
    const path = "secret/Custom/stays";
    const { owner, writer, project } = world;
    await made(settingsOf(owner.api, project).put(path, "stays"));
    await made(settingsOf(owner.api, other).put(path, "is there"));
    for (const [api, verb, status, reason] of [
      [owner.api, "copy", 412, "precondition_failed"],
      [owner.api, "move", 412, "precondition_failed"],
      [writer.api, "copy", 403, "forbidden"],
    ] as const) {
      const answer = await api.post(at(path, verb), { body: { to: to(path) } });
      expect(answer.status).toBe(status);
      const events: Event[] = await eventsOf(world, answer);
      const [allowed, failed] = events.toSorted((one, two) => (one.id < two.id ? -1 : 1));
      expect(events).toHaveLength(2);
      expect(allowed).toMatchObject({ action: "decrypt", outcome: "allowed", follows: null });
      const { id: follows, settings } = allowed as Event;
      expect(failed).toMatchObject({ action: "decrypt", outcome: "failed", reason, follows, settings });
      expect(settings.map((each) => each.path)).toEqual([path]);
    }
    // Once it is at the target it has been disclosed; and it may be there where the commit failed.
    const outcomes = async (answer: Answer) =>
      (await eventsOf(world, answer)).map(({ outcome }: Event) => outcome);
    const answer = await owner.api.post(at(path, "copy"), { body: { to: to(`${path}/too`) } });
    expect(await outcomes(answer)).toEqual(["allowed"]);
    const raise = "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'full'; END $$";
    for (const [when, told] of [
      ["CONSTRAINT TRIGGER no AFTER INSERT ON settings DEFERRABLE INITIALLY DEFERRED", ["allowed"]],
      ["TRIGGER no AFTER INSERT ON settings", ["allowed", "failed"]],
    ] as const) {
      await sql(broker, raise, `CREATE ${when} FOR EACH ROW EXECUTE FUNCTION no()`);
      const unsaid = await owner.api.post(at(path, "copy"), { body: { to: to(`${path}/off`) } });
      await sql(broker, "DROP FUNCTION no CASCADE");
      expect([unsaid.status >= 500, (await outcomes(unsaid)).toSorted()]).toEqual([true, told]);
    }
  });
});
