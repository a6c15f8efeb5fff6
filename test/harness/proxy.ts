// A TCP proxy of the test's own, put before a real server to take it away in each of the ways a network can: refused,
// cut, stalled, slow, half-open. What it does to a connection it does to every one; nothing of the bytes is looked at.
import { once } from "node:events";
import { type AddressInfo, type Socket, connect, createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

type Pair = { readonly near: Socket; readonly far: Socket };

export type Proxy = {
  readonly port: number;
  /** The same database, by way of the proxy. */
  through(databaseUrl: string): string;
  /** How many connections there are now. */
  open(): number;
  /** How many there have ever been. */
  made(): number;
  /** Resets every connection; new ones are served. */
  cut(): void;
  /** Nobody listens any more, and every connection is reset: ECONNREFUSED. */
  refuse(): Promise<void>;
  /** Bytes stop both ways and nobody is told; new connections are accepted and hear nothing. */
  stall(): void;
  /** The server's side is gone, and ours is not told: what is sent there is lost. New connections are served. */
  halfOpen(): void;
  /** Each piece of an answer comes so much later. */
  slow(milliseconds: number): void;
  /** New connections go to another port; those that are open stay where they are. */
  toward(port: number): void;
  /** All is well again. */
  mend(): Promise<void>;
  close(): Promise<void>;
};

/** In turn, and not before its time. */
async function later(tail: Promise<void>, due: number, act: () => void): Promise<void> {
  await tail;
  await pause(Math.max(0, due - performance.now()));
  act();
}

export async function startProxy(target: number): Promise<Proxy> {
  const pairs = new Set<Pair>();
  let port = 0;
  let to = target;
  let delay = 0;
  let made = 0;
  let stalled = false;

  function carry(from: Socket, into: Socket, delayed: boolean): void {
    let tail = Promise.resolve();
    from.on("data", (chunk) => {
      if (!delayed || delay === 0) return void into.write(chunk);
      tail = later(tail, performance.now() + delay, () => into.write(chunk));
    });
    from.on("end", () => into.end());
    from.on("error", () => into.destroy());
  }

  const server = createServer({ allowHalfOpen: true }, (near) => {
    made += 1;
    const far = connect({ port: to, host: "127.0.0.1", allowHalfOpen: true });
    const pair = { near, far };
    pairs.add(pair);
    carry(near, far, false);
    carry(far, near, true);
    near.on("close", () => {
      pairs.delete(pair);
      far.destroy();
    });
    if (stalled) for (const socket of [near, far]) socket.pause();
  });

  async function listen(): Promise<void> {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    ({ port } = server.address() as AddressInfo);
  }
  function cut(): void {
    for (const { near, far } of pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
  }
  function unlisten(): Promise<void> {
    return new Promise((resolve) => {
      server.close(() => resolve());
      cut();
    });
  }

  await listen();
  return {
    port,
    through(databaseUrl) {
      const url = new URL(databaseUrl);
      url.hostname = "127.0.0.1";
      url.port = String(port);
      return url.href;
    },
    open: () => pairs.size,
    made: () => made,
    cut,
    refuse: unlisten,
    stall() {
      stalled = true;
      for (const { near, far } of pairs) for (const socket of [near, far]) socket.pause();
    },
    halfOpen() {
      for (const { near, far } of pairs) {
        far.removeAllListeners("end").removeAllListeners("error");
        far.on("error", () => undefined);
        far.destroy();
        // Whatever is still said is swallowed.
        near.removeAllListeners("data").removeAllListeners("end").resume();
        near.on("end", () => near.destroy());
      }
    },
    slow(milliseconds) {
      delay = milliseconds;
    },
    toward(other) {
      to = other;
    },
    async mend() {
      delay = 0;
      stalled = false;
      for (const { near, far } of pairs) for (const socket of [near, far]) socket.resume();
      if (!server.listening) await listen();
    },
    async close() {
      if (server.listening) await unlisten();
    },
  };
}
