// Reads give their events positions as they record them, where nobody else is giving any: in the order of their
// commits, without a gap, and without waiting for anybody.
import { describe, expect, test } from "vitest";
import type { AuditPage } from "../../src/domain/ports.ts";
import { openSealed } from "./audit-seal-kit.ts";
import { auditQuery, event, newId, path, tokenRow } from "./fixture.ts";

/** As store/audit-place.ts has it; and all that a replica of an older version locks. */
const LOCKS = [
  "SELECT pg_advisory_xact_lock(7420202611260003)",
  "SELECT FROM audit_tail WHERE id = 1 FOR UPDATE",
];

async function openReading() {
  const opened = await openSealed();
  const { key, principal, member, setting, transact, driver } = opened;
  const { id } = await principal();
  await member(key, id);
  await setting(key, "connect/S3/a");
  const token = tokenRow(id, new Date("2026-03-04T05:06:07.089Z"));
  await transact((tx) => tx.insertToken(token));

  /** Answers the id of its event; null where none was recorded. */
  async function read(request_id = newId(), store = opened.store): Promise<string | null> {
    const found = await store.readAhead({
      presented: { kind: "api", hash: token.hash },
      owner: key,
      select: { kind: "at", path: path("connect/S3/a"), match: "auto" },
      action: "list",
      strict: false,
      limit: 1_000,
      event: event(key, { action: "list", path: "connect/S3", request_id }),
    });
    return found?.recorded?.id ?? null;
  }

  async function positions(): Promise<Map<string | null, number | null>> {
    const { rows } = await driver.query(
      "SELECT id, position::int FROM audit_events ORDER BY position NULLS LAST, id",
    );
    return new Map<string | null, number | null>(rows.map((row) => [row.id, row.position]));
  }
  return { ...opened, read, positions };
}

describe("positions of reads", () => {
  test("are given with the event, in order and without a gap, beside those that the sealer gives", async () => {
    const { read, positions, store, key, sealing, verify } = await openReading();
    const first = await read();
    const written = event(key);
    await store.record(written);
    const second = await read();
    const before = await positions();
    expect([first, second, written.id].map((id) => before.get(id))).toEqual([1, 2, null]);
    await sealing.seal();
    expect((await positions()).get(written.id)).toBe(3);
    expect(await verify()).toMatchObject({ problem: null, verified: { events: 3, unsealed: 0 } });
  });

  test.each(LOCKS)(
    "are left to the sealer while somebody else is giving some: no read waits (%s)",
    async (lock) => {
      const { read, positions, driver, sealing, verify } = await openReading();
      const other = await driver.connect();
      await other.query("BEGIN");
      await other.query(lock);
      const beside = await read();
      await other.query("COMMIT");
      other.release();
      const after = await read();
      const given = await positions();
      expect([beside, after].map((id) => given.get(id))).toEqual([null, 1]);
      await sealing.seal();
      expect((await positions()).get(beside)).toBe(2);
      expect(await verify()).toMatchObject({ problem: null, verified: { events: 2, unsealed: 0 } });
    },
  );

  test("are left to the sealer while a transaction that stays open keeps old versions of the tail from being removed", async () => {
    const { read, positions, driver, sealing, problem } = await openReading();
    const old = await driver.connect();
    await old.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    await old.query("SELECT FROM audit_tail");
    const busy = await driver.connect();
    await busy.query(
      "DO $$ BEGIN FOR n IN 1..3000 LOOP UPDATE audit_tail SET position = position; COMMIT; END LOOP; END $$",
    );
    await busy.query("SELECT pg_stat_force_next_flush()");
    busy.release();
    const during = await read();
    await old.query("COMMIT");
    old.release();
    expect((await positions()).get(during)).toBeNull();
    await sealing.seal();
    expect((await positions()).get(during)).toBe(1);
    await driver.query("VACUUM audit_tail");
    const after = await read();
    expect((await positions()).get(after)).toBe(2);
    expect(await problem()).toBeNull();
  });

  test("and an event that somebody's trigger leaves out: nothing is found then, since it is not on record", async () => {
    const { read, driver } = await openReading();
    await driver.query(`CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.request_id = 'ghost' THEN RETURN NULL; END IF; RETURN NEW; END $$`);
    await driver.query(
      "CREATE TRIGGER leave_out BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION leave_out()",
    );
    const [first, ghost, last] = await Promise.all([read(), read("ghost"), read()]);
    expect(first).not.toBeNull();
    expect(ghost).toBeNull();
    expect(last).not.toBeNull();
  });

  test("of a batch that fails are given to nobody, and leave no gap", async () => {
    const { read, positions, driver, sealing, problem } = await openReading();
    await driver.query("ALTER TABLE audit_events ADD CHECK (request_id <> 'refused')");
    const [first, refused, last] = await Promise.all([read(), read("refused"), read()]);
    expect(refused).toBeNull();
    const given = await positions();
    expect([first, last].map((id) => given.get(id))).toEqual([1, 2]);
    await sealing.seal();
    expect(await problem()).toBeNull();
  });

  test("of reads, writes, two replicas, two sealers and a collector at once: each event once, no gap, nothing missed", async () => {
    const { read, positions, open, store, key, sealing, sealerOf, verify, transact } = await openReading();
    const other = open();
    const state = { isDone: false };
    const ids: (string | null)[] = [];
    const seal = async (one: typeof sealing) => {
      while (!state.isDone) await one.seal();
    };
    const collect = async () => {
      const pages: string[][] = [];
      for (let after: string | null = null; ; ) {
        const wasDone = state.isDone;
        const page: AuditPage = await other.store.reader.audit(auditQuery(key, { order: "asc", after }));
        pages.push(page.events.map(({ id }) => id));
        if (wasDone && page.events.length === 0) return pages;
        after = page.next;
      }
    };
    const readAll = async (from: typeof store) => {
      for (let count = 0; count < 30; count++) ids.push(await read(newId(), from));
    };
    const write = async () => {
      for (let count = 0; count < 10; count++) {
        const [one, two] = [event(key), event(key)];
        await transact(async (tx) => {
          await tx.record(one);
          await store.record(two);
        });
        ids.push(one.id, two.id);
      }
    };
    const beside = [seal(sealing), seal(sealerOf(other))];
    const collected = collect();
    await Promise.all([
      ...Array.from({ length: 8 }, () => readAll(store)),
      ...Array.from({ length: 8 }, () => readAll(other.store)),
      ...Array.from({ length: 4 }, write),
    ]);
    state.isDone = true;
    await Promise.all(beside);
    const pages = await collected;
    const seen = pages.flat();
    expect(new Set(seen)).toEqual(new Set(ids));
    expect(seen).toHaveLength(ids.length);
    await sealing.seal();
    const given = await positions();
    expect([...given.values()]).toEqual(ids.map((_, index) => index + 1));
    // Page by page as they have their positions, and within a page as they happened.
    const place = (id: string): number => Number(given.get(id));
    expect(pages.flatMap((page) => page.toSorted((one, two) => place(one) - place(two)))).toEqual([
      ...given.keys(),
    ]);
    for (const page of pages) expect(page).toEqual(page.toSorted());
    expect(await verify()).toMatchObject({ problem: null, verified: { events: ids.length, unsealed: 0 } });
    await other.close();
  });

  test("whoever holds the tail keeps no event that has its position from being sealed", async () => {
    const { read, store, key, driver, sealing, verify } = await openReading();
    await read();
    await store.record(event(key));
    const other = await driver.connect();
    await other.query("BEGIN");
    for (const lock of LOCKS) await other.query(lock);
    await expect(sealing.seal()).rejects.toMatchObject({ code: "unavailable" });
    expect(await verify()).toMatchObject({ verified: { events: 1, unsealed: 1 } });
    await other.query("COMMIT");
    other.release();
    await sealing.seal();
    expect(await verify()).toMatchObject({ verified: { events: 2, unsealed: 0 } });
  });

  test("come after all that this process knows to be sealed, also where the tail was cut off", async () => {
    const { read, positions, attack, sealed, sealing, driver, store, key } = await openReading();
    await sealed(5);
    await attack(
      "DELETE FROM audit_seals WHERE last_position > 0",
      "DELETE FROM audit_events WHERE position > 3",
      "UPDATE audit_tail SET position = 3",
    );
    const beside = event(key);
    await store.record(beside);
    await store.reader.audit(auditQuery(key, { order: "asc" }));
    const id = await read();
    const given = await positions();
    expect([beside.id, id].map((each) => given.get(each))).toEqual([6, 7]);
    await sealing.seal();
    const { rows } = await driver.query("SELECT first_position::int, last_position::int FROM audit_seals");
    expect(rows).toEqual([{ first_position: 6, last_position: 7 }]);
  });
});
