// A database that fails over: the old primary takes no writes any more, and what is connected to it stays. None is kept.
import { once } from "node:events";
import type pg from "pg";
import { expect, test } from "vitest";
import { until } from "../harness/until.ts";
import { done, failed, greeting, openToFake, ready } from "./wire-fake.ts";

const refused = Buffer.concat([failed("25006"), ready("I")]);

/** It is told that its server only reads, and given back. */
async function finds(session: pg.PoolClient): Promise<void> {
  await expect(session.query("INSERT")).rejects.toMatchObject({ code: "25006" });
  session.release();
}

async function usedOnce(pool: pg.Pool): Promise<void> {
  const session = await pool.connect();
  await session.query("SELECT 1");
  session.release();
}

test("once one finds that its server only reads, those that were open or being made do not stay", async () => {
  const made = Promise.withResolvers<Buffer>();
  const { pool, sockets } = await openToFake(
    (_n, connection) => (connection === 1 ? refused : done("SELECT")),
    { poolSize: 4, greet: (connection) => (connection === 4 ? made.promise : greeting) },
  );
  const [first, busy, idle] = [await pool.connect(), await pool.connect(), await pool.connect()];
  const late = usedOnce(pool);
  await until("the last is being made", () => sockets.size === 4);
  idle.release();
  await finds(first);
  made.resolve(greeting);
  await late;
  busy.release();
  await until("all are gone", () => pool.totalCount === 0);
});

test("what an old one is told late is no reason to leave those that were begun since", async () => {
  const { pool } = await openToFake((_n, connection) => (connection <= 2 ? refused : done("SELECT")), {
    poolSize: 3,
  });
  const [first, second] = [await pool.connect(), await pool.connect()];
  const removed = once(pool, "remove");
  await finds(first);
  await removed;
  const atNew = await pool.connect();
  atNew.release();
  await finds(second);
  await until("the old ones are gone", () => pool.totalCount === 1);
  expect(await pool.connect()).toBe(atNew);
  atNew.release();
});
