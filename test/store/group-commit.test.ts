// Group commit: requests that arrive while an audit write is under way share the next one, each answer waits for its
// own event, and a write that fails fails exactly the requests in it.
import { expect, test } from "vitest";
import type { AuditEvent } from "../../src/domain/audit.ts";
import { event, openFixture } from "./fixture.ts";

/** Writes that may be under way at once; see store/audit-write.ts. */
const WRITES = 2;

/** A store whose audit writes wait, and what is known of those that do. */
async function openHeld() {
  const fixture = await openFixture();
  const { driver, store, organization } = fixture;
  const { key } = await organization();
  const holder = await driver.connect();
  await holder.query("BEGIN");
  await holder.query("LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE");
  const waiting = async (): Promise<number[]> => {
    const { rows } = await driver.query(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
       AND query LIKE 'INSERT INTO audit_events%' ORDER BY query_start`,
    );
    return rows.map(({ pid }) => pid);
  };
  const until = async (count: number): Promise<number[]> => {
    for (;;) {
      const pids = await waiting();
      if (pids.length === count) return pids;
    }
  };
  const record = (events: readonly AuditEvent[]) =>
    events.map((each) =>
      store.record(each).then(
        () => "durable",
        (error: { code: string }) => error.code,
      ),
    );
  const release = async () => {
    await holder.query("COMMIT");
    holder.release();
  };
  const written = async (): Promise<Map<string, string>> => {
    const { rows } = await driver.query("SELECT id, xmin::text AS write FROM audit_events");
    return new Map(rows.map(({ id, write }) => [id, write]));
  };
  return { ...fixture, key, until, record, release, written };
}

test("what arrives while writes are under way shares the next, and each is durable when it is told so", async () => {
  const { key, until, record, release, written } = await openHeld();
  const first = Array.from({ length: WRITES }, () => event(key));
  const early: Promise<string>[] = [];
  for (const [index, each] of first.entries()) {
    early.push(...record([each]));
    await until(index + 1);
  }
  const others = Array.from({ length: 100 }, () => event(key));
  const late = record(others);
  expect(await until(WRITES)).toHaveLength(WRITES);
  await release();
  expect(new Set(await Promise.all([...early, ...late]))).toEqual(new Set(["durable"]));
  const writes = await written();
  expect(new Set(others.map(({ id }) => writes.get(id))).size).toBe(1);
  expect(new Set(writes.values()).size).toBe(WRITES + 1);
});

test("a write whose connection breaks fails exactly the requests in it, and none of theirs is on record", async () => {
  const { key, until, record, release, written, driver } = await openHeld();
  const doomed = Array.from({ length: 20 }, () => event(key));
  const failing = record(doomed);
  const [pid] = await until(1);
  const beside = Array.from({ length: 20 }, () => event(key));
  const passing = record(beside);
  await until(WRITES);
  const waiting = Array.from({ length: 20 }, () => event(key));
  const following = record(waiting);
  await driver.query("SELECT pg_terminate_backend($1)", [pid]);
  expect(new Set(await Promise.all(failing))).toEqual(new Set(["unavailable"]));
  await release();
  expect(new Set(await Promise.all([...passing, ...following]))).toEqual(new Set(["durable"]));
  const writes = await written();
  expect(doomed.some(({ id }) => writes.has(id))).toBe(false);
  expect([...beside, ...waiting].every(({ id }) => writes.has(id))).toBe(true);
});

test("a write that the database refuses as a whole fails exactly its requests; the next one goes well", async () => {
  const { key, until, record, release, written, driver } = await openHeld();
  const doomed = Array.from({ length: 20 }, () => event(key));
  const failing = record(doomed);
  const [pid] = await until(1);
  const next = Array.from({ length: 20 }, () => event(key));
  const passing = record(next);
  await until(WRITES);
  await driver.query("SELECT pg_cancel_backend($1)", [pid]);
  expect(new Set(await Promise.all(failing))).toEqual(new Set(["unavailable"]));
  await release();
  expect(new Set(await Promise.all(passing))).toEqual(new Set(["durable"]));
  expect([...(await written()).keys()].toSorted()).toEqual(next.map(({ id }) => id).toSorted());
});

test("one event that cannot be written fails alone, though it shared its write with others", async () => {
  const { key, until, record, release, written } = await openHeld();
  for (let index = 0; index < WRITES; index++) {
    void Promise.all(record([event(key)]));
    await until(index + 1);
  }
  const events = Array.from({ length: 30 }, () => event(key));
  const [twin] = events;
  // The same id twice: the whole statement fails, and then the second of the two.
  const all = record([...events, event(key, { id: twin?.id ?? "" })]);
  await release();
  const told = await Promise.all(all);
  expect(told.slice(0, -1).every((each) => each === "durable")).toBe(true);
  expect(told.at(-1)).toBe("unavailable");
  expect((await written()).size).toBe(WRITES + 30);
});
