// Where the broker is reached: many new connections are taken in one turn of the event loop, whoever took one it is served
// and waited for alike, and a port is nobody else's.
import { once } from "node:events";
import { type Socket, connect } from "node:net";
import { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { type Listening, listen } from "../../src/http/listening.ts";
import { type TestApp, route, testApp } from "./app.ts";

const LOCAL = { host: "127.0.0.1", port: 0 };
const open: Listening[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

async function listening(one: TestApp, sockets?: number, place = LOCAL): Promise<Listening> {
  const begun = await listen(one.app, place, sockets);
  open.push(begun);
  return begun;
}

const plain = (): Promise<TestApp> => testApp(route("GET", "/thing", async () => ({ text: "done" })));

/** Once it is told to, makes so many connections; what is told is told by numbers, which need no event loop. */
const CONNECTING = `
const { workerData: { port, count, made } } = require("node:worker_threads");
Atomics.wait(made, 1, 0);
for (let n = 0; n < count; n++)
  require("node:net").connect(port, "127.0.0.1", () => {
    if (Atomics.add(made, 0, 1) + 1 === count) Atomics.notify(made, 0);
  });
`;

/** How many turns of the event loop take those that wait to be taken, all of them there before the first turn. */
async function turnsFor(count: number, sockets?: number): Promise<number> {
  const one = await plain();
  const port = Number(new URL((await listening(one, sockets)).url).port);
  const taken: Socket[] = [];
  one.app.server.on("connection", (socket: Socket) => taken.push(socket));
  const made = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(CONNECTING, { eval: true, workerData: { port, count, made } });
  await once(worker, "online");
  Atomics.store(made, 1, 1);
  Atomics.notify(made, 1);
  for (let seen = 0; seen < count; seen = Atomics.load(made, 0))
    expect(Atomics.wait(made, 0, seen, 20_000)).not.toBe("timed-out");
  expect(taken).toEqual([]);
  let turns = 0;
  for (; taken.length < count; turns++) await new Promise((done) => setImmediate(done));
  await worker.terminate();
  return turns;
}

test("whoever is new is taken beside fifteen others a turn, not after all who came before", async () => {
  const [together, each] = [await turnsFor(320), await turnsFor(320, 1)];
  expect(each).toBeGreaterThanOrEqual(320);
  // Were they shared out evenly it would be 20.
  expect(together).toBeLessThan(process.platform === "linux" ? 80 : Number.POSITIVE_INFINITY);
});

test.each([1, 16])(
  "of %i sockets, closing lets what is under way finish, whichever took it",
  async (sockets) => {
    const { promise: held, resolve: release } = Promise.withResolvers<void>();
    const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
    let under = 0;
    const one = await testApp(
      route("GET", "/thing", async () => {
        if (++under === 64) enter();
        await held;
        return { text: "done" };
      }),
      { drainSeconds: 20 },
    );
    const { url, close } = await listening(one, sockets);
    const answers = Array.from({ length: 64 }, () => fetch(`${url}/thing`, { headers: one.auth }));
    await entered;
    let isClosed = false;
    const closed = close().then(() => (isClosed = true));
    await expect(fetch(`${url}/healthz`)).rejects.toThrow(/fetch failed/);
    expect(isClosed).toBe(false);
    release();
    const told = (await Promise.all(answers)).map(({ status, headers }) => [
      status,
      headers.get("connection"),
    ]);
    expect(told).toEqual(Array.from({ length: 64 }, () => [200, "close"]));
    await closed;
  },
);

test("closing ends connections that ask for nothing, whichever socket took them", async () => {
  const { url, close } = await listening(await plain());
  const { port } = new URL(url);
  const idle = await Promise.all(
    Array.from({ length: 64 }, async (): Promise<Socket> => {
      const socket = connect({ host: LOCAL.host, port: Number(port) });
      socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
      await once(socket, "data");
      return socket.resume();
    }),
  );
  const ended = idle.map((socket) => once(socket, "end"));
  await close();
  await Promise.all(ended);
});

test("a port that a broker of the same user has is taken, and that one goes on", async () => {
  const { url } = await listening(await plain());
  const second = await plain();
  const place = { ...LOCAL, port: Number(new URL(url).port) };
  for (const sockets of [16, 1])
    await expect(listen(second.app, place, sockets)).rejects.toMatchObject({ code: "EADDRINUSE" });
  for (let count = 0; count < 32; count++)
    expect((await fetch(`${url}/healthz`, { headers: { connection: "close" } })).status).toBe(200);
  await second.app.close();
});
