// Contract sections 3 and 7: what a request to /settings leaves on record before its answer is there.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { type SettingsApi, eventsOf, inSeconds, later, scoped, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
let keeper: SettingsApi;
let reader: SettingsApi;
const BASE = "secret/Custom/audited";
const PATH = `${BASE}/one`;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  keeper = settingsOf(world.keeper.api, world.project);
  reader = settingsOf(world.reader.api, world.project);
  await made(writer.put(PATH, "1"));
  await made(writer.put(`${BASE}/two`, "2", { expires_at: inSeconds(60) }));
});
afterAll(() => broker.close());

type Event = {
  action: string;
  outcome: string;
  reason?: string;
  path: string | null;
  user_agent: string | null;
  settings: { path: string; version: number | null }[];
};
const brief = (events: Event[]) =>
  events
    .map(({ action, outcome, reason }) => [action, outcome, reason ?? null])
    .toSorted((one, other) => (one.join() < other.join() ? -1 : 1));
const subjects = ({ settings }: Event) => settings.map(({ path, version }) => [path, version]);

async function recorded(answer: Answer): Promise<Event[]> {
  return eventsOf(world, answer);
}

describe("reads", () => {
  test("metadata is a list, allowed, with each setting that was shown", async () => {
    const [event] = await recorded(await reader.list(BASE));
    expect(event).toMatchObject({
      action: "list",
      outcome: "allowed",
      path: BASE,
      principal_id: world.reader.id,
      token_id: world.reader.token_id,
    });
    expect(subjects(event as Event)).toEqual([
      [PATH, 1],
      [`${BASE}/two`, 1],
    ]);
  });

  test("a User-Agent into which a script has put its token is not kept", async () => {
    const { token } = world.reader.api;
    const jwt = ["eyJhbGciOiJFUzI1NiJ9", "eyJzdWIiOiJ4In0", "c2lnbmF0dXJl"].join(".");
    for (const [agent, kept] of [
      [`curl/8 ${token}`, null],
      [`Bearer ${jwt}`, null],
      ["curl/8", "curl/8"],
    ] as const) {
      const [event] = await recorded(await reader.list(BASE, {}, { "user-agent": agent }));
      expect(event?.user_agent).toBe(kept);
    }
  });

  test("values are a decrypt, allowed; a strict read too, and one for text or a field", async () => {
    for (const answer of [
      await writer.open(BASE),
      await writer.value(PATH),
      await writer.value(PATH, {}, { accept: "text/plain" }),
    ])
      expect(brief(await recorded(answer))).toEqual([["decrypt", "allowed", null]]);
  });

  test("a version's read names that version", async () => {
    await made(writer.put(`${BASE}/three`, "1"));
    await made(writer.put(`${BASE}/three`, "2"));
    const [event] = await recorded(await writer.value(`${BASE}/three`, { version: "1" }));
    expect(subjects(event as Event)).toEqual([[`${BASE}/three`, 1]]);
    await made(keeper.purge(`${BASE}/three`));
  });

  test("what was withheld is denied, with its reason and the settings; what was shown beside it is allowed", async () => {
    const byRole = await recorded(await reader.open(BASE));
    expect(brief(byRole)).toEqual([
      ["decrypt", "denied", "insufficient_role"],
      ["list", "allowed", null],
    ]);
    const narrow = settingsOf(
      await scoped(
        broker,
        world.writer.api,
        `decrypt:project/${world.project.id}/${PATH}`,
        `list:project/${world.project.id}`,
      ),
      world.project,
    );
    const byScope = await recorded(await narrow.open(BASE));
    expect(brief(byScope)).toEqual([
      ["decrypt", "allowed", null],
      ["decrypt", "denied", "token_scope"],
    ]);
    expect(byScope.filter(({ outcome }) => outcome === "denied").flatMap(subjects)).toEqual([
      [`${BASE}/two`, 1],
    ]);
    await later(61, async () => {
      expect(brief(await recorded(await writer.open(BASE)))).toEqual([
        ["decrypt", "allowed", null],
        ["decrypt", "denied", "expired"],
      ]);
    });
  });

  test("an empty list is a read like any", async () => {
    expect(brief(await recorded(await writer.list("secret/Custom/none/")))).toEqual([
      ["list", "allowed", null],
    ]);
    expect(brief(await recorded(await writer.versions(PATH)))).toEqual([["list", "allowed", null]]);
  });

  test("404 and 410 are failed, with the code as reason", async () => {
    expect(brief(await recorded(await writer.value(`${BASE}/none`)))).toEqual([
      ["decrypt", "failed", "not_found"],
    ]);
    expect(brief(await recorded(await writer.list(`${BASE}/none`, { match: "exact" })))).toEqual([
      ["list", "failed", "not_found"],
    ]);
    await later(61, async () => {
      expect(brief(await recorded(await writer.value(`${BASE}/two`)))).toEqual([
        ["decrypt", "failed", "expired"],
      ]);
    });
  });

  test("a field that the value does not have: the failed event follows the allowed one", async () => {
    await made(writer.put("connect/S3/audited", { access_key_id: "a", secret_access_key: "b" }));
    const [allowed, failed] = await eventsOf(
      world,
      await writer.value("connect/S3/audited", { field: "region" }),
    );
    expect([allowed.outcome, failed.outcome, failed.follows]).toEqual(["allowed", "failed", allowed.id]);
  });
});

describe("denials", () => {
  test("403 is denied: in the owner's log, by whom, with the reason and what was required", async () => {
    const [event] = await eventsOf(world, await reader.value(PATH));
    expect(event).toMatchObject({
      action: "decrypt",
      outcome: "denied",
      reason: "insufficient_role",
      path: PATH,
      principal_id: world.reader.id,
    });
    const write = await eventsOf(world, await reader.put(PATH, "1"));
    expect(brief(write)).toEqual([["write", "denied", "insufficient_role"]]);
    const stranger = await eventsOf(world, await settingsOf(world.stranger.api, world.project).list());
    expect(brief(stranger)).toEqual([["list", "denied", "insufficient_role"]]);
    const purge = await eventsOf(world, await writer.purge(PATH));
    expect(brief(purge)).toEqual([["destroy", "denied", "insufficient_role"]]);
  });
});

describe("writes", () => {
  test("each kind is one event, allowed, with the setting and its version", async () => {
    const path = `${BASE}/written`;
    const steps: [string, () => Promise<Answer>, [string, number | null][]][] = [
      ["write", () => writer.put(path, "1"), [[path, 1]]],
      ["write", () => writer.put(path, "2"), [[path, 2]]],
      ["write", () => writer.put(path, "2"), [[path, 2]]],
      ["write", () => writer.patch(path, { description: "d" }), [[path, 2]]],
      ["write", () => writer.rollback(path, 1), [[path, 3]]],
      ["destroy", () => keeper.destroy(path, 2), [[path, 2]]],
      ["write", () => writer.remove(path), [[path, 3]]],
      ["write", () => writer.restore(path), [[path, 3]]],
      ["destroy", () => keeper.purge(path), [[path, null]]],
    ];
    for (const [action, step, settings] of steps) {
      const events = await recorded(await step());
      expect(brief(events)).toEqual([[action, "allowed", null]]);
      expect(subjects(events[0] as Event)).toEqual(settings);
    }
  });

  test("what came to nothing is failed, with the code as reason, and changed nothing", async () => {
    const before = (await writer.list(PATH)).headers.get("etag");
    const failures: [Answer, string, string][] = [
      [await writer.put(PATH, "x", {}, { "if-match": '"99"' }), "write", "precondition_failed"],
      [await writer.put(PATH, 5), "write", "invalid_value"],
      [await writer.put(PATH, "x".repeat(65_537)), "write", "too_large"],
      [await writer.restore(PATH), "write", "conflict"],
      [await writer.rollback(PATH, 9), "write", "not_found"],
      [await keeper.destroy(PATH, 9), "destroy", "not_found"],
    ];
    for (const [answer, action, reason] of failures)
      expect(brief(await recorded(answer))).toEqual([[action, "failed", reason]]);
    expect((await writer.list(PATH)).headers.get("etag")).toBe(before);
  });

  test("no event ever holds a value", async () => {
    await made(writer.put(`${BASE}/quiet`, "never-on-record"));
    await made(writer.value(`${BASE}/quiet`));
    const { owner, project } = world;
    const { text } = await owner.api.get(`/audit?owner_type=project&owner_id=${project.id}&limit=1000`);
    expect(text).not.toContain("never-on-record");
    expect(broker.log()).not.toContain("never-on-record");
  });
});
