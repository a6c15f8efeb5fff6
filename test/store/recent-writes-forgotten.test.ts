// What was written long ago is forgotten, and what is not forgotten is found by an index: neither ever makes a page that is
// kept pass for one that is there.
import pg from "pg";
import { expect, onTestFinished, test, vi } from "vitest";
import { until } from "../harness/until.ts";
import { openFixture } from "./fixture.ts";
import { PATHS, bothOf, connected, keptWorld, readOf, warm } from "./reading.ts";

test("what rests on what is forgotten is found again, and is good again then", async () => {
  const f = await openFixture();
  const { key, pageNow, ahead } = await keptWorld(f);
  const before = await pageNow();
  await f.setting(key, "connect/S3/more");
  // All that there is: a number that is still to come is no more than that. What others on this server have open is in
  // the way meanwhile.
  await until("all is forgotten", async () => {
    await f.driver.query("SELECT coffer_forget_writes(9007199254740991)");
    return (await f.driver.query("SELECT FROM recent_writes WHERE written_by > 0")).rowCount === 0;
  });
  const after = await pageNow();
  expect(after?.rows).toHaveLength(PATHS.length + 1);
  expect(after).not.toBe(before);
  await warm(f, ahead);
  expect(await pageNow()).toBe(await pageNow());
});

test("a table emptied while what was written is forgotten stays emptied", async () => {
  const f = await openFixture();
  const { ahead } = await keptWorld(f);
  const [emptying, forgetting] = [await connected(f), await connected(f)];
  await emptying.query("BEGIN");
  await emptying.query("TRUNCATE memberships");
  const forgotten = forgetting.query("SELECT coffer_forget_writes(0)");
  await f.stuckOrDone(forgotten);
  await emptying.query("COMMIT");
  await forgotten;
  const { kept, oracle } = await bothOf(f, ahead);
  expect(kept).toEqual(oracle);
});

test("nothing that was seen in one database is believed in what was put in its place", async () => {
  const f = await openFixture();
  const { pageNow } = await keptWorld(f);
  const before = await pageNow();
  await f.driver.query(
    `ALTER TABLE recent_writes_from RENAME TO gone; CREATE TABLE recent_writes_from (LIKE gone INCLUDING ALL);
     INSERT INTO recent_writes_from SELECT * FROM gone; DROP TABLE gone`,
  );
  expect(await pageNow()).not.toBe(before);
});

test("numbers of another server's time, as in a dump that was put back, do not stand in the way for long", async () => {
  const f = await openFixture();
  const { key, pageNow } = await keptWorld(f);
  await f.driver.query("UPDATE recent_writes_from SET written_by = 9007199254740991");
  await f.driver.query("INSERT INTO recent_writes VALUES ($1, 9007199254740990)", [key.owner_id]);
  const before = await pageNow();
  expect(await pageNow()).not.toBe(before);
  await f.driver.query("SELECT coffer_forget_writes(0)");
  await pageNow();
  expect(await pageNow()).toBe(await pageNow());
});

test("a number that a dump had is not forgotten while a transaction that has it is under way", async () => {
  const f = await openFixture();
  const { key, ahead } = await keptWorld(f);
  const [forgetting, writing] = [await connected(f), await connected(f)];
  // The next numbers are that of what notes these, that of who forgets, and that of who writes.
  const { rows } = await f.driver.query("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next");
  await f.driver.query(
    "INSERT INTO recent_writes SELECT $1, n FROM generate_series($2::bigint + 2, $2::bigint + 40) n",
    [key.owner_id, rows[0].next],
  );
  await forgetting.query("BEGIN");
  await forgetting.query("SELECT pg_current_xact_id()");
  await writing.query("BEGIN");
  await writing.query("UPDATE settings SET description = 'late' WHERE owner_id = $1", [key.owner_id]);
  const forgotten = forgetting.query("SELECT coffer_forget_writes(0)").then(() => forgetting.query("COMMIT"));
  await f.stuckOrDone(forgotten);
  await writing.query("COMMIT");
  await forgotten;
  const { kept, oracle } = await bothOf(f, ahead);
  expect(kept).toEqual(oracle);
});

test("a look for writes goes by the index, also where a vacuum found that nothing was written", async () => {
  const f = await openFixture();
  const { key, presented, pageNow } = await keptWorld(f);
  const one = () => readOf(presented, key, "decrypt", f.time.now, PATHS[0]);
  await warm(f, one);
  const texts = new Set<string>();
  const { submit } = pg.Query.prototype;
  const spy = vi.spyOn(pg.Query.prototype, "submit").mockImplementation(function (
    this: pg.Query,
    connection,
  ) {
    const { name, text } = this as unknown as { readonly name?: string; readonly text: string };
    if (name?.startsWith("confirm_reads")) texts.add(text);
    return submit.call(this, connection);
  });
  onTestFinished(() => spy.mockRestore());
  await pageNow();
  await f.store.readAhead(one());
  expect(texts.size).toBe(2);
  await until("all is forgotten", async () => {
    await f.driver.query("SELECT coffer_forget_writes(9007199254740991)");
    return (await f.driver.query("SELECT FROM recent_writes WHERE written_by > 0")).rowCount === 0;
  });
  await f.driver.query("VACUUM ANALYZE recent_writes");
  for (const text of texts) {
    const { rows } = await f.driver.query<{ "QUERY PLAN": string }>(`EXPLAIN (GENERIC_PLAN) ${text}`);
    const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
    expect(plan).toMatch(/recent_writes_pkey on recent_writes r/);
    expect(plan).not.toMatch(/Seq Scan on recent_writes r\b/);
  }
});
