import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startOf } from "../../src/embedded/lock.ts";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { fill, query, serverPid } from "./kit.ts";

const brokerScript = fileURLToPath(new URL("broker.ts", import.meta.url));
let home: string;
let brokers: ChildProcess[];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "coffer-embedded-"));
  brokers = [];
});

afterEach(async () => {
  for (const broker of brokers) broker.kill("SIGKILL");
  const server = await serverPid(home).catch(() => 0);
  if (server > 0) await gone(server);
  await rm(home, { recursive: true, force: true });
});

/** A process of its own that starts the server and holds it, as a broker does. */
async function startBroker(): Promise<{ process: ChildProcess; url: string; pid: number }> {
  const child = spawn(process.execPath, [brokerScript, home], { stdio: ["ignore", "pipe", "ignore"] });
  brokers.push(child);
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (chunk) => resolve(String(chunk)));
    child.once("exit", (code) => reject(new Error(`the broker ended (${code})`)));
  });
  return { process: child, ...JSON.parse(line) };
}

/** No event tells of the end of somebody else's process. */
async function gone(pid: number): Promise<void> {
  await expect.poll(() => startOf(pid), { timeout: 20_000, interval: 20 }).toBeUndefined();
}

async function kill(child: ChildProcess): Promise<void> {
  expect(child.exitCode).toBeNull();
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

/** The shells that would shut the server down when the broker is gone. */
async function guardsOf(server: number): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    const commandLine = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (commandLine.endsWith(`coffer-postgres-guard\0${server}\0`)) found.push(Number(name));
  }
  return found;
}

async function expectKept(): Promise<void> {
  const server = await startEmbeddedPostgres({ home });
  try {
    expect(await query(server.url, "SELECT id FROM kept")).toEqual([{ id: 7 }]);
  } finally {
    await server.stop();
  }
}

describe("a home", () => {
  test("keeps its data over stop and start, and its server is gone after stop", async () => {
    const server = await startEmbeddedPostgres({ home });
    await fill(server.url);
    await Promise.all([server.stop(), server.stop()]);
    expect(startOf(server.pid)).toBeUndefined();
    await expectKept();
  });

  test("and everything in it is closed to other users", async () => {
    const server = await startEmbeddedPostgres({ home });
    try {
      expect((await stat(home)).mode & 0o777).toBe(0o700);
      for (const name of await readdir(home)) {
        expect((await stat(join(home, name))).mode & 0o077).toBe(0);
      }
    } finally {
      await server.stop();
    }
  });

  test("that others may enter is refused, and not changed, when it is not empty", async () => {
    const open = join(home, "open");
    await mkdir(open, { mode: 0o755 });
    await writeFile(join(open, "something"), "");
    await expect(startEmbeddedPostgres({ home: open })).rejects.toThrow("is open to other users");
    expect((await stat(open)).mode & 0o777).toBe(0o755);
  });

  test("with a path too long for a socket is served over the loopback, with the password", async () => {
    const long = join(home, "x".repeat(90));
    const server = await startEmbeddedPostgres({ home: long });
    try {
      expect(new URL(server.url).hostname).toBe("127.0.0.1");
      expect(await query(server.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
      const stranger = new URL(server.url);
      stranger.password = "guess";
      await expect(query(stranger.href, "SELECT 1")).rejects.toThrow("password authentication failed");
      stranger.username = "postgres";
      await expect(query(stranger.href, "SELECT 1")).rejects.toThrow("no pg_hba.conf entry");
    } finally {
      await server.stop();
    }
  });

  test("is given to one broker: a second start says who has it, and harms nothing", async () => {
    const broker = await startBroker();
    await fill(broker.url);
    await expect(startEmbeddedPostgres({ home })).rejects.toThrow(
      `already running there, pid ${broker.process.pid}`,
    );
    expect(await query(broker.url, "SELECT id FROM kept")).toEqual([{ id: 7 }]);
  });

  test("is given to exactly one of many brokers that start at once", async () => {
    const starts = await Promise.allSettled(Array.from({ length: 4 }, () => startBroker()));
    expect(starts.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });
});

describe("a broker's death", () => {
  test("by kill -9 alone ends the server, and loses nothing", async () => {
    const broker = await startBroker();
    await fill(broker.url);
    await kill(broker.process);
    await gone(broker.pid);
    await expectKept();
  });

  test("together with the guard leaves a server that the next start ends and replaces", async () => {
    const broker = await startBroker();
    await fill(broker.url);
    const guards = await guardsOf(broker.pid);
    expect(guards).toHaveLength(1);
    for (const guard of guards) process.kill(guard, "SIGKILL");
    await Promise.all(guards.map(gone));
    await kill(broker.process);
    expect(startOf(broker.pid)).toBeDefined();
    await expectKept();
    expect(startOf(broker.pid)).toBeUndefined();
  });

  test("with all its processes at once leaves stale files that the next start recovers from", async () => {
    const broker = await startBroker();
    await fill(broker.url);
    for (const guard of await guardsOf(broker.pid)) process.kill(guard, "SIGKILL");
    process.kill(broker.pid, "SIGKILL");
    await kill(broker.process);
    await gone(broker.pid);
    expect(await serverPid(home)).toBe(broker.pid);
    await expectKept();
    // Killed backends may hold the old memory for a while; the start waits for them.
  }, 90_000);

  test("by SIGINT to itself reaches the server only through the broker", async () => {
    const broker = await startBroker();
    const exit = once(broker.process, "exit");
    broker.process.kill("SIGINT");
    expect(await exit).toEqual([0, null]);
    expect(startOf(broker.pid)).toBeUndefined();
  });

  test("in the middle of the very first start leaves a home that the next start completes", async () => {
    for (const delayMs of [10, 200, 400]) {
      const child = spawn(process.execPath, [brokerScript, home], { stdio: ["ignore", "ignore", "inherit"] });
      brokers.push(child);
      const scraps = async () =>
        (await readdir(join(home, "postgres")).catch(() => [])).filter((it) => it !== "data");
      await expect.poll(scraps, { interval: 5, timeout: 10_000 }).toHaveLength(1);
      await pause(delayMs);
      await kill(child);
    }
    const server = await startEmbeddedPostgres({ home });
    await fill(server.url);
    await server.stop();
    expect(await readdir(join(home, "postgres"))).toEqual(["data"]);
    await expectKept();
  });
});

describe("stale files", () => {
  test("that name a living stranger's pid do not keep the server from starting, and the stranger lives", async () => {
    const first = await startEmbeddedPostgres({ home });
    await fill(first.url);
    const pidFile = join(home, "postgres/data/postmaster.pid");
    const content = await readFile(pidFile, "utf8");
    await first.stop();
    const stranger = spawn("sleep", ["60"], { stdio: "ignore" });
    await once(stranger, "spawn");
    await writeFile(pidFile, content.replace(/^\d+/, String(stranger.pid)));
    await writeFile(join(home, "broker.pid"), `${stranger.pid} 1\n`);
    await expectKept();
    expect(stranger.exitCode).toBeNull();
    stranger.kill();
  });

  test("that name a process which is dead and not reaped are waited for, however often the server ends at once", async () => {
    const server = await startEmbeddedPostgres({ home });
    await server.stop();
    // Its child ends, and it never asks how: PostgreSQL takes the dead one for alive.
    const { uid, gid } = await stat(join(home, "postgres/data"));
    const parent = spawn("/bin/sh", ["-c", "sleep 0.01 & echo $!; exec sleep 60"], {
      stdio: ["ignore", "pipe", "ignore"],
      cwd: "/",
      // One of somebody else's it would not.
      ...(process.getuid?.() === 0 ? { uid, gid } : {}),
    });
    const [said] = (await once(parent.stdout, "data")) as [Buffer];
    const dead = Number(String(said).trim());
    await gone(dead);
    const line = (text: string): string => `${text}\n`;
    const data = join(home, "postgres/data");
    await writeFile(join(data, "postmaster.pid"), [dead, data, 1, 5432].map(String).map(line).join(""));
    const starting = startEmbeddedPostgres({ home });
    const refusals = async (): Promise<number> =>
      (await readFile(join(home, "postgres.log"), "utf8")).split("already exists").length - 1;
    await expect.poll(refusals, { timeout: 20_000, interval: 20 }).toBeGreaterThanOrEqual(8);
    parent.kill("SIGKILL");
    await once(parent, "exit");
    const again = await starting;
    expect(await query(again.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    await again.stop();
  });

  test("do not matter when the password's is lost: the next start makes another", async () => {
    const first = await startEmbeddedPostgres({ home });
    await fill(first.url);
    await first.stop();
    await rm(join(home, "postgres.password"));
    await expectKept();
  });
});

test("the log never holds what a statement said, whatever goes wrong", async () => {
  const server = await startEmbeddedPostgres({ home });
  const canary = "canary-5e1f";
  await query(server.url, "CREATE TABLE u (v text PRIMARY KEY CHECK (v <> 'no'))");
  await query(server.url, `INSERT INTO u VALUES ('${canary}')`);
  await expect(query(server.url, `INSERT INTO u VALUES ('${canary}')`)).rejects.toThrow("duplicate key");
  await expect(query(server.url, `SELECT '${canary}'::int`)).rejects.toThrow("invalid input syntax");
  await expect(query(server.url, `SELEC '${canary}'`)).rejects.toThrow("syntax error");
  await expect(query(server.url, `DO $$ BEGIN RAISE LOG '%', '${canary}'; END $$`)).resolves.toEqual([]);
  await server.stop();
  expect(await readFile(join(home, "postgres.log"), "utf8")).not.toContain(canary);
});
