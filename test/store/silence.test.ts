// A server that falls silent, by a fake of it on the wire: whoever waits is told, and the connection is given up.
import { once } from "node:events";
import { expect, test } from "vitest";
import { asBrokerError } from "../../src/store/failures.ts";
import { done, failed, openToFake } from "./wire-fake.ts";

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => null,
    (error: unknown) => asBrokerError(error).code,
  );

test("a statement without an answer is told so, and its connection is given up", async () => {
  const { pool } = await openToFake(() => null, { query: "query_timeout=300" });
  const removed = once(pool, "remove");
  expect(await codeOf(pool.query("SELECT 1"))).toBe("unavailable");
  await removed;
  expect(pool.totalCount).toBe(0);
});

test("so is a transaction whose server fell silent between an error and the next statement", async () => {
  const { pool, prisma } = await openToFake(
    (n) => (n === 1 ? done("BEGIN", "T") : n === 2 ? failed("57014") : null),
    { query: "query_timeout=300" },
  );
  const removed = once(pool, "remove");
  const work = prisma.$transaction((tx) => tx.$executeRawUnsafe("SELECT 1"), { timeout: 60_000 });
  expect(await codeOf(work)).toBe("unavailable");
  await removed;
  expect(pool.totalCount).toBe(0);
});

test("a connection that owes nothing is kept, however long, beside one that is given up", async () => {
  const { pool, sockets } = await openToFake((n) => (n === 1 ? done("SELECT") : null), {
    query: "query_timeout=600",
    poolSize: 2,
  });
  const [one, two] = await Promise.all([pool.connect(), pool.connect()]);
  await one.query("SELECT 1");
  await two.query("SELECT 1");
  // It has owed nothing for longer than the other by the time that one is given up.
  one.release();
  expect(await codeOf(two.query("SELECT 1"))).toBe("unavailable");
  two.release(true);
  expect([pool.totalCount, pool.idleCount, sockets.size]).toEqual([1, 1, 2]);
});
