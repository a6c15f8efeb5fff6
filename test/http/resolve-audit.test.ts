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
import { explain, refOf, resolve } from "./references-kit.ts";
import { type Owner, type SettingsApi, eventsOf, scoped, settingsOf } from "./settings-kit.ts";

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

describe("on record", () => {
  const recorded = async (answer: Answer, at?: Owner): Promise<Event[]> => eventsOf(world, answer, at);

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
