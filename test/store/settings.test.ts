// What finding settings promises: exactly what lies at or under a path, in pages that miss and repeat nothing.
import { describe, expect, test } from "vitest";
import type { PathQuery } from "../../src/domain/address.ts";
import { openFixture, path, prefix, putSetting, settingQuery } from "./fixture.ts";

const under = (text: string): PathQuery => ({ kind: "under", prefix: prefix(text) });
const at = (text: string, match: "exact" | "auto"): PathQuery => ({ kind: "at", path: path(text), match });
const all: PathQuery = { kind: "all" };
const pathsOf = (page: { rows: readonly { setting: { path: string } }[] }) =>
  page.rows.map(({ setting }) => setting.path);

describe("finding settings by path", () => {
  test("a prefix matches segment by segment: no near miss, no wildcard, not itself", async () => {
    const { store, organization, setting } = await openFixture();
    const { key } = await organization();
    const there = ["connect/S3/a", "connect/S3/a/b", "connect/S3/a/b/c"];
    const beside = [
      "connect/S3-old/a",
      "connect/S30/a",
      "connect/S3.x/a",
      "connect/S_/a",
      "connect/SX/a",
      "connect/S3/a-b",
      "connect/S3/aa",
    ];
    for (const each of [...there, ...beside]) await setting(key, each);
    const find = async (select: PathQuery) => pathsOf(await store.reader.settings(settingQuery(key, select)));
    expect(await find(under("connect/S3"))).toEqual([
      "connect/S3/a",
      "connect/S3/a-b",
      "connect/S3/a/b",
      "connect/S3/a/b/c",
      "connect/S3/aa",
    ]);
    expect(await find(under("connect/S3/a"))).toEqual(["connect/S3/a/b", "connect/S3/a/b/c"]);
    expect(await find(under("connect/S_"))).toEqual(["connect/S_/a"]);
    expect(await find(under("connect/S%"))).toEqual([]);
    expect(await find(all)).toEqual([...there, ...beside].toSorted());
  });

  test("auto gives a live setting at the path alone, else what lies under it; exact never looks under", async () => {
    const { store, organization, setting, transact, time } = await openFixture();
    const { key } = await organization();
    const full = await setting(key, "connect/S3/a");
    await setting(key, "connect/S3/a/b");
    const find = async (select: PathQuery, include_deleted = false) => {
      const page = await store.reader.settings(settingQuery(key, select, { include_deleted }));
      return { exact: page.exact, paths: pathsOf(page) };
    };
    expect(await find(at("connect/S3/a", "auto"))).toEqual({ exact: true, paths: ["connect/S3/a"] });
    expect(await find(at("connect/S3/a", "exact"))).toEqual({ exact: true, paths: ["connect/S3/a"] });
    await transact((tx) => tx.updateSetting({ ...full, deleted_at: time.now, purge_at: time.now }));
    expect(await find(at("connect/S3/a", "auto"))).toEqual({ exact: false, paths: ["connect/S3/a/b"] });
    expect(await find(at("connect/S3/a", "exact"))).toEqual({ exact: false, paths: [] });
    expect(await find(at("connect/S3/a", "exact"), true)).toEqual({ exact: true, paths: ["connect/S3/a"] });
    expect(await find(under("connect/S3"), true)).toEqual({
      exact: false,
      paths: ["connect/S3/a", "connect/S3/a/b"],
    });
    expect(await find(under("connect/S3"))).toEqual({ exact: false, paths: ["connect/S3/a/b"] });
  });

  test("type and label cut down every kind of match, and an exact one does not fall through", async () => {
    const { store, organization, setting } = await openFixture();
    const { key } = await organization();
    await setting(key, "connect/S3/a", { labels: { env: "prod", tier: "1" } });
    await setting(key, "connect/S3/a/b", { labels: { env: "dev" } });
    await setting(key, "secret/Custom/x", { type: "custom", labels: { env: "prod" } });
    const prod = { label: { key: "env", value: "prod" } };
    const find = async (select: PathQuery, over: object) =>
      store.reader.settings(settingQuery(key, select, over));
    expect(pathsOf(await find(all, prod))).toEqual(["connect/S3/a", "secret/Custom/x"]);
    expect(pathsOf(await find(all, { ...prod, type: "s3" }))).toEqual(["connect/S3/a"]);
    expect(await find(at("connect/S3/a", "auto"), { label: { key: "env", value: "dev" } })).toEqual({
      rows: [],
      more: false,
      exact: true,
    });
    expect(await find(at("connect/S3/a", "exact"), { type: "custom" })).toEqual({
      rows: [],
      more: false,
      exact: true,
    });
  });

  test("another owner's settings at the same path are never found", async () => {
    const { store, organization, setting } = await openFixture();
    const [one, other] = [await organization(), await organization()];
    await setting(one.key, "connect/S3/a");
    for (const key of [one.orgKey, other.key, other.orgKey])
      expect((await store.reader.settings(settingQuery(key, all))).rows).toEqual([]);
    expect(await store.reader.setting(one.orgKey, path("connect/S3/a"))).toBeNull();
  });

  test("pages are complete and ordered, whatever is inserted or deleted between them", async () => {
    const { store, organization, setting, transact } = await openFixture();
    const { key } = await organization();
    const made = new Map();
    for (const name of ["b", "d", "f", "h"]) made.set(name, await setting(key, `connect/S3/x/${name}`));
    const next = (after: string | null) =>
      store.reader.settings(settingQuery(key, at("connect/S3/x", "auto"), { limit: 2, after }));
    const first = await next(null);
    expect([pathsOf(first), first.more]).toEqual([["connect/S3/x/b", "connect/S3/x/d"], true]);
    await setting(key, "connect/S3/x/a");
    await setting(key, "connect/S3/x/e");
    // Even one at the very path: the page that began under it goes on there.
    await setting(key, "connect/S3/x");
    await transact((tx) => tx.purgeSetting(made.get("d")));
    const second = await next("connect/S3/x/d");
    expect([pathsOf(second), second.more]).toEqual([["connect/S3/x/e", "connect/S3/x/f"], true]);
    const third = await next("connect/S3/x/f");
    expect([pathsOf(third), third.more]).toEqual([["connect/S3/x/h"], false]);
  });

  test("a page of values ends once its bytes are passed, and always has one row", async () => {
    const { store, organization, setting } = await openFixture();
    const { key } = await organization();
    for (const name of ["a", "b", "c", "d"])
      await setting(key, `connect/S3/${name}`, { sealed: Buffer.alloc(60_000, name) });
    const page = (bytes: number, over = {}) =>
      store.reader.settings(settingQuery(key, under("connect/S3"), { sealed_bytes_max: bytes, ...over }));
    const ends = async (bytes: number, over = {}) => {
      const { rows, more } = await page(bytes, over);
      return [rows.length, more];
    };
    expect(await ends(1)).toEqual([1, true]);
    expect(await ends(60_000)).toEqual([1, true]);
    expect(await ends(60_001)).toEqual([2, true]);
    expect(await ends(10_000_000)).toEqual([4, false]);
    expect(await ends(10_000_000, { limit: 3 })).toEqual([3, true]);
    expect(await ends(1, { after: "connect/S3/c" })).toEqual([1, false]);
    const [row] = (await page(1)).rows;
    expect(Buffer.from(row?.version.sealed ?? []).equals(Buffer.alloc(60_000, "a"))).toBe(true);
  });

  test("long labels and descriptions end a page early, with values and without, and no row is missed", async () => {
    const { store, organization, setting } = await openFixture();
    const { key } = await organization();
    const labels = Object.fromEntries(
      Array.from({ length: 64 }, (_, index) => [`k${index}`.padEnd(64, "y"), '"'.repeat(256)]),
    );
    const names = Array.from({ length: 250 }, (_, index) => `connect/S3/n${String(index).padStart(3, "0")}`);
    for (const name of names) await setting(key, name, { labels, description: "d".repeat(1_024) });
    for (const sealed_bytes_max of [null, 1_048_576]) {
      const seen: string[] = [];
      for (let after: string | null = null, more = true; more; ) {
        const page = await store.reader.settings(
          settingQuery(key, under("connect/S3"), { sealed_bytes_max, limit: 1_000, after }),
        );
        const texts = page.rows.map(({ setting: each }) => JSON.stringify([each.labels, each.description]));
        expect(texts.join("").length).toBeLessThan(4_300_000);
        seen.push(...page.rows.map(({ setting: each }) => each.path));
        after = seen.at(-1) ?? null;
        more = page.more;
      }
      expect(seen).toEqual(names);
    }
  });

  test("a list without values carries no ciphertext, and its rows are otherwise the same", async () => {
    const { store, organization, setting } = await openFixture();
    const { key } = await organization();
    const made = await setting(key, "connect/S3/a", {
      labels: { k: "v" },
      description: "d",
      rotate_after_days: 3,
    });
    const [plain] = (await store.reader.settings(settingQuery(key, all))).rows;
    const [full] = (await store.reader.settings(settingQuery(key, all, { sealed_bytes_max: 1 }))).rows;
    expect(plain?.setting).toEqual(made);
    expect(full?.setting).toEqual(made);
    expect(plain?.version.sealed).toBeNull();
    expect(Buffer.from(full?.version.sealed ?? []).toString()).toBe("sealed");
    expect({ ...full?.version, sealed: null }).toEqual(plain?.version);
  });

  test("a setting whose version was removed behind our back is listed, and has no MAC that could be ours", async () => {
    const { store, organization, setting, driver } = await openFixture();
    const { key } = await organization();
    const { id } = await setting(key, "connect/S3/a");
    await driver.query("DELETE FROM setting_versions WHERE setting_id = $1", [id]);
    const page = await store.reader.settings(settingQuery(key, all));
    expect(page.rows).toMatchObject([{ setting: { id }, version: { sealed: null, mac: new Uint8Array(0) } }]);
  });
});

describe("writing settings", () => {
  test("fifty writers of one path queue, each with a number of its own, and all are answered", async () => {
    const { store, organization, transact, time } = await openFixture();
    const { key } = await organization();
    const writers = Array.from({ length: 50 }, () =>
      transact((tx) => putSetting(tx, key, "connect/S3/a", time.now)),
    );
    const numbers = (await Promise.all(writers)).map(({ current_version }) => current_version);
    expect(numbers.toSorted((one, other) => one - other)).toEqual(
      Array.from({ length: 50 }, (_, index) => index + 1),
    );
    const row = await store.reader.setting(key, path("connect/S3/a"));
    expect([row?.setting.current_version, row?.version.version]).toEqual([50, 50]);
    expect((await store.reader.versions(row!.setting)).map(({ version }) => version)).toHaveLength(50);
  });

  test("numbers go on after a purge, and a purged setting's rows are gone", async () => {
    const { store, organization, setting, transact, time, driver } = await openFixture();
    const { key } = await organization();
    const first = await setting(key, "connect/S3/a");
    await transact((tx) => tx.purgeSetting(first));
    expect((await driver.query("SELECT FROM setting_versions")).rowCount).toBe(0);
    expect(await store.reader.lastVersion(key, path("connect/S3/a"))).toBe(1);
    const second = await transact((tx) => putSetting(tx, key, "connect/S3/a", time.now));
    expect(second.current_version).toBe(2);
    expect(second.id).not.toBe(first.id);
  });

  test("a change of a setting that was purged meanwhile runs again and sees that", async () => {
    const { organization, setting, transact } = await openFixture();
    const { key } = await organization();
    const made = await setting(key, "connect/S3/a");
    let runs = 0;
    const result = await transact(async (tx) => {
      runs += 1;
      const found = await tx.setting(key, path("connect/S3/a"));
      if (found === null) return "gone";
      await transact((other) => other.purgeSetting(made));
      await tx.updateSetting(found.setting);
      return "changed";
    });
    expect([result, runs]).toEqual(["gone", 2]);
  });

  test("due purges are locked for one replica, and passed over by the next", async () => {
    const { organization, setting, transact, time } = await openFixture();
    const { key } = await organization();
    const due = { deleted_at: time.now, purge_at: time.now };
    for (const name of ["a", "b"]) await setting(key, `connect/S3/${name}`, due);
    await setting(key, "connect/S3/later", { ...due, purge_at: new Date(time.now.getTime() + 1) });
    await transact(async (one) => {
      const [mine] = await one.lockDuePurges(time.now, 1);
      const others = await transact((other) => other.lockDuePurges(time.now, 10));
      expect(others.map((each) => each.path)).toEqual(
        mine?.path === "connect/S3/a" ? ["connect/S3/b"] : ["connect/S3/a"],
      );
    });
  });

  test("the database itself refuses a destroyed version that still holds bytes", async () => {
    const { store, organization, setting, transact } = await openFixture();
    const { key } = await organization();
    const made = await setting(key, "connect/S3/a");
    const version = await store.reader.version(made, 1);
    await expect(
      transact((tx) => tx.updateVersion({ ...version!, state: "destroyed" })),
    ).rejects.toMatchObject({ code: "internal" });
    await transact((tx) =>
      tx.updateVersion({ ...version!, state: "destroyed", sealed: null, data_key_id: null }),
    );
    expect(await store.reader.version(made, 1)).toMatchObject({ state: "destroyed", sealed: null });
  });
});
