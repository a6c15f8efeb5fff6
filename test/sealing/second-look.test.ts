// What does not open is read again before anybody is told: a value that was moved or removed meanwhile is no damage.
import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { openOne, ownerKey, permit, replica, resigned, written } from "./fixture.ts";

const CANARY = "canary-7f3a-hunter2";

describe("a value that cannot be had", () => {
  test("because it was removed together with its key while it was read is 503's, and nobody's damage", async () => {
    const first = replica();
    const row = await written(first, ownerKey(), CANARY);
    const second = replica(first.keyStore, { master: first.master, versionNow: async () => null });
    first.keyStore.data.clear();
    expect(await openOne(second, row)).toMatchObject({ error: { code: "unavailable" } });
    expect(second.alerts).toEqual([]);
  });

  test("because it was destroyed while it was read is 503's: asked again, it is one that is destroyed", async () => {
    const first = replica();
    const row = await written(first, ownerKey(), CANARY);
    const destroyed = { ...row.version, state: "destroyed" as const, sealed: null, data_key_id: null };
    const now = resigned(first, { ...row, version: destroyed }).version;
    const second = replica(first.keyStore, { master: first.master, versionNow: async () => now });
    first.keyStore.data.clear();
    expect(await openOne(second, row)).toMatchObject({ error: { code: "unavailable" } });
    expect(second.alerts).toEqual([]);
  });

  test("where its row says any more is opened where that is now, among others that stay", async () => {
    const first = replica();
    const key = ownerKey();
    const [was, other] = [await written(first, key, CANARY), await written(first, key, "other")];
    const lost = { ...was.version, data_key_id: randomUUID() };
    const moving = resigned(first, { ...was, version: lost });
    const second = replica(first.keyStore, {
      master: first.master,
      versionNow: async ({ version }) => (version === moving.version ? was.version : version),
    });
    const results = await second.vault.open(permit, [other, moving, other]);
    expect(results.map((each) => each.kind === "opened" && each.plaintext.reveal())).toEqual([
      "other",
      CANARY,
      "other",
    ]);
    expect(second.alerts).toEqual([]);
  });

  test("where its row says now either is an alert, and of what is said now", async () => {
    const first = replica();
    const was = await written(first, ownerKey(), CANARY);
    const later = { ...was.version, data_key_id: randomUUID() };
    const now = resigned(first, { ...was, version: later }).version;
    const second = replica(first.keyStore, { master: first.master, versionNow: async () => now });
    first.keyStore.data.clear();
    expect(await openOne(second, was)).toMatchObject({ error: { code: "manager_failed" } });
    expect(second.alerts).toMatchObject([{ kind: "data_key_missing", data_key_id: now.data_key_id }]);
  });
});
