// Contract sections 5 and 7: what resolving references leaves on record before its answer is there.
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
import { explain, refOf, resolve, resultsOf } from "./references-kit.ts";
import { NOBODY } from "./rights-kit.ts";
import {
  type Owner,
  type SettingsApi,
  attack,
  eventsOf,
  instanceEvents,
  scoped,
  settingsOf,
} from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  await made(writer.put("connect/S3/a", S3));
  await made(writer.put("secret/Custom/c", "first"));
  await made(writer.put("secret/Custom/c", "second"));
  await made(writer.put("secret/Custom/deep/er", "deeper"));
  await made(settingsOf(world.owner.api, world.organization).put("secret/Custom/of-org", "org"));
});
afterAll(() => broker.close());

const ref = (path: string, at: Owner = world.project) => refOf(path, at);

type Event = {
  id: string;
  action: string;
  outcome: string;
  reason: string | null;
  path: string | null;
  follows: string | null;
  settings: { path: string; version: number }[];
};
const brief = (events: Event[]) =>
  events
    .map(({ action, outcome, reason, path }) => [action, outcome, reason, path])
    .toSorted((one, other) => (one.join() < other.join() ? -1 : 1));
const shown = (events: Event[]) =>
  events
    .filter(({ outcome }) => outcome === "allowed")
    .flatMap(({ settings }) => settings.map(({ path, version }) => [path, version]));

/** Of the log nothing is written any more for which this holds, until the function is dropped. */
async function refuseEvents(when: string): Promise<void> {
  await attack(
    broker,
    "CREATE FUNCTION unwritable() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'full'; END $$",
  );
  await attack(
    broker,
    `CREATE TRIGGER unwritable BEFORE INSERT ON audit_events FOR EACH ROW
      WHEN (${when}) EXECUTE FUNCTION unwritable()`,
  );
}

describe("on record", () => {
  /** In the order in which they were made: one may get its position after one that came later. */
  const recorded = async (answer: Answer, at?: Owner): Promise<Event[]> => {
    const events: Event[] = await eventsOf(world, answer, at);
    return events.toSorted((one, other) => (one.id < other.id ? -1 : 1));
  };

  test("one event an owner, with the settings that were shown, before the answer", async () => {
    const refs = [
      ref("secret/Custom/c"),
      `${ref("secret/Custom/c")}?version=1`,
      ref("secret/Custom/deep/er"),
    ];
    const events = await recorded(await resolve(world.writer.api, refs));
    expect(brief(events)).toEqual([["decrypt", "allowed", null, "secret/Custom"]]);
    expect(shown(events)).toEqual([
      ["secret/Custom/c", 2],
      ["secret/Custom/c", 1],
      ["secret/Custom/deep/er", 1],
    ]);
    const { owner, organization, project } = world;
    const both = [ref("secret/Custom/c", project), ref("secret/Custom/of-org", organization)];
    const answer = await resolve(owner.api, both);
    expect(shown(await recorded(answer, project))).toEqual([["secret/Custom/c", 2]]);
    expect(shown(await recorded(answer, organization))).toEqual([
      ["secret/Custom/c", 2],
      ["secret/Custom/of-org", 1],
    ]);
  });

  test("explain is a list", async () => {
    const events = await recorded(await explain(world.writer.api, [ref("secret/Custom/c")]));
    expect(brief(events)).toEqual([["list", "allowed", null, "secret/Custom/c"]]);
    expect(shown(events)).toEqual([["secret/Custom/c", 2]]);
    expect(brief(await recorded(await explain(world.reader.api, [ref("secret/Custom/c")])))).toEqual([
      ["list", "allowed", null, "secret/Custom/c"],
    ]);
    expect(brief(await recorded(await explain(world.stranger.api, [ref("secret/Custom/c")])))).toEqual([
      ["list", "denied", "insufficient_role", "secret/Custom/c"],
    ]);
  });

  test("a denied item leaves a denied event with its path, beside what was allowed", async () => {
    expect(brief(await recorded(await resolve(world.reader.api, [ref("secret/Custom/c")])))).toEqual([
      ["decrypt", "denied", "insufficient_role", "secret/Custom/c"],
    ]);
    const api = await scoped(broker, world.writer.api, `decrypt:project/${world.project.id}/secret/Custom/c`);
    const refs = [ref("secret/Custom/c"), ref("connect/S3/a"), ref("secret/Custom/none")];
    const events = await recorded(await resolve(api, refs));
    expect(brief(events)).toEqual([
      ["decrypt", "allowed", null, null],
      ["decrypt", "denied", "token_scope", "connect/S3/a"],
      ["decrypt", "denied", "token_scope", "secret/Custom/none"],
    ]);
    expect(shown(events)).toEqual([["secret/Custom/c", 2]]);
    const explained = await recorded(await explain(api, refs));
    expect(brief(explained).map(([action, outcome]) => [action, outcome])).toEqual([
      ["list", "allowed"],
      ["list", "denied"],
      ["list", "denied"],
    ]);
  });

  test("where all is denied each path is named once, for a member, a stranger and an unknown owner alike", async () => {
    const nowhere = { type: "project", id: NOBODY };
    const paths = ["connect/S3/a", "secret/Custom/c", "secret/Custom/deep/er", "secret/Custom/none"];
    const refsAt = (at: Owner) => [
      ...paths.map((path) => ref(path, at)),
      `${ref("secret/Custom/c", at)}?version=1`,
      `${ref("connect/S3/a", at)}#region`,
    ];
    const named = (action: string) => paths.map((path) => [action, "denied", "insufficient_role", path]);
    const answers: unknown[] = [];
    for (const [api, at] of [
      [world.reader.api, world.project],
      [world.stranger.api, world.project],
      [world.stranger.api, nowhere],
    ] as const) {
      const answer = await resolve(api, refsAt(at));
      const events: Event[] =
        at === nowhere ? await instanceEvents(broker, answer) : await recorded(answer, world.project);
      expect(brief(events)).toEqual(named("decrypt"));
      expect(events.map(({ settings }) => settings)).toEqual(events.map(() => []));
      answers.push(resultsOf(answer).map(({ ref: _ref, ...rest }) => rest));
    }
    const [member, stranger, unknown] = answers;
    expect(stranger).toEqual(unknown);
    expect(member).toEqual(
      refsAt(world.project).map(() => expect.objectContaining({ status: 403, reason: "insufficient_role" })),
    );
    const explained = await explain(world.stranger.api, refsAt(world.project));
    expect(brief(await recorded(explained))).toEqual(named("list"));
  });

  test("a path of which several versions are denied is named once beside what was allowed, too", async () => {
    const api = await scoped(broker, world.writer.api, `decrypt:project/${world.project.id}/connect`);
    const refs = [ref("connect/S3/a"), ref("secret/Custom/c"), `${ref("secret/Custom/c")}?version=1`];
    expect(brief(await recorded(await resolve(api, refs)))).toEqual([
      ["decrypt", "allowed", null, null],
      ["decrypt", "denied", "token_scope", "secret/Custom/c"],
    ]);
  });

  test("a hundred denied paths are all on record, and the answer waits for the last of them", async () => {
    const paths = Array.from({ length: 100 }, (_, index) => `secret/Custom/many/n${100 + index}`);
    const refs = paths.map((path) => ref(path));
    const answer = await resolve(world.stranger.api, refs);
    expect(brief(await recorded(answer))).toEqual(
      paths.map((path) => ["decrypt", "denied", "insufficient_role", path]),
    );
    await refuseEvents(`NEW.path = '${paths.at(-1)}'`);
    const untold = await resolve(world.stranger.api, refs);
    await attack(broker, "DROP FUNCTION unwritable CASCADE");
    expect([untold.status, untold.body.code]).toEqual([503, "unavailable"]);
    expect((await resolve(world.stranger.api, refs)).status).toBe(200);
  });

  test("what is not there is failed, with the code and the path", async () => {
    const refs = [ref("secret/Custom/c"), ref("secret/Custom/none"), `${ref("connect/S3/a")}#password`];
    expect(brief(await recorded(await resolve(world.writer.api, refs)))).toEqual([
      ["decrypt", "allowed", null, null],
      ["decrypt", "failed", "invalid_value", "connect/S3/a"],
      ["decrypt", "failed", "not_found", "secret/Custom/none"],
    ]);
  });

  test("what was permitted and then not disclosed is failed, and follows", async () => {
    const answer = await resolve(world.writer.api, [`${ref("connect/S3/a")}#region`]);
    const [allowed, failed] = (await recorded(answer)) as [Event, Event];
    expect([allowed.outcome, failed.outcome, failed.reason, failed.follows]).toEqual([
      "allowed",
      "failed",
      "not_found",
      allowed.id,
    ]);
    expect(failed.settings.map(({ path }) => path)).toEqual(["connect/S3/a"]);
  });

  test("a version by its number and as the current one is opened once; one reference that does not fit hides no other", async () => {
    const fields = `${ref("connect/S3/a")}#region`;
    for (const refs of [
      [fields, `${ref("connect/S3/a")}?version=1`],
      [`${ref("connect/S3/a")}?version=1`, fields],
    ]) {
      const answer = await resolve(world.writer.api, refs);
      expect(resultsOf(answer).map((each) => "value" in each)).toEqual(refs.map((each) => each !== fields));
      const events = await recorded(answer);
      expect(brief(events)).toEqual([["decrypt", "allowed", null, "connect/S3/a"]]);
      expect(shown(events)).toEqual([["connect/S3/a", 1]]);
    }
  });

  test("where a later owner's cannot be had, what the earlier ones had allowed is failed, and follows", async () => {
    const { owner, project, organization } = world;
    const mine = settingsOf(owner.api, project);
    await made(mine.put("secret/Custom/first", "first"));
    const refs = [ref("secret/Custom/first"), `${ref("connect/S3/a")}#region`];
    const all = [...refs, ref("secret/Custom/of-org", organization)];
    await refuseEvents(`NEW.owner_id = '${organization.id}'`);
    const answers = [await resolve(owner.api, all), await explain(owner.api, all)];
    const none = await resolve(owner.api, all.slice(1));
    await attack(broker, "DROP FUNCTION unwritable CASCADE");
    for (const [index, answer] of answers.entries()) {
      expect([answer.status, answer.body.code]).toEqual([503, "unavailable"]);
      const events = await recorded(answer);
      const allowed = events.find(({ outcome }) => outcome === "allowed");
      const failed = events.filter(({ follows }) => follows !== null && follows === allowed?.id);
      expect(allowed?.action).toBe(index === 0 ? "decrypt" : "list");
      // What was on record as failed already (a value without that field) is not told again.
      const settings = failed.flatMap((each) => each.settings.map(({ path }) => path));
      expect(settings.toSorted()).toEqual(allowed?.settings.map(({ path }) => path).toSorted());
      expect(failed.map(({ reason }) => reason)).toContain("unavailable");
    }
    const [, failed, ...more] = await recorded(none);
    expect([failed?.reason, failed?.settings.length, more]).toEqual(["not_found", 1, []]);
    expect((await made(mine.list("secret/Custom/first"))).settings[0].last_accessed_at).toBeNull();
    expect((await resolve(owner.api, all)).status).toBe(200);
  });

  test("no event and no log line holds a value, nor text that is no reference", async () => {
    await made(writer.put("secret/Custom/quiet", "never-on-record"));
    await resolve(world.writer.api, [ref("secret/Custom/quiet"), "never-on-record-either"]);
    const { owner, project, organization } = world;
    for (const { type, id } of [project, organization]) {
      const { text } = await owner.api.get(`/audit?owner_type=${type}&owner_id=${id}&limit=1000`);
      expect(text).not.toContain("never-on-record");
    }
    expect(broker.log()).not.toContain("never-on-record");
  });
});
