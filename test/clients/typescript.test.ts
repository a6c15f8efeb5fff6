// The TypeScript client against the real broker: reading settings, resolving references.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Client, createClient } from "../../clients/typescript/src/index.ts";
import { REGISTRY, S3, type TestBroker, type World, furnish, startBroker } from "../harness/broker.ts";
import { countedFetch, failure } from "./typescript-kit.ts";

let broker: TestBroker;
let world: World;
let writer: Client;
let reader: Client;
let project: string;

beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.close());
beforeAll(async () => {
  world = await furnish(broker);
  project = world.project.id;
  writer = createClient({ url: broker.url, token: world.writer.api.token });
  reader = createClient({ url: `${broker.url}/`, token: world.reader.api.token });
});

describe("reading settings", () => {
  it("gives every setting under a path with its value: getSettings(ownerType, ownerId, path, { decrypt })", async () => {
    await writer.put("project", project, "connect/S3/one", { value: S3, labels: { team: "vision" } });
    await writer.put("project", project, "connect/S3/two", { value: { ...S3, region: "eu-central-1" } });
    const settings = await writer.getSettings("project", project, "connect/S3", { decrypt: true });
    expect(settings.map(({ path, decrypted }) => [path, decrypted])).toEqual([
      ["connect/S3/one", true],
      ["connect/S3/two", true],
    ]);
    const [one, two] = settings;
    expect(one?.value?.reveal()).toEqual(S3);
    expect(one?.labels).toEqual({ team: "vision" });
    // The path's type is the value's: no cast.
    const key: string | undefined = two?.value?.reveal().secret_access_key;
    expect(key).toBe(S3.secret_access_key);
  });

  it("follows next_cursor over all pages, in order", async () => {
    const paths = Array.from({ length: 7 }, (_, index) => `secret/Custom/pages/${index}`);
    for (const path of paths) await writer.put("project", project, path, { value: path });
    const { fetch, calls } = countedFetch();
    const client = createClient({ url: broker.url, token: world.writer.api.token, fetch });
    const settings = await client.getSettings("project", project, "secret/Custom/pages", {
      decrypt: true,
      pageSize: 3,
    });
    expect(settings.map(({ value }) => value?.reveal())).toEqual(paths);
    expect(calls).toHaveLength(3);
  });

  it("without decrypt gives no value; filters by type and label as the broker does", async () => {
    await writer.put("project", project, "connect/ContainerRegistry/filters", {
      value: REGISTRY,
      labels: { kind: "filter" },
    });
    const [found, ...others] = await writer.getSettings("project", project, undefined, {
      type: "container_registry",
      label: "kind:filter",
    });
    expect(others).toEqual([]);
    expect(found).toMatchObject({ decrypted: false, value: null, path: "connect/ContainerRegistry/filters" });
    expect(found).not.toHaveProperty("withheld");
  });

  it("shows rows that are withheld, and why", async () => {
    await writer.put("project", project, "secret/Custom/withheld", { value: "not for readers" });
    const [row] = await reader.getSettings("project", project, "secret/Custom/withheld", { decrypt: true });
    expect(row).toMatchObject({ decrypted: false, value: null, withheld: "insufficient_role" });
  });

  it("reads one value, one version, one field", async () => {
    await writer.put("project", project, "connect/S3/strict", { value: S3 });
    await writer.put("project", project, "connect/S3/strict", { value: { ...S3, region: "eu-west-1" } });
    const { value, version, type } = await writer.getValue("project", project, "connect/S3/strict");
    expect([version, type, value.reveal().region]).toEqual([2, "s3", "eu-west-1"]);
    const first = await writer.getValue("project", project, "connect/S3/strict", { version: 1 });
    expect(first.value.reveal()).toEqual(S3);
    const field = await writer.getField("project", project, "connect/S3/strict", "access_key_id");
    expect(field.value.reveal()).toBe(S3.access_key_id);
  });

  it("fails with the broker's status, code, reason and request id", async () => {
    const error = await failure(reader.getValue("project", project, "secret/Custom/withheld"));
    expect(error).toMatchObject({
      status: 403,
      code: "forbidden",
      reason: "insufficient_role",
      required: "decrypt",
    });
    expect(error.requestId).toMatch(/^[A-Za-z0-9._-]+$/);
    expect(error.temporary).toBe(false);
    expect(await failure(writer.getValue("project", project, "secret/Custom/none"))).toMatchObject({
      status: 404,
    });
    expect(
      await failure(createClient({ url: broker.url, token: "cfr_wrong" }).getSettings("project", project)),
    ).toMatchObject({ status: 401, code: "unauthenticated" });
    const invalid = await failure(
      writer.put("project", project, "connect/S3/bad", { value: { ...S3, region: "" } }),
    );
    expect(invalid).toMatchObject({
      status: 422,
      code: "invalid_value",
      errors: [{ pointer: "/value/region" }],
    });
  });
});

describe("resolving references", () => {
  const ref = (path: string): string => `coffer://project/${project}/${path}`;

  it("gives the value of one reference, a field or a pinned version", async () => {
    await writer.put("project", project, "connect/S3/ref", { value: S3 });
    await writer.put("project", project, "connect/S3/ref", { value: { ...S3, bucket: "b" } });
    expect((await writer.resolve(ref("connect/S3/ref"))).reveal()).toEqual({ ...S3, bucket: "b" });
    const pinned = await writer.resolve(`${ref("connect/S3/ref")}?version=1#secret_access_key`);
    expect(pinned.reveal()).toBe(S3.secret_access_key);
  });

  it("gives an outcome for each of many, in order, more than one request may carry", async () => {
    await writer.put("project", project, "secret/Custom/ref", { value: "resolved" });
    const refs = [
      ref("secret/Custom/missing"),
      ...Array.from({ length: 150 }, () => ref("secret/Custom/ref")),
      "no reference",
    ];
    const outcomes = await writer.resolve(refs);
    expect(outcomes.map((each) => each.ref)).toEqual(refs);
    expect(outcomes.map((each) => each.value?.reveal())).toEqual([
      undefined,
      ...Array.from({ length: 150 }, () => "resolved"),
      undefined,
    ]);
    expect(outcomes[0]).toMatchObject({ status: 404 });
    expect(outcomes.at(-1)).toMatchObject({ status: 400, code: "invalid_reference" });
    expect(outcomes[1]).toMatchObject({ status: 200, version: 1, setting_id: expect.any(String) });
  });

  it("throws for the one that fails, and never gives the reference instead", async () => {
    expect(await failure(writer.resolve(ref("secret/Custom/missing")))).toMatchObject({ status: 404 });
    expect(await failure(reader.resolve(ref("secret/Custom/ref")))).toMatchObject({
      status: 403,
      reason: "insufficient_role",
      required: "decrypt",
    });
    const error = await failure(writer.resolve("a secret, by mistake"));
    expect(error).toMatchObject({ status: 400, code: "invalid_reference" });
    expect(String(error)).not.toContain("by mistake");
  });

  it("renders settings for their consumer, as a secret", async () => {
    await writer.put("project", project, "connect/S3/rendered", { value: S3 });
    const rendered = await writer.render("project", project, "connect/S3/rendered", "json", {
      prefix: "TRAIN_",
    });
    expect(JSON.parse(rendered.reveal())).toMatchObject({ TRAIN_AWS_ACCESS_KEY_ID: S3.access_key_id });
    const lines = await writer.render("project", project, "connect/S3/rendered", "env");
    expect(lines.reveal()).toContain(`export AWS_ACCESS_KEY_ID='${S3.access_key_id}'`);
    expect(String(lines)).toBe("[redacted]");
  });

  it("asks nothing for no references", async () => {
    expect(await writer.resolve([])).toEqual([]);
  });

  it("explains without a value", async () => {
    const [there, missing] = await writer.explain([ref("secret/Custom/ref"), ref("secret/Custom/missing")]);
    expect(there).toMatchObject({ status: 200, version: 1 });
    expect(there).not.toHaveProperty("value");
    expect(missing).toMatchObject({ status: 404 });
  });
});
