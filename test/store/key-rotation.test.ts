// What the store promises of keys that are rotated away: whoever uses one holds it, and what is held stays.
import { expect, test } from "vitest";
import type { DataKeyRecord, KekRecord } from "../../src/domain/sealing-ports.ts";
import type { OwnerKey } from "../../src/domain/ports.ts";
import { type Fixture, newId, openFixture } from "./fixture.ts";

const CHECK = Buffer.alloc(32, 7);
const LATER = 3_600_000;

async function kekOf({ keys, time }: Fixture, tenant_id: string, generation = 1): Promise<KekRecord> {
  const identity = { tenant_id, id: newId(), manager: "local" as const, generation };
  const rest = { sealed: Buffer.from("k"), secret: null, created_at: time.now };
  const made = await keys.insertKek({ ...identity, ...rest }, CHECK);
  if (made === null) throw new Error("the key is made");
  return made;
}

function dataKeyOf({ time }: Fixture, key: OwnerKey, kek: KekRecord, generation = 1): DataKeyRecord {
  const under = { manager: "local" as const, kek_tenant: kek.tenant_id, kek_id: kek.id };
  return { ...key, id: newId(), generation, ...under, wrapped: Buffer.from("w"), created_at: time.now };
}

/** An owner with one data key, of an instance whose master key is known. */
async function furnished() {
  const fixture = await openFixture();
  await fixture.keys.keyCheck(CHECK);
  const { key, org } = await fixture.organization();
  const kek = await kekOf(fixture, org);
  const made = await fixture.keys.insertDataKey(dataKeyOf(fixture, key, kek));
  if (made === null) throw new Error("the key is made");
  const rotate = () =>
    fixture.transact(async (tx) => {
      await tx.lockKeys();
      await tx.rotateKeys(fixture.time.now);
    });
  return { ...fixture, fixture, key, org, kek, dataKey: made, rotate };
}

test("a rotation waits for who holds the keys, and who comes after it finds them rotated", async () => {
  const { transact, stuckOrDone, key, dataKey, rotate } = await furnished();
  const order: string[] = [];
  const held = Promise.withResolvers<void>();
  const letGo = Promise.withResolvers<void>();
  const writing = transact(async (tx) => {
    await tx.heldKeyCheck();
    expect(await tx.holdDataKey(key.tenant_id, dataKey.id)).toBe(true);
    held.resolve();
    await letGo.promise;
    order.push("written");
  });
  await held.promise;
  const rotating = rotate().then(() => order.push("rotated"));
  await stuckOrDone(rotating);
  letGo.resolve();
  await Promise.all([writing, rotating]);
  expect(order).toEqual(["written", "rotated"]);
  expect(await transact((tx) => tx.holdDataKey(key.tenant_id, dataKey.id))).toBe(false);
});

test("after a rotation no data key is put under an old KEK, and what is made is newer than the rotation", async () => {
  const { fixture, keys, key, org, kek, dataKey, rotate, time } = await furnished();
  time.now = new Date(time.now.getTime() + LATER);
  await rotate();
  time.now = new Date(time.now.getTime() - LATER);
  expect(await keys.insertDataKey(dataKeyOf(fixture, key, kek, 2))).toBeNull();
  const fresh = await kekOf(fixture, org, 2);
  const made = await keys.insertDataKey(dataKeyOf(fixture, key, fresh, 2));
  const { keys_rotated_at: rotated } = await keys.epoch();
  for (const each of [fresh, made]) expect(each?.created_at).toEqual(rotated);
  expect(await fixture.store.reader.newestDataKeys(key)).toEqual([
    { manager: "local", id: made?.id, isOld: false },
  ]);
  expect(dataKey.created_at.getTime()).toBeLessThan(rotated?.getTime() ?? 0);
});

test("a key that was made by a clock that is ahead is older than the rotation all the same", async () => {
  const { keys, store, key, org, rotate, time, fixture } = await furnished();
  time.now = new Date(time.now.getTime() + LATER);
  const ahead = await keys.insertDataKey(dataKeyOf(fixture, key, await kekOf(fixture, org, 2), 2));
  time.now = new Date(time.now.getTime() - LATER);
  await rotate();
  expect(await store.reader.newestDataKeys(key)).toEqual([{ manager: "local", id: ahead?.id, isOld: true }]);
});

test("no KEK is kept that was sealed under another master key than the instance's", async () => {
  const { keys, org, time } = await furnished();
  const identity = { tenant_id: org, id: newId(), manager: "local" as const, generation: 2 };
  const record = { ...identity, sealed: Buffer.from("k"), secret: null, created_at: time.now };
  expect(await keys.insertKek(record, Buffer.alloc(32, 8))).toBeNull();
  expect(await keys.kek(org, identity.id)).toBeNull();
});

test("a data key that somebody holds is not removed, nor one that a version is under after all", async () => {
  const { fixture, transact, keys, key, org, kek, rotate, setting, driver } = await furnished();
  // A successor by age: the earlier key may still be held by a write that was prepared before.
  const earlier = await keys.newestDataKey(key, "local");
  await keys.insertDataKey(dataKeyOf(fixture, key, kek, 2));
  const remove = () => transact((tx) => tx.removeDataKeys(new Date(fixture.time.now.getTime() + LATER), 10));
  await transact((tx) => tx.noteUnusedDataKeys(fixture.time.now));
  const held = Promise.withResolvers<void>();
  const letGo = Promise.withResolvers<void>();
  const writing = transact(async (tx) => {
    expect(await tx.holdDataKey(org, earlier?.id ?? "")).toBe(true);
    held.resolve();
    await letGo.promise;
  });
  await held.promise;
  expect(await remove()).toBe(0);
  letGo.resolve();
  await writing;
  const record = await setting(key, "connect/S3/data");
  await driver.query("UPDATE setting_versions SET data_key_id = $1 WHERE setting_id = $2", [
    earlier?.id,
    record.id,
  ]);
  expect(await remove()).toBe(0);
  await driver.query("UPDATE setting_versions SET data_key_id = $2 WHERE setting_id = $1", [
    record.id,
    newId(),
  ]);
  // It was in use meanwhile: its time begins anew.
  expect(await remove()).toBe(0);
  await transact((tx) => tx.noteUnusedDataKeys(fixture.time.now));
  expect(await remove()).toBe(1);
  expect(await transact((tx) => tx.removeKeks(10))).toBe(0);
  await rotate();
  await transact((tx) => tx.noteUnusedDataKeys(fixture.time.now));
  expect([await remove(), await transact((tx) => tx.removeKeks(10))]).toEqual([1, 1]);
  expect(await fixture.store.reader.oldKeys()).toMatchObject({ data_keys: 0, keks: 0, settings: 0 });
});
