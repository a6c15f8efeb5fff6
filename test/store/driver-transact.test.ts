// A transaction of statements alone, on one of the driver's connections: all of it is committed or nothing is, a
// connection that is no good is given up, and a race that was lost is run again.
import pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import { openClient } from "../../src/store/client.ts";
import type { Asker } from "../../src/store/db.ts";
import { createDriverTransact, createTurns } from "../../src/store/transactions.ts";
import { createDatabase } from "../harness/postgres.ts";

const put = { name: "put", text: "INSERT INTO notes (note) VALUES ($1)" };
const fail = { name: "fail", text: "SELECT 1 / 0" };
const race = { name: "race", text: "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$" };
const who = { name: "who", text: "SELECT pg_backend_pid() AS pid" };
const leave = { name: "leave", text: "SELECT pg_terminate_backend(pg_backend_pid())" };

async function open() {
  const database = await createDatabase();
  // One connection: what is not given back is missed.
  const { pool, prisma } = openClient({
    databaseUrl: database.url,
    poolSize: 1,
    onBackgroundError: () => undefined,
  });
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  onTestFinished(async () => {
    await prisma.$disconnect();
    await pool.end();
    await other.end();
    await database.drop();
  });
  await other.query("CREATE TABLE notes (note text)");
  const transact = createDriverTransact(pool, createTurns(1));
  const backend = async () => (await pool.query<{ pid: number }>(who.text)).rows[0]?.pid;
  const notes = async () =>
    (await other.query<{ note: string }>("SELECT note FROM notes")).rows.map((row) => row.note);
  return { pool, other, transact, backend, notes };
}

test("what it did is there, and what it answers is answered", async () => {
  const { transact, notes, backend } = await open();
  const before = await backend();
  const answer = await transact(async (db) => {
    await db.query(put, ["one"]);
    await db.query(put, ["two"]);
    return db.query(who, []);
  });
  expect(answer).toEqual([{ pid: before }]);
  expect(await notes()).toEqual(["one", "two"]);
  expect(await backend()).toBe(before);
});

test.each<[string, (db: Asker) => Promise<unknown>]>([
  ["throws", () => Promise.reject(new TypeError("mine"))],
  ["has a statement fail", (db) => db.query(fail, [])],
  ["goes on after a statement failed", (db) => db.query(fail, []).catch(() => undefined)],
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

test("a statement that comes after its transaction is not sent", async () => {
  const { transact, notes } = await open();
  const ended = Promise.withResolvers<void>();
  let late: Promise<unknown> = Promise.resolve();
  const done = transact(async (db) => {
    late = ended.promise.then(() => db.query(put, ["late"]));
    throw new TypeError("mine");
  });
  await expect(done).rejects.toMatchObject({ code: "internal" });
  ended.resolve();
  await expect(late).rejects.toThrow("after its transaction");
  expect(await notes()).toEqual([]);
});

test.each<[string, (db: Asker, other: pg.Client) => Promise<unknown>]>([
  ["in a statement", (db) => db.query(leave, [])],
  [
    "between two statements",
    async (db, other) => {
      const [mine] = await db.query<{ pid: number }>(who, []);
      await other.query("SELECT pg_terminate_backend($1, 5000)", [mine?.pid]);
      // What the server said as it left is heard before this comes back.
      await new Promise(setImmediate);
      await db.query(put, ["two"]);
    },
  ],
])("a connection that is lost %s is given up, and whoever comes next has another", async (_, lose) => {
  const { transact, notes, backend, other } = await open();
  const before = await backend();
  const done = transact(async (db) => {
    await db.query(put, ["one"]);
    await lose(db, other);
  });
  await expect(done).rejects.toMatchObject({ code: "unavailable" });
  await transact((db) => db.query(put, ["three"]));
  expect(await notes()).toEqual(["three"]);
  expect(await backend()).not.toBe(before);
});

test("a race that was lost is run again, three times in all, also where the work went on after it", async () => {
  const { transact, notes } = await open();
  let runs = 0;
  await transact(async (db) => {
    runs += 1;
    await db.query(put, [`run ${runs}`]);
    if (runs < 3) await db.query(race, []).catch(() => undefined);
  });
  expect(await notes()).toEqual(["run 3"]);
  runs = 0;
  const lost = transact((db) => {
    runs += 1;
    return db.query(race, []);
  });
  await expect(lost).rejects.toMatchObject({ code: "unavailable" });
  expect(runs).toBe(3);
});
