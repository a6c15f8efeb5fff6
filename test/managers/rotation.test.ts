// Rotation of values that rest in a cloud's manager: at once, by a hook, and falling back; the manager ends with what the
// database points at. And an import, which a manager cannot take part in.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { type Receiver, startReceiver } from "../http/receiver.ts";
import { type SettingsApi, attack, later, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud } from "./clouds.ts";

describe.each(["aws", "gcp"] as const)("rotation in %s", (name) => {
  let cloud: Cloud;
  let broker: TestBroker;
  let world: World;
  let settings: SettingsApi;
  let receiver: Receiver;
  let isConfirmed: boolean | Promise<boolean> = true;

  beforeAll(async () => {
    cloud = await CLOUDS[name]();
    const loopback = { COFFER_PRIVATE_ADDRESSES_ALLOWED: "127.0.0.0/8" };
    broker = await startBroker({ environment: { ...cloud.environment, ...loopback } });
    world = await furnish(broker);
    settings = settingsOf(world.keeper.api, world.project);
    receiver = await startReceiver(async () => ({ confirmed: await isConfirmed }));
  });
  afterAll(async () => {
    await broker?.close();
    await cloud?.close();
    await receiver?.close();
  });

  const rotate = (path: string, body: object) =>
    made(world.keeper.api.post(settingsUrl(world.project, path, {}, "/settings/rotate"), { body }));
  const hook = async () => {
    const body = { url: receiver.url, events: [] };
    return (
      await made(world.owner.api.post(settingsUrl(world.project, undefined, {}, "/webhooks"), { body }))
    ).id;
  };
  const settled = async () => {
    const { broker: inner } = broker.service;
    await inner.askRotationHooks((error) => {
      throw error;
    });
    await inner.rotationHooksDrained();
  };
  const valuesHeld = (): string[] => cloud.held().flatMap(({ values }) => [...values.values()]);
  /** Sweeps until the manager holds this no more: it takes its time over labels. */
  const goneFromManager = async (value: string): Promise<void> => {
    await until("a value gone from the manager", async () => {
      await broker.service.broker.settleManagedSecrets(100);
      return !valuesHeld().includes(value);
    });
  };

  /** What was put off is to be tried again now, and by us. */
  const dueNow = () =>
    attack(
      broker,
      "UPDATE managed_secrets SET next_try_at = NULL WHERE unsettled_at IS NOT NULL AND lease_until IS NULL",
    );

  test("at once: the new value is in the manager and current, and the old one goes after the overlap", async () => {
    const path = "secret/Custom/at-once";
    await made(settings.put(path, `${name} old`));
    const { setting, rotation } = await rotate(path, {
      generator: { kind: "hex" },
      destroy_old: true,
      overlap_seconds: 60,
    });
    expect(setting).toMatchObject({ storage: "manager", manager: name, version: 2 });
    expect(rotation.state).toBe("overlap");
    const { value } = (await settings.value(path)).body;
    expect(await cloud.plain(setting.location)).toBe(value);
    await later(500, () => broker.service.broker.retireOldVersions(10));
    expect((await settings.value(path, { version: "1" })).status).toBe(410);
    await goneFromManager(`${name} old`);
    expect((await settings.value(path)).body.value).toBe(value);
  });

  test("by a hook: the old value is current until it confirms; where it refuses, nothing of the new one stays", async () => {
    const webhook_id = await hook();
    for (const confirms of [true, false]) {
      isConfirmed = confirms;
      const path = `secret/Custom/by-hook-${confirms}`;
      const fresh = `${name} new ${confirms}`;
      await made(settings.put(path, `${name} old ${confirms}`));
      const { rotation } = await rotate(path, { value: fresh, hook: { webhook_id } });
      expect(rotation.state).toBe("pending");
      const url = settingsUrl(world.project, path, {}, "/settings/rotations");
      await until("the rotation no longer pending", async () => {
        await settled();
        const { rotations } = await made(world.keeper.api.get(url));
        return rotations[0].state !== "pending";
      });
      const current = (await settings.value(path)).body;
      expect([current.value, current.version]).toEqual(confirms ? [fresh, 2] : [`${name} old false`, 1]);
      if (!confirms) await goneFromManager(fresh);
    }
  });

  const VERSION_TWO = "version = 2 AND setting_id = (SELECT id FROM settings WHERE path = $1)";
  test.each([
    {
      what: "was pointed at the old one",
      alter: `UPDATE setting_versions v SET location =
        (SELECT o.location FROM setting_versions o WHERE o.setting_id = v.setting_id AND o.version = 1) WHERE ${VERSION_TWO}`,
      reason: "altered",
      left: [{ state: "enabled" }],
    },
    {
      what: "was removed",
      alter: `DELETE FROM setting_versions WHERE ${VERSION_TWO}`,
      reason: "destroyed",
      left: [],
    },
  ])(
    "a new value whose row $what is not activated, does not stay, and does not take the old one with it",
    async (row) => {
      const altered = Promise.withResolvers<boolean>();
      isConfirmed = altered.promise;
      const path = `secret/Custom/${row.reason}`;
      const [old, next] = [`${path} of ${name}`, `${path} of ${name}, next`];
      await made(settings.put(path, old));
      const { rotation } = await rotate(path, { value: next, hook: { webhook_id: await hook() } });
      expect(rotation.state).toBe("pending");
      // The manager agrees with the database by then: only what ends the rotation can have it looked at again.
      await until("the secret settled", async () => {
        await broker.service.broker.settleManagedSecrets(100);
        const { rows } = await attack(
          broker,
          "SELECT FROM managed_secrets WHERE path = $1 AND unsettled_at IS NULL AND lease_until IS NULL",
          [path],
        );
        return rows.length === 1;
      });
      expect((await attack(broker, row.alter, [path])).rowCount).toBe(1);
      altered.resolve(true);
      const url = settingsUrl(world.project, path, {}, "/settings/rotations");
      const latest = async () => (await made(world.keeper.api.get(url))).rotations[0];
      await until("the rotation no longer pending", async () => {
        await settled();
        return (await latest()).state !== "pending";
      });
      expect(await latest()).toMatchObject({ state: "fallen_back", reason: row.reason });
      await goneFromManager(next);
      expect(valuesHeld()).toContain(old);
      const current = (await settings.value(path)).body;
      expect([current.value, current.version]).toEqual([old, 1]);
      const { rows } = await attack(broker, `SELECT state FROM setting_versions WHERE ${VERSION_TWO}`, [
        path,
      ]);
      expect(rows).toEqual(row.left);
      expect((await settings.value(path, { version: "2" })).status).toBe(502);
    },
  );

  test("where the current version's row was altered, nothing is taken out of the manager until it is put back", async () => {
    const altered = Promise.withResolvers<boolean>();
    isConfirmed = altered.promise;
    const path = "secret/Custom/current-altered";
    const [old, next] = [`${path} of ${name}`, `${path} of ${name}, next`];
    await made(settings.put(path, old));
    await rotate(path, { value: next, hook: { webhook_id: await hook() } });
    const OF_ONE = "version = 1 AND setting_id = (SELECT id FROM settings WHERE path = $1)";
    const { rows } = await attack(broker, `SELECT location FROM setting_versions WHERE ${OF_ONE}`, [path]);
    const [{ location }] = rows;
    const point = `UPDATE setting_versions SET location = $2 WHERE ${OF_ONE}`;
    const elsewhere = { ...location, version_id: "2" };
    expect((await attack(broker, point, [path, elsewhere])).rowCount).toBe(1);
    altered.resolve(true);
    await until("the rotation fallen back", async () => {
      await settled();
      const url = settingsUrl(world.project, path, {}, "/settings/rotations");
      return (await made(world.keeper.api.get(url))).rotations[0].reason === "altered";
    });
    await until("the secret put off", async () => {
      await dueNow();
      await broker.service.broker.settleManagedSecrets(100);
      const putOff =
        "SELECT FROM managed_secrets WHERE path = $1 AND attempts > 0 AND unsettled_at IS NOT NULL";
      return (await attack(broker, putOff, [path])).rows.length === 1;
    });
    expect(valuesHeld()).toEqual(expect.arrayContaining([old, next]));
    expect((await settings.value(path)).status).toBe(502);
    await attack(broker, point, [path, location]);
    await dueNow();
    await goneFromManager(next);
    expect((await settings.value(path)).body).toMatchObject({ value: old, version: 1 });
  });

  test("an import is refused, whole", async () => {
    const body = { settings: [{ path: "secret/Custom/imported", value: "x" }] };
    const url = settingsUrl(world.project, undefined, {}, "/settings/import");
    const { status, body: problem } = await world.writer.api.post(url, { body });
    expect([status, problem.code]).toEqual([409, "conflict"]);
    expect((await settings.list("secret/Custom/imported", { match: "exact" })).status).toBe(404);
  });

  test("an import does not bring a deleted one back elsewhere: moving takes `manage`", async () => {
    const path = "secret/Custom/deleted-here";
    await made(settings.put(path, "x"));
    await made(settings.remove(path));
    const place = `/projects/${world.project.id}/manager`;
    await made(world.owner.api.put(place, { body: { storage: "envelope", manager: name } }));
    const body = { settings: [{ path, value: "y" }] };
    const url = settingsUrl(world.project, undefined, {}, "/settings/import");
    expect((await world.writer.api.post(url, { body })).status).toBe(409);
    await made(world.owner.api.delete(place));
    expect((await settings.restore(path)).body).toMatchObject({
      storage: "manager",
      manager: name,
      version: 1,
    });
  });
});
