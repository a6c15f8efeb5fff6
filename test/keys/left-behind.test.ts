// A replica that runs on with a master key that was replaced: the broker's own work is left to those that have the new
// one. It could tell nothing genuine from an altered row, and sign nothing that a receiver is sent.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createStore } from "../../src/store/store.ts";
import { type TestBroker, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { coffer } from "../harness/process.ts";
import { until } from "../harness/until.ts";
import { type Receiver, startReceiver } from "../http/receiver.ts";
import { type Cloud, idsIn, startAws } from "../managers/clouds.ts";
import { environmentOf, keysIn, query, stock } from "./kit.ts";

const LEFT_BEHIND = "The master key was replaced, and this replica was not given the new one.";
const next = randomBytes(32).toString("hex");
const clock = { now: () => new Date() };

let cloud: Cloud;
let receiver: Receiver;
let left: TestBroker;
let earlierAuditKey: string;

beforeAll(async () => {
  cloud = await startAws();
  // Neither a delivery nor a rotation ends before its time.
  receiver = await startReceiver(() => 500);
  const placed = {
    ...cloud.environment,
    COFFER_STORAGE: "envelope",
    COFFER_PRIVATE_ADDRESSES_ALLOWED: "127.0.0.0/8",
  };
  left = await startBroker({ environment: placed });
  const { world } = await stock(left, 1);
  const { api } = world.owner;
  const path = "secret/Custom/s0";
  const hook = { url: receiver.url, events: ["setting.changed"] };
  const { id } = await made(api.post(settingsUrl(world.project, undefined, {}, "/webhooks"), { body: hook }));
  const rotation = { generator: { kind: "hex" }, hook: { webhook_id: id } };
  await made(api.post(settingsUrl(world.project, path, {}, "/settings/rotate"), { body: rotation }));
  await made(api.patch(settingsUrl(world.project, path), { body: { description: "told to the webhook" } }));
  const environment = { ...environmentOf(left), ...placed };
  earlierAuditKey = (await coffer(["audit", "key"], environment)).stdout.trim();
  const both = { ...environment, COFFER_MASTER_KEY_NEXT: next };
  for (const work of [["replace-master"], ["rewrap", "--grace-seconds", "0"]]) {
    const { code, stderr } = await coffer(["keys", ...work], both);
    if (code !== 0) throw new Error(stderr);
  }
  const current = await startBroker({ beside: left, environment: { ...placed, COFFER_MASTER_KEY: next } });
  await until("nothing but the keys in force in the manager", async () => {
    await current.service.broker.settleManagedSecrets(100);
    return idsIn(cloud).length === (await keysIn(left.databaseUrl)).keks.length;
  });
  await current.close();
}, 120_000);
afterAll(async () => {
  await left?.close();
  await cloud?.close();
  await receiver?.close();
});

const secrets = () =>
  query(left.databaseUrl, "SELECT lease_id, attempts, next_try_at FROM managed_secrets ORDER BY id");

test("it takes no secret of a manager for altered, raises no alert, and puts nothing off", async () => {
  await query(left.databaseUrl, "UPDATE managed_secrets SET unsettled_at = now()");
  const before = await secrets();
  expect(before.length).toBeGreaterThan(0);
  await expect(left.service.broker.settleManagedSecrets(100)).rejects.toThrow(LEFT_BEHIND);
  expect(await secrets()).toEqual(before);
  expect(before.filter(({ lease_id, attempts }) => lease_id !== null || attempts !== 0)).toEqual([]);
  expect(left.log()).not.toContain("ALERT");
});

test("it makes no attempt at a delivery, and one with the new key does", async () => {
  const due = "UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 day'";
  await query(left.databaseUrl, due);
  const attempts = () =>
    query(
      left.databaseUrl,
      "SELECT id, attempts FROM webhook_deliveries WHERE state = 'pending' ORDER BY id",
    );
  const before = await attempts();
  expect(before.length).toBeGreaterThan(0);
  const store = createStore({
    databaseUrl: left.databaseUrl,
    poolSize: 2,
    clock,
    onBackgroundError: () => undefined,
  });
  const [row] = await query(left.databaseUrl, "SELECT key_check FROM instance");
  const claim = (keyCheck: unknown) => {
    const take = { now: clock.now(), leaseUntil: clock.now(), limit: 64, busyWebhooks: [], busyTenants: [] };
    return store.deliveries.claim({ ...take, keyChecks: [keyCheck as Uint8Array] });
  };
  try {
    expect(await claim(randomBytes(32))).toEqual([]);
    // Nothing is noted of it either, by this look or by the replica's own.
    expect(await attempts()).toEqual(before);
    const claimed = await claim(row?.["key_check"]);
    expect(claimed.map(({ delivery_id }) => delivery_id).toSorted()).toEqual(before.map(({ id }) => id));
  } finally {
    await store.close();
  }
});

test("it asks no rotation's hook", async () => {
  const attempts = () =>
    query(left.databaseUrl, "SELECT state, attempts, reason FROM rotations WHERE state = 'pending'");
  await query(left.databaseUrl, "UPDATE rotations SET next_at = now() - interval '1 minute'");
  const before = await attempts();
  expect(before).toHaveLength(1);
  const failed = (error: unknown): never => {
    throw error;
  };
  await expect(left.service.broker.askRotationHooks(failed)).rejects.toThrow(LEFT_BEHIND);
  expect(await attempts()).toEqual(before);
});

test("it works on no move of values, and writes none off as failed", async () => {
  await query(
    left.databaseUrl,
    `INSERT INTO moves (tenant_id, owner_type, owner_id, id, storage, manager, state, total, done, failed, started_at, started_by)
      SELECT tenant_id, owner_type, owner_id, gen_random_uuid(), 'manager', 'aws', 'running', 1, 0, '[]', now(), created_by
      FROM settings WHERE owner_type = 'project' LIMIT 1`,
  );
  const move = () => query(left.databaseUrl, "SELECT state, done, failed, lease_id FROM moves");
  const before = await move();
  expect(before).toHaveLength(1);
  await expect(left.service.broker.runMoves()).rejects.toThrow(LEFT_BEHIND);
  expect(await move()).toEqual(before);
});

test("it adds no seal to the audit log, which verifies under the new key, and says why", async () => {
  // Stopping, it seals once more, as it did twice a second before.
  await left.service.close();
  expect(left.log()).toContain(`"message":"${LEFT_BEHIND}"`);
  expect(left.log()).not.toContain("ALERT");
  const { code, stdout } = await coffer(["audit", "verify"], {
    ...environmentOf(left),
    COFFER_MASTER_KEY: next,
    COFFER_AUDIT_EARLIER_KEYS: earlierAuditKey,
  });
  expect([code, stdout]).toEqual([0, expect.stringContaining("as it was sealed")]);
});
