// Contract section 5: GET /settings/render, over HTTP: rights, matching, errors. What each format makes of a
// value is test/domain/render-formats.test.ts's.
import { parseEnv } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import { evaluated } from "../domain/consumers.ts";
import { type Api, REGISTRY, S3, type TestBroker, type World } from "../harness/broker.ts";
import { furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { NOBODY, bare } from "./rights-kit.ts";
import { type SettingsApi, attack, eventsOf, inSeconds, later, scoped, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
const HOSTILE = 'it\'s "quoted" $(id) `id` \\ ${HOME}\n# line two\r\n\t日本語 🔑 ';

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
  const values: [string, unknown, object?][] = [
    ["secret/Custom/env/api-key", "k1", { labels: { team: "vision" } }],
    ["secret/Custom/env/hostile", HOSTILE],
    ["secret/Custom/env/named", "n", { labels: { env_name: "Other_Name" } }],
    ["connect/S3/a", { ...S3, region: "eu-central-1", bucket: "b" }],
    ["connect/ContainerRegistry/r", REGISTRY],
  ];
  for (const [path, value, rest] of values) await made(writer.put(path, value, rest));
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

describe("formats", () => {
  test("env is text/plain, no-store, and a shell has every value from it as it was", async () => {
    const { status, text, headers } = await rendered("secret/Custom/env/", { format: "env", prefix: "T_" });
    expect([status, headers.get("content-type"), headers.get("cache-control")]).toEqual([
      200,
      "text/plain; charset=utf-8",
      "no-store",
    ]);
    expect(evaluated("sh", text)).toMatchObject({ T_API_KEY: "k1", T_HOSTILE: HOSTILE, T_Other_Name: "n" });
  });

  test("64 KiB of anything goes through", async () => {
    const path = "secret/Custom/large";
    const value = `${HOSTILE}${"é'".repeat(21_000)}`;
    await made(writer.put(path, value));
    expect(evaluated("sh", (await rendered(path, { format: "env" })).text)["LARGE"]).toBe(value);
    expect((await rendered(path, { format: "json" })).body).toEqual({ LARGE: value });
    await made(writer.remove(path));
  });

  test("dotenv is text/plain; what .env parsers disagree about is 422, naming the setting and no value", async () => {
    const { text, headers } = await rendered("connect/S3/a", { format: "dotenv" });
    expect(headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(parseEnv(text)).toEqual({
      AWS_ACCESS_KEY_ID: S3.access_key_id,
      AWS_SECRET_ACCESS_KEY: S3.secret_access_key,
      AWS_DEFAULT_REGION: "eu-central-1",
      S3_BUCKET: "b",
    });
    const refused = await rendered("secret/Custom/env", { format: "dotenv" });
    expect([refused.status, refused.body.code, refused.body.errors.length]).toEqual([
      422,
      "invalid_value",
      1,
    ]);
    expect(refused.body.errors[0].detail).toContain("secret/Custom/env/hostile");
    expect(refused.text).not.toContain("line two");
  });

  test.each([
    ["json", "connect/S3/a"],
    ["dockerconfigjson", "connect/ContainerRegistry"],
    ["aws_credentials", "connect/S3/a"],
    ["k8s_secret", "secret/Custom/env"],
  ])("%s is application/json, no-store", async (format, path) => {
    const { status, body, headers } = await rendered(path, { format });
    expect([status, headers.get("cache-control")]).toEqual([200, "no-store"]);
    expect(headers.get("content-type")).toMatch(/^application\/json/);
    expect(typeof body).toBe("object");
  });

  test("dockerconfigjson, aws_credentials and k8s_secret hold what their consumers look for", async () => {
    const auth = Buffer.from(`${REGISTRY.username}:${REGISTRY.password}`).toString("base64");
    const docker = await rendered("connect/ContainerRegistry", { format: "dockerconfigjson" });
    expect(docker.body.auths[REGISTRY.registry]).toMatchObject({ auth });
    expect((await rendered("connect/S3", { format: "aws_credentials" })).body).toEqual({
      Version: 1,
      AccessKeyId: S3.access_key_id,
      SecretAccessKey: S3.secret_access_key,
    });
    const manifest = parseYaml((await rendered("secret/Custom/env", { format: "k8s_secret" })).text);
    expect(manifest).toMatchObject({ apiVersion: "v1", kind: "Secret", type: "Opaque" });
    expect(Buffer.from(manifest.data.HOSTILE, "base64").toString()).toBe(HOSTILE);
    const pull = await rendered("connect/ContainerRegistry", { format: "k8s_secret" });
    expect(pull.body.type).toBe("kubernetes.io/dockerconfigjson");
  });

  test("comet is 422 while nothing rests in a cloud's manager, and opens nothing", async () => {
    const answer = await rendered("secret/Custom/env/api-key", { format: "comet" });
    expect([answer.status, answer.body.code]).toEqual([422, "invalid_value"]);
    const events = await eventsOf(world, answer);
    expect(events.map(({ outcome }: { outcome: string }) => outcome)).toEqual(["failed"]);
    expect((await render(world.reader.api, undefined, { format: "comet" })).status).toBe(403);
  });

  test("one that does not fit a type is 422", async () => {
    for (const [format, path] of [
      ["dockerconfigjson", "connect/S3/a"],
      ["dockerconfigjson", "connect"],
      ["aws_credentials", "connect/ContainerRegistry/r"],
      ["aws_credentials", "connect"],
      ["aws_credentials", "connect/S3/none"],
      ["k8s_secret", "connect"],
      ["k8s_secret", "connect/S3/none"],
    ] as const)
      expect([format, path, ...(await codeOf(path, { format }))]).toEqual([
        format,
        path,
        422,
        "invalid_value",
      ]);
  });

  test("clashing names are 409, all at once; a name that would take over a process is 422", async () => {
    await made(writer.put("secret/Custom/clash/a-b", "1"));
    await made(writer.put("secret/Custom/clash/a_b", "2"));
    await made(writer.put("secret/Custom/clash/deep/A.B", "3"));
    const { status, body } = await rendered("secret/Custom/clash", { format: "env" });
    expect([status, body.code, body.paths]).toEqual([
      409,
      "conflict",
      ["secret/Custom/clash/a-b", "secret/Custom/clash/a_b", "secret/Custom/clash/deep/A.B"],
    ]);
    await made(writer.put("secret/Custom/danger/path", "1"));
    for (const format of ["env", "dotenv", "json", "k8s_secret"])
      expect(await codeOf("secret/Custom/danger", { format })).toEqual([422, "invalid_value"]);
    expect((await rendered("secret/Custom/danger", { format: "env", prefix: "MY_" })).text).toBe(
      "export MY_PATH='1'\n",
    );
  });
});

describe("the same matching as a read", () => {
  test.each([
    ["an exact path", "secret/Custom/env/named", {}, ["Other_Name"]],
    ["under, by a slash", "secret/Custom/env/", {}, ["API_KEY", "HOSTILE", "Other_Name"]],
    ["under, said so", "secret/Custom/env", { match: "under" }, ["API_KEY", "HOSTILE", "Other_Name"]],
    ["a label", "secret/Custom", { label: "team:vision" }, ["API_KEY"]],
    [
      "a type",
      undefined,
      { type: "container_registry" },
      ["REGISTRY", "REGISTRY_USERNAME", "REGISTRY_PASSWORD"],
    ],
    ["nothing", "secret/Custom/none", {}, []],
  ])("%s", async (_name, path, query, names) => {
    const { status, body } = await rendered(path, { ...query, format: "json" });
    expect([status, Object.keys(body)]).toEqual([200, names]);
  });

  test("nothing matched is 200 and empty; exact is 404", async () => {
    for (const format of ["env", "dotenv"]) {
      const { status, text } = await rendered("secret/Custom/none", { format });
      expect([status, text]).toEqual([200, ""]);
    }
    expect(await codeOf("secret/Custom/none", { format: "env", match: "exact" })).toEqual([404, "not_found"]);
  });

  test("version=N renders that version, and needs a full path", async () => {
    const path = "secret/Custom/versioned";
    await made(writer.put(path, "1"));
    await made(writer.put(path, "2"));
    expect((await rendered(path, { format: "json", version: "1" })).body).toEqual({ VERSIONED: "1" });
    expect(await codeOf(path, { format: "json", version: "3" })).toEqual([404, "not_found"]);
    for (const under of ["secret/Custom/", "secret/Custom", undefined])
      expect(await codeOf(under, { format: "json", version: "1" })).toEqual([400, "invalid_request"]);
    await made(settingsOf(world.keeper.api, world.project).destroy(path, 1));
    expect(await codeOf(path, { format: "json", version: "1" })).toEqual([410, "destroyed"]);
  });
});

describe("errors", () => {
  test.each([
    ["no format", {}],
    ["an unknown format", { format: "xml" }],
    ["an empty format", { format: "" }],
    ["a bad prefix", { format: "env", prefix: "1A" }],
    ["a prefix with a shell's characters", { format: "env", prefix: "A;id;" }],
    ["a long prefix", { format: "env", prefix: "A".repeat(65) }],
    ["decrypt, which is meant already", { format: "env", decrypt: "true" }],
    ["on_error", { format: "env", on_error: "withhold" }],
    ["limit", { format: "env", limit: "1" }],
    ["a bad match", { format: "env", match: "some" }],
  ])("%s is 400", async (_name, query) => {
    expect(await codeOf("secret/Custom/env", query as Query)).toEqual([400, "invalid_request"]);
  });

  test("an unknown prefix of a path is 422, no token 401", async () => {
    expect(await codeOf("other/Kind/x", { format: "env" })).toEqual([422, "invalid_value"]);
    expect((await render(broker.as("cfr_none"), undefined, { format: "env" })).status).toBe(401);
  });

  test("one that may not be decrypted makes it 403, and no value leaves", async () => {
    const { reader, stranger } = world;
    const read = await render(reader.api, "secret/Custom/env", { format: "env" });
    expect(read.body).toMatchObject({ status: 403, reason: "insufficient_role", required: "decrypt" });
    const unseen = await render(stranger.api, "secret/Custom/env", { format: "env" });
    const absent = await stranger.api.get(
      settingsUrl(
        { type: "project", id: NOBODY },
        "secret/Custom/env",
        { format: "env" },
        "/settings/render",
      ),
    );
    expect(bare(unseen)).toEqual(bare(absent));
    const at = `project/${world.project.id}`;
    const narrow = await scoped(
      broker,
      world.writer.api,
      `list:${at}/secret/Custom/env`,
      `decrypt:${at}/secret/Custom/env/named`,
    );
    const mixed = await render(narrow, "secret/Custom/env", { format: "env" });
    expect(mixed.body).toMatchObject({ status: 403, reason: "token_scope", required: "decrypt" });
    expect(mixed.headers.get("www-authenticate")).toBe('Bearer error="insufficient_scope"');
  });

  test("what a scope may not even list is left out; an exact path outside it is 403", async () => {
    const narrow = await scoped(
      broker,
      world.writer.api,
      `decrypt:project/${world.project.id}/secret/Custom/env/named`,
    );
    for (const path of [undefined, "secret/Custom/env", "secret/Custom/env/named"])
      expect((await render(narrow, path, { format: "json" })).body).toEqual({ Other_Name: "n" });
    for (const match of ["auto", "exact"])
      expect((await render(narrow, "secret/Custom/env/api-key", { format: "json", match })).status).toBe(403);
    // A path above the scope's is no way round an exact one.
    const above = "secret/Custom/env";
    expect((await render(narrow, above, { format: "json", match: "exact" })).status).toBe(403);
  });

  test("an expired one makes it 410; who may not decrypt is told that first", async () => {
    await made(writer.put("secret/Custom/soon/a", "1"));
    await made(writer.put("secret/Custom/soon/b", "2", { expires_at: inSeconds(60) }));
    await later(61, async () => {
      const { status, body } = await rendered("secret/Custom/soon", { format: "env" });
      expect([status, body.code, body.paths]).toEqual([410, "expired", ["secret/Custom/soon/b"]]);
      const at = `project/${world.project.id}/secret/Custom/soon`;
      const narrow = await scoped(broker, world.writer.api, `list:${at}`, `decrypt:${at}/b`);
      expect((await render(narrow, "secret/Custom/soon", { format: "env" })).status).toBe(403);
    });
  });

  test("a value that cannot be had fails the whole: 502, with the path", async () => {
    const path = "secret/Custom/altered/x";
    await made(writer.put(path, "x"));
    await made(writer.put("secret/Custom/altered/y", "y"));
    await attack(broker, "UPDATE settings SET expires_at = now() + interval '1 day' WHERE path = $1", [path]);
    const { status, body } = await rendered("secret/Custom/altered", { format: "env" });
    expect([status, body.code, body.paths]).toEqual([502, "manager_failed", [path]]);
    await made(settingsOf(world.keeper.api, world.project).purge(path));
  });
});
