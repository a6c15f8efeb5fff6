// Contract section 5: explain, Comet API Key Secrets, and the limits of POST /settings/resolve.
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
import {
  AWS,
  type Result,
  comet,
  explain,
  onlyOf,
  refOf,
  resolve,
  resultsOf,
  statusesOf,
} from "./references-kit.ts";
import { NOBODY } from "./rights-kit.ts";
import { type Owner, type SettingsApi, attack, eventsOf, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
let ids: Record<string, string>;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  ids = {};
  for (const [path, value] of [
    ["connect/S3/a", S3],
    ["secret/Custom/c", "first"],
    ["secret/Custom/c", "second"],
  ] as const)
    ids[path] = (await made(writer.put(path, value))).id;
});
afterAll(() => broker.close());

const ref = (path: string, at: Owner = world.project) => refOf(path, at);
const accessed = async (path: string) => (await writer.list(path)).body.settings[0].last_accessed_at;
/** Without what only an opened value has. */
const bareResult = ({ ref, status, code, reason }: Result) => ({ ref, status, code, reason });

describe("explain", () => {
  test("says what each would resolve to, and gives no value", async () => {
    const refs = [
      ref("secret/Custom/c"),
      `${ref("secret/Custom/c")}?version=1`,
      `${ref("connect/S3/a")}#region`,
    ];
    expect(resultsOf(await explain(world.writer.api, refs))).toEqual([
      { ref: refs[0], status: 200, version: 2, setting_id: ids["secret/Custom/c"] },
      { ref: refs[1], status: 200, version: 1, setting_id: ids["secret/Custom/c"] },
      { ref: refs[2], status: 200, version: 1, setting_id: ids["connect/S3/a"] },
    ]);
  });

  test("or what stops it, as far as the caller may know", async () => {
    const refs = [
      ref("secret/Custom/none"),
      "nonsense",
      `${ref("secret/Custom/c")}#field`,
      ref("secret/Custom/c"),
    ];
    expect(await statusesOf(explain(world.writer.api, refs))).toEqual([404, 400, 422, 200]);
    expect(await statusesOf(explain(world.reader.api, refs))).toEqual([403, 400, 403, 403]);
    const unseen = await onlyOf(explain(world.stranger.api, [ref("secret/Custom/c")]));
    expect(unseen).not.toHaveProperty("reason");
    for (const api of [world.writer.api, world.reader.api, world.stranger.api])
      expect(resultsOf(await explain(api, refs)).map(bareResult)).toEqual(
        resultsOf(await resolve(api, refs)).map(bareResult),
      );
  });

  test("opens nothing: it needs no key, and moves no last_accessed_at", async () => {
    const path = "secret/Custom/keyless";
    const other = await world.worker("owner");
    const project = await made(
      world.owner.api.post(`/organizations/${world.organization.id}/projects`, { body: { name: "keyless" } }),
    );
    const at = { type: "project", id: project.id };
    await made(
      world.owner.api.put(`/projects/${project.id}/members/${other.id}`, { body: { role: "write" } }),
    );
    await made(settingsOf(other.api, at).put(path, "x"));
    await attack(broker, "DELETE FROM data_keys WHERE owner_id = $1", [project.id]);
    // Another replica, which has no key in memory.
    const replica = await startBroker({ beside: broker });
    try {
      const api = replica.as(other.api.token);
      const explained = await explain(api, [ref(path, at)]);
      expect(resultsOf(explained)).toMatchObject([{ status: 200, version: 1 }]);
      const resolved = await resolve(api, [ref(path, at)]);
      expect(resultsOf(resolved)).toMatchObject([{ status: 502, code: "manager_failed" }]);
      const { body } = await settingsOf(api, at).list(path);
      expect(body.settings[0].last_accessed_at).toBeNull();
    } finally {
      await replica.close();
    }
  });

  test("resolving moves last_accessed_at, of what was disclosed alone", async () => {
    const path = "connect/S3/watched";
    await made(writer.put(path, S3));
    await explain(world.writer.api, [ref(path)]);
    await resolve(world.reader.api, [ref(path)]);
    await resolve(world.writer.api, [`${ref(path)}#region`, `${ref(path)}#password`]);
    expect((await writer.value(path, { field: "region" })).status).toBe(404);
    expect(await accessed(path)).toBeNull();
    await resolve(world.writer.api, [ref(path)]);
    expect(await accessed(path)).toEqual(expect.any(String));
  });
});

describe("a Comet API Key Secret", () => {
  test("is 403 where no setting holds that secret in a cloud's manager, whoever asks", async () => {
    for (const api of [world.writer.api, world.owner.api, broker.admin])
      for (const call of [resolve, explain])
        expect(await onlyOf(call(api, [comet(AWS)]))).toEqual({
          ref: comet(AWS),
          status: 403,
          code: "forbidden",
          detail: "You may not do this, or there is no such thing.",
        });
  });
  test("is 400 invalid_reference when it is none", async () => {
    const refs = ["_SECRET_-", "_SECRET_-%%%", comet({}), comet({ ...AWS, type: "AZURE" })];
    const found = resultsOf(await resolve(world.writer.api, [...refs, ref("secret/Custom/c")]));
    expect(found.map(({ status }) => status)).toEqual([400, 400, 400, 400, 200]);
  });
  test("is a denial on record, in the log of the caller's own organization", async () => {
    const answer = await resolve(world.writer.api, [comet(AWS), comet(AWS)]);
    const events = await eventsOf(world, answer, world.organization);
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({ action: "decrypt", outcome: "denied", principal_id: world.writer.id });
  });
});

describe("the request", () => {
  test.each([
    ["no refs", {}],
    ["none", { refs: [] }],
    ["101", { refs: Array.from({ length: 101 }, () => "x") }],
    ["no list", { refs: "x" }],
    ["no text", { refs: [1] }],
    ["null among them", { refs: [null] }],
    ["another field", { refs: ["x"], reveal: true }],
    ["explain as text", { refs: ["x"], explain: "true" }],
  ])("with %s is 400", async (_name, body) => {
    const { status, body: problem } = await world.writer.api.post("/settings/resolve", { body });
    expect([status, problem.code]).toEqual([400, "invalid_request"]);
  });

  test("takes 100 references, whatever their owners", async () => {
    const refs = Array.from({ length: 100 }, (_, index) =>
      ref(index % 2 === 0 ? "secret/Custom/c" : "connect/S3/a"),
    );
    expect(new Set(await statusesOf(resolve(world.writer.api, refs)))).toEqual(new Set([200]));
    const strange = refs.map((_, index) =>
      ref("secret/Custom/c", { type: "project", id: NOBODY.replace(/.{3}$/, String(100 + index)) }),
    );
    expect(new Set(await statusesOf(resolve(world.writer.api, strange)))).toEqual(new Set([403]));
  });

  test("without a good token is 401, also where nothing is a reference", async () => {
    const { id, token } = await made(world.owner.api.post("/tokens", { body: { name: "revoked" } }));
    await made(world.owner.api.delete(`/tokens/${id}`));
    for (const refs of [["nonsense"], [ref("secret/Custom/c")], [comet(AWS)]])
      for (const bad of [token, "cfr_none", ""]) {
        const answer = await resolve(broker.as(bad), refs);
        expect([answer.status, answer.body.code]).toEqual([401, "unauthenticated"]);
      }
    expect((await world.writer.api.get("/settings/resolve")).status).toBe(405);
  });

  test("is one use of a token with max_uses, however many owners it names", async () => {
    const { organization, project, owner } = world;
    const { token } = await made(owner.api.post("/tokens", { body: { name: "once", max_uses: 1 } }));
    const api = broker.as(token);
    const refs = [ref("secret/Custom/c", project), ref("secret/Custom/none", organization), comet(AWS)];
    expect(await statusesOf(resolve(api, refs))).toEqual([200, 404, 403]);
    expect((await resolve(api, refs)).status).toBe(401);
  });

  test("costs one unit, and one more for each value that it opens", async () => {
    const cost = async (answer: Promise<Answer>) => {
      const limit = 1_000_000;
      const { headers } = await answer;
      return limit - Number(headers.get("ratelimit-remaining"));
    };
    const { token } = await made(world.owner.api.post("/tokens", { body: { name: "fresh" } }));
    const fresh = broker.as(token);
    const c = ref("secret/Custom/c");
    const refs = [c, c, `${c}?version=1`, ref("secret/Custom/none"), ref("connect/S3/a")];
    expect(await cost(resolve(fresh, refs))).toBe(4);
    const { token: other } = await made(world.owner.api.post("/tokens", { body: { name: "fresh" } }));
    expect(await cost(explain(broker.as(other), refs))).toBe(1);
  });
});
