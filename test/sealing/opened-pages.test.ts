// Pages that stay in memory and are opened again and again: as one piece, which changes nothing of what is answered.
import { randomUUID } from "node:crypto";
import { inspect } from "node:util";
import fc from "fast-check";
import { expect, onTestFinished, test, vi } from "vitest";
import { KeptRow } from "../../src/domain/kept-row.ts";
import { Plaintext } from "../../src/domain/plaintext.ts";
import type { OwnerKey } from "../../src/domain/ports.ts";
import type { SettingRow } from "../../src/domain/setting.ts";
import { type Replica, ownerKey, permit, replica, resigned, settingOf, written } from "./fixture.ts";

const CANARY = "canary-7f3a-hunter2";

async function pageOf(broker: Replica, key: OwnerKey, values: readonly unknown[]) {
  const rows = await Promise.all(
    values.map((value) =>
      written(broker, key, value, settingOf(key, typeof value === "string" ? "custom" : "s3")),
    ),
  );
  return KeptRow.pageOfRows(rows);
}

/** What each of them opens to: its value, or the code of what went wrong. */
async function openedOf({ vault }: Replica, rows: readonly SettingRow[]): Promise<readonly unknown[]> {
  const results = await vault.open(permit, rows);
  return results.map((each) => (each.kind === "opened" ? each.plaintext.reveal() : each.error.code));
}

/** What is kept of how a page opens. */
const keptOf = (rows: readonly SettingRow[]): object | null => KeptRow.pageOf(rows)?.opened ?? null;

test("opens to the same values each time, whatever they are and however many", async () => {
  const broker = replica();
  const key = ownerKey();
  const text = fc.oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 60 }),
    fc.constantFrom("\uFEFFstarts with a mark", "é", "🔑", "\uFEFF", "a\r\nb\n"),
  );
  const value = fc.oneof(text, fc.record({ access_key_id: text, secret_access_key: text }));
  const isFit = (each: unknown): boolean =>
    !JSON.stringify(each).includes("\\u0000") && !/\\ud[89a-f]/.test(JSON.stringify(each));
  await fc.assert(
    fc.asyncProperty(fc.array(value.filter(isFit), { minLength: 1, maxLength: 6 }), async (values) => {
      const page = await pageOf(broker, key, values);
      expect(await openedOf(broker, page)).toEqual(values);
      const kept = keptOf(page);
      expect(kept !== null).toBe(values.length > 1);
      for (let time = 0; time < 2; time++) expect(await openedOf(broker, page)).toEqual(values);
      expect(keptOf(page)).toBe(kept);
    }),
    { numRuns: 50 },
  );
  expect(broker.alerts).toEqual([]);
});

test("is kept in memory of its own, and leaves no bytes of a value behind, also where one does not open", async () => {
  const broker = replica();
  const key = ownerKey();
  const page = await pageOf(broker, key, [CANARY, `${CANARY}-2`]);
  const [one, two] = await Promise.all(["one", "two"].map((value) => written(broker, key, value)));
  const { version, setting } = two as SettingRow;
  const cut = resigned(broker, {
    setting,
    version: { ...version, sealed: version.sealed?.slice(1) ?? null },
  });
  const damaged = KeptRow.pageOfRows([one as SettingRow, cut]);
  const bytes = vi.spyOn(Plaintext.prototype, "bytes");
  onTestFinished(() => bytes.mockRestore());
  for (let time = 0; time < 2; time++) await Promise.all([openedOf(broker, page), openedOf(broker, damaged)]);
  const made = bytes.mock.results.map(({ value }) => value as Buffer);
  expect(made.length).toBeGreaterThan(0);
  expect(made.every((each) => each.every((byte) => byte === 0))).toBe(true);
  const { sealed } = keptOf(page) as { readonly sealed: Uint8Array };
  expect(sealed.buffer.byteLength).toBe(sealed.length);
});

test("what is kept of it shows no value, printed or as bytes, and each opening's plaintexts say [redacted]", async () => {
  const broker = replica();
  const page = await pageOf(broker, ownerKey(), [CANARY, `${CANARY}-2`]);
  await broker.vault.open(permit, page);
  const again = await broker.vault.open(permit, page);
  const kept = keptOf(page) as { readonly sealed: Uint8Array };
  expect(inspect([again, page, kept], { depth: null, showHidden: true })).not.toContain(CANARY);
  for (const encoding of ["latin1", "base64", "hex"] as const)
    expect(Buffer.from(kept.sealed).toString(encoding)).not.toContain(Buffer.from(CANARY).toString(encoding));
});

test("opens no more as it is once its key has left memory, and is kept anew", async () => {
  const broker = replica();
  const key = ownerKey();
  const page = await pageOf(broker, key, ["one", "two"]);
  await openedOf(broker, page);
  const leaves = [
    () => broker.vault.forget(key.owner_id),
    () => broker.clock.pass(600),
    () => broker.clock.pass(-60),
  ];
  for (const leave of leaves) {
    const before = keptOf(page);
    leave();
    const asked = broker.keyStore.calls.get("dataKeys") ?? 0;
    expect(await openedOf(broker, page)).toEqual(["one", "two"]);
    expect(broker.keyStore.calls.get("dataKeys")).toBe(asked + 1);
    expect(await openedOf(broker, page)).toEqual(["one", "two"]);
    expect(keptOf(page)).not.toBe(before);
  }
});

test("is not opened once its key is gone for good", async () => {
  const broker = replica();
  const key = ownerKey();
  const page = await pageOf(broker, key, ["one", "two"]);
  await openedOf(broker, page);
  broker.keyStore.data.clear();
  broker.vault.forget(key.owner_id);
  expect(await openedOf(broker, page)).toEqual(["manager_failed", "manager_failed"]);
});

test("only the very rows of a page open as one piece: some of them, another order and copies open one by one", async () => {
  const broker = replica();
  const page = await pageOf(broker, ownerKey(), ["one", "two", "three"]);
  await openedOf(broker, page);
  const [first, second, third] = page as readonly SettingRow[] as [SettingRow, SettingRow, SettingRow];
  for (const [rows, values] of [
    [
      [first, second],
      ["one", "two"],
    ],
    [
      [third, second, first],
      ["three", "two", "one"],
    ],
    [
      [{ ...first }, second, third],
      ["one", "two", "three"],
    ],
  ] as const) {
    expect(KeptRow.pageOf(rows)).toBeNull();
    expect(await openedOf(broker, rows)).toEqual(values);
  }
  // All of them, in whichever list.
  expect(KeptRow.pageOf([...page])).toBe(KeptRow.pageOf(page));
  expect(await openedOf(broker, [...page])).toEqual(["one", "two", "three"]);
});

test("with a value that does not open, or under two keys, is opened one by one each time", async () => {
  const broker = replica();
  const key = ownerKey();
  const [one, two] = await Promise.all(["one", "two"].map((value) => written(broker, key, value)));
  const other = await written(broker, { ...key, owner_id: randomUUID() }, "elsewhere");
  const { version } = two as SettingRow;
  const cut = resigned(broker, {
    ...(two as SettingRow),
    version: { ...version, sealed: version.sealed?.slice(1) ?? null },
  });
  const damaged = KeptRow.pageOfRows([one as SettingRow, cut]);
  const mixed = KeptRow.pageOfRows([one as SettingRow, other]);
  for (let time = 0; time < 3; time++) {
    expect(await openedOf(broker, damaged)).toEqual(["one", "manager_failed"]);
    expect(await openedOf(broker, mixed)).toEqual(["one", "elsewhere"]);
  }
  expect([keptOf(damaged), keptOf(mixed)]).toEqual([null, null]);
  expect(broker.alerts.every(({ kind }) => kind === "value_unopenable")).toBe(true);
});
