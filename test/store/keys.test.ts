// What the key rows promise: of many replicas that make a key at once, all answer the same one.
import { expect, test } from "vitest";
import type { DataKeyRecord, KekRecord } from "../../src/domain/sealing-ports.ts";
import { INSTANCE_TENANT } from "../../src/domain/audit.ts";
import { newId, openFixture } from "./fixture.ts";

const CHECK = Buffer.from("a key-check value");

test("racers for one generation all answer the row that is there in the end, whole", async () => {
  const { keys, organization, time } = await openFixture();
  const { key, org } = await organization();
  const kek = (index: number): KekRecord => ({
    tenant_id: org,
    id: newId(),
    manager: "local",
    generation: 1,
    sealed: Buffer.from([index]),
    secret: null,
    created_at: time.now,
  });
  const keks = Array.from({ length: 10 }, (_, index) => kek(index));
  const answers = await Promise.all(keks.map((each) => keys.insertKek(each, CHECK)));
  expect(new Set(answers.map((each) => each?.id)).size).toBe(1);
  const winner = keks.find(({ id }) => id === answers[0]?.id);
  expect({ ...answers[0], sealed: Buffer.from(answers[0]?.sealed ?? []) }).toEqual(winner);
  const dataKey = (index: number): DataKeyRecord => ({
    ...key,
    id: newId(),
    generation: 1,
    manager: "local",
    kek_tenant: org,
    kek_id: winner?.id ?? "",
    wrapped: Buffer.from([index]),
    created_at: time.now,
  });
  const made = await Promise.all(
    Array.from({ length: 10 }, (_, index) => keys.insertDataKey(dataKey(index))),
  );
  expect(new Set(made.map((each) => each?.id)).size).toBe(1);
  expect(await keys.newestDataKey(key, "local")).toEqual(made[0]);
});

test("the newest generation is found, older ones by id, and only in their own tenant", async () => {
  const { keys, organization, time } = await openFixture();
  const [{ key, org }, other] = [await organization(), await organization()];
  const kek = (generation: number): KekRecord => ({
    tenant_id: org,
    id: newId(),
    manager: "local",
    generation,
    sealed: Buffer.from("k"),
    secret: null,
    created_at: time.now,
  });
  const [first, second] = [await keys.insertKek(kek(1), CHECK), await keys.insertKek(kek(2), CHECK)];
  expect(await keys.newestKek(org, "local")).toEqual(second);
  expect(await keys.kek(org, first?.id ?? "")).toEqual(first);
  expect(await keys.kek(other.org, first?.id ?? "")).toBeNull();
  expect(await keys.newestKek(other.org, "local")).toBeNull();
  const base = {
    ...key,
    manager: "local" as const,
    kek_tenant: org,
    kek_id: first?.id ?? "",
    wrapped: Buffer.from("w"),
    created_at: time.now,
  };
  const made = [1, 2, 3].map((generation) => Object.assign({ id: newId(), generation }, base));
  for (const each of made) await keys.insertDataKey(each);
  expect((await keys.newestDataKey(key, "local"))?.generation).toBe(3);
  const ids = made.slice(0, 2).map(({ id }) => id);
  expect((await keys.dataKeys(org, [...ids, newId()])).map(({ id }) => id).toSorted()).toEqual(
    ids.toSorted(),
  );
  expect(await keys.dataKeys(other.org, ids)).toEqual([]);
  expect(await keys.newestDataKey({ ...key, owner_type: "organization", owner_id: org }, "local")).toBeNull();
});

test("the instance's key-encryption key needs no organization", async () => {
  const { keys, time } = await openFixture();
  const record: KekRecord = {
    tenant_id: INSTANCE_TENANT,
    id: newId(),
    manager: "local",
    generation: 1,
    sealed: Buffer.from("k"),
    secret: null,
    created_at: time.now,
  };
  expect((await keys.insertKek(record, CHECK))?.id).toBe(record.id);
});

test("the key-check value is set once, by whoever comes first; a mere look sets nothing", async () => {
  const { keys, open } = await openFixture();
  const other = open();
  expect(await keys.keyCheck(null)).toBeNull();
  const values = await Promise.all([
    keys.keyCheck(Buffer.from("one")),
    other.keys.keyCheck(Buffer.from("two")),
  ]);
  expect(values[0]).toEqual(values[1]);
  expect(await keys.keyCheck(Buffer.from("three"))).toEqual(values[0]);
  await other.close();
});
