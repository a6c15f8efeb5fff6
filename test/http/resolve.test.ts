// Contract section 5: POST /settings/resolve, and what becomes of each reference.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { REGISTRY, S3, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { explain, onlyOf, refOf, referable, resolve, resultsOf, statusesOf } from "./references-kit.ts";
import { NOBODY } from "./rights-kit.ts";
import { type Owner, type SettingsApi, attack, eventsOf, later, scoped, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
let ids: Record<string, string>;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  ({ writer, ids } = await referable(world));
});
afterAll(() => broker.close());

const ref = (path: string, at: Owner = world.project) => refOf(path, at);
describe("resolving", () => {
  test("gives each value with its version and setting, in order, no-store", async () => {
    const refs = [
      ref("secret/Custom/c"),
      `coffer://${ref("connect/S3/a")}`,
      ref("connect/ContainerRegistry/r"),
    ];
    const answer = await resolve(world.writer.api, refs);
    expect(resultsOf(answer)).toEqual([
      { ref: refs[0], status: 200, value: "second", version: 2, setting_id: ids["secret/Custom/c"] },
      {
        ref: refs[1],
        status: 200,
        value: { ...S3, force_path_style: true },
        version: 1,
        setting_id: ids["connect/S3/a"],
      },
      {
        ref: refs[2],
        status: 200,
        value: REGISTRY,
        version: 1,
        setting_id: ids["connect/ContainerRegistry/r"],
      },
    ]);
    expect(Object.keys(answer.body)).toEqual(["results"]);
    expect(answer.headers.get("cache-control")).toBe("no-store");
  });

  test("pins a version, and selects a field", async () => {
    const s3 = ref("connect/S3/a");
    const found = resultsOf(
      await resolve(world.writer.api, [
        `${ref("secret/Custom/c")}?version=1`,
        `${s3}#secret_access_key`,
        `${s3}?version=1#force_path_style`,
        `${ref("connect/ContainerRegistry/r")}#password`,
      ]),
    );
    expect(found.map(({ value, version }) => [value, version])).toEqual([
      ["first", 1],
      [S3.secret_access_key, 1],
      [true, 1],
      [REGISTRY.password, 1],
    ]);
  });

  test("a field that the type has not is that reference's error alone, also where another names it rightly", async () => {
    const s3 = ref("connect/S3/a");
    const refs = [
      ref("secret/Custom/c"),
      `${s3}#nope`,
      `${s3}#secret_access_key`,
      `${ref("secret/Custom/c")}#x`,
    ];
    for (const reading of [1, 2])
      expect([reading, await statusesOf(resolve(world.writer.api, refs))]).toEqual([
        reading,
        [200, 422, 200, 422],
      ]);
  });

  test("the same references in another order are another answer, and another record", async () => {
    const paths = ["secret/Custom/c", "secret/Custom/deep/er", "connect/ContainerRegistry/r"];
    for (const order of [paths, paths, paths.toReversed(), paths]) {
      const answer = await resolve(
        world.writer.api,
        order.map((each) => ref(each)),
      );
      expect(resultsOf(answer).map(({ setting_id }) => setting_id)).toEqual(order.map((each) => ids[each]));
      const [event] = await eventsOf(world, answer);
      expect(event?.settings.map(({ path }: { path: string }) => path)).toEqual(order);
    }
  });

  test("Copy ID's ref resolves as it is", async () => {
    const { body } = await writer.list("secret/Custom/c");
    expect(await onlyOf(resolve(world.writer.api, [body.settings[0].ref]))).toMatchObject({
      value: "second",
    });
  });

  test("answers the same reference as often as it is asked, in the order of asking", async () => {
    const [c, deep] = [ref("secret/Custom/c"), ref("secret/Custom/deep/er")];
    const refs = [deep, c, deep, `coffer://${c}`, c, "nonsense", c];
    const found = resultsOf(await resolve(world.writer.api, refs));
    expect(found.map(({ ref }) => ref)).toEqual(refs);
    expect(found.map(({ value }) => value)).toEqual([
      "deeper",
      "second",
      "deeper",
      "second",
      "second",
      undefined,
      "second",
    ]);
  });

  test("goes to several owners at once, each with its own rights", async () => {
    const { owner, organization, project } = world;
    const own = { type: "user", id: owner.id };
    await made(settingsOf(owner.api, organization).put("secret/Custom/of-org", "org"));
    await made(settingsOf(owner.api, own).put("secret/Custom/of-user", "user"));
    const refs = [
      ref("secret/Custom/of-org", organization),
      ref("secret/Custom/c", project),
      ref("secret/Custom/of-user", own),
      ref("secret/Custom/of-org", organization),
    ];
    const found = resultsOf(await resolve(owner.api, refs));
    expect(found.map(({ value }) => value)).toEqual(["org", "second", "user", "org"]);
    expect(await statusesOf(resolve(world.writer.api, refs))).toEqual([403, 200, 403, 403]);
  });
});

describe("what does not resolve is an error of that item, as the strict read's", () => {
  test("never 200 without a value, and never the reference as the value", async () => {
    const { stranger, reader, project } = world;
    const refs = [
      "plain text",
      "",
      ref("secret/Custom/none"),
      `${ref("secret/Custom/c")}?version=9`,
      `${ref("connect/S3/a")}#region`,
      `${ref("connect/S3/a")}#password`,
      `${ref("secret/Custom/c")}#field`,
      `project/${project.id}/other/Kind/x`,
      ref("secret/Custom/c", { type: "project", id: NOBODY }),
    ];
    for (const { api } of [world.writer, reader, stranger])
      for (const result of resultsOf(await resolve(api, refs))) {
        expect(result["status"]).not.toBe(200);
        for (const field of ["value", "version", "setting_id"]) expect(result).not.toHaveProperty(field);
        expect([typeof result["code"], typeof result["detail"]]).toEqual(["string", "string"]);
      }
  });

  test("each has the strict read's status, code and words", async () => {
    const { project, writer: who } = world;
    const cases: [string, string, Record<string, string>][] = [
      [ref("secret/Custom/none"), "secret/Custom/none", {}],
      [`${ref("secret/Custom/c")}?version=9`, "secret/Custom/c", { version: "9" }],
      [`${ref("connect/S3/a")}#region`, "connect/S3/a", { field: "region" }],
      [`${ref("connect/S3/a")}#password`, "connect/S3/a", { field: "password" }],
      [`${ref("secret/Custom/c")}#x`, "secret/Custom/c", { field: "x" }],
      [`project/${project.id}/other/Kind/x`, "other/Kind/x", {}],
    ];
    const found = resultsOf(
      await resolve(
        who.api,
        cases.map(([text]) => text),
      ),
    );
    for (const [index, [text, path, query]] of cases.entries()) {
      const { status, body } = await writer.value(path, query);
      expect(found[index]).toEqual({ ref: text, status, code: body.code, detail: body.detail });
    }
    expect(found.map(({ status }) => status)).toEqual([404, 404, 404, 422, 422, 422]);
  });

  test("text that is no reference is 400 invalid_reference for that item alone", async () => {
    const found = resultsOf(
      await resolve(world.writer.api, ["hunter2", ref("secret/Custom/c"), "x".repeat(9_000)]),
    );
    expect(found.map(({ status, code }) => [status, code])).toEqual([
      [400, "invalid_reference"],
      [200, undefined],
      [400, "invalid_reference"],
    ]);
    expect(found[0]?.["detail"]).not.toContain("hunter2");
  });

  test("an expired one is 410 expired, a destroyed version 410 destroyed, a deleted one 404", async () => {
    const path = "secret/Custom/gone";
    await made(writer.put(path, "1"));
    await made(writer.put(path, "2"));
    await made(settingsOf(world.keeper.api, world.project).destroy(path, 1));
    await later(61, async () => {
      const refs = [ref("secret/Custom/brief"), `${ref(path)}?version=1`, ref(path)];
      for (const answer of [await resolve(world.writer.api, refs), await explain(world.writer.api, refs)])
        expect(resultsOf(answer).map(({ status, code }) => [status, code])).toEqual([
          [410, "expired"],
          [410, "destroyed"],
          [200, undefined],
        ]);
    });
    await made(writer.remove(path));
    expect(await onlyOf(resolve(world.writer.api, [ref(path)]))).toMatchObject({
      status: 404,
      code: "not_found",
    });
  });

  test("403 says why to who may list there; to others it is the same whether or not the thing exists", async () => {
    const [there, not] = [ref("secret/Custom/c"), ref("secret/Custom/none")];
    const seen = resultsOf(await resolve(world.reader.api, [there, not]));
    for (const result of seen)
      expect(result).toMatchObject({
        status: 403,
        code: "forbidden",
        reason: "insufficient_role",
        required: "decrypt",
      });
    const unseen = resultsOf(
      await resolve(world.stranger.api, [
        there,
        not,
        ref("secret/Custom/c", { type: "project", id: NOBODY }),
      ]),
    );
    for (const result of unseen)
      expect(result).toEqual({
        ref: result["ref"],
        status: 403,
        code: "forbidden",
        detail: "You may not do this, or there is no such thing.",
      });
  });

  test("a scope narrows item by item", async () => {
    const { project } = world;
    const at = `project/${project.id}`;
    const api = await scoped(
      broker,
      world.writer.api,
      `decrypt:${at}/secret/Custom/deep`,
      `list:${at}/connect`,
    );
    const refs = [
      ref("secret/Custom/deep/er"),
      ref("secret/Custom/c"),
      ref("connect/S3/a"),
      ref("secret/Custom/none"),
    ];
    const found = resultsOf(await resolve(api, refs));
    expect(found.map(({ status, reason }) => [status, reason])).toEqual([
      [200, undefined],
      [403, "token_scope"],
      [403, "token_scope"],
      [403, "token_scope"],
    ]);
    for (const text of refs.slice(1)) {
      const alone = await onlyOf(resolve(api, [text]));
      expect(alone).toEqual(found[refs.indexOf(text)]);
    }
  });

  test("a value that was altered behind the broker's back is 502 for that item", async () => {
    const path = "secret/Custom/altered";
    await made(writer.put(path, "x"));
    await attack(broker, "UPDATE settings SET expires_at = now() + interval '1 day' WHERE path = $1", [path]);
    const refs = [ref(path), ref("secret/Custom/c")];
    expect(await statusesOf(resolve(world.writer.api, refs))).toEqual([502, 200]);
    expect(await statusesOf(explain(world.writer.api, refs))).toEqual([502, 200]);
    await made(settingsOf(world.keeper.api, world.project).purge(path));
  });

  test("so is one whose type was, by itself and by a field", async () => {
    const path = "connect/S3/altered";
    await made(writer.put(path, S3));
    await attack(broker, "UPDATE settings SET type = 'custom' WHERE path = $1", [path]);
    for (const altered of [ref(path), `${ref(path)}#access_key_id`])
      for (const reading of [1, 2])
        expect([
          reading,
          await statusesOf(resolve(world.writer.api, [altered, ref("secret/Custom/c")])),
        ]).toEqual([reading, [502, 200]]);
  });
});
