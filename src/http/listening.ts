// Where the broker is reached. An event loop takes one new connection a turn from each socket that listens
// (https://github.com/libuv/libuv/pull/3696). While hundreds of connections ask without a pause a turn is long, and
// whoever is new waited as many turns as others had come before, seconds, if only to be told 503. So several sockets
// listen on the one port, and the kernel shares new connections out among them (SO_REUSEPORT, socket(7)).
import dns from "node:dns/promises";
import { once } from "node:events";
import { type Server, createServer } from "node:net";
import type { App } from "./app.ts";

/** For each address. Linux shares connections out by a hash of their addresses; macOS and Windows refuse to share. */
const SOCKETS = process.platform === "linux" ? 16 : 1;

export type Place = {
  readonly host: string;
  /** 0: one that is free at the host's first address. */
  readonly port: number;
};

export type Listening = {
  readonly url: string;
  /** Takes no more connections, and closes the app. Resolves once all have ended, whichever socket took them. */
  readonly close: () => Promise<void>;
};

/**
 * The app is to be closed by what comes back, not beside it.
 * @throws Error when somebody listens there already, or nobody may
 */
export async function listen(app: App, place: Place, sockets = SOCKETS): Promise<Listening> {
  const [first, ...others] = await freeAddresses(place);
  // Fastify hands on what its types do not name.
  const shared = { host: first, port: place.port, reusePort: sockets > 1 };
  const url = await app.listen(shared);
  const { port } = app.server.address() as { readonly port: number };
  const beside: Server[] = [];
  const close = async (): Promise<void> => {
    await Promise.all([...beside.map(ended), app.close()]);
  };
  // A port that was chosen was not tried there.
  const untried = place.port === port ? [] : others;
  const more = [...Array(sockets - 1).fill(first), ...others.flatMap((host) => Array(sockets).fill(host))];
  try {
    for (const host of untried) await ended(await opened(createServer(), { host, port }));
    for (const host of more) beside.push(await opened(besideOf(app), { ...shared, host, port }));
  } catch (error) {
    await close();
    throw error;
  }
  return { url, close };
}

/**
 * The host's address, or those of `localhost` that this machine has. Each is listened on alone for a moment: another
 * broker of the same user would share the port, and take a part of what is meant for this one. It is to fail.
 */
async function freeAddresses({ host, port }: Place): Promise<readonly [string, ...string[]]> {
  const found = await dns.lookup(host, { all: true });
  const wanted = host === "localhost" ? found : found.slice(0, 1);
  const free: string[] = [];
  let foreign = new Error(`There is no address of ${host}.`);
  for (const { address } of wanted)
    try {
      await ended(await opened(createServer(), { host: address, port }));
      free.push(address);
    } catch (error) {
      // A machine may have a name for ::1, and no IPv6.
      if (!isForeign(error)) throw error;
      foreign = error;
    }
  const [first, ...others] = free;
  if (first === undefined) throw foreign;
  return [first, ...others];
}

const isForeign = (error: unknown): error is Error =>
  error instanceof Error &&
  "code" in error &&
  (error.code === "EADDRNOTAVAIL" || error.code === "EAFNOSUPPORT");

/** Takes connections as the app's own server would, and hands them to it. */
function besideOf({ server }: App): Server {
  return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => server.emit("connection", socket));
}

async function opened(server: Server, where: Place & { readonly reusePort?: boolean }): Promise<Server> {
  server.listen(where);
  await once(server, "listening");
  return server;
}

function ended(server: Server): Promise<void> {
  return new Promise((done) => server.close(() => done()));
}
