// What the vault does not open: a ciphertext that was moved, a row that was altered, a value whose key, guard or bytes
// cannot be had. Who caused it is told apart, an alert holds ids alone, and nothing quotes a value.
import { randomBytes, randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { unavailable } from "../../src/domain/errors.ts";
import type { SettingRow, VersionRecord } from "../../src/domain/setting.ts";
import { openOne, ownerKey, permit, printed, replica, resigned, settingOf, written } from "./fixture.ts";

const CANARY = "canary-7f3a-hunter2";

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

function withId(row: SettingRow, id: string): SettingRow {
  return { setting: { ...row.setting, id }, version: { ...row.version, setting_id: id } };
}
