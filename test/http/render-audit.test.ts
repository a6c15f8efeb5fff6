// Contract sections 5 and 7: how large a rendering may be, what it costs, and what it leaves on record.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type TestBroker, type World, furnish, made } from "../harness/broker.ts";
import { settingsUrl, startBroker } from "../harness/broker.ts";
import { type SettingsApi, eventsOf, scoped, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  for (const name of ["api-key", "other", "named"]) await made(writer.put(`secret/Custom/env/${name}`, "v"));
});
afterAll(() => broker.close());

type Query = Record<string, string>;
const render = (api: Api, path: string | undefined, query: Query) =>
  api.get(settingsUrl(world.project, path, query, "/settings/render"));
const rendered = (path: string | undefined, query: Query) => render(world.writer.api, path, query);
const codeOf = async (path: string | undefined, query: Query) => {
  const { status, body } = await rendered(path, query);
  return [status, body.code];
};

describe("limits", () => {
  test("over 1 MiB is 413, just under it is not", async () => {
    const value = "x".repeat(65_000);
    for (let index = 0; index < 16; index++) await made(writer.put(`secret/Custom/big/v${index}`, value));
    const { status, text } = await rendered("secret/Custom/big", { format: "env" });
    expect([status, text.length > 1_040_000]).toEqual([200, true]);
    // base64 is a third longer.
    expect(await codeOf("secret/Custom/big", { format: "k8s_secret" })).toEqual([413, "too_large"]);
    for (let index = 16; index < 34; index++) await made(writer.put(`secret/Custom/big/v${index}`, value));
    expect(await codeOf("secret/Custom/big", { format: "env" })).toEqual([413, "too_large"]);
    // What a scope hides counts for nothing, though it fills page after page.
    const at = `decrypt:project/${world.project.id}/secret/Custom/big`;
    const narrow = await scoped(broker, world.writer.api, `${at}/v0`, `${at}/v9`);
    const found = await render(narrow, "secret/Custom/big", { format: "json" });
    expect([found.status, Object.keys(found.body)]).toEqual([200, ["V0", "V9"]]);
  });

  test("costs one unit, and one more for each value", async () => {
    const { token } = await made(world.owner.api.post("/tokens", { body: { name: "fresh" } }));
    const { headers } = await render(broker.as(token), "secret/Custom/env", { format: "json" });
    expect(1_000_000 - Number(headers.get("ratelimit-remaining"))).toBe(4);
  });
});

describe("on record", () => {
  type Event = {
    id: string;
    action: string;
    outcome: string;
    reason: string;
    path: string;
    follows: string;
    settings: { path: string }[];
  };
  const brief = (events: Event[]) => events.map(({ action, outcome, reason }) => [action, outcome, reason]);

  test("a render is a decrypt, allowed, with each setting; last_accessed_at moves", async () => {
    const path = "secret/Custom/watched/one";
    await made(writer.put(path, "1"));
    const answer = await rendered("secret/Custom/watched", { format: "env" });
    const events: Event[] = await eventsOf(world, answer);
    expect(brief(events)).toEqual([["decrypt", "allowed", null]]);
    expect(events[0]).toMatchObject({ path: "secret/Custom/watched", operation: "renderSettings" });
    expect(events[0]?.settings.map(({ path }) => path)).toEqual([path]);
    const { body } = await writer.list(path);
    expect(body.settings[0].last_accessed_at).toEqual(expect.any(String));
  });

  test("what was permitted and then did not fit is failed, follows, and moves nothing", async () => {
    const path = "secret/Custom/unfit/a";
    await made(writer.put(path, "a\rb"));
    const answer = await rendered(path, { format: "dotenv" });
    const events: Event[] = await eventsOf(world, answer);
    expect(brief(events)).toEqual([
      ["decrypt", "allowed", null],
      ["decrypt", "failed", "invalid_value"],
    ]);
    expect(events[1]?.follows).toBe(events[0]?.id);
    expect((await writer.list(path)).body.settings[0].last_accessed_at).toBeNull();
  });

  test("a refusal is denied, or failed with its code, and nothing was allowed", async () => {
    const denied = await render(world.reader.api, "secret/Custom/env", { format: "env" });
    expect(brief(await eventsOf(world, denied))).toEqual([["decrypt", "denied", "insufficient_role"]]);
    const at = `project/${world.project.id}/secret/Custom/env`;
    const narrow = await scoped(broker, world.writer.api, `list:${at}`, `decrypt:${at}/named`);
    const mixed = await render(narrow, "secret/Custom/env", { format: "env" });
    expect(brief(await eventsOf(world, mixed))).toEqual([["decrypt", "denied", "token_scope"]]);
    const missing = await rendered("secret/Custom/none", { format: "env", match: "exact" });
    expect(brief(await eventsOf(world, missing))).toEqual([["decrypt", "failed", "not_found"]]);
  });
});
