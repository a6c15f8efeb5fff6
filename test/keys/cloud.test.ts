// Keys that a cloud's manager guards: after a rotation and a rewrap, and after a new master key, the manager holds what
// the database points at and nothing of the old generations.
import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type TestBroker, startBroker } from "../harness/broker.ts";
import { coffer, spawnCoffer } from "../harness/process.ts";
import { CLOUDS, type Cloud, idsIn } from "../managers/clouds.ts";
import { pointedAt } from "../managers/pointers.ts";
import { type Stock, environmentOf, holdAt, keysIn, query, seen, stock, underReads } from "./kit.ts";

const REWRAP = ["keys", "rewrap", "--grace-seconds", "0"];

describe.each(["aws", "gcp"] as const)("keys in %s", { timeout: 120_000 }, (name) => {
  let cloud: Cloud;
  let broker: TestBroker;
  let all: Stock;
  let environment: Readonly<Record<string, string>>;

  beforeEach(async () => {
    cloud = await CLOUDS[name]();
    const placed = { ...cloud.environment, COFFER_STORAGE: "envelope" };
    broker = await startBroker({ environment: placed });
    environment = { ...environmentOf(broker), ...placed };
    all = await stock(broker, 3);
  });
  afterEach(async () => {
    await broker?.close();
    await cloud?.close();
  });

  test("a rewrap leaves the manager with the secrets of the new generation, and no other; no read fails", async () => {
    const { api } = all.world.owner;
    const before = { keys: await keysIn(broker.databaseUrl), seen: await seen(api, all), held: idsIn(cloud) };
    expect(before.held).toEqual(await pointedAt(broker.databaseUrl));
    expect((await coffer(["keys", "rotate"], environment)).code).toBe(0);
    await underReads([api, api], all, async () => {
      const { code, stderr } = await coffer(REWRAP, environment);
      expect([code, stderr]).toEqual([0, ""]);
    });
    await settled(broker, cloud, before.held);
    const held = idsIn(cloud);
    expect(held).toHaveLength(before.held.length);
    expect(held.filter((each) => before.held.includes(each))).toEqual([]);
    const now = await keysIn(broker.databaseUrl);
    expect(now.keks.filter((id) => before.keys.keks.includes(id))).toEqual([]);
    expect(await seen(api, all)).toEqual(before.seen);
    const fresh = await startBroker({ beside: broker, environment });
    expect(await seen(fresh.as(api.token), all)).toEqual(before.seen);
    await fresh.close();
  });

  test("killed while it makes keys, confirms them or removes them, it leaves nothing that nobody points at", async () => {
    const { api } = all.world.owner;
    const before = await seen(api, all);
    expect((await coffer(["keys", "rotate"], environment)).code).toBe(0);
    for (const step of [
      "UPDATE OF version_id ON managed_secrets",
      "INSERT ON data_keys",
      "DELETE ON key_encryption_keys",
      "DELETE ON managed_secrets",
    ]) {
      const place = await holdAt(broker.databaseUrl, step);
      const process = spawnCoffer(REWRAP, environment);
      await place.reached(process.ended);
      await process.kill();
      await place.end();
      expect([step, await seen(api, all)]).toEqual([step, before]);
      // What the kill left leased is due at once, as it is when the lease has run out.
      await expire(broker);
    }
    const { code, stderr } = await coffer(REWRAP, environment);
    expect([code, stderr]).toEqual([0, ""]);
    await settled(broker, cloud);
    expect(await seen(api, all)).toEqual(before);
  });

  test("a new master key gives new keys in the manager; the old ones are gone, and the old master key opens nothing", async () => {
    const { api } = all.world.owner;
    const before = { seen: await seen(api, all), held: idsIn(cloud) };
    const next = randomBytes(32).toString("hex");
    const both = { ...environment, COFFER_MASTER_KEY_NEXT: next };
    await broker.service.app.close();
    const replica = await startBroker({ beside: broker, environment: both });
    expect((await coffer(["keys", "replace-master"], both)).code).toBe(0);
    await underReads([replica.as(api.token)], all, async () => {
      const { code, stdout, stderr } = await coffer(REWRAP, both);
      expect([code, stderr]).toEqual([0, ""]);
      expect(stdout).toContain("Nothing is left under the earlier master key");
    });
    await replica.service.broker.settleManagedSecrets(100);
    await replica.close();
    const alone = await startBroker({
      beside: broker,
      environment: { ...environment, COFFER_MASTER_KEY: next },
    });
    expect(await seen(alone.as(api.token), all)).toEqual(before.seen);
    await settled(alone, cloud, before.held);
    await alone.close();
    expect(idsIn(cloud).filter((each) => before.held.includes(each))).toEqual([]);
  });
});

/**
 * Sweeps until the manager holds what the database points at, and nothing else; and nothing of `old`, which the database
 * points at until its turn has come. A broker's own sweeper may be at work on one secret just then: gone from the
 * manager, its row not yet; or taken, and still in both.
 */
async function settled(
  { service, databaseUrl }: TestBroker,
  cloud: Cloud,
  old: readonly string[] = [],
): Promise<void> {
  await vi.waitFor(
    async () => {
      await service.broker.settleManagedSecrets(100);
      const pointed = await pointedAt(databaseUrl);
      expect(idsIn(cloud)).toEqual(pointed);
      expect(pointed.filter((each) => old.includes(each))).toEqual([]);
    },
    { timeout: 60_000, interval: 100 },
  );
}

async function expire({ databaseUrl }: TestBroker): Promise<void> {
  await query(databaseUrl, "UPDATE managed_secrets SET lease_until = now() WHERE lease_until IS NOT NULL");
}
