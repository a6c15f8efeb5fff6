// Retention: whole months go, sealed ones alone, and what remains is proven as before, its beginning included.
import { describe, expect, test } from "vitest";
import { v7 } from "uuid";
import { openSealed } from "./audit-seal-kit.ts";
import { event } from "./fixture.ts";

/** The middle of the month that is `ahead` months after this one. */
function monthOf(ahead: number, day = 15): Date {
  const now = new Date();
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + ahead, day));
}
const nameOf = (ahead: number): string =>
  `audit_events_${monthOf(ahead).toISOString().slice(0, 7).replace("-", "_")}`;

/** Three months with three sealed events each, and the clock in the third. */
async function openMonths() {
  const opened = await openSealed();
  const months = [];
  for (const ahead of [0, 1, 2]) {
    opened.time.now = monthOf(ahead);
    months.push(await opened.sealed(3));
  }
  return { ...opened, months };
}
const tables = "SELECT relid::regclass::text AS name FROM pg_partition_tree('audit_events') WHERE isleaf";

describe("months", () => {
  test("each event is in its month, and one of no month that there is, is kept too", async () => {
    const { driver, store, key, months } = await openMonths();
    await store.record(event(key, { id: v7({ msecs: monthOf(70).getTime() }) }));
    const { rows } = await driver.query(
      "SELECT tableoid::regclass::text AS name, count(*)::int FROM audit_events GROUP BY 1 ORDER BY 1",
    );
    expect(months).toHaveLength(3);
    expect(rows).toEqual(
      [
        { name: "audit_events_before", count: 3 },
        { name: nameOf(1), count: 3 },
        { name: nameOf(2), count: 3 },
        { name: "audit_events_default", count: 1 },
      ].toSorted((one, other) => (one.name < other.name ? -1 : 1)),
    );
  });

  test("room is made ahead, once, and takes in what had to wait for it elsewhere", async () => {
    const { driver, store, key, seals } = await openSealed();
    await driver.query(`DROP TABLE ${nameOf(2)}`);
    const early = event(key, { id: v7({ msecs: monthOf(2).getTime() }) });
    await store.record(early);
    expect(await Promise.all([seals.prepareMonths(3), seals.prepareMonths(3)])).toEqual(
      expect.arrayContaining([0, 1]),
    );
    const { rows } = await driver.query("SELECT tableoid::regclass::text AS name FROM audit_events");
    expect(rows).toEqual([{ name: nameOf(2) }]);
  });
});

describe("pruning", () => {
  test("drops the months that are not kept; the rest verifies, and says how many are gone", async () => {
    const { retention, driver, verify, sealing } = await openMonths();
    const dropped = await retention(1).pruneAudit();
    expect(dropped).toMatchObject({ months: ["audit_events_before"], kept_from: monthOf(1, 1) });
    await sealing.seal();
    expect(await verify()).toMatchObject({ problem: null, verified: { events: 7, dropped: 3, unsealed: 0 } });
    const { rows } = await driver.query(tables);
    expect(rows.map(({ name }) => name)).not.toContain("audit_events_before");
    expect(await retention(1).pruneAudit()).toBeNull();
    expect(await retention(0).pruneAudit()).toBeNull();
  });

  test("leaves the seals, without the hashes of what is gone, and an event that says what went", async () => {
    const { retention, driver } = await openMonths();
    await retention(1).pruneAudit();
    const { rows } = await driver.query(
      "SELECT number::int, leaves IS NULL AS bare FROM audit_seals ORDER BY 1",
    );
    expect(rows).toEqual([1, 2, 3, 4].map((number) => ({ number, bare: number === 1 })));
    const { rows: said } = await driver.query(
      "SELECT action, details FROM audit_events WHERE operation = 'pruneAudit'",
    );
    const details = {
      change: "audit_dropped",
      months: "audit_events_before",
      kept_from: monthOf(1, 1).toISOString(),
    };
    expect(said).toEqual([{ action: "housekeep", details }]);
  });

  test("drops nothing while an event of the month is not sealed", async () => {
    const { retention, store, key, driver, sealing } = await openMonths();
    await store.record(event(key, { id: v7({ msecs: monthOf(0).getTime() }) }));
    await expect(retention(1).pruneAudit()).rejects.toMatchObject({ code: "unavailable" });
    expect((await driver.query(tables)).rows).toContainEqual({ name: "audit_events_before" });
    await sealing.seal();
    expect(await retention(1).pruneAudit()).toMatchObject({ months: ["audit_events_before"] });
  });

  test("of two replicas that prune at once, one does it", async () => {
    const { retention, driver, verify, sealing } = await openMonths();
    const done = await Promise.all([retention(1).pruneAudit(), retention(1).pruneAudit()]);
    expect(done.filter((each) => each !== null)).toHaveLength(1);
    await sealing.seal();
    expect((await verify()).problem).toBeNull();
    const { rows } = await driver.query(
      "SELECT count(*)::int FROM audit_events WHERE operation = 'pruneAudit'",
    );
    expect(rows).toEqual([{ count: 1 }]);
  });

  test("what is missing from the months that are kept is named, whatever has been pruned", async () => {
    const { retention, attack, problem, months } = await openMonths();
    await retention(1).pruneAudit();
    await attack(`DELETE FROM audit_events WHERE id = '${months[1]?.[1]?.id}'`);
    expect(await problem()).toMatchObject({ what: "removed", event_id: months[1]?.[1]?.id });
  });

  test("a month that somebody else dropped is missing, and so is one that a forged seal says was pruned", async () => {
    const { attack, problem, months } = await openMonths();
    await attack(`DROP TABLE ${nameOf(1)}`);
    expect(await problem()).toMatchObject({ what: "removed", event_id: months[1]?.[0]?.id });
    await attack(`UPDATE audit_seals SET kept_from = '${monthOf(2, 1).toISOString()}' WHERE number = 3`);
    expect(await problem()).toMatchObject({ what: "seal_forged", seal: 3 });
    await attack("UPDATE audit_seals SET leaves = NULL WHERE number = 2");
    expect(await problem()).toMatchObject({ seal: expect.any(Number) });
  });

  test("an event that is put back into a pruned month is named", async () => {
    const { retention, attack, problem, months } = await openMonths();
    await retention(1).pruneAudit();
    await attack(
      `INSERT INTO audit_events SELECT (e).* FROM (SELECT jsonb_populate_record(a,
         jsonb_build_object('id', '${months[0]?.[0]?.id}', 'position', 2)) AS e FROM audit_events a LIMIT 1) x`,
    );
    expect(await problem()).toMatchObject({ what: "inserted", event_id: months[0]?.[0]?.id });
  });
});
