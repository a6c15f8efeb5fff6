// Values that rest in a cloud's secret manager, by the whole broker over real HTTP: the seed's flow, versions, and that
// the manager never holds anything that the database does not point at.
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { S3, type TestBroker, type World, furnish, startBroker } from "../harness/broker.ts";
import { type SettingsApi, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud, idsIn } from "./clouds.ts";
import { pointedAt } from "./pointers.ts";

const KEY = "secret/Custom/api-key";

describe.each(["aws", "gcp"] as const)("values in %s", (name) => {
  let cloud: Cloud;
  let broker: TestBroker;
  let world: World;
  let settings: SettingsApi;

  beforeAll(async () => {
    cloud = await CLOUDS[name]();
    broker = await startBroker({ environment: cloud.environment });
    world = await furnish(broker);
    settings = settingsOf(world.writer.api, world.project);
  });
  afterAll(async () => {
    await broker?.close();
    await cloud?.close();
  });
  afterEach(() => cloud.fake.clearFaults());

  test("a stored key comes back by its reference, as latest and pinned, with the manager's own version id", async () => {
    const first = await settings.put(KEY, "sk-first");
    expect([first.status, first.text]).toEqual([201, first.text]);
    const { ref, storage, manager, location } = first.body;
    expect({ storage, manager }).toEqual({ storage: "manager", manager: name });
    const second = await settings.put(KEY, "sk-second");
    expect(second.body).toMatchObject({ version: 2, storage: "manager" });
    expect(second.body.location.version_id).not.toBe(location.version_id);
    const resolved = await world.writer.api.post("/settings/resolve", {
      body: { refs: [ref, `coffer://${ref}?version=1`] },
    });
    expect(resolved.body.results).toMatchObject([
      { status: 200, value: "sk-second", version: 2 },
      { status: 200, value: "sk-first", version: 1 },
    ]);
    expect((await settings.open(KEY)).body.settings[0]).toMatchObject({
      value: "sk-second",
      decrypted: true,
    });
    expect((await settings.open(KEY, { version: "1" })).body.settings[0].value).toBe("sk-first");
  });

  test("the secret is really there, for the plain SDK, under tags that name its owner and path", async () => {
    const path = "connect/S3/data";
    const value = { access_key_id: "AKIDEXAMPLE", secret_access_key: "wJalr", region: "eu-central-1" };
    const { body } = await settings.put(path, value);
    expect(JSON.parse(await cloud.plain(body.location))).toEqual(value);
    const at = body.location.secret_id ?? body.location.resource;
    const tags = Object.values(cloud.held().find((each) => each.name === at)?.tags ?? {});
    expect(tags).toEqual(expect.arrayContaining(["project", world.project.id, path]));
    expect((await settings.value(path)).body.value).toEqual(value);
  });

  test("a PUT of the current value makes no version, and writes nothing to the manager", async () => {
    const path = "secret/Custom/same";
    await settings.put(path, "twice");
    cloud.fake.forgetCalls();
    expect((await settings.put(path, "twice")).body.version).toBe(1);
    expect(cloud.fake.calls(cloud.operations.add)).toEqual([]);
  });

  test("of racing writers with one If-Match exactly one wins, and free ones get numbers without a gap", async () => {
    const path = "secret/Custom/raced";
    const { headers } = await settings.put(path, "start");
    const match = { "if-match": headers.get("etag") ?? "" };
    const rivals = Array.from({ length: 12 }, (_, index) => settings.put(path, `rival ${index}`, {}, match));
    const statuses = (await Promise.all(rivals)).map(({ status }) => status).toSorted((a, b) => a - b);
    expect(statuses).toEqual([200, ...Array.from({ length: 11 }, () => 412)]);
    const free = Array.from({ length: 8 }, (_, index) => settings.put(path, `free ${index}`));
    const versions = (await Promise.all(free)).map(({ body }) => body.version).toSorted((a, b) => a - b);
    expect(versions).toEqual([3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test("metadata and lists ask the manager nothing", async () => {
    cloud.fake.forgetCalls();
    expect((await settings.list()).status).toBe(200);
    expect((await settings.patch(KEY, { description: "a key" })).status).toBe(200);
    expect((await settings.remove(KEY)).status).toBe(204);
    expect((await settings.restore(KEY)).status).toBe(200);
    expect(cloud.fake.calls()).toEqual([]);
  });

  test("a conditional read of one field asks the manager nothing, where the field was given before", async () => {
    const path = "connect/S3/conditional";
    expect((await settings.put(path, S3)).status).toBe(201);
    const read = await settings.value(path, { field: "secret_access_key" });
    expect(read.body.value).toBe(S3.secret_access_key);
    const etag = read.headers.get("etag") ?? "";
    cloud.fake.forgetCalls();
    cloud.fake.fault({ kind: "reset", times: 1_000 });
    const again = (field: string, tag: string) => settings.value(path, { field }, { "if-none-match": tag });
    expect((await again("secret_access_key", etag)).status).toBe(304);
    expect(cloud.fake.calls()).toEqual([]);
    // Nobody knows the tag of a field that they were not given, be there one or not.
    cloud.fake.clearFaults();
    const invented = etag.replace("secret_access_key", "session_token");
    expect((await again("session_token", invented)).status).toBe(404);
  });

  test("a destroyed version is gone from the manager, reads of it stop, the others stay", async () => {
    const keeper = settingsOf(world.keeper.api, world.project);
    const before = (await settings.versions(KEY)).body.versions;
    expect((await keeper.destroy(KEY, 1)).status).toBe(204);
    const { versions } = (await settings.versions(KEY)).body;
    expect(versions[0]).toMatchObject({ version: 1, state: "destroyed" });
    expect(versions[0].location).toBeUndefined();
    expect((await settings.value(KEY, { version: "1" })).status).toBe(410);
    expect((await settings.value(KEY)).body.value).toBe("sk-second");
    expect(versions[1].location).toEqual(before[1].location);
  });

  test("a rollback is a new version in the manager with the old value", async () => {
    const path = "secret/Custom/back";
    await settings.put(path, "one");
    await settings.put(path, "two");
    const { body } = await settings.rollback(path, 1);
    expect(body).toMatchObject({ version: 3, storage: "manager" });
    expect(await cloud.plain(body.location)).toBe("one");
  });

  test("a purge takes the whole secret out of the manager", async () => {
    const keeper = settingsOf(world.keeper.api, world.project);
    const { body } = await settings.put("secret/Custom/purged", "gone");
    expect((await keeper.purge("secret/Custom/purged")).status).toBe(204);
    const at = body.location.secret_id ?? body.location.resource;
    expect(cloud.held().map((each) => each.name)).not.toContain(at);
    const again = await settings.put("secret/Custom/purged", "new");
    expect(again.body).toMatchObject({ version: 2 });
  });

  test("a project that is removed with its settings leaves nothing there", async () => {
    const { owner, organization } = world;
    const made = await owner.api.post(`/organizations/${organization.id}/projects`, {
      body: { name: "short" },
    });
    const project = { type: "project", id: made.body.id };
    const path = "secret/Custom/of-short";
    const pathsHeld = () => cloud.held().flatMap(({ tags }) => Object.values(tags));
    await settingsOf(owner.api, project).put(path, "a");
    expect(pathsHeld()).toContain(path);
    expect((await owner.api.delete(`/projects/${project.id}?purge=true`)).status).toBe(204);
    await broker.service.broker.settleManagedSecrets(100);
    // The broker's own sweep may be at it already; what it has claimed nobody else does.
    await vi.waitFor(() => expect(pathsHeld()).not.toContain(path), 10_000);
  });

  test("after all of that the manager holds what the database points at, and nothing else", async () => {
    expect(idsIn(cloud)).toEqual(await pointedAt(broker.databaseUrl));
  });
});
