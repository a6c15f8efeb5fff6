// What the notes of access promise: shown at once on this replica, in the database once the store is closed, and a
// time that only moves forward, whatever writers do meanwhile.
import pg from "pg";
import { expect, test, vi } from "vitest";
import type { SettingRow } from "../../src/domain/setting.ts";
import { until } from "../harness/until.ts";
import { newId, openFixture, path, putSetting } from "./fixture.ts";

const at = (minute: number) => new Date(Date.UTC(2026, 2, 4, 5, minute));

test("a disclosure shows at once, of the setting and of that version alone", async () => {
  const { store, organization, setting, backgroundErrors } = await openFixture();
  const { key } = await organization();
  await setting(key, "connect/S3/a");
  const made = await setting(key, "connect/S3/a");
  const row = (await store.reader.setting(key, path("connect/S3/a"))) as SettingRow;
  store.noteAccess([row], at(1), row.setting.created_by);
  const seen = await store.reader.setting(key, path("connect/S3/a"));
  expect([seen?.setting.last_accessed_at, seen?.version.last_accessed_at]).toEqual([at(1), at(1)]);
  const versions = await store.reader.versions(made);
  expect(versions.map(({ last_accessed_at }) => last_accessed_at)).toEqual([null, at(1)]);
  expect(backgroundErrors).toEqual([]);
});

test("what was noted is written at the latest when the store closes, and never moves back", async () => {
  const { store, open, organization, setting, driver } = await openFixture();
  const { key } = await organization();
  await setting(key, "connect/S3/a");
  const row = (await store.reader.setting(key, path("connect/S3/a"))) as SettingRow;
  for (const minute of [5, 3, 9, 4]) {
    const replica = open();
    for (const each of [minute - 1, minute, minute - 2])
      replica.store.noteAccess([row], at(each), row.setting.created_by);
    await replica.close();
  }
  const { rows } = await driver.query(
    "SELECT s.last_accessed_at AS one, v.last_accessed_at AS two FROM settings s JOIN setting_versions v ON v.setting_id = s.id",
  );
  expect(rows).toEqual([{ one: at(9), two: at(9) }]);
});

test("a writer neither waits for notes nor undoes them", async () => {
  const { store, open, organization, setting, transact, time, driver } = await openFixture();
  const { key } = await organization();
  await setting(key, "connect/S3/a");
  const row = (await store.reader.setting(key, path("connect/S3/a"))) as SettingRow;
  const replica = open();
  await transact(async (tx) => {
    await putSetting(tx, key, "connect/S3/a", time.now);
    // The row is locked here: closing must pass it over, not wait for it.
    replica.store.noteAccess([row], at(1), row.setting.created_by);
    await replica.close();
  });
  const again = open();
  again.store.noteAccess([row], at(2), row.setting.created_by);
  await again.close();
  await transact(async (tx) => {
    const found = (await tx.setting(key, path("connect/S3/a"))) as SettingRow;
    await tx.updateSetting({ ...found.setting, last_accessed_at: null, revision: 9 });
  });
  const { rows } = await driver.query("SELECT last_accessed_at, revision FROM settings");
  expect(rows).toEqual([{ last_accessed_at: at(2), revision: 9 }]);
});

test("a row that is read all the time is written once at first, and not again with each later write", async () => {
  const { store, open, organization, setting, driver } = await openFixture();
  const { key } = await organization();
  const at = async (place: string): Promise<SettingRow> => {
    await setting(key, place);
    return (await store.reader.setting(key, path(place))) as SettingRow;
  };
  const hot = await at("connect/S3/hot");
  const others = [await at("connect/S3/a"), await at("connect/S3/b"), await at("connect/S3/c")];
  /** Which transactions have written the rows. */
  const writes = async ({ setting: { id } }: SettingRow): Promise<string> => {
    const { rows } = await driver.query(
      `SELECT s.xmin::text || ' ' || v.xmin::text AS made FROM settings s JOIN setting_versions v ON v.setting_id = s.id
       WHERE s.id = $1`,
      [id],
    );
    return rows[0].made;
  };
  const isNoted =
    ({ setting: { id } }: SettingRow) =>
    async (): Promise<boolean> =>
      (await driver.query("SELECT FROM setting_readers WHERE setting_id = $1", [id])).rows.length === 1;
  const replica = open();
  let time = Date.now();
  const note = (row: SettingRow): void =>
    replica.store.noteAccess([row], new Date((time += 1)), row.setting.created_by);
  const reading = setInterval(() => note(hot), 1);
  try {
    // Readers are written last: then the rest of that write is over.
    await until("the first is written", isNoted(hot));
    const first = await writes(hot);
    for (const other of others) {
      note(other);
      await until("another is written", isNoted(other));
    }
    expect(await writes(hot)).toBe(first);
  } finally {
    clearInterval(reading);
    await replica.close();
  }
});

test("a token's use shows at once and is written", async () => {
  const { store, open, principal, token, driver } = await openFixture();
  const { id, principal_id, hash } = await token((await principal()).id);
  store.noteTokenUse(id, at(1));
  expect((await store.reader.token(id))?.last_used_at).toEqual(at(1));
  expect(
    (await store.reader.tokensOf(principal_id, { after: null, limit: 1 })).rows[0]?.last_used_at,
  ).toEqual(at(1));
  expect((await store.admit({ kind: "api", hash }, null, false))?.token?.last_used_at).toEqual(at(1));
  const replica = open();
  replica.store.noteTokenUse(id, at(2));
  await replica.close();
  expect((await driver.query("SELECT last_used_at FROM tokens")).rows).toEqual([{ last_used_at: at(2) }]);
});

test("notes of rows that are gone are given up without an error", async () => {
  const { store, open, organization, setting, transact, backgroundErrors } = await openFixture();
  const { key } = await organization();
  const made = await setting(key, "connect/S3/a");
  const row = (await store.reader.setting(key, path("connect/S3/a"))) as SettingRow;
  await transact((tx) => tx.purgeSetting(made));
  const replica = open();
  replica.store.noteAccess([row], at(1), row.setting.created_by);
  await replica.close();
  expect(backgroundErrors).toEqual([]);
});

test("whoever counts on the notes has them all written, a few at a time, or hears that they could not be", async () => {
  const { store, organization, setting, driver } = await openFixture();
  const { key } = await organization();
  await setting(key, "connect/S3/a");
  const row = (await store.reader.setting(key, path("connect/S3/a"))) as SettingRow;
  const report = () =>
    store.reader.report({
      key,
      with_projects: false,
      now: at(3),
      expiring_before: at(3),
      unread_before: at(0),
      after: null,
      limit: 10,
    });
  const sizes: number[] = [];
  const { submit } = pg.Query.prototype;
  vi.spyOn(pg.Query.prototype, "submit").mockImplementation(function (this: pg.Query, connection) {
    const { name, values } = this as unknown as { name?: string; values: readonly unknown[][] };
    if (name === "note_settings") sizes.push(String(values[1]).split(",").length);
    return submit.call(this, connection);
  });
  // Of settings that are gone but one: what is written is looked at, and not what comes of it.
  const many = Array.from({ length: 600 }, () => ({ ...row, setting: { ...row.setting, id: newId() } }));
  store.noteAccess([...many, row], at(1), row.setting.created_by);
  await report();
  const { rows } = await driver.query("SELECT last_accessed_at FROM settings WHERE id = $1", [
    row.setting.id,
  ]);
  expect(rows).toEqual([{ last_accessed_at: at(1) }]);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(250);

  store.noteAccess([row], at(2), row.setting.created_by);
  await driver.query(
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
     CREATE TRIGGER refuse BEFORE UPDATE OF last_accessed_at ON settings EXECUTE FUNCTION refuse()`,
  );
  await expect(report()).rejects.toMatchObject({ code: "internal" });
});
