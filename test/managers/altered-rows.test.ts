// Rows that went wrong in the database, by a botched UPDATE or by somebody with a hand in it: no value that could be read
// is taken out of a manager by what they say, and once they are put back all goes on.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { type SettingsApi, attack, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud } from "./clouds.ts";

const OF_PATH = "(SELECT id FROM settings WHERE path = $1)";

describe.each(["aws", "gcp"] as const)("a secret in %s", (name) => {
  let cloud: Cloud;
  let broker: TestBroker;
  let world: World;
  let settings: SettingsApi;

  beforeAll(async () => {
    cloud = await CLOUDS[name]();
    broker = await startBroker({
      environment: { ...cloud.environment, COFFER_MANAGERS_ENABLED: `local,${name}` },
    });
    world = await furnish(broker);
    settings = settingsOf(world.keeper.api, world.project);
  });
  afterAll(async () => {
    await broker?.close();
    await cloud?.close();
  });

  const sql = async (text: string, ...params: unknown[]) => (await attack(broker, text, params)).rows;
  const valuesHeld = (): string[] => cloud.held().flatMap(({ values }) => [...values.values()]);
  /** Has what there is of the path's secrets looked at, as after a crash: true once it was put off, or is settled. */
  async function lookedAt(path: string, how: "put off" | "settled"): Promise<void> {
    await sql("UPDATE managed_secrets SET unsettled_at = now(), attempts = 0 WHERE path = $1", path);
    await until(`the secret ${how}`, async () => {
      await sql(
        "UPDATE managed_secrets SET next_try_at = NULL WHERE lease_until IS NULL AND path = $1",
        path,
      );
      await broker.service.broker.settleManagedSecrets(100);
      const [row] = await sql("SELECT attempts, unsettled_at FROM managed_secrets WHERE path = $1", path);
      return how === "settled" ? !row?.unsettled_at : row.attempts > 0;
    });
  }

  test("whose setting's row is gone, and its versions' are not, keeps its values", async () => {
    const path = "secret/Custom/removed";
    await made(settings.put(path, `${path} in ${name}`));
    const [row] = await sql("DELETE FROM settings s WHERE path = $1 RETURNING to_jsonb(s) AS it", path);
    await lookedAt(path, "put off");
    expect(valuesHeld()).toContain(`${path} in ${name}`);
    await sql("INSERT INTO settings SELECT * FROM jsonb_populate_record(NULL::settings, $1)", row.it);
    await lookedAt(path, "settled");
    expect((await settings.value(path)).body.value).toBe(`${path} in ${name}`);
  });

  test("of which a version is called destroyed by somebody else keeps that one's value", async () => {
    const path = "secret/Custom/not-destroyed";
    await made(settings.put(path, `${path} 1`));
    await made(settings.put(path, `${path} 2`));
    const say = (state: string) =>
      sql(
        `UPDATE setting_versions SET state = $2 WHERE setting_id = ${OF_PATH} AND version = 1`,
        path,
        state,
      );
    await say("destroying");
    await lookedAt(path, "put off");
    expect(valuesHeld()).toEqual(expect.arrayContaining([`${path} 1`, `${path} 2`]));
    await say("enabled");
    await lookedAt(path, "settled");
    expect((await settings.value(path, { version: "1" })).body.value).toBe(`${path} 1`);
  });

  test("whose setting is called deleted and overdue by somebody else is not purged", async () => {
    const path = "secret/Custom/not-deleted";
    await made(settings.put(path, `${path} in ${name}`));
    await sql("UPDATE settings SET deleted_at = now(), purge_at = now() WHERE path = $1", path);
    await until("the purge put off", async () => {
      await broker.service.broker.purgeDue(100);
      return (await sql("SELECT FROM settings WHERE path = $1 AND purge_at <= now()", path)).length === 0;
    });
    await lookedAt(path, "put off");
    expect(valuesHeld()).toContain(`${path} in ${name}`);
    await sql("UPDATE settings SET deleted_at = NULL, purge_at = NULL WHERE path = $1", path);
    await lookedAt(path, "settled");
    expect((await settings.value(path)).body.value).toBe(`${path} in ${name}`);
  });

  test("whose current version was altered is not moved, and the move says which setting that is", async () => {
    const path = "secret/Custom/not-moved";
    await made(settings.put(path, `${path} 1`));
    await made(settings.put(path, `${path} 2`));
    const say = (state: string) =>
      sql(
        `UPDATE setting_versions SET state = $2 WHERE setting_id = ${OF_PATH} AND version = 2`,
        path,
        state,
      );
    await say("destroying");
    const at = `/projects/${world.project.id}/manager`;
    await made(world.owner.api.put(at, { body: { storage: "envelope", manager: "local" } }));
    expect((await world.owner.api.post(`${at}/migrate`)).status).toBe(202);
    const moved = async () => (await made(world.owner.api.get(at))).migration;
    await until("the move over", async () => {
      await broker.service.broker.runMoves();
      return (await moved()).state !== "running";
    });
    expect((await moved()).failed).toMatchObject([{ path, code: "manager_failed" }]);
    await say("enabled");
    expect((await settings.value(path)).body).toMatchObject({ value: `${path} 2`, version: 2 });
    expect((await settings.value(path, { version: "1" })).body.value).toBe(`${path} 1`);
    const [row] = await sql(
      `SELECT storage FROM setting_versions WHERE setting_id = ${OF_PATH} AND version = 1`,
      path,
    );
    expect(row.storage).toBe("manager");
  });

  test("that holds a key is kept while a data key is wrapped under it, also where its own row is gone", async () => {
    const path = "secret/Custom/sealed";
    await made(
      world.owner.api.put(`/projects/${world.project.id}/manager`, {
        body: { storage: "envelope", manager: name },
      }),
    );
    await made(settings.put(path, "sealed"));
    const [row] = await sql(
      "DELETE FROM key_encryption_keys k WHERE manager = $1 RETURNING to_jsonb(k) AS it",
      name,
    );
    await until("nothing left of the move", async () => {
      await broker.service.broker.settleManagedSecrets(100);
      const left = "SELECT FROM managed_secrets WHERE unsettled_at IS NOT NULL OR lease_until IS NOT NULL";
      return (await sql(left)).length === 0;
    });
    const before = cloud.held().length;
    await sql("UPDATE managed_secrets SET unsettled_at = now() WHERE purpose = 'key_encryption_key'");
    await until("the key looked at", async () => {
      await broker.service.broker.settleManagedSecrets(100);
      const left = await sql(
        "SELECT FROM managed_secrets WHERE purpose = 'key_encryption_key' AND unsettled_at IS NOT NULL",
      );
      return left.length === 0;
    });
    expect(cloud.held()).toHaveLength(before);
    await sql(
      "INSERT INTO key_encryption_keys SELECT * FROM jsonb_populate_record(NULL::key_encryption_keys, $1)",
      row.it,
    );
  });
});
