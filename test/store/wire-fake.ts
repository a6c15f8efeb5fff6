// A fake of PostgreSQL on the wire: what it answers, and when, is the test's.
import { once } from "node:events";
import { type AddressInfo, type Socket, createServer } from "node:net";
import { onTestFinished } from "vitest";
import { openClient } from "../../src/store/client.ts";

const message = (type: string, body = ""): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, Buffer.from(body)]);
};
export const ready = (state: "I" | "T") => message("Z", state);
export const greeting = Buffer.concat([message("R", "\0\0\0\0"), ready("I")]);
/** ParseComplete, BindComplete, NoData, CommandComplete, ReadyForQuery. */
export const done = (tag: string, state: "I" | "T" = "I") =>
  Buffer.concat([message("1"), message("2"), message("n"), message("C", `${tag}\0`), ready(state)]);
/** Without what ends an answer. */
export const failed = (state: string) => message("E", `SERROR\0VERROR\0C${state}\0Mrefused\0\0`);
/** It is sent by itself, and has no answer. */
const TERMINATE = "X";

/** To what was sent for the n-th time over one connection, after the greeting; null: none, for ever. */
type Answer = (n: number, connection: number) => Buffer | null;
type Options = {
  /** Of the database's address. */
  readonly query?: string;
  readonly poolSize?: number;
  /** What each connection hears first, in the order in which they come: 1 and so on. */
  readonly greet?: (connection: number) => Buffer | Promise<Buffer>;
};

/** A client of it, and the connections that were made. Both end with the test. */
export async function openToFake(answer: Answer, options: Options = {}) {
  const { query = "", poolSize = 1, greet = () => greeting } = options;
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let sent = 0;
    sockets.add(socket.on("error", () => undefined));
    const connection = sockets.size;
    socket.on("data", (asked) => {
      if (asked.toString("latin1", 0, 1) === TERMINATE) return void socket.end();
      const bytes = sent === 0 ? greet(connection) : answer(sent, connection);
      sent += 1;
      if (bytes !== null) void Promise.resolve(bytes).then((all) => socket.write(all));
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
