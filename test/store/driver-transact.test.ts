// A transaction of statements alone, on one of the driver's connections: all of it is committed or nothing is, a
// connection that is no good is given up, and a race that was lost is run again.
import pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import type { Asker } from "../../src/store/db.ts";
import { createDriverTransact, createTurns } from "../../src/store/transactions.ts";
import { createDatabase } from "../harness/postgres.ts";

const put = { name: "put", text: "INSERT INTO notes (note) VALUES ($1)" };
const fail = { name: "fail", text: "SELECT 1 / 0" };
const race = { name: "race", text: "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$" };
const leave = { name: "leave", text: "SELECT pg_terminate_backend(pg_backend_pid())" };

async function open() {
  const database = await createDatabase();
  // One connection: what is not given back is missed.
  const pool = new pg.Pool({ connectionString: database.url, max: 1, connectionTimeoutMillis: 5_000 });
  pool.on("error", () => undefined);
  onTestFinished(async () => {
    await pool.end();
    await database.drop();
  });
  await pool.query("CREATE TABLE notes (note text)");
  const transact = createDriverTransact(pool, createTurns(1));
  const backend = async () => (await pool.query("SELECT pg_backend_pid() AS pid")).rows[0].pid as number;
  const notes = async () =>
    (await pool.query<{ note: string }>("SELECT note FROM notes")).rows.map((row) => row.note);
  return { pool, transact, backend, notes };
}

test("what it did is there, and what it answers is answered", async () => {
  const { transact, notes, backend } = await open();
  const before = await backend();
  expect(await transact(async (db) => [await db.query(put, ["one"]), await db.query(put, ["two"])])).toEqual([
    [],
    [],
  ]);
  expect(await notes()).toEqual(["one", "two"]);
  expect(await backend()).toBe(before);
});

test.each([
  ["throws", () => Promise.reject(new TypeError("mine"))],
  ["has a statement fail", (db: Asker) => db.query(fail, [])],
])("work that %s leaves nothing behind, and its connection as good as before", async (_, end) => {
  const { transact, notes, backend } = await open();
  const before = await backend();
  const done = transact(async (db) => {
    await db.query(put, ["one"]);
    await end(db);
  });
  await expect(done).rejects.toMatchObject({ code: "internal" });
  expect(await notes()).toEqual([]);
  expect(await backend()).toBe(before);
});

test("work that goes on after a statement failed is not said to be done", async () => {
  const { transact, notes } = await open();
  const done = transact(async (db) => {
    await db.query(put, ["one"]);
    await db.query(fail, []).catch(() => undefined);
  });
  await expect(done).rejects.toMatchObject({ code: "internal" });
  expect(await notes()).toEqual([]);
});

test("a connection that is lost is given up, and the next one has another", async () => {
  const { transact, notes, backend } = await open();
  const before = await backend();
  const done = transact(async (db) => {
    await db.query(put, ["one"]);
    await db.query(leave, []);
  });
  await expect(done).rejects.toMatchObject({ code: "unavailable" });
  await transact((db) => db.query(put, ["two"]));
  expect(await notes()).toEqual(["two"]);
  expect(await backend()).not.toBe(before);
});

test("a race that was lost is run again, three times in all", async () => {
  const { transact, notes } = await open();
  let runs = 0;
  await transact(async (db) => {
    runs += 1;
    await db.query(put, [`run ${runs}`]);
    if (runs < 3) await db.query(race, []);
  });
  expect(await notes()).toEqual(["run 3"]);
  const lost = transact((db) => db.query(race, []));
  await expect(lost).rejects.toMatchObject({ code: "unavailable" });
  expect(await notes()).toEqual(["run 3"]);
});
