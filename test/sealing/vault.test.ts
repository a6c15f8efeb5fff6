// The vault: a value comes back as it went in and is shown nowhere else, a page of them under any keys opens in its order,
// and the store is asked no more than it must be.
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import type { OwnerKey } from "../../src/domain/ports.ts";
import { memoryKeys, openOne, ownerKey, permit, printed, replica, settingOf, written } from "./fixture.ts";

const CANARY = "canary-7f3a-hunter2";

describe("a value", () => {
  test("comes back as it went in, byte for byte, whatever text it is", async () => {
    const broker = replica();
    const key = ownerKey();
    const texts = fc.oneof(
      fc.string({ unit: "binary", minLength: 1, maxLength: 200 }),
      fc.constantFrom("\uFEFFstarts with a mark", "\u0001", "🔑", "a\r\nb\n"),
    );
    await fc.assert(
      fc.asyncProperty(
        texts.filter((text) => text.isWellFormed() && !text.includes("\0")),
        async (text) => {
          const opened = await openOne(broker, await written(broker, key, text));
          expect(opened.kind === "opened" && opened.plaintext.reveal()).toBe(text);
        },
      ),
    );
    expect(broker.alerts).toEqual([]);
  });

  test("of each type opens on any replica with the same master key", async () => {
    const first = replica();
    const second = replica(first.keyStore, { master: first.master });
    const key = ownerKey();
    const values = [
      ["custom", CANARY],
      ["s3", { access_key_id: "id", secret_access_key: CANARY, force_path_style: true }],
      ["container_registry", { registry: "r", username: "u", password: CANARY }],
    ] as const;
    for (const [type, value] of values) {
      const opened = await openOne(second, await written(first, key, value, settingOf(key, type)));
      expect(opened.kind === "opened" && opened.plaintext.reveal()).toEqual(value);
    }
  });

  test("does not rest in the row or the keys, in any encoding", async () => {
    const broker = replica();
    const row = await written(broker, ownerKey(), CANARY);
    const wrapped = [...broker.keyStore.data.values()].map((record) => record.wrapped);
    const rest = Buffer.concat([row.version.sealed ?? Buffer.alloc(0), ...wrapped]).toString("latin1");
    for (const encoding of ["latin1", "base64", "hex"] as const)
      expect(rest).not.toContain(Buffer.from(CANARY).toString(encoding));
  });

  test("is not shown by printing anything that holds it or its keys", async () => {
    const broker = replica();
    const key = ownerKey();
    const row = await written(broker, key, CANARY);
    const { key: dataKey } = await broker.keyring.currentDataKey(key, "local");
    const results = await broker.vault.open(permit, [row]);
    const sealer = await broker.vault.sealer(permit, key, "local");
    const text = printed([
      results,
      sealer,
      broker,
      dataKey,
      String(results[0]?.kind === "opened" && results[0].plaintext),
    ]);
    const { master: _master, ...shown } = broker;
    expect(text).toContain("[redacted]");
    expect(text).not.toContain(CANARY);
    for (const secret of [dataKey, broker.masterKeys.kekWrapping, broker.masterKeys.rowMac]) {
      const hex = secret.export().toString("hex").slice(0, 12);
      expect(printed([results, sealer, shown, dataKey])).not.toContain(hex);
      expect(printed([results, sealer, shown, dataKey])).not.toContain(hex.replaceAll(/(..)(?=.)/g, "$1 "));
    }
  });
});

describe("opening in memory", () => {
  test("gives null until the key was fetched, the same as open from then on, and null once forgotten", async () => {
    const first = replica();
    const key: OwnerKey = ownerKey();
    const row = await written(first, key, CANARY);
    const { vault, keyStore } = replica(first.keyStore, { master: first.master });
    expect(vault.openInMemory(permit, row)).toBeNull();
    await vault.open(permit, [row]);
    keyStore.down = new Error("asked the store");
    expect(vault.openInMemory(permit, row)).toMatchObject({ kind: "opened" });
    vault.forget(key.owner_id);
    expect(vault.openInMemory(permit, row)).toBeNull();
  });
});

describe("a page of values under several keys", () => {
  test.each([
    ["of one tenant", true],
    ["of two tenants", false],
  ])("%s opens in its order, each under its own, with nothing asked of the store", async (_, isOneTenant) => {
    const broker = replica();
    const one = ownerKey();
    const other = isOneTenant ? { ...one, owner_id: ownerKey().owner_id } : ownerKey();
    const rows = [];
    for (const [index, key] of [one, other, other, one, other].entries())
      rows.push(await written(broker, key, `value ${index}`));
    expect(new Set(rows.map(({ version }) => version.data_key_id)).size).toBe(2);
    await broker.vault.open(permit, rows);
    broker.keyStore.down = new Error("asked the store");
    const results = await broker.vault.open(permit, rows);
    expect(results.map((each) => each.kind === "opened" && each.plaintext.reveal())).toEqual(
      rows.map((_row, index) => `value ${index}`),
    );
    expect(broker.alerts).toEqual([]);
  });
});

describe("the vault", () => {
  test("asks the store once for a page of rows under one key", async () => {
    const first = replica();
    const key = ownerKey();
    const rows = await Promise.all(
      Array.from({ length: 30 }, (_, index) => written(first, key, `value ${index}`)),
    );
    const { vault } = replica(first.keyStore, { master: first.master });
    first.keyStore.calls.clear();
    const results = await vault.open(permit, rows);
    expect(results.every(({ kind }) => kind === "opened")).toBe(true);
    expect(Object.fromEntries(first.keyStore.calls)).toEqual({ dataKeys: 1, kek: 1 });
  });

  test("seals without the store once it has a sealer, as a transaction needs", async () => {
    const keyStore = memoryKeys();
    const { vault } = replica(keyStore);
    const key = ownerKey();
    const sealer = await vault.sealer(permit, key, "local");
    keyStore.down = new BrokerError("unavailable", "The database is away.");
    expect(await written({ vault: { ...vault, sealer: async () => sealer } }, key, CANARY)).toBeDefined();
  });

  test("signs a version with no setting but its own", async () => {
    const { vault } = replica();
    const row = await written({ vault }, ownerKey(), CANARY);
    expect(() => vault.signVersion({ ...row.setting, id: randomUUID() }, row.version)).toThrow(
      "its own setting",
    );
  });

  test("says what is enabled and usual here", () => {
    const { vault } = replica();
    expect(vault.isEnabled("local")).toBe(true);
    expect(vault.defaults).toEqual({ storage: "envelope", manager: "local" });
  });
});
