// Where the broker is reached: many new connections are taken in one turn of the event loop, whoever took one it is served
// and waited for alike, and a port is nobody else's.
import dns from "node:dns/promises";
import { once } from "node:events";
import { type AddressInfo, Server, type Socket, connect, createServer, isIP } from "node:net";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import pino from "pino";
import { afterEach, describe, expect, test, vi } from "vitest";
import { compose } from "../../src/compose.ts";
import { readConfig } from "../../src/config.ts";
import { type Listening, listen } from "../../src/http/listening.ts";
import { startBroker } from "../harness/broker.ts";
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
  // Were they shared out evenly it would be 20. Elsewhere one socket listens.
  expect(together < 80, `${together} turns`).toBe(process.platform === "linux");
});

/** An app with a route whose requests end once they are let go; `entered` after so many of them. */
async function holding(count: number) {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
  let under = 0;
  const handle = async () => {
    if (++under === count) enter();
    await held;
    return { text: "done" };
  };
  return { one: await testApp(route("GET", "/thing", handle), { drainSeconds: 60 }), entered, release };
}

test.each([1, 16])(
  "closing lets what is under way finish, whichever took it (sockets: %i)",
  async (sockets) => {
    const { one, entered, release } = await holding(64);
    const { url, close } = await listening(one, sockets);
    const answers = Array.from({ length: 64 }, () => fetch(`${url}/thing`, { headers: one.auth }));
    await entered;
    const closed = close();
    await expect(fetch(`${url}/healthz`)).rejects.toThrow(/fetch failed/);
    release();
    const told = (await Promise.all(answers)).map(({ status, headers }) => [
      status,
      headers.get("connection"),
    ]);
    expect(told).toEqual(Array.from({ length: 64 }, () => [200, "close"]));
    await closed;
  },
);

test("it is closed once the last answer is out, whichever socket took it", async () => {
  // The kernel chooses: of eight, some are not by the app's own.
  for (let round = 0; round < 8; round++) {
    const { one, entered, release } = await holding(1);
    const { url, close } = await listening(one);
    const answer = fetch(`${url}/thing`, { headers: one.auth });
    await entered;
    let isClosed = false;
    const closed = close().then(() => (isClosed = true));
    for (let turn = 0; turn < 200; turn++) await new Promise((done) => setImmediate(done));
    expect(isClosed).toBe(false);
    release();
    expect((await answer).status).toBe(200);
    await closed;
  }
});

test("closing ends connections that ask for nothing, whichever socket took them", async () => {
  const { one } = await holding(1);
  const { url, close } = await listening(one);
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

describe("localhost", () => {
  /** What the name stands for, and whether this machine has IPv6. */
  const names = (...addresses: string[]): void => {
    const found = addresses.map((address) => ({ address, family: isIP(address) }));
    vi.spyOn(dns, "lookup").mockResolvedValue(found as never);
  };
  const LOCALHOST = { host: "localhost", port: 0 };

  test("is each of its addresses, and every socket serves alike", async () => {
    names("127.0.0.1", "127.0.0.2");
    const one = await plain();
    const { url } = await listening(one, 16, LOCALHOST);
    const { port } = new URL(url);
    for (const host of ["127.0.0.1", "127.0.0.2"])
      for (let count = 0; count < 64; count++) {
        const socket = connect({ host, port: Number(port) });
        // Node's own refusal of it has no body.
        socket.write("GARBAGE\r\n\r\n");
        expect(String((await once(socket, "data"))[0])).toContain("application/problem+json");
        socket.destroy();
      }
  });

  test.each(["EADDRNOTAVAIL", "EAFNOSUPPORT"])(
    "an address of it that the machine does not have is passed over: %s",
    async (code) => {
      names("::1", "127.0.0.1");
      failListening(code, (_count, host) => host === "::1");
      const { url } = await listening(await plain(), 16, LOCALHOST);
      expect((await fetch(`${url}/healthz`)).status).toBe(200);
    },
  );

  test("of which the machine has no address is told as such", async () => {
    names("::1", "127.0.0.1");
    failListening("EADDRNOTAVAIL", () => true);
    const { app } = await plain();
    await expect(listen(app, LOCALHOST)).rejects.toMatchObject({ code: "EADDRNOTAVAIL" });
    await app.close();
  });

  test("has as many sockets at each address; another name has them at its first alone", async () => {
    names("127.0.0.1", "127.0.0.2");
    for (const [host, second] of [
      ["localhost", 16],
      ["broker.internal", 0],
    ] as const) {
      const listens = vi.spyOn(Server.prototype, "listen");
      await listening(await plain(), 16, { host, port: 0 });
      const places = listens.mock.calls.map(([place]) => place as { host: string; reusePort?: boolean });
      const sharing = places.filter(({ reusePort }) => reusePort === true).map((each) => each.host);
      expect(sharing.filter((each) => each === "127.0.0.1")).toHaveLength(16);
      expect(sharing.filter((each) => each === "127.0.0.2")).toHaveLength(second);
      listens.mockRestore();
    }
  });

  test("of which another has one address is taken", async () => {
    names("127.0.0.1", "127.0.0.2");
    const { url } = await listening(await plain(), 16, { host: "127.0.0.2", port: 0 });
    const second = await plain();
    const place = { ...LOCALHOST, port: Number(new URL(url).port) };
    await expect(listen(second.app, place)).rejects.toMatchObject({ code: "EADDRINUSE" });
    expect(second.app.server.listening).toBe(false);
    await second.app.close();
  });
});

test("where one of the sockets cannot be had, none is left", async () => {
  const one = await plain();
  const port = await freePort();
  failListening("EMFILE", (count) => count === 9);
  await expect(listen(one.app, { ...LOCAL, port })).rejects.toMatchObject({ code: "EMFILE" });
  vi.restoreAllMocks();
  const { url } = await listening(await plain(), 16, { ...LOCAL, port });
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test("a service listens once, and no more when it is closed", async () => {
  const broker = await startBroker();
  expect(await broker.service.listen()).toBe(broker.url);
  await broker.close();
  await expect(broker.service.listen()).rejects.toThrow("the service is closed");
  await expect(fetch(`${broker.url}/healthz`)).rejects.toThrow(/fetch failed/);
});

test("a service that is closed while it begins to listen has ended all of that", async () => {
  const broker = await startBroker();
  const config = readConfig({
    COFFER_HOME: join(broker.home, "second"),
    COFFER_PORT: "0",
    DATABASE_URL: broker.databaseUrl,
    COFFER_MASTER_KEY: broker.masterKey,
  });
  const service = await compose(config, pino({ level: "silent" }));
  const begun = service.listen();
  await service.close();
  await expect(fetch(`${await begun}/healthz`)).rejects.toThrow(/fetch failed/);
  await broker.close();
});

/** From now on the system refuses those of which `isRefused` says so, by how many there were and the host. */
function failListening(code: string, isRefused: (count: number, host: string) => boolean): void {
  const asEver = Reflect.get(Server.prototype, "listen") as (this: Server, ...given: unknown[]) => Server;
  let count = 0;
  vi.spyOn(Server.prototype, "listen").mockImplementation(function (this: Server, ...given: unknown[]) {
    if (!isRefused(++count, (given[0] as { readonly host: string }).host)) return asEver.apply(this, given);
    process.nextTick(() => this.emit("error", Object.assign(new Error("refused"), { code })));
    return this;
  } as never);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, LOCAL.host);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}
