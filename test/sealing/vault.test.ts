import { randomBytes, randomUUID } from "node:crypto";
import { inspect } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BrokerError, unavailable } from "../../src/domain/errors.ts";
import type { OwnerKey } from "../../src/domain/ports.ts";
import type { SettingRow, VersionRecord } from "../../src/domain/setting.ts";
import { memoryKeys, openOne, ownerKey, permit, replica, resigned, settingOf, written } from "./fixture.ts";

const CANARY = "canary-7f3a-hunter2";

function printed(value: unknown): string {
  return `${inspect(value, { depth: null, showHidden: true })}${JSON.stringify(value)}${String(value)}`;
}

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

describe("a ciphertext that was moved", () => {
  const places: [string, (row: SettingRow) => SettingRow][] = [
    ["setting", (row) => withId(row, randomUUID())],
    ["version", (row) => ({ ...row, version: { ...row.version, version: 2 } })],
    ["owner", (row) => ({ ...row, setting: { ...row.setting, owner_id: randomUUID() } })],
    ["owner type", (row) => ({ ...row, setting: { ...row.setting, owner_type: "organization" } })],
    ["type", (row) => ({ ...row, setting: { ...row.setting, type: "s3" } })],
  ];
  test.each(places)(
    "to another %s does not open, not even in a row whose MACs are true",
    async (_what, move) => {
      const broker = replica();
      const row = move(await written(broker, ownerKey(), CANARY));
      expect(await openOne(broker, row)).toMatchObject({ kind: "failed", error: { code: "manager_failed" } });
      const opened = await openOne(broker, resigned(broker, row));
      expect(opened).toMatchObject({ kind: "failed", error: { code: "manager_failed" } });
      expect(broker.alerts.map(({ kind }) => kind)).toEqual(["row_altered", "value_unopenable"]);
      expect(printed(opened)).not.toContain(CANARY);
    },
  );

  test("between two settings of one owner opens in neither", async () => {
    const broker = replica();
    const key = ownerKey();
    const [one, other] = [await written(broker, key, CANARY), await written(broker, key, "other")];
    const swapped = resigned(broker, { ...one, version: { ...one.version, sealed: other.version.sealed } });
    expect((await openOne(broker, swapped)).kind).toBe("failed");
  });

  test("to another tenant finds no key there", async () => {
    const broker = replica();
    const row = await written(broker, ownerKey(), CANARY);
    const tenant_id = randomUUID();
    const moved = { setting: { ...row.setting, tenant_id }, version: { ...row.version, tenant_id } };
    expect((await openOne(broker, resigned(broker, moved))).kind).toBe("failed");
    expect(broker.alerts.map(({ kind }) => kind)).toEqual(["data_key_missing"]);
  });

  test("is an earlier sealing of the same version: its row is not genuine", async () => {
    const broker = replica();
    const key = ownerKey();
    const setting = settingOf(key);
    const before = await written(broker, key, "before", setting);
    const after = await written(broker, key, "after", setting);
    const rolled = { ...after, version: { ...after.version, sealed: before.version.sealed } };
    expect(broker.vault.isGenuine(after)).toBe(true);
    expect(broker.vault.isGenuine(rolled)).toBe(false);
  });
});

describe("a row that was altered", () => {
  test("anywhere in its sealed bytes opens nowhere, by either way", async () => {
    const broker = replica();
    const row = await written(broker, ownerKey(), CANARY);
    const length = row.version.sealed?.length ?? 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(length * 8 - 1), async (bit) => {
        const sealed = Buffer.from(row.version.sealed ?? []);
        sealed.writeUInt8(sealed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        const altered = { ...row, version: { ...row.version, sealed } };
        for (const candidate of [altered, resigned(broker, altered)]) {
          expect(await openOne(broker, candidate)).toMatchObject({
            kind: "failed",
            error: { code: "manager_failed" },
          });
          expect(broker.vault.openInMemory(permit, candidate)).toMatchObject({ kind: "failed" });
        }
      }),
    );
  });

  test("is told in fixed words, with an alert that holds ids alone", async () => {
    const broker = replica();
    const row = await written(broker, ownerKey(), CANARY);
    const altered = {
      ...row,
      setting: { ...row.setting, path: `secret/Custom/${CANARY}`, expires_at: new Date() },
    };
    const opened = await openOne(broker, altered);
    expect(opened.kind === "failed" && opened.error.message).toBe(
      "The stored record was altered outside the broker.",
    );
    const { setting, version } = row;
    const { tenant_id, owner_type, owner_id } = setting;
    const where = {
      tenant_id,
      owner_type,
      owner_id,
      setting_id: setting.id,
      version: 1,
      data_key_id: version.data_key_id,
    };
    expect(broker.alerts).toEqual([{ kind: "row_altered", ...where }]);
    expect(printed([opened, broker.alerts])).not.toContain(CANARY);
  });

  test("fails alone: the others of the same call open, in their order", async () => {
    const broker = replica();
    const key = ownerKey();
    const rows = [
      await written(broker, key, "a"),
      await written(broker, ownerKey(), "b"),
      await written(broker, key, "c"),
    ];
    const [, second] = rows;
    if (second === undefined) throw new Error("no row");
    rows[1] = { ...second, setting: { ...second.setting, current_version: 9 } };
    const results = await broker.vault.open(permit, rows);
    expect(
      results.map((each) => (each.kind === "opened" ? each.plaintext.reveal() : each.error.code)),
    ).toEqual(["a", "manager_failed", "c"]);
  });
});

describe("a value that cannot be had", () => {
  test("because its key is gone is 502's to tell; because the store is away, 503's and no alert", async () => {
    const first = replica();
    const row = await written(first, ownerKey(), CANARY);
    const kept = new Map(first.keyStore.data);
    const second = replica(first.keyStore, { master: first.master });
    first.keyStore.data.clear();
    expect(await openOne(second, row)).toMatchObject({ error: { code: "manager_failed" } });
    for (const [id, record] of kept) first.keyStore.data.set(id, record);
    first.keyStore.down = unavailable("The database is away.");
    expect(await openOne(second, row)).toMatchObject({ error: { code: "unavailable" } });
    first.keyStore.down = null;
    expect(await openOne(second, row)).toMatchObject({ kind: "opened" });
    expect(second.alerts.map(({ kind }) => kind)).toEqual(["data_key_missing"]);
  });

  test("because its key does not unwrap is an alert", async () => {
    const first = replica();
    const row = await written(first, ownerKey(), CANARY);
    for (const [id, record] of first.keyStore.data)
      first.keyStore.data.set(id, { ...record, wrapped: randomBytes(61) });
    const second = replica(first.keyStore, { master: first.master });
    expect(await openOne(second, row)).toMatchObject({ error: { code: "manager_failed" } });
    expect(second.alerts.map(({ kind }) => kind)).toEqual(["data_key_unopenable"]);
  });

  test("because the guard is away says what the guard said", async () => {
    const first = replica();
    const row = await written(first, ownerKey(), CANARY);
    const second = replica(first.keyStore, {
      master: first.master,
      wrapGuard: (guard) => ({
        ...guard,
        recover: () => Promise.reject(unavailable("The manager is away.")),
      }),
    });
    expect(await openOne(second, row)).toMatchObject({ error: { code: "unavailable" } });
    expect(second.alerts).toEqual([]);
  });

  test("under another master key: neither the row nor the key is taken for ours", async () => {
    const first = replica();
    const row = await written(first, ownerKey(), CANARY);
    const stranger = replica(first.keyStore);
    expect(stranger.vault.isGenuine(row)).toBe(false);
    expect(await openOne(stranger, resigned(stranger, row))).toMatchObject({
      error: { code: "manager_failed" },
    });
  });

  const holes: [string, Partial<VersionRecord>][] = [
    ["sealed bytes", { sealed: null }],
    ["data key", { data_key_id: null }],
  ];
  test.each(holes)("because the row has no %s fails, and is an alert", async (_what, hole) => {
    const broker = replica();
    const row = await written(broker, ownerKey(), CANARY);
    const opened = await openOne(broker, resigned(broker, { ...row, version: { ...row.version, ...hole } }));
    expect(opened).toMatchObject({ error: { code: "manager_failed" } });
    expect(broker.alerts.map(({ kind }) => kind)).toEqual(["value_unopenable"]);
  });

  test("because its version is destroyed is not opened though its bytes are still there", async () => {
    const broker = replica();
    const row = await written(broker, ownerKey(), CANARY);
    for (const state of ["destroying", "destroyed"] as const) {
      const gone = resigned(broker, { ...row, version: { ...row.version, state } });
      expect(await openOne(broker, gone)).toMatchObject({ error: { code: "destroyed" } });
    }
    expect(broker.alerts).toEqual([]);
  });

  test("because the sealed bytes are no UTF-8 fails rather than being mended", async () => {
    const broker = replica();
    const key = ownerKey();
    const bytes = Buffer.from([0x63, 0xff, 0xfe]);
    const impostor = { bytes: () => Buffer.from(bytes) } as unknown as Parameters<
      Awaited<ReturnType<typeof broker.vault.sealer>>["seal"]
    >[1];
    const row = await written(broker, key, CANARY);
    const { owner_type, owner_id, id: setting_id, type } = row.setting;
    const sealed = (await broker.vault.sealer(permit, key, "local")).seal(
      { owner_type, owner_id, setting_id, version: 1, type },
      impostor,
    );
    const opened = await openOne(
      broker,
      resigned(broker, { ...row, version: { ...row.version, ...sealed } }),
    );
    expect(opened).toMatchObject({ error: { code: "manager_failed" } });
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

function withId(row: SettingRow, id: string): SettingRow {
  return { setting: { ...row.setting, id }, version: { ...row.version, setting_id: id } };
}
