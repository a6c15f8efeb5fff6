// Keys that a cloud's manager guards: the key hierarchy of `envelope`, and the master key of an instance that was given
// none. What is in the database alone, or in the manager alone, opens nothing.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { compose } from "../../src/compose.ts";
import { readConfig } from "../../src/config.ts";
import { createLogger } from "../../src/compose-broker.ts";
import { type TestBroker, type World, furnish, startBroker } from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { type SettingsApi, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud, idsIn } from "./clouds.ts";
import { pointedAt } from "./pointers.ts";

describe.each(["aws", "gcp"] as const)("keys in %s", (name) => {
  let cloud: Cloud;
  let broker: TestBroker;
  let world: World;
  let settings: SettingsApi;
  // An empty master key counts as none: the manager is to keep one.
  const environment = () => ({ ...cloud.environment, COFFER_STORAGE: "envelope", COFFER_MASTER_KEY: "" });
  const purposes = (): string[] =>
    cloud.held().map(({ tags }) => Object.entries(tags).find(([tag]) => tag.includes("purpose"))?.[1] ?? "");

  beforeAll(async () => {
    cloud = await CLOUDS[name]();
    broker = await startBroker({ environment: environment() });
    world = await furnish(broker);
    settings = settingsOf(world.writer.api, world.project);
  });
  afterAll(async () => {
    await broker?.close();
    await cloud?.close();
  });

  test("a master key is made in the manager when none was given, and is the one of each later replica", async () => {
    expect(purposes()).toEqual(["master_key"]);
    await settings.put("secret/Custom/a", "sealed");
    const replica = await startBroker({ beside: broker, environment: environment() });
    const there = settingsOf(replica.as(world.writer.api.token), world.project);
    expect((await there.value("secret/Custom/a")).body.value).toBe("sealed");
    await replica.close();
    expect(purposes().toSorted()).toEqual(["key_encryption_key", "master_key"]);
  });

  test("an organization has one key-encryption key there, whoever of many writers came first", async () => {
    const other = await furnish(broker);
    const writes = Array.from({ length: 10 }, (_, index) =>
      settingsOf(other.writer.api, other.project).put(`secret/Custom/n${index}`, "value"),
    );
    expect((await Promise.all(writes)).map(({ status }) => status)).toEqual(writes.map(() => 201));
    expect(purposes().filter((each) => each === "key_encryption_key")).toHaveLength(2);
    expect(idsIn(cloud)).toEqual(await pointedAt(broker.databaseUrl));
  });

  test("no value and no bare key is in the manager: keys rest there sealed under the master key", () => {
    const texts = cloud
      .held()
      .flatMap(({ values, tags }) =>
        Object.values(tags).includes("key_encryption_key") ? [...values.values()] : [],
      );
    expect(texts.length).toBeGreaterThan(0);
    for (const text of texts) expect(Buffer.from(text, "base64")).toHaveLength(61);
  });

  test("an envelope read asks the manager nothing while its key is warm, and goes on while the manager is down", async () => {
    expect((await settings.value("secret/Custom/a")).body.value).toBe("sealed");
    cloud.fake.forgetCalls();
    cloud.fake.fault({ kind: "reset", times: 1_000 });
    expect((await settings.value("secret/Custom/a")).body.value).toBe("sealed");
    expect((await settings.open()).status).toBe(200);
    expect((await settings.put("secret/Custom/a", "written meanwhile")).status).toBe(200);
    expect(cloud.fake.calls()).toEqual([]);
    cloud.fake.clearFaults();
  });

  test("a key's making that was cut off is finished by the next who needs it, or undone", async () => {
    const other = await furnish(broker);
    const there = settingsOf(other.writer.api, other.project);
    cloud.fake.fault({ operation: cloud.operations.create, kind: "reset", times: 3 });
    expect((await there.put("secret/Custom/a", "value")).body).toMatchObject({ status: 503 });
    cloud.fake.clearFaults();
    expect((await there.put("secret/Custom/a", "value")).status).toBe(201);
    expect(idsIn(cloud)).toEqual(await pointedAt(broker.databaseUrl));
  });

  test("a write that is refused makes no key, whatever the manager is up to", async () => {
    const other = await furnish(broker);
    const there = settingsOf(other.writer.api, other.project);
    const before = purposes().length;
    expect((await there.put("secret/Custom/a", "value", {}, { "if-match": '"1"' })).status).toBe(412);
    expect((await settingsOf(other.reader.api, other.project).put("secret/Custom/a", "value")).status).toBe(
      403,
    );
    const late = { expires_at: new Date(0).toISOString() };
    expect((await there.put("secret/Custom/a", "value", late)).status).toBe(422);
    expect(purposes()).toHaveLength(before);
  });

  test("an organization that is removed takes its key out of the manager", async () => {
    const other = await furnish(broker);
    await settingsOf(other.writer.api, other.project).put("secret/Custom/a", "shredded");
    const before = purposes().length;
    expect((await other.owner.api.delete(`/organizations/${other.organization.id}?purge=true`)).status).toBe(
      204,
    );
    await broker.service.broker.settleManagedSecrets(100);
    // The broker's own sweep may be at it already; what it has claimed nobody else does.
    await until("the key is gone", () => purposes().length < before);
    expect(purposes()).toHaveLength(before - 1);
    await vi.waitFor(async () => expect(idsIn(cloud)).toEqual(await pointedAt(broker.databaseUrl)), 30_000);
  });

  test("a start with a master key of its own on that database is refused, and says so", async () => {
    const config = readConfig({
      ...environment(),
      COFFER_HOME: broker.home,
      DATABASE_URL: broker.databaseUrl,
      COFFER_MASTER_KEY: randomBytes(32).toString("hex"),
    });
    await expect(compose(config, createLogger("silent"))).rejects.toThrow(
      "not the one that this database was made with",
    );
  });
});
