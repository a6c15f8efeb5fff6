// Pages that are kept in memory: whatever happens to their rows, by whichever replica or by hand, the next read
// answers what is there, and who may no longer read is told nothing. The oracle is a store that has never read anything.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test, vi } from "vitest";
import type { PresentedToken } from "../../src/domain/ports.ts";
import type { Ahead, FoundAhead } from "../../src/domain/read-ahead.ts";
import type { SettingRow } from "../../src/domain/setting.ts";
import { openFixture, path, putSetting } from "./fixture.ts";
import { createKept } from "../../src/store/kept.ts";
import { PATHS, keptWorld, readOf, readingWorld, warm } from "./reading.ts";

test.each([
  ["list", "who read it"],
  ["decrypt", "who read it"],
  ["list", "another"],
  ["decrypt", "another"],
] as const)(
  "a page that is kept to %s is, for %s, the very one that a store without any answers, after every kind of change",
  async (action, whom) => {
    const f = await openFixture();
    const { key, reader, presented } = await readingWorld(f);
    const replica = f.open();
    const changes: Readonly<Record<string, () => Promise<unknown>>> = {
      "a new version": () => f.setting(key, PATHS[2] ?? "", { sealed: Buffer.from("another") }),
      "one by another replica": () =>
        replica.store.transact(async (tx) => {
          const found = (await tx.setting(key, path(PATHS[1] ?? ""))) as SettingRow;
          await tx.updateSetting({ ...found.setting, description: "changed", revision: 9 });
        }),
      "one more": () => f.setting(key, "connect/S3/more"),
      "a soft delete": () =>
        f.transact(async (tx) => {
          const found = (await tx.setting(key, path(PATHS[0] ?? ""))) as SettingRow;
          await tx.updateSetting({ ...found.setting, deleted_at: f.time.now, purge_at: f.time.now });
        }),
      "a purge": () =>
        f.transact(async (tx) =>
          tx.purgeSetting(((await tx.setting(key, path(PATHS[3] ?? ""))) as SettingRow).setting),
        ),
      "a destroyed version": () =>
        f.transact(async (tx) => {
          const found = (await tx.setting(key, path(PATHS[4] ?? ""))) as SettingRow;
          await tx.updateVersion({ ...found.version, state: "destroyed", sealed: null, data_key_id: null });
        }),
      "bytes put in by hand": () =>
        f.driver.query("UPDATE setting_versions SET sealed = 'by hand' WHERE sealed IS NOT NULL"),
      "a row written anew as it was": () => f.driver.query("UPDATE settings SET labels = labels"),
      "rows moved about": () => f.driver.query("VACUUM FULL settings"),
    };
    for (const each of PATHS) await f.setting(key, each);
    for (const [name, change] of Object.entries(changes)) {
      const ahead = (by: PresentedToken): Ahead => readOf(by, key, action, f.time.now);
      await warm(f, () => ahead(presented));
      const another: PresentedToken = { kind: "api", hash: (await f.token(reader.id)).hash };
      const asked = (): Ahead => ahead(whom === "another" ? another : presented);
      await change();
      const fresh = f.open();
      const [kept, oracle] = [await f.store.readAhead(asked()), await fresh.store.readAhead(asked())];
      await fresh.close();
      const told = (found: FoundAhead | null) => ({
        name,
        rows: found?.page?.rows,
        subjects: found?.recorded?.settings,
      });
      expect(told(kept)).toEqual(told(oracle));
    }
    await replica.close();
  },
);

test("a row that has taken another's place in the table is not taken for it", async () => {
  const f = await openFixture();
  const { key, presented } = await readingWorld(f);
  await f.transact(async (tx) => {
    await putSetting(tx, key, "connect/S3/a", f.time.now);
    await putSetting(tx, key, "connect/S3/a/b", f.time.now);
  });
  // Whichever stands there: the setting, or what is under it.
  const ahead = (): Ahead => ({
    ...readOf(presented, key, "decrypt", f.time.now, "connect/S3/a"),
    select: { kind: "at", path: path("connect/S3/a"), match: "auto" },
    strict: false,
  });
  const pathsNow = async () =>
    (await f.store.readAhead(ahead()))?.page?.rows.map(({ setting }) => setting.path);
  await warm(f, ahead);
  expect(await pathsNow()).toEqual(["connect/S3/a"]);
  await f.transact(async (tx) =>
    tx.purgeSetting(((await tx.setting(key, path("connect/S3/a"))) as SettingRow).setting),
  );
  for (const table of ["settings", "setting_versions"]) await f.driver.query(`VACUUM FULL ${table}`);
  expect(await pathsNow()).toEqual(["connect/S3/a/b"]);
});

test("who may no longer read is told nothing of a page that is kept, nor does asking drop it", async () => {
  const f = await openFixture();
  const { key, reader, tokenId, presented } = await readingWorld(f);
  const outsider = await f.principal();
  const { hash } = await f.token(outsider.id);
  for (const each of PATHS) await f.setting(key, each);
  const ahead = (by: PresentedToken = presented): Ahead => readOf(by, key, "decrypt", f.time.now);
  await warm(f, ahead);
  const before = (await f.store.readAhead(ahead()))?.page;
  expect(await f.store.readAhead(ahead({ kind: "api", hash }))).toMatchObject({ page: null, recorded: null });
  expect((await f.store.readAhead(ahead()))?.page).toBe(before);
  await f.transact((tx) => tx.removeMember(key, reader.id));
  expect(await f.store.readAhead(ahead())).toMatchObject({ page: null, recorded: null });
  await f.member(key, reader.id, "write");
  expect((await f.store.readAhead(ahead()))?.page?.rows).toHaveLength(PATHS.length);
  await f.transact((tx) => tx.revokeToken(tokenId, false, f.time.now));
  expect(await f.store.readAhead(ahead())).toMatchObject({ page: null, recorded: null });
});

test("writers and readers at once: no answer is older than what was committed before it was asked for", async () => {
  const f = await openFixture();
  const { key, presented } = await readingWorld(f);
  const replica = f.open();
  for (const each of PATHS) await f.setting(key, each);
  const ROUNDS = 40;
  let committed = 1;
  const isOver = (): boolean => committed > ROUNDS;
  const write = async (): Promise<void> => {
    for (let each = 0; each < ROUNDS; each++) {
      for (const at of PATHS) await replica.store.transact((tx) => put(tx, at));
      committed += 1;
    }
  };
  const put = async (tx: Parameters<Parameters<typeof f.transact>[0]>[0], at: string): Promise<void> => {
    const found = (await tx.setting(key, path(at))) as SettingRow;
    const revision = found.setting.revision + 1;
    await tx.updateSetting({ ...found.setting, revision });
  };
  const read = async (): Promise<void> => {
    while (!isOver()) {
      const least = committed;
      const found = await f.store.readAhead(readOf(presented, key, "decrypt", f.time.now));
      const revisions = found?.page?.rows.map(({ setting }) => setting.revision) ?? [];
      expect(revisions).toHaveLength(PATHS.length);
      expect(Math.min(...revisions)).toBeGreaterThanOrEqual(least);
    }
  };
  await Promise.all([write(), ...Array.from({ length: 8 }, read)]);
  await replica.close();
});

test("rows that are as they were are found out about once, whoever reads them and whatever else was written", async () => {
  const f = await openFixture();
  const { key, pageNow } = await keptWorld(f);
  const rows = (await pageNow())?.rows;
  const another = await f.principal();
  await f.member(key, another.id, "write");
  const { hash } = await f.token(another.id);
  const anothers = await f.store.readAhead(readOf({ kind: "api", hash }, key, "decrypt", f.time.now));
  expect(anothers?.page?.rows).toBe(rows);
  await f.setting(key, "connect/elsewhere");
  expect((await pageNow())?.rows).toBe(rows);
  expect((await pageNow())?.rows).toBe(rows);
  await f.driver.query("UPDATE settings SET revision = revision + 1 WHERE path = $1", [PATHS[3]]);
  const changed = (await pageNow())?.rows;
  expect(changed?.map(({ setting }) => setting.revision)).toEqual(
    rows?.map(({ setting }) => setting.revision + (setting.path === PATHS[3] ? 1 : 0)),
  );
  expect((await pageNow())?.rows).toBe(changed);
});

test("rows that are the same but for their tenant are others", async () => {
  const f = await openFixture();
  const { key, pageNow } = await keptWorld(f);
  const { org: other } = await f.organization();
  await f.driver.query("UPDATE projects SET name = 'moved', organization_id = $1 WHERE id = $2", [
    other,
    key.owner_id,
  ]);
  for (const table of ["setting_versions", "settings", "memberships"])
    await f.driver.query(`UPDATE ${table} SET tenant_id = $1 WHERE tenant_id = $2`, [other, key.tenant_id]);
  const rows = (await pageNow())?.rows;
  expect(rows?.map(({ setting }) => setting.tenant_id)).toEqual(PATHS.map(() => other));
  expect(rows?.map(({ version }) => version.tenant_id)).toEqual(PATHS.map(() => other));
});

test("of settings that are gone nothing stays in memory once that was found", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const f = await openFixture();
  const { key, pageNow } = await keptWorld(f);
  const rows = new WeakRef<object>((await pageNow())?.rows ?? []);
  for (const each of PATHS)
    await f.transact(async (tx) =>
      tx.purgeSetting(((await tx.setting(key, path(each))) as SettingRow).setting),
    );
  expect((await pageNow())?.rows).toEqual([]);
  await vi.waitFor(() => {
    collect();
    expect(rows.deref()).toBeUndefined();
  });
});

test("while there is room, what is read is kept at once; once there is none, what is read a second time", () => {
  const kept = createKept<{ readonly weight: number }>(10);
  expect(kept.isWanted("first", 6)).toBe(true);
  kept.put("first", { weight: 6 });
  expect(kept.isWanted("small", 4)).toBe(true);
  expect(kept.isWanted("large", 5)).toBe(false);
  expect(kept.isWanted("large", 5)).toBe(true);
  expect(kept.isWanted("another", 5)).toBe(false);
  expect(kept.isWanted("first", 9)).toBe(true);
  kept.drop("first");
  expect(kept.isWanted("another", 10)).toBe(true);
});
