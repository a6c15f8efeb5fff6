// A PostgreSQL of the test's own, over TCP, whose superuser the test is: to be stopped, killed, filled up, copied into a
// standby and promoted. It is a real server of the embedded package, and ends with the test.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { chooseAccount, environment } from "../../src/embedded/account.ts";
import { findPrograms } from "../../src/embedded/cluster.ts";
import { endWithParent } from "../../src/embedded/guard.ts";
import { until } from "./until.ts";

export type Settings = Readonly<Record<string, string>>;
export type Row = Readonly<Record<string, unknown>>;

export type OwnPostgres = {
  readonly port: number;
  /** The superuser's, in the database `postgres`. */
  readonly url: string;
  readonly folder: string;
  pid(): number;
  /** As the superuser; each on a connection of its own. */
  sql(text: string, values?: readonly unknown[]): Promise<readonly Row[]>;
  /** An empty database that belongs to a role of its own, which is no superuser; its address is that role's. */
  createDatabase(name: string, tablespace?: string): Promise<string>;
  /** `fast` rolls back and flushes, `immediate` is a crash; resolves when it has ended. */
  stop(mode?: "fast" | "immediate"): Promise<void>;
  start(settings?: Settings): Promise<void>;
  /** A second server that follows this one. */
  standby(): Promise<OwnPostgres>;
  remove(): Promise<void>;
};

const quick: Settings = {
  fsync: "off",
  jit: "off",
  shared_buffers: "32MB",
  max_connections: "60",
  unix_socket_directories: "",
  listen_addresses: "127.0.0.1",
  log_min_error_statement: "panic",
  wal_keep_size: "128MB",
  max_wal_senders: "4",
};

export async function startOwnPostgres(settings: Settings = {}): Promise<OwnPostgres> {
  const account = await chooseAccount();
  const programs = await findPrograms();
  const folder = await newFolder(account.owner);
  const password = randomBytes(12).toString("hex");
  const passwordFile = join(folder, "password");
  await writeFile(passwordFile, password);
  if (account.owner) await chown(passwordFile, account.owner.uid, account.owner.gid);
  const [command, args] = account.command(programs.initdb, [
    `--pgdata=${join(folder, "data")}`,
    "--username=postgres",
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    "--no-instructions",
  ]);
  const made = spawnSync(command, args, { env: environment, cwd: "/" });
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr.toString()}`);
  return serve(folder, password, settings);
}

async function newFolder(owner: { readonly uid: number; readonly gid: number } | undefined): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "coffer-faults-"));
  if (owner) await chown(folder, owner.uid, owner.gid);
  return folder;
}

async function serve(folder: string, password: string, first: Settings): Promise<OwnPostgres> {
  const account = await chooseAccount();
  const { postgres } = await findPrograms();
  const data = join(folder, "data");
  const port = await freePort();
  const url = `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
  let child: ChildProcess;
  let dismiss = (): void => undefined;
  let kept = first;

  async function start(settings: Settings = {}): Promise<void> {
    kept = { ...kept, ...settings };
    const flags = Object.entries({ ...quick, port: String(port), ...kept });
    const [command, args] = account.command(postgres, [
      "-D",
      data,
      ...flags.flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ]);
    const log = await open(join(folder, "log"), "a");
    child = spawn(command, args, {
      env: environment,
      cwd: "/",
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    });
    await log.close();
    dismiss = endWithParent(child.pid ?? 0);
    // No event tells that a server takes connections: its own pid file says so.
    await until("PostgreSQL ready", async () => {
      if (await isReady()) return true;
      if (child.exitCode !== null)
        throw new Error(`PostgreSQL ended: ${await readFile(join(folder, "log"), "utf8")}`);
      return false;
    });
  }
  async function isReady(): Promise<boolean> {
    const lines = (await readFile(join(data, "postmaster.pid"), "utf8").catch(() => "")).split("\n");
    return lines[0] === String(child.pid) && /^(ready|standby)/.test(lines[7] ?? "");
  }
  async function stop(mode: "fast" | "immediate" = "fast"): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(mode === "fast" ? "SIGINT" : "SIGQUIT");
    await ended;
    dismiss();
  }
  async function sql(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    const client = new pg.Client({ connectionString: url });
    client.on("error", () => undefined);
    await client.connect();
    try {
      return (await client.query(text, [...values])).rows;
    } finally {
      await client.end();
    }
  }

  await start();
  return {
    port,
    url,
    folder,
    pid: () => child.pid ?? 0,
    sql,
    async createDatabase(name, tablespace = "") {
      await sql(`CREATE ROLE ${name} LOGIN PASSWORD '${password}'`);
      await sql(
        `CREATE DATABASE ${name} OWNER ${name}${tablespace === "" ? "" : ` TABLESPACE ${tablespace}`}`,
      );
      const own = new URL(url);
      own.username = name;
      own.pathname = `/${name}`;
      return own.href;
    },
    stop,
    start,
    async standby() {
      const other = await newFolder(account.owner);
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      try {
        await client.query("SELECT pg_backup_start('standby', true)");
        const copied = spawnSync("cp", ["-a", data, join(other, "data")]);
        if (copied.status !== 0) throw new Error(copied.stderr.toString());
        const { rows } = await client.query("SELECT labelfile FROM pg_backup_stop(false)");
        await rm(join(other, "data/postmaster.pid"), { force: true });
        await writeFile(join(other, "data/backup_label"), rows[0].labelfile);
        await writeFile(join(other, "data/standby.signal"), "");
        for (const name of ["backup_label", "standby.signal"])
          if (account.owner) await chown(join(other, "data", name), account.owner.uid, account.owner.gid);
      } finally {
        await client.end();
      }
      const conninfo = `host=127.0.0.1 port=${port} user=postgres password=${password} application_name=follower`;
      return serve(other, password, { ...kept, primary_conninfo: conninfo });
    },
    async remove() {
      await stop("immediate");
      await rm(folder, { recursive: true, force: true, maxRetries: 10 });
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** A small file system of its own, which can be full without anybody else's being; needs root, on Linux. */
export async function smallDisk(at: string, megabytes: number): Promise<() => void> {
  const { owner } = await chooseAccount();
  await mkdir(at);
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "coffer-faults", at]);
  if (mounted.status !== 0) throw new Error(`no small disk: ${mounted.stderr.toString()}`);
  if (owner) await chown(at, owner.uid, owner.gid);
  await chmod(at, 0o700);
  return () => void spawnSync("umount", ["--lazy", at]);
}
