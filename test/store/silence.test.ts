// A server that falls silent, by a fake of it on the wire: whoever waits is told, and the connection is given up.
import { once } from "node:events";
import { type AddressInfo, type Socket, createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { openClient } from "../../src/store/client.ts";
import { asBrokerError } from "../../src/store/failures.ts";

const message = (type: string, body = ""): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, Buffer.from(body)]);
};
const ready = (state: "I" | "T") => message("Z", state);
const greeting = Buffer.concat([message("R", "\0\0\0\0"), ready("I")]);
/** ParseComplete, BindComplete, NoData, CommandComplete, ReadyForQuery. */
const done = (tag: string, state: "I" | "T" = "I") =>
  Buffer.concat([message("1"), message("2"), message("n"), message("C", `${tag}\0`), ready(state)]);
const failed = message("E", "SERROR\0VERROR\0C57014\0Mcanceling statement due to statement timeout\0\0");

/** @param answer to what was sent for the n-th time over its connection, after the greeting; null: none, for ever */
async function open(answer: (n: number) => Buffer | null, query: string, poolSize = 1) {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let sent = 0;
    sockets.add(socket.on("error", () => undefined));
    socket.on("data", () => {
      const bytes = sent === 0 ? greeting : answer(sent);
      sent += 1;
      if (bytes !== null) socket.write(bytes);
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const databaseUrl = `postgres://nobody@127.0.0.1:${port}/none?sslmode=disable&${query}`;
  const opened = openClient({ databaseUrl, poolSize, onBackgroundError: () => undefined });
  onTestFinished(async () => {
    await opened.pool.end();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { ...opened, sockets };
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => null,
    (error: unknown) => asBrokerError(error).code,
  );

test("a statement without an answer is told so, and its connection is given up", async () => {
  const { pool } = await open(() => null, "query_timeout=300");
  const removed = once(pool, "remove");
  expect(await codeOf(pool.query("SELECT 1"))).toBe("unavailable");
  await removed;
  expect(pool.totalCount).toBe(0);
});

test("so is a transaction whose server fell silent between an error and the next statement", async () => {
  const { pool, prisma } = await open(
    (n) => (n === 1 ? done("BEGIN", "T") : n === 2 ? failed : null),
    "query_timeout=300",
  );
  const removed = once(pool, "remove");
  const work = prisma.$transaction((tx) => tx.$executeRawUnsafe("SELECT 1"), { timeout: 60_000 });
  expect(await codeOf(work)).toBe("unavailable");
  await removed;
  expect(pool.totalCount).toBe(0);
});

test("a connection that owes nothing is kept, however long, beside one that is given up", async () => {
  const { pool, sockets } = await open((n) => (n === 1 ? done("SELECT") : null), "query_timeout=600", 2);
  const [one, two] = await Promise.all([pool.connect(), pool.connect()]);
  await one.query("SELECT 1");
  await two.query("SELECT 1");
  // It has owed nothing for longer than the other by the time that one is given up.
  one.release();
  expect(await codeOf(two.query("SELECT 1"))).toBe("unavailable");
  two.release(true);
  expect([pool.totalCount, pool.idleCount, sockets.size]).toEqual([1, 1, 2]);
});
