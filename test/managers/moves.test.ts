// Where owners' new settings go, and the moving of what is there: contract section 6, `/…/manager` and `migrate`.
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { type SettingsApi, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud, idsIn } from "./clouds.ts";
import { pointedAt } from "./pointers.ts";

let clouds: Record<"aws" | "gcp", Cloud>;
let broker: TestBroker;
let world: World;
let settings: SettingsApi;

beforeAll(async () => {
  clouds = { aws: await CLOUDS.aws(), gcp: await CLOUDS.gcp() };
  const environment = {
    ...clouds.aws.environment,
    ...clouds.gcp.environment,
    COFFER_MANAGER: "local",
    COFFER_MANAGERS_ENABLED: "local,aws,gcp",
  };
  broker = await startBroker({ environment });
  world = await furnish(broker);
  settings = settingsOf(world.writer.api, world.project);
});
afterAll(async () => {
  await broker?.close();
  await clouds?.aws.close();
  await clouds?.gcp.close();
});

const at = (): string => `/projects/${world.project.id}/manager`;
const say = (storage: string, manager: string) => world.owner.api.put(at(), { body: { storage, manager } });

async function migrated() {
  expect((await world.owner.api.post(`${at()}/migrate`)).status).toBe(202);
  return vi.waitFor(
    async () => {
      const { migration } = await made(world.owner.api.get(at()));
      expect(migration.state).not.toBe("running");
      return migration;
    },
    { timeout: 60_000, interval: 50 },
  );
}

async function everythingIsPointedAt() {
  await vi.waitFor(
    async () => {
      await broker.service.broker.settleManagedSecrets(100);
      const held = [...idsIn(clouds.aws), ...idsIn(clouds.gcp)].toSorted();
      expect(held).toEqual(await pointedAt(broker.databaseUrl));
    },
    { timeout: 30_000 },
  );
}

describe("where an owner's new settings go", () => {
  test("is inherited from the organization, then from the instance; only who manages it sees and says it", async () => {
    const { owner, organization, writer } = world;
    expect((await owner.api.get(at())).body).toEqual({
      storage: "envelope",
      manager: "local",
      inherited_from: "instance",
      migration: { state: "none", total: 0, done: 0, failed: [] },
    });
    const ofOrganization = `/organizations/${organization.id}/manager`;
    const said = await owner.api.put(ofOrganization, { body: { storage: "envelope", manager: "gcp" } });
    expect(said.body).toMatchObject({ storage: "envelope", manager: "gcp", inherited_from: null });
    expect((await owner.api.get(at())).body).toMatchObject({
      manager: "gcp",
      inherited_from: "organization",
    });
    expect((await say("manager", "aws")).body).toMatchObject({ manager: "aws", inherited_from: null });
    const { body } = await settings.put("secret/Custom/inherits", "value");
    expect(body).toMatchObject({ storage: "manager", manager: "aws" });
    expect((await writer.api.get(at())).status).toBe(403);
    expect((await writer.api.put(at(), { body: { manager: "local" } })).status).toBe(403);
    expect((await owner.api.delete(at())).status).toBe(204);
    expect((await owner.api.delete(ofOrganization)).status).toBe(204);
    expect((await owner.api.get(at())).body).toMatchObject({ manager: "local", inherited_from: "instance" });
  });

  test("is 422 where it makes no sense or is not enabled, 400 where it is no such word", async () => {
    expect((await say("manager", "local")).status).toBe(422);
    expect((await world.owner.api.put(at(), { body: { manager: "vault" } })).status).toBe(400);
    expect((await world.owner.api.put(at(), { body: {} })).status).toBe(400);
  });

  test("a write may say otherwise with manage, and then later versions stay there", async () => {
    const owner = settingsOf(world.owner.api, world.project);
    const path = "secret/Custom/elsewhere";
    expect((await settings.put(path, "one", { manager: "aws" })).body).toMatchObject({ required: "manage" });
    expect((await owner.put(path, "one", { storage: "manager", manager: "gcp" })).status).toBe(201);
    expect((await settings.put(path, "two")).body).toMatchObject({
      storage: "manager",
      manager: "gcp",
      version: 2,
    });
    const moved = await owner.put(path, "two", { storage: "envelope", manager: "aws" });
    expect(moved.body).toMatchObject({ storage: "envelope", manager: "aws", version: 3 });
    expect(moved.body.location).toBeUndefined();
    expect((await settings.value(path, { version: "1" })).body.value).toBe("one");
    expect((await settings.value(path)).body.value).toBe("two");
  });
});

describe("a move", () => {
  const paths = Array.from({ length: 4 }, (_, index) => `secret/Custom/moved-${index}`);

  test("takes every enabled version along, numbers kept, and readers under load see no gap", async () => {
    for (const path of paths)
      for (const version of [1, 2, 3]) await settings.put(path, `${path} v${version}`);
    const stop = new AbortController();
    const wrong: string[] = [];
    let reads = 0;
    const reader = async (): Promise<void> => {
      for (let turn = 0; !stop.signal.aborted; turn++) {
        const path = paths[turn % paths.length] ?? "";
        const version = String((turn % 3) + 1);
        const { status, body } = await settings.value(path, { version });
        reads += 1;
        if (status !== 200 || body.value !== `${path} v${version}`) wrong.push(`${status} ${body.code}`);
      }
    };
    const readers = Array.from({ length: 2 }, reader);
    for (const [storage, manager] of [
      ["manager", "aws"],
      ["manager", "gcp"],
      ["envelope", "aws"],
      ["manager", "aws"],
      ["envelope", "local"],
    ] as const) {
      await say(storage, manager);
      const { state, failed, done, total } = await migrated();
      expect({ state, failed, all: done === total }).toEqual({ state: "done", failed: [], all: true });
      for (const path of paths) {
        const { versions } = (await settings.versions(path)).body;
        expect(versions).toMatchObject(
          [1, 2, 3].map((version) => ({ version, state: "enabled", storage, manager })),
        );
      }
    }
    stop.abort();
    await Promise.all(readers);
    expect({ wrong, some: reads > 50 }).toEqual({ wrong: [], some: true });
    await everythingIsPointedAt();
    expect(clouds.gcp.held().filter(({ tags }) => Object.values(tags).includes(paths[0] ?? ""))).toEqual([]);
  }, 120_000);

  test.each(["aws", "gcp"] as const)(
    "leaves the current version as the newest in %s, also where a newer one was there first",
    async (manager) => {
      const path = `secret/Custom/newest-${manager}`;
      const owner = settingsOf(world.owner.api, world.project);
      await say("envelope", "local");
      for (const version of [1, 2]) await settings.put(path, `v${version}`);
      const { body } = await owner.put(path, "v3", { storage: "manager", manager });
      await say("manager", manager);
      await migrated();
      expect(await clouds[manager].plain(body.location)).toBe("v3");
      for (const version of [1, 2, 3])
        expect((await settings.value(path, { version: String(version) })).body.value).toBe(`v${version}`);
      await everythingIsPointedAt();
    },
  );

  test("is one at a time: a second is 409 while one runs", async () => {
    await say("manager", "gcp");
    clouds.gcp.fake.fault({ kind: "delay", milliseconds: 300, times: 3 });
    const [first, second] = [
      await world.owner.api.post(`${at()}/migrate`),
      await world.owner.api.post(`${at()}/migrate`),
    ];
    expect([first.status, second.status]).toEqual([202, 409]);
    await vi.waitFor(
      async () => expect((await world.owner.api.get(at())).body.migration.state).toBe("done"),
      {
        timeout: 60_000,
      },
    );
  });

  test("destroys nothing: what AWS has no room for stays where it is, and is told", async () => {
    const path = "secret/Custom/many";
    await say("envelope", "local");
    await migrated();
    for (let version = 1; version <= 20; version++) await settings.put(path, `v${version}`);
    await say("manager", "aws");
    const migration = await migrated();
    expect(migration).toMatchObject({ state: "failed", failed: [{ path, code: "too_many_versions" }] });
    const { versions } = (await settings.versions(path)).body;
    expect(versions.map(({ storage }: { storage: string }) => storage)).toEqual([
      "envelope",
      "envelope",
      ...Array.from({ length: 18 }, () => "manager"),
    ]);
    expect((await settings.value(path, { version: "1" })).body.value).toBe("v1");
    expect((await settings.value(path, { version: "3" })).body.value).toBe("v3");
  });

  test("a nineteenth version in AWS ends the oldest there", async () => {
    const path = "secret/Custom/many";
    expect((await settings.put(path, "v21")).body.version).toBe(21);
    const { versions } = (await settings.versions(path)).body;
    expect(["destroying", "destroyed"]).toContain(versions[2].state);
    expect((await settings.value(path, { version: "3" })).status).toBe(410);
    expect((await settings.value(path, { version: "4" })).body.value).toBe("v4");
    await everythingIsPointedAt();
    expect((await settings.versions(path)).body.versions[2].state).toBe("destroyed");
  });
});
