// What is kept of a read is used only while nothing that it rests on was written since: whoever wrote, in whichever way,
// and in whichever order transactions began and ended. The oracle is a store that has never read anything; a page that
// comes out as the very object that it was has not been read again.
import fc from "fast-check";
import type pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import type { FoundAhead } from "../../src/domain/read-ahead.ts";
import { auditQuery, newId, openFixture } from "./fixture.ts";
import { PATHS, bothOf, connected, keptWorld, readingWorld, warm } from "./reading.ts";

test("of what is not written, nothing is read again", async () => {
  const f = await openFixture();
  const { pageNow } = await keptWorld(f);
  const elsewhere = await readingWorld(f);
  const before = await pageNow();
  await f.setting(elsewhere.key, PATHS[0] ?? "");
  await f.driver.query("BEGIN; UPDATE settings SET labels = '{}'; ROLLBACK");
  expect(await pageNow()).toBe(before);
});

test("what is written by hand is seen, in whichever way", async () => {
  const f = await openFixture();
  let other = await f.organization();
  let otherReader = (await f.principal()).id;
  const ways: readonly (readonly [string, (owner: string, reader: string, token: string) => string])[] = [
    ["a member goes", (owner) => `DELETE FROM memberships WHERE owner_id = '${owner}'`],
    ["a role is another", (owner) => `UPDATE memberships SET role = 'read' WHERE owner_id = '${owner}'`],
    [
      "a member moves to another owner",
      (owner) => `UPDATE memberships SET owner_id = '${other.project}' WHERE owner_id = '${owner}'`,
    ],
    [
      "a membership becomes another's",
      (owner) => `UPDATE memberships SET principal_id = '${otherReader}' WHERE owner_id = '${owner}'`,
    ],
    ["members are emptied away", () => "TRUNCATE memberships"],
    ["a token goes", (_, __, token) => `DELETE FROM tokens WHERE id = '${token}'`],
    ["tokens are emptied away", () => "TRUNCATE tokens CASCADE"],
    ["a principal is disabled", (_, id) => `UPDATE principals SET disabled_at = now() WHERE id = '${id}'`],
    [
      "the project moves to another organization",
      (id) => `UPDATE projects SET organization_id = '${other.org}', name = 'moved' WHERE id = '${id}'`,
    ],
    ["the project goes", (id) => `DELETE FROM projects WHERE id = '${id}'`],
    [
      "a setting moves to another owner",
      (id) =>
        `UPDATE settings SET owner_id = '${other.project}' WHERE owner_id = '${id}' AND path = '${PATHS[0]}'`,
    ],
    [
      "all settings move to another owner",
      (id) => `UPDATE settings SET owner_id = '${other.project}' WHERE owner_id = '${id}'`,
    ],
    ["a version goes", () => "DELETE FROM setting_versions"],
    ["settings are emptied away", () => "TRUNCATE settings CASCADE"],
    [
      "who says to write a last use alone, and does not",
      (owner) =>
        `BEGIN; SET LOCAL coffer.only_last_use = 'on'; DELETE FROM memberships WHERE owner_id = '${owner}'; COMMIT`,
    ],
    [
      "what was written is forgotten as it is written",
      (owner) =>
        `BEGIN; UPDATE memberships SET role = 'read' WHERE owner_id = '${owner}'; SELECT coffer_forget_writes(0); COMMIT`,
    ],
    [
      "in a part of a transaction that is kept, beside one that is not",
      () =>
        "BEGIN; SAVEPOINT a; UPDATE settings SET description = 'kept'; SAVEPOINT b; UPDATE settings SET description = 'not'; ROLLBACK TO b; COMMIT",
    ],
    // Last: no trigger that was put off is believed again.
    [
      "triggers are put off and on again, as for a restore",
      (owner) =>
        `ALTER TABLE memberships DISABLE TRIGGER note_delete; DELETE FROM memberships WHERE owner_id = '${owner}'; ALTER TABLE memberships ENABLE TRIGGER note_delete`,
    ],
  ];
  for (const [name, way] of ways) {
    const { key, reader, tokenId, ahead } = await keptWorld(f);
    other = await f.organization();
    otherReader = (await f.principal()).id;
    await f.driver.query(way(key.owner_id, reader.id, tokenId));
    const { kept, oracle } = await bothOf(f, ahead);
    expect({ name, ...kept }).toEqual({ name, ...oracle });
  }
});

test("members of a table that was swapped for a copy of it, without its triggers, are looked up", async () => {
  const swaps = [
    "CREATE TABLE fresh (LIKE memberships INCLUDING ALL); ALTER TABLE memberships RENAME TO stale",
    "CREATE SCHEMA old; CREATE TABLE fresh (LIKE memberships INCLUDING ALL); ALTER TABLE memberships SET SCHEMA old",
  ];
  for (const swap of swaps) {
    const f = await openFixture();
    const { key, ahead } = await keptWorld(f);
    await f.driver.query(
      `BEGIN; CREATE TABLE was AS SELECT * FROM memberships; ${swap};
       ALTER TABLE fresh RENAME TO memberships; INSERT INTO memberships SELECT * FROM was; COMMIT`,
    );
    await warm(f, ahead);
    await f.driver.query("DELETE FROM memberships WHERE owner_id = $1", [key.owner_id]);
    const { kept, oracle } = await bothOf(f, ahead);
    expect(kept).toEqual(oracle);
    // And somebody hears of it.
    await expect(f.forgetWrites()).rejects.toThrow(/triggers/);
  }
});

test("what is written at an organization, or of other members, makes nobody read a project's page again", async () => {
  const f = await openFixture();
  const { key, pageNow } = await keptWorld(f);
  const { tenant_id } = key;
  const before = await pageNow();
  await f.setting({ owner_type: "organization", owner_id: tenant_id, tenant_id }, PATHS[0] ?? "");
  await f.member(key, (await f.principal()).id, "read");
  expect(await pageNow()).toBe(before);
});

test("no session's setting keeps a write from being noted", async () => {
  const f = await openFixture();
  const { rows } = await f.driver.query<{ name: string; always: boolean }>(
    `SELECT DISTINCT tgrelid::regclass::text AS name, tgenabled = 'A' AS always FROM pg_trigger
     WHERE tgfoid = 'coffer_note_writes'::regproc ORDER BY 1`,
  );
  const names =
    "identity_providers memberships organizations principals projects setting_versions settings tokens";
  expect(rows).toEqual(names.split(" ").map((name) => ({ name, always: true })));
});

test("a setting that comes back to where it was read is seen, also where it went in between", async () => {
  const f = await openFixture();
  const { key, ahead } = await keptWorld(f);
  const other = await f.organization();
  await f.driver.query("UPDATE settings SET owner_id = $1 WHERE path = $2", [other.project, PATHS[0]]);
  await warm(f, ahead);
  await f.driver.query("UPDATE settings SET owner_id = $1 WHERE path = $2", [key.owner_id, PATHS[0]]);
  const { kept, oracle } = await bothOf(f, ahead);
  expect(kept).toEqual(oracle);
  expect(kept.rows).toHaveLength(PATHS.length);
});

test("a write that began before a read and commits after it is seen by the next, whatever committed in between", async () => {
  const f = await openFixture();
  const { key, ahead, pageNow } = await keptWorld(f);
  const late = await connected(f);
  await late.query("BEGIN");
  await late.query("UPDATE settings SET description = 'late' WHERE owner_id = $1 AND path = $2", [
    key.owner_id,
    PATHS[0],
  ]);
  for (let each = 0; each < 3; each++)
    await f.setting(key, PATHS[1] ?? "", { sealed: Buffer.from(`${each}`) });
  await warm(f, ahead);
  const before = await pageNow();
  expect(await pageNow()).toBe(before);
  await late.query("COMMIT");
  expect((await pageNow())?.rows[0]?.setting.description).toBe("late");
});

test("writers of one owner do not wait for one another", async () => {
  const f = await openFixture();
  const { key } = await keptWorld(f);
  const both = [await connected(f), await connected(f)];
  for (const [index, one] of both.entries()) {
    await one.query("BEGIN; SET LOCAL lock_timeout = '2s'");
    await one.query("UPDATE settings SET description = 'mine' WHERE owner_id = $1 AND path = $2", [
      key.owner_id,
      PATHS[index],
    ]);
  }
  for (const one of both.toReversed()) await one.query("COMMIT");
});

test("that a value was read, by whichever replica, makes nobody read its row again", async () => {
  const f = await openFixture();
  const { reader, tokenId, pageNow } = await keptWorld(f);
  const before = await pageNow();
  const replica = f.open();
  const at = new Date(f.time.now.getTime() + 1_000);
  replica.store.noteAccess(before?.rows ?? [], at, reader.id);
  replica.store.noteTokenUse(tokenId, at);
  await replica.close();
  const { rows } = await f.driver.query(
    "SELECT last_accessed_at AS at FROM settings UNION SELECT last_used_at FROM tokens",
  );
  expect(rows).toEqual([{ at }]);
  expect(await pageNow()).toBe(before);
});

test("of a batch, who has to be read again is, and all are on record once, each with what it shows", async () => {
  const f = await openFixture();
  const worlds: Awaited<ReturnType<typeof keptWorld>>[] = [];
  for (let each = 0; each < 8; each++) worlds.push(await keptWorld(f));
  await f.setting(worlds[3]?.key ?? (await f.organization()).key, "connect/S3/more");
  await f.transact((tx) => tx.revokeToken(worlds[5]?.tokenId ?? "", false, f.time.now));
  const asked = worlds.map(({ ahead }) => ahead());
  const found = await Promise.all(asked.map((each) => f.store.readAhead(each)));
  for (const [index, { key }] of worlds.entries()) {
    const of = { request_id: asked[index]?.event.request_id ?? newId(), limit: 10 };
    const { events } = await f.store.reader.audit(auditQuery(key, of));
    const shown = index === 5 ? [] : [PATHS.length + (index === 3 ? 1 : 0)];
    expect(events.map(({ settings }) => settings.length)).toEqual(shown);
    expect(events).toEqual(index === 5 ? [] : [{ ...found[index]?.recorded, at: asked[index]?.event.at }]);
  }
});

test("in whichever order transactions begin, write, commit and give up, a kept page is the one that is there", async () => {
  const f = await openFixture();
  const { key, ahead } = await keptWorld(f);
  const fresh = f.open(2);
  onTestFinished(() => fresh.close());
  const writers = [await connected(f), await connected(f)];
  const step = fc.record({
    writer: fc.nat(1),
    what: fc.constantFrom("write", "write", "COMMIT", "ROLLBACK", "read", "read"),
    // Each writer has rows of its own: they never wait.
    row: fc.nat(2),
  });
  let count = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 24 }), async (steps) => {
      for (const one of writers) await one.query("BEGIN");
      for (const { writer, what, row } of steps) {
        const one = writers[writer] as pg.PoolClient;
        if (what === "write")
          await one.query("UPDATE settings SET description = $1 WHERE owner_id = $2 AND path = $3", [
            `${(count += 1)}`,
            key.owner_id,
            PATHS[writer * 3 + row],
          ]);
        else if (what === "read") {
          const [kept, oracle] = [await f.store.readAhead(ahead()), await fresh.store.readAhead(ahead())];
          const descriptions = (found: FoundAhead | null) =>
            found?.page?.rows.map(({ setting }) => setting.description);
          expect(descriptions(kept)).toEqual(descriptions(oracle));
        } else {
          await one.query(what);
          await one.query("BEGIN");
        }
      }
      for (const one of writers) await one.query("ROLLBACK");
    }),
    { numRuns: 25 },
  );
});
