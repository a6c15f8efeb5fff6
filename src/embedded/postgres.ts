// The embedded PostgreSQL: a real server, private to one home, for a start without DATABASE_URL.
// It starts by itself after any crash, ends with the broker even when that is killed, lets no other local user in,
// and never writes a statement, a parameter or a value to its log. Two brokers never share a home.
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, copyFile, mkdir, open, readFile, readdir, stat, truncate } from "node:fs/promises";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Account, chooseAccount, environment } from "./account.ts";
import { type Programs, database, findPrograms, prepareCluster, role } from "./cluster.ts";
import { type Logger, endOrphan, endWithParent } from "./guard.ts";
import { type Running, keepRunning } from "./keep-running.ts";
import { holdHome } from "./lock.ts";

type Options = {
  readonly home: string;
  readonly logger?: Logger | undefined;
  /** PostgreSQL's own settings, for tests; those that guard secrets cannot be changed. */
  readonly settings?: Readonly<Record<string, string>>;
};

/**
 * A running server; `stop` may be called more than once, and ends when the server has. One that ends by itself is started
 * again where it was, under another `pid`.
 */
export type EmbeddedPostgres = { readonly url: string; readonly pid: number; stop(): Promise<void> };

const socketPathBytesMax = 100;
const logBytesMax = 4 * 1024 * 1024;
const logCheckIntervalMs = 60_000;
const startTimeoutMs = 300_000;
const stopTimeoutMs = 20_000;
const lingeringTimeoutMs = 15_000;

const defaults = {
  max_connections: "100",
  shared_buffers: "128MB",
  // PostgreSQL's own, said so: initdb makes them smaller along with the pieces of the log (cluster.ts), and checkpoints
  // would come by the dozen under load.
  max_wal_size: "1GB",
  min_wal_size: "80MB",
  jit: "off",
  timezone: "UTC",
  log_timezone: "UTC",
  unix_socket_permissions: "0700",
};

/** An error's text, its detail and its statement can all hold a value: none of them is logged. */
const silence = {
  log_min_messages: "log",
  log_min_error_statement: "panic",
  log_error_verbosity: "terse",
  log_statement: "none",
  log_min_duration_statement: "-1",
  log_min_duration_sample: "-1",
  log_parameter_max_length: "0",
  log_parameter_max_length_on_error: "0",
  log_checkpoints: "off",
  log_destination: "stderr",
  logging_collector: "off",
};

/** Starts the server of `home`, creating it the first time; fails when another broker lives there. */
export async function startEmbeddedPostgres(options: Options): Promise<EmbeddedPostgres> {
  const home = resolve(options.home);
  await prepareHome(home);
  const release = await holdHome(home);
  try {
    const account = await chooseAccount();
    const programs = await findPrograms();
    await endOrphan(join(home, "postgres/data"), options.logger);
    const password = await prepareCluster(home, account, programs);
    const first = await launch(home, account, programs, options);
    const kept = keepRunning(
      first,
      () => launch(home, account, programs, options, first.address),
      options.logger,
    );
    const stop = async () => {
      await kept.stop();
      await release();
    };
    let stopping: Promise<void> | undefined;
    const url = `postgresql://${role}:${password}@${first.address.of(database)}`;
    return { url, pid: first.pid, stop: () => (stopping ??= stop()) };
  } catch (error) {
    await release();
    throw error;
  }
}

/** A home that others may enter is refused rather than changed: it may be somebody's whole folder. */
async function prepareHome(home: string): Promise<void> {
  await mkdir(home, { recursive: true, mode: 0o700 });
  const { mode } = await stat(home);
  if ((mode & 0o077) === 0) return;
  if ((await readdir(home)).length > 0) {
    throw new Error(`${home} is open to other users (mode ${(mode & 0o777).toString(8)}): chmod 700 it`);
  }
  await chmod(home, 0o700);
}

/** Where a server listens, and what a URL has of that. */
type Address = { readonly listen: Readonly<Record<string, string>>; of(database: string): string };
type Server = Running & { readonly pid: number; readonly address: Address };

/** @param where none: where there is room */
async function launch(
  home: string,
  account: Account,
  programs: Programs,
  options: Options,
  where?: Address,
): Promise<Server> {
  const log = join(home, "postgres.log");
  await keepShort(log);
  const deadline = Date.now() + lingeringTimeoutMs;
  for (;;) {
    const logStart = await stat(log).then(
      ({ size }) => size,
      () => 0,
    );
    const address = where ?? (await chooseAddress(join(home, "postgres")));
    const spawned = await spawnServer(home, account, programs, {
      ...defaults,
      ...options.settings,
      ...address.listen,
      ...silence,
    });
    if (await isReady(spawned, join(home, "postgres/data")))
      return watch(spawned, address, log, options.logger);
    const said = (await readFile(log, "utf8")).slice(logStart).trim();
    // Processes of a server killed before may linger; a port may have been taken since it was chosen.
    const passes = /still in use|could not bind|already exists/.test(said);
    if (!passes || Date.now() > deadline) {
      throw new Error(
        `the embedded PostgreSQL did not start (log: ${log}): ${said.split("\n").slice(-4).join(" ")}`,
      );
    }
    await pause(100);
  }
}

/** `ended` resolves when the process has, or never was: with why, where its exit does not say so. */
type Spawned = { readonly child: ChildProcess; readonly ended: Promise<Error | undefined> };

async function spawnServer(
  home: string,
  account: Account,
  programs: Programs,
  settings: Readonly<Record<string, string>>,
): Promise<Spawned> {
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const [command, args] = account.command(programs.postgres, ["-D", join(home, "postgres/data"), ...flags]);
  const log = await open(join(home, "postgres.log"), "a", 0o600);
  try {
    // Detached: the terminal's Ctrl-C is the broker's to handle; it stops the server when it has finished.
    const stdio = ["ignore", log.fd, log.fd] as const;
    const child = spawn(command, args, { env: environment, detached: true, cwd: "/", stdio: [...stdio] });
    // Before anything is awaited: one that ends at once would have ended unheard.
    const ended = new Promise<Error | undefined>((settle) => {
      child.once("error", settle);
      child.once("exit", () => settle(undefined));
    });
    return { child, ended };
  } finally {
    await log.close();
  }
}

/** A socket inside the home when its path fits the kernel's limit, else TCP on the loopback. */
async function chooseAddress(folder: string): Promise<Address> {
  if (Buffer.byteLength(join(folder, ".s.PGSQL.5432.lock")) < socketPathBytesMax && !folder.includes(",")) {
    const host = encodeURIComponent(folder);
    return {
      listen: {
        unix_socket_directories: `"${folder.replaceAll('"', '""')}"`,
        listen_addresses: "",
        port: "5432",
      },
      of: (name) => `localhost:5432/${name}?host=${host}`,
    };
  }
  const port = await freePort();
  return {
    listen: { unix_socket_directories: "", listen_addresses: "127.0.0.1", port: String(port) },
    of: (name) => `127.0.0.1:${port}/${name}`,
  };
}

function freePort(): Promise<number> {
  return new Promise((settle, reject) => {
    const probe = createServer().on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => settle(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** True once the server says so in its own pid file; false when it ended instead. */
async function isReady({ child, ended }: Spawned, data: string): Promise<boolean> {
  let over = false;
  void ended.then(() => (over = true));
  for (const deadline = Date.now() + startTimeoutMs; Date.now() < deadline; await pause(10)) {
    if (over) {
      const error = await ended;
      if (error) throw error;
      return false;
    }
    const lines = (await readFile(join(data, "postmaster.pid"), "utf8").catch(() => "")).split("\n");
    if (lines[0] === String(child.pid) && lines[7]?.startsWith("ready")) return true;
  }
  child.kill("SIGQUIT");
  throw new Error(`the embedded PostgreSQL was not ready after ${startTimeoutMs / 1000} s`);
}

function watch(
  { child, ended: over }: Spawned,
  address: Address,
  log: string,
  logger: Logger | undefined,
): Server {
  const pid = child.pid ?? 0;
  const release = endWithParent(pid);
  const trimming = setInterval(() => void keepShort(log), logCheckIntervalMs).unref();
  let expected = false;
  const ended = (async (): Promise<void> => {
    await over;
    release();
    clearInterval(trimming);
    const how = String(child.exitCode ?? child.signalCode);
    if (!expected) logger?.error(`the embedded PostgreSQL ended by itself (${how}), see ${log}`);
  })();
  const stop = async () => {
    expected = true;
    child.kill("SIGINT"); // Its "fast" shutdown: open transactions are rolled back, everything is flushed.
    const impatience = setTimeout(() => child.kill("SIGQUIT"), stopTimeoutMs);
    await ended;
    clearTimeout(impatience);
  };
  child.unref();
  return { pid, address, ended, stop };
}

/** Keeps the log and one predecessor; it is appended to, so it can be cut while the server writes. */
async function keepShort(log: string): Promise<void> {
  const size = await stat(log).then(
    (found) => found.size,
    () => 0,
  );
  if (size <= logBytesMax) return;
  await copyFile(log, `${log}.1`);
  await truncate(log);
}
