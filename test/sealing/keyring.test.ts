import { randomBytes, randomUUID } from "node:crypto";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { INSTANCE_TENANT } from "../../src/domain/audit.ts";
import { unavailable } from "../../src/domain/errors.ts";
import type { DataKeyRecord, KekRecord } from "../../src/domain/sealing-ports.ts";
import { createKeyring } from "../../src/sealing/keyring.ts";
import { memoryKeys, ownerKey, replica } from "./fixture.ts";

const bounds = (change: object) => ({ countMax: 10, ageMaxSeconds: 600, usesMax: 1_000, ...change });

function only<Row>(rows: Map<string, Row>): Row {
  const [row] = rows.values();
  if (row === undefined || rows.size !== 1) throw new Error(`there are ${rows.size} rows`);
  return row;
}

describe("an owner's first write", () => {
  test("ends with one data key and one KEK, however many replicas make it at once", async () => {
    const keyStore = memoryKeys();
    const master = randomBytes(32);
    const owner = ownerKey();
    const replicas = Array.from({ length: 8 }, () => replica(keyStore, { master }));
    const made = await Promise.all(
      replicas.flatMap(({ keyring }) => [
        keyring.currentDataKey(owner, "local"),
        keyring.currentDataKey(owner, "local"),
      ]),
    );
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
    expect(new Set(made.map(({ key }) => key.export().toString("hex"))).size).toBe(1);
    expect([keyStore.keks.size, keyStore.data.size]).toEqual([1, 1]);
  });

  test("of one process makes one key with one insert, though many ask", async () => {
    const { keyring, keyStore } = replica();
    const owner = ownerKey();
    await Promise.all(Array.from({ length: 20 }, () => keyring.currentDataKey(owner, "local")));
    expect(keyStore.calls.get("insertKek")).toBe(1);
    expect(keyStore.calls.get("insertDataKey")).toBe(1);
  });

  test("puts projects and their organization under its KEK, and users under the instance's", async () => {
    const { keyring, keyStore } = replica();
    const tenant = randomUUID();
    for (const key of [
      ownerKey("organization", tenant),
      ownerKey("project", tenant),
      ownerKey("user"),
      ownerKey("user"),
    ])
      await keyring.currentDataKey(key, "local");
    expect([...keyStore.keks.values()].map(({ tenant_id }) => tenant_id).toSorted()).toEqual(
      [INSTANCE_TENANT, tenant].toSorted(),
    );
    for (const row of keyStore.data.values())
      expect(row.kek_tenant).toBe(row.owner_type === "user" ? INSTANCE_TENANT : tenant);
  });

  test("leaves no key unwrapped in the store", async () => {
    const { keyring, keyStore } = replica();
    const { key } = await keyring.currentDataKey(ownerKey(), "local");
    const raw = key.export();
    expect(Buffer.from(only(keyStore.data).wrapped).includes(raw)).toBe(false);
    expect(Buffer.from(only(keyStore.keks).sealed ?? []).includes(raw)).toBe(false);
  });

  test("that fails is tried anew by the next", async () => {
    const { keyring, keyStore } = replica();
    const owner = ownerKey();
    keyStore.down = unavailable("The database is away.");
    await expect(keyring.currentDataKey(owner, "local")).rejects.toMatchObject({ code: "unavailable" });
    keyStore.down = null;
    await expect(keyring.currentDataKey(owner, "local")).resolves.toBeDefined();
  });
});

describe("a data key", () => {
  test("is another one for each owner", async () => {
    const { keyring } = replica();
    const tenant = randomUUID();
    const made = await Promise.all(
      [ownerKey("organization", tenant), ownerKey("project", tenant), ownerKey("project", tenant)].map(
        (key) => keyring.currentDataKey(key, "local"),
      ),
    );
    expect(new Set(made.map(({ key }) => key.export().toString("hex"))).size).toBe(3);
  });

  test("gets a successor after 90 days, and its values stay readable", async () => {
    const { keyring, keyStore, clock } = replica();
    const owner = ownerKey();
    const first = await keyring.currentDataKey(owner, "local");
    clock.pass(89 * 86_400);
    expect((await keyring.currentDataKey(owner, "local")).id).toBe(first.id);
    clock.pass(86_400);
    const second = await keyring.currentDataKey(owner, "local");
    expect(second.id).not.toBe(first.id);
    expect((await keyring.currentDataKey(owner, "local")).id).toBe(second.id);
    expect([...keyStore.data.values()].map(({ generation }) => generation)).toEqual([1, 2]);
    const both = await keyring.dataKeys(owner.tenant_id, [first.id, second.id]);
    expect([...both.values()].map(({ kind }) => kind)).toEqual(["key", "key"]);
  });

  test("whose row is gone is not sealed under again, though it is in memory", async () => {
    const { keyring, keyStore } = replica();
    const owner = ownerKey();
    const first = await keyring.currentDataKey(owner, "local");
    keyStore.data.clear();
    const next = await keyring.currentDataKey(owner, "local");
    expect(next.id).not.toBe(first.id);
    expect(keyStore.data.has(next.id)).toBe(true);
  });

  const data: [string, Partial<DataKeyRecord>][] = [
    ["tenant", { tenant_id: randomUUID() }],
    ["owner", { owner_id: randomUUID() }],
    ["owner type", { owner_type: "organization" }],
    ["id", { id: randomUUID() }],
    ["generation", { generation: 2 }],
    ["bytes", { wrapped: randomBytes(61) }],
  ];
  test.each(data)("with another %s in its row does not unwrap", async (_what, change) => {
    const keyStore = memoryKeys();
    const first = replica(keyStore);
    await first.keyring.currentDataKey(ownerKey(), "local");
    const altered = { ...only(keyStore.data), ...change };
    keyStore.data.clear();
    keyStore.data.set(altered.id, altered);
    const { keyring } = replica(keyStore, { master: first.master });
    const outcome = (await keyring.dataKeys(altered.tenant_id, [altered.id])).get(altered.id);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "manager_failed" } });
    await expect(keyring.currentDataKey(altered, "local")).rejects.toMatchObject({ code: "manager_failed" });
  });

  const keks: [string, Partial<KekRecord>][] = [
    ["generation", { generation: 2 }],
    ["bytes", { sealed: randomBytes(61) }],
    ["bytes missing", { sealed: null }],
  ];
  test.each(keks)("is not had when its KEK's row is altered: %s", async (_what, change) => {
    const keyStore = memoryKeys();
    const first = replica(keyStore);
    const { id } = await first.keyring.currentDataKey(ownerKey(), "local");
    const kek = only(keyStore.keks);
    keyStore.keks.set(kek.id, { ...kek, ...change });
    const outcomes = await replica(keyStore, { master: first.master }).keyring.dataKeys(
      only(keyStore.data).tenant_id,
      [id],
    );
    expect(outcomes.get(id)).toMatchObject({ kind: "failed", error: { code: "manager_failed" } });
  });

  test("of one organization does not unwrap under the KEK of another", async () => {
    const { keyring, keyStore, master } = replica();
    const one = await keyring.currentDataKey(ownerKey(), "local");
    await keyring.currentDataKey(ownerKey(), "local");
    const record = keyStore.data.get(one.id);
    const other = [...keyStore.keks.values()].find(({ id }) => id !== record?.kek_id);
    if (record === undefined || other === undefined) throw new Error("two KEKs were to be made");
    keyStore.data.set(one.id, { ...record, kek_tenant: other.tenant_id, kek_id: other.id });
    const outcomes = await replica(keyStore, { master }).keyring.dataKeys(record.tenant_id, [one.id]);
    expect(outcomes.get(one.id)).toMatchObject({ kind: "failed" });
  });

  test("under another master key is not had, and the error shows no key", async () => {
    const first = replica();
    const { id, key } = await first.keyring.currentDataKey(ownerKey(), "local");
    const { tenant_id } = only(first.keyStore.data);
    const outcome = (await replica(first.keyStore).keyring.dataKeys(tenant_id, [id])).get(id);
    expect(outcome).toMatchObject({ kind: "failed", error: { code: "manager_failed" } });
    const printed = inspect([outcome, await first.keyring.dataKeys(tenant_id, [id])], {
      depth: null,
      showHidden: true,
    });
    expect(printed).not.toContain(key.export().toString("hex").slice(0, 12));
    expect(printed).not.toContain(
      key
        .export()
        .toString("hex")
        .slice(0, 12)
        .replaceAll(/(..)(?=.)/g, "$1 "),
    );
  });
});

describe("keys in memory", () => {
  test("are read from the store once, however many ask for them at once", async () => {
    const first = replica();
    const { id } = await first.keyring.currentDataKey(ownerKey(), "local");
    const { tenant_id } = only(first.keyStore.data);
    const { keyring } = replica(first.keyStore, { master: first.master });
    first.keyStore.calls.clear();
    await Promise.all(Array.from({ length: 20 }, () => keyring.dataKeys(tenant_id, [id, id])));
    await keyring.dataKeys(tenant_id, [id]);
    expect(Object.fromEntries(first.keyStore.calls)).toEqual({ dataKeys: 1, kek: 1 });
    expect(keyring.cached(tenant_id, id)).not.toBeNull();
    expect(keyring.cached(randomUUID(), id)).toBeNull();
  });

  test("go out of use after ten minutes", async () => {
    const { keyring, clock } = replica();
    const owner = ownerKey();
    const { id } = await keyring.currentDataKey(owner, "local");
    clock.pass(599);
    expect(keyring.cached(owner.tenant_id, id)).not.toBeNull();
    clock.pass(1);
    expect(keyring.cached(owner.tenant_id, id)).toBeNull();
  });

  test("go out of use when the clock is set back", async () => {
    const { keyring, clock } = replica();
    const owner = ownerKey();
    const { id } = await keyring.currentDataKey(owner, "local");
    clock.pass(-1);
    expect(keyring.cached(owner.tenant_id, id)).toBeNull();
  });

  test("make room for others: one that was not used lately goes first", async () => {
    const { keyring } = replica(memoryKeys(), { bounds: bounds({ countMax: 2 }) });
    const owners = [ownerKey(), ownerKey(), ownerKey()] as const;
    const first = await keyring.currentDataKey(owners[0], "local");
    const second = await keyring.currentDataKey(owners[1], "local");
    expect(keyring.cached(owners[0].tenant_id, first.id)).not.toBeNull();
    await keyring.currentDataKey(owners[2], "local");
    expect(keyring.cached(owners[0].tenant_id, first.id)).not.toBeNull();
    expect(keyring.cached(owners[1].tenant_id, second.id)).toBeNull();
  });

  test("are unwrapped anew after their number of uses", async () => {
    const { keyring } = replica(memoryKeys(), { bounds: bounds({ usesMax: 3 }) });
    const owner = ownerKey();
    const { id } = await keyring.currentDataKey(owner, "local");
    const found = Array.from({ length: 4 }, () => keyring.cached(owner.tenant_id, id) !== null);
    expect(found).toEqual([true, true, true, false]);
  });

  test("are dropped with their owner; an organization's take its projects' along, and no one else's", async () => {
    const { keyring } = replica();
    const tenant = randomUUID();
    const owners = [
      ownerKey("organization", tenant),
      ownerKey("project", tenant),
      ownerKey(),
      ownerKey("user"),
    ] as const;
    const ids = await Promise.all(owners.map(async (key) => (await keyring.currentDataKey(key, "local")).id));
    const inMemory = (): boolean[] =>
      owners.map((key, index) => keyring.cached(key.tenant_id, ids[index] ?? "") !== null);
    keyring.forget(owners[3].owner_id);
    expect(inMemory()).toEqual([true, true, true, false]);
    keyring.forget(tenant);
    expect(inMemory()).toEqual([false, false, true, false]);
  });

  test("do not come back by a load that began before they were forgotten", async () => {
    const first = replica();
    const owner = ownerKey();
    const { id } = await first.keyring.currentDataKey(owner, "local");
    const { keyring } = replica(first.keyStore, { master: first.master });
    const loading = keyring.dataKeys(owner.tenant_id, [id]);
    await new Promise(setImmediate);
    keyring.forget(owner.owner_id);
    await loading;
    expect(keyring.cached(owner.tenant_id, id)).toBeNull();
  });

  test("that are not there are told as missing, a store that is away as what it said", async () => {
    const { keyring, keyStore } = replica();
    const id = randomUUID();
    expect((await keyring.dataKeys(randomUUID(), [id])).get(id)).toEqual({ kind: "missing" });
    keyStore.down = unavailable("The database is away.");
    expect((await keyring.dataKeys(randomUUID(), [id])).get(id)).toMatchObject({
      error: { code: "unavailable" },
    });
    keyStore.down = new Error("a defect");
    await expect(keyring.dataKeys(randomUUID(), [id])).rejects.toThrow("a defect");
  });

  test("are not had, nor made, by a broker that has no guard for their manager", async () => {
    const { keyStore, keyring, clock, rowMac, ring: masterKeys } = replica();
    const owner = ownerKey();
    const { id } = await keyring.currentDataKey(owner, "local");
    const unguarded = createKeyring({
      keyStore,
      rowMac,
      guards: new Map(),
      masterKeys,
      clock,
      newId: randomUUID,
    });
    expect([keyring.guards("local"), unguarded.guards("local")]).toEqual([true, false]);
    const error = { code: "manager_failed" };
    expect((await unguarded.dataKeys(owner.tenant_id, [id])).get(id)).toMatchObject({
      kind: "failed",
      error,
    });
    await expect(unguarded.currentDataKey(ownerKey(), "local")).rejects.toMatchObject(error);
  });
});
