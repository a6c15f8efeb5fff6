// External secrets, contract section 6: ones that the broker did not make. Who may point at which, what they follow, and
// what a pointer never does.
import { randomUUID } from "node:crypto";
import {
  CreateSecretCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { plainClient } from "../fakes/gcp.ts";
import { type TestBroker, type World, furnish, settingsUrl, startBroker } from "../harness/broker.ts";
import { type SettingsApi, scoped, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud } from "./clouds.ts";

/** Somebody else's secret, as its owner sees it. */
type Foreign = {
  readonly pointer: Record<string, string>;
  /** @returns the manager's own id of the new version */
  write(text: string): Promise<string>;
};

async function foreignAws(name: string): Promise<Foreign> {
  const client = new SecretsManagerClient({});
  await client.send(new CreateSecretCommand({ Name: name, SecretString: "new" }));
  return {
    pointer: { secret_id: name },
    async write(text) {
      const { VersionId = "" } = await client.send(
        new PutSecretValueCommand({ SecretId: name, SecretString: text }),
      );
      return VersionId;
    },
  };
}

async function foreignGcp(name: string, cloud: Cloud): Promise<Foreign> {
  const [host = "", port] = (cloud.environment["COFFER_GCP_ENDPOINT"] ?? "").split(":");
  const client = plainClient({ host, port: Number(port) });
  const parent = "projects/acme-training";
  const secretId = name.replaceAll("/", "-");
  await client.createSecret({ parent, secretId, secret: { replication: { automatic: {} } } });
  const resource = `${parent}/secrets/${secretId}`;
  return {
    pointer: { resource },
    async write(text) {
      const [version] = await client.addSecretVersion({
        parent: resource,
        payload: { data: Buffer.from(text) },
      });
      return (version.name ?? "").split("/").at(-1) ?? "";
    },
  };
}

describe.each(["aws", "gcp"] as const)("external secrets in %s", (name) => {
  let cloud: Cloud;
  let first: TestBroker;
  let broker: TestBroker;
  let world: World;
  let owner: SettingsApi;
  let worker: SettingsApi;
  let shared: Foreign;
  const foreign = (at: string): Promise<Foreign> => (name === "aws" ? foreignAws(at) : foreignGcp(at, cloud));

  beforeAll(async () => {
    cloud = await CLOUDS[name]();
    first = await startBroker({ environment: cloud.environment });
    world = await furnish(first);
    const patterns = {
      aws: ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:shared/*"],
      gcp: ["projects/acme-training/secrets/shared-*"],
    };
    const allow = JSON.stringify({ [world.organization.id]: patterns[name] });
    broker = await startBroker({
      beside: first,
      environment: { ...cloud.environment, COFFER_EXTERNAL_ALLOW: allow },
    });
    owner = settingsOf(broker.as(world.owner.api.token), world.project);
    worker = settingsOf(broker.as(world.writer.api.token), world.project);
    shared = await foreign("shared/model-registry");
    await shared.write("first");
  });
  afterAll(async () => {
    await broker?.close();
    await first?.close();
    await cloud?.close();
  });

  const put = (api: SettingsApi, path: string, external: object, rest: object = {}) =>
    api.put(path, undefined, { external, ...rest });

  test("is pointed at by who manages the owner, read by who may decrypt, and never written to", async () => {
    const made = await put(owner, "secret/Custom/registry", shared.pointer);
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ storage: "external", manager: name, version: 1 });
    expect(made.body.location).toMatchObject({ version_id: "latest" });
    expect((await worker.value("secret/Custom/registry")).body.value).toBe("first");
    expect((await worker.put("secret/Custom/registry", "mine")).status).toBe(409);
    expect((await put(worker, "secret/Custom/other", shared.pointer)).body).toMatchObject({
      code: "forbidden",
      required: "manage",
    });
  });

  test("that follows gives what is newest, never 304, and 409 for a number", async () => {
    const before = await worker.value("secret/Custom/registry");
    const match = { "if-none-match": before.headers.get("etag") ?? "" };
    expect((await worker.value("secret/Custom/registry", {}, match)).status).toBe(200);
    await shared.write("second");
    const after = await worker.value("secret/Custom/registry", {}, match);
    expect([after.status, after.body.value]).toEqual([200, "second"]);
    expect(after.headers.get("etag")).not.toBe(before.headers.get("etag"));
    const opened = await worker.open("secret/Custom/registry");
    const { etag, value } = opened.body.settings[0];
    expect([opened.headers.get("etag"), value]).toEqual([etag, "second"]);
    await shared.write("second, once more");
    expect((await worker.open("secret/Custom/registry")).body.settings[0].etag).not.toBe(etag);
    expect(
      (await owner.patch("secret/Custom/registry", { description: "d" }, { "if-match": etag })).status,
    ).toBe(200);
    const listed = await worker.list("secret/Custom/registry");
    const again = await worker.list(
      "secret/Custom/registry",
      {},
      { "if-none-match": listed.headers.get("etag") ?? "" },
    );
    expect(again.status).toBe(200);
    expect((await worker.value("secret/Custom/registry", { version: "1" })).status).toBe(409);
    expect((await worker.list("secret/Custom/registry", { version: "1" })).status).toBe(409);
  });

  test("that is pinned stays what it was, and has a 304", async () => {
    const version = await shared.write("third");
    await shared.write("fourth");
    const made = await put(owner, "secret/Custom/pinned", { ...shared.pointer, version });
    expect(made.body.location.version_id).toBe(version);
    const read = await worker.value("secret/Custom/pinned");
    expect(read.body.value).toBe("third");
    const match = { "if-none-match": read.headers.get("etag") ?? "" };
    expect((await worker.value("secret/Custom/pinned", {}, match)).status).toBe(304);
    expect((await worker.value("secret/Custom/pinned", { version: "1" })).body.value).toBe("third");
  });

  test("gives one field of its JSON where that is asked for, and is checked against the setting's type", async () => {
    const json = await foreign("shared/json");
    await json.write(
      JSON.stringify({ password: "hunter2", s3: { access_key_id: "A", secret_access_key: "B" } }),
    );
    expect(
      (await put(owner, "secret/Custom/field", { ...json.pointer, json_field: "password" })).status,
    ).toBe(201);
    expect((await worker.value("secret/Custom/field")).body.value).toBe("hunter2");
    expect((await put(owner, "connect/S3/field", { ...json.pointer, json_field: "s3" })).status).toBe(201);
    expect((await worker.value("connect/S3/field")).body.value).toEqual({
      access_key_id: "A",
      secret_access_key: "B",
    });
    const wrong = await put(owner, "connect/S3/wrong", { ...json.pointer, json_field: "password" });
    expect([wrong.status, wrong.text.includes("hunter2")]).toEqual([422, false]);
    expect((await put(owner, "secret/Custom/none", { ...json.pointer, json_field: "nothing" })).status).toBe(
      422,
    );
    await json.write("no json any more, and secret");
    const broken = await worker.value("secret/Custom/field");
    expect([broken.status, broken.body.code, broken.text.includes("no json")]).toEqual([
      502,
      "manager_failed",
      false,
    ]);
  });

  test("the same pointer again makes no version; a rollback restores a pointer and needs manage", async () => {
    expect((await put(owner, "secret/Custom/registry", shared.pointer)).body.version).toBe(1);
    const version = await shared.write("fifth");
    expect((await put(owner, "secret/Custom/registry", { ...shared.pointer, version })).body.version).toBe(2);
    expect((await worker.rollback("secret/Custom/registry", 1)).status).toBe(403);
    const back = await owner.rollback("secret/Custom/registry", 1);
    expect(back.body).toMatchObject({ version: 3, storage: "external" });
    expect(back.body.location.version_id).toBe("latest");
  });

  test("outside the allow-list, in another organization, or one of the broker's own is 422, all told alike", async () => {
    const other = await foreign("private/key");
    await other.write("not yours");
    const own = await owner.put("secret/Custom/own", "ours");
    const { version_id: _, ...ours } = own.body.location;
    const strangers = await furnish(first);
    const elsewhere = settingsOf(broker.as(strangers.owner.api.token), strangers.project);
    const missing =
      name === "aws"
        ? { secret_id: "shared/missing" }
        : { resource: "projects/acme-training/secrets/shared-missing" };
    const answers = await Promise.all([
      put(owner, "secret/Custom/a", other.pointer),
      put(owner, "secret/Custom/a", ours),
      put(elsewhere, "secret/Custom/a", shared.pointer),
      put(owner, "secret/Custom/a", missing),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([422, 422, 422, 422]);
    expect(new Set(answers.map(({ body }) => JSON.stringify(body.errors))).size).toBe(1);
  });

  test("that is no longer allowed is 502 at the next read, and for whoever asks what there would be", async () => {
    const path = "secret/Custom/registry";
    const there = first.as(world.writer.api.token);
    const withdrawn = settingsOf(there, world.project);
    const gone = { status: 502, code: "manager_failed" };
    expect((await withdrawn.value(path)).body).toMatchObject(gone);
    const noteOf = (api: typeof there) =>
      api.get(settingsUrl(world.project, path, { format: "comet" }, "/settings/render"));
    expect((await noteOf(there)).body).toMatchObject(gone);
    expect((await noteOf(broker.as(world.writer.api.token))).status).toBe(200);
    const refs = [`project/${world.project.id}/${path}`];
    const explained = await there.post("/settings/resolve", { body: { refs, explain: true } });
    expect(explained.body.results).toMatchObject([gone]);
  });

  test("that follow, more than a render could hold if all were as long as may be, are rendered", async () => {
    const paths = Array.from({ length: 40 }, (_, index) => `secret/Custom/many/e${index}`);
    for (const path of paths) expect((await put(owner, path, shared.pointer)).status).toBe(201);
    const url = settingsUrl(world.project, "secret/Custom/many/", { format: "json" }, "/settings/render");
    const { status, body } = await broker.as(world.writer.api.token).get(url);
    expect([status, Object.keys(body).length]).toEqual([200, paths.length]);
    // The last of all that the note fits is the one that this token is for.
    const at = settingsUrl(world.project, "secret/Custom/many/e9", { format: "comet" }, "/settings/render");
    const refs = [(await broker.as(world.writer.api.token).get(at)).text];
    const scopes = `decrypt:project/${world.project.id}/secret/Custom/many/e9`;
    const narrow = broker.as((await scoped(first, world.writer.api, scopes)).token);
    expect((await narrow.post("/settings/resolve", { body: { refs } })).body.results).toMatchObject([
      { status: 200 },
    ]);
  });

  test("malformed pointers are 422 or 400 and say what is wanted", async () => {
    for (const bad of [
      {},
      { secret_id: "a", resource: "b" },
      { resource: "projects/x" },
      { resource: "a", region: "b" },
    ])
      expect((await put(owner, "secret/Custom/bad", bad)).status).toBe(422);
    expect((await put(owner, "secret/Custom/bad", { ...shared.pointer, extra: 1 })).status).toBe(400);
    expect((await owner.put("secret/Custom/bad", "v", { external: shared.pointer })).status).toBe(422);
    expect((await owner.put("secret/Custom/bad", "v", { storage: "external" })).status).toBe(422);
    expect(
      (await put(owner, `secret/Custom/${randomUUID()}`, { ...shared.pointer, version: "no-such" })).status,
    ).toBe(422);
  });
});

test("a pointer into one manager that names the other is 422, where both are enabled", async () => {
  const [aws, gcp] = [await CLOUDS.aws(), await CLOUDS.gcp()];
  const broker = await startBroker({
    environment: { ...aws.environment, ...gcp.environment, COFFER_MANAGERS_ENABLED: "aws,gcp" },
  });
  const { owner, project } = await furnish(broker);
  const answers = [
    await settingsOf(owner.api, project).put("secret/Custom/a", undefined, {
      external: { secret_id: "a" },
      manager: "gcp",
    }),
    await settingsOf(owner.api, project).put("secret/Custom/a", undefined, {
      external: { resource: "projects/a/secrets/b" },
      manager: "aws",
    }),
  ];
  expect(answers.map(({ status, body }) => [status, body.errors[0].pointer])).toEqual([
    [422, "/manager"],
    [422, "/manager"],
  ]);
  for (const each of [broker, aws, gcp]) await each.close();
});
