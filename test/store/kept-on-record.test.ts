// What is put on record of pages that are kept in memory: each read once, with all that it showed, from the rows that are
// there and not from what the log is made to say.
import { expect, test } from "vitest";
import type { Subject } from "../../src/domain/audit.ts";
import type { Ahead } from "../../src/domain/read-ahead.ts";
import { type Fixture, auditQuery, openFixture, path } from "./fixture.ts";
import { PATHS, keptWorld, readOf, readingWorld, warm } from "./reading.ts";

test("each read of a kept page is on record once, with the versions that it shows, also where they changed", async () => {
  const f = await openFixture();
  const { key, presented } = await readingWorld(f);
  const [at = ""] = PATHS;
  await f.setting(key, at);
  const versions: (number | null)[] = [];
  for (let each = 0; each < 12; each++) {
    const ahead = readOf(presented, key, "decrypt", f.time.now, at);
    const found = await f.store.readAhead(ahead);
    const { events } = await f.store.reader.audit(
      auditQuery(key, { request_id: ahead.event.request_id, limit: 10 }),
    );
    expect(events).toEqual([{ ...found?.recorded, at: ahead.event.at }]);
    versions.push(events[0]?.settings[0]?.version ?? null);
    expect(found?.page?.rows[0]?.version.version).toBe(versions.at(-1));
    if (each % 4 === 3) await f.setting(key, at, { sealed: Buffer.from(`${each}`) });
  }
  expect(versions).toEqual([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
});

/** What the log has of these reads, in their order. */
async function namedIn(f: Fixture, reads: readonly Ahead[]): Promise<readonly (readonly Subject[])[]> {
  const ids = reads.map(({ event }) => event.id);
  const { rows } = await f.driver.query<{ id: string; settings: Subject[] }>(
    "SELECT id, settings FROM audit_events WHERE id = ANY ($1)",
    [ids],
  );
  return ids.map((id) => rows.find((row) => row.id === id)?.settings ?? []);
}

test.each(["list", "decrypt"] as const)(
  "each reading to %s of many settings at once names all of them in the log, beside readings of two and of one",
  async (action) => {
    const f = await openFixture();
    const { key, presented } = await readingWorld(f);
    const subjects: Subject[] = [];
    for (const each of PATHS) subjects.push({ id: (await f.setting(key, each)).id, path: each, version: 1 });
    for (let round = 0; round < 4; round++) {
      const of = (at?: string) => readOf(presented, key, action, f.time.now, at);
      const two = {
        ...of(),
        select: { kind: "each", paths: [path(PATHS[2] ?? ""), path(PATHS[4] ?? "")] },
        limit: 2,
      } as const;
      const several = [of(), two, of()];
      const reads = [...several, of(PATHS[1]), of(PATHS[5])];
      const found = await Promise.all(reads.map((each) => f.store.readAhead(each)));
      const expected = [subjects, [subjects[2], subjects[4]], subjects, [subjects[1]], [subjects[5]]];
      expect(found.map((each) => each?.recorded?.settings)).toEqual(expected);
      expect(await namedIn(f, reads)).toEqual(expected);
      if (round < 3) continue;
      const statements = "SELECT DISTINCT xmin::text FROM audit_events WHERE id = ANY ($1)";
      const { rows } = await f.driver.query(statements, [several.map(({ event }) => event.id)]);
      // All that are of several go by one statement: two are named there, six are copied.
      expect(rows).toHaveLength(1);
    }
  },
);

test.each([
  ["written anew", "UPDATE audit_events SET settings = '[]'"],
  ["written anew as it was", "UPDATE audit_events SET count = count"],
  ["taken out", "DELETE FROM audit_events"],
])("what the log says of earlier readings is not believed once it was %s by hand", async (_what, by) => {
  const f = await openFixture();
  const { ahead } = await keptWorld(f);
  const before = (await f.store.readAhead(ahead()))?.recorded?.settings;
  expect(before).toHaveLength(PATHS.length);
  await f.driver.query("ALTER TABLE audit_events DISABLE TRIGGER USER");
  await f.driver.query(by);
  for (let round = 0; round < 3; round++) {
    const read = ahead();
    expect((await f.store.readAhead(read))?.recorded?.settings).toEqual(before);
    expect(await namedIn(f, [read])).toEqual([before]);
  }
});

test("what is copied is looked up by its key, also where the log was empty when it was planned first", async () => {
  const f = await openFixture();
  const { ahead } = await keptWorld(f);
  const { event } = ahead();
  const looked = async (): Promise<number> => {
    const look =
      "SELECT * FROM coffer_settings_named(ARRAY[$1]::uuid[], ARRAY[$2]::uuid[], ARRAY['3'], $2, $2)";
    await f.driver.query(look, [event.tenant_id, event.id]);
    await f.driver.query("SELECT pg_stat_force_next_flush()");
    const { rows } = await f.driver.query<{ many: number }>(`SELECT (
        (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname LIKE 'audit%')
        + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname LIKE 'audit%'))::int AS many`);
    return rows[0]?.many ?? Number.NaN;
  };
  await f.driver.query("SET plan_cache_mode = force_generic_plan");
  await f.driver.query("ALTER TABLE audit_events DISABLE TRIGGER USER");
  await f.driver.query("CREATE TEMP TABLE one AS SELECT * FROM audit_events LIMIT 1");
  await f.driver.query("DELETE FROM audit_events");
  await f.driver.query("VACUUM ANALYZE audit_events");
  await looked();
  await f.driver.query(`INSERT INTO audit_events SELECT (json_populate_record(one, json_build_object('id',
    left(one.id::text, 24) || lpad(to_hex(n), 12, '0'), 'position', NULL))).* FROM one, generate_series(1, 5000) n`);
  const before = await looked();
  expect(await looked()).toBeLessThan(before + 5);
});

test("what expires while its page is kept is not put on record as disclosed", async () => {
  const f = await openFixture();
  const { key, presented } = await readingWorld(f);
  const expires_at = new Date(f.time.now.getTime() + 60_000);
  for (const each of PATHS) await f.setting(key, each, { expires_at });
  const ahead = (): Ahead => readOf(presented, key, "decrypt", f.time.now);
  await warm(f, ahead);
  expect((await f.store.readAhead(ahead()))?.recorded).not.toBeNull();
  // Found anew, and the same.
  await f.setting(key, "connect/elsewhere");
  await warm(f, ahead);
  f.time.now = expires_at;
  expect((await f.store.readAhead(ahead()))?.recorded).toBeNull();
});
