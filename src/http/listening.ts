// Where the broker is reached. An event loop takes one new connection a turn from each socket that listens
// (https://github.com/libuv/libuv/pull/3696). While hundreds of connections ask without a pause a turn is long, and
// whoever is new waited as many turns as others had come before, seconds, if only to be told 503. So several sockets
// listen on the one port, and the kernel shares new connections out among them (SO_REUSEPORT, socket(7)).
import { once } from "node:events";
import { type Server, createServer } from "node:net";
import type { App } from "./app.ts";

/** Elsewhere Node refuses to share, or the last socket gets all there is. */
const SOCKETS = process.platform === "linux" ? 16 : 1;

export type Place = {
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
};

export type Listening = {
  readonly url: string;
  /** Takes no more connections, and closes the app. Resolves once all have ended, whichever socket took them. */
  readonly close: () => Promise<void>;
};

/** @throws Error when somebody listens there already, or nobody may */
export async function listen(app: App, { host, port }: Place, sockets = SOCKETS): Promise<Listening> {
  const reusePort = sockets > 1;
  // Another broker of the same user could share the port and take a part of what is meant for this one. It is to fail.
  if (reusePort) await ended(await opened(createServer(), { host, port, reusePort: false }));
  // Fastify hands on what its types do not name.
  const where = { host, port, reusePort };
  const url = await app.listen(where);
  const beside: Server[] = [];
  const close = async (): Promise<void> => {
    await Promise.all([...beside.map(ended), app.close()]);
  };
  try {
    for (const { address, port: bound } of app.addresses().filter((each) => typeof each === "object"))
      for (let count = 1; count < sockets; count++)
        beside.push(await opened(besideOf(app), { host: address, port: bound, reusePort }));
  } catch (error) {
    await close();
    throw error;
  }
  return { url, close };
}

/** Hands on what it takes; as it was taken by the app's own, but for who took it. */
function besideOf({ server }: App): Server {
  return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => server.emit("connection", socket));
}

async function opened(server: Server, where: Place & { readonly reusePort: boolean }): Promise<Server> {
  server.listen(where);
  await once(server, "listening");
  return server;
}

function ended(server: Server): Promise<void> {
  return new Promise((done) => server.close(() => done()));
}
