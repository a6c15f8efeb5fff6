// A broker as an operator runs it: a process of its own with a home of its own, whose whole output is kept. It may be
// stopped, or killed with all that it started, which is what a power cut looks like to the next start.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startOf } from "../../src/embedded/lock.ts";
import { type Api, client } from "./broker.ts";
import { inTime, until } from "./until.ts";

const cli = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));

export type Environment = Readonly<Record<string, string>>;
export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** What of the tests' own environment a broker may see: nothing that would configure it. */
const inherited = {
  ...Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(COFFER_|DATABASE_URL|NODE_OPTIONS|VITEST|PG)/.test(name),
    ),
  ),
  // Tests run under other flags of V8's than brokers: each would compile anew, and write down, what the other left.
  NODE_COMPILE_CACHE: fileURLToPath(new URL("../../node_modules/.cache/brokers", import.meta.url)),
};

const living = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

function start(args: readonly string[], environment: Environment, flags: readonly string[] = []) {
  // Detached: its own process group, as under a supervisor.
  const child = spawn(process.execPath, [...flags, cli, ...args], {
    env: { ...inherited, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  // Should a test not come to its end, its broker does, and takes its PostgreSQL along.
  living.add(child);
  child.once("exit", () => living.delete(child));
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].on("data", (chunk) => (output[name] += chunk));
  const ended = once(child, "close").then(([code]): Ended => ({ code, ...output }));
  return { child, output, ended };
}

/** Resolves once a process has said this; rejects when it ends before it does. */
function said({ child, output, ended }: ReturnType<typeof start>, text: string): Promise<void> {
  const all = (): string => output.stdout + output.stderr;
  const heard = new Promise<void>((resolve, reject) => {
    const streams = [child.stdout, child.stderr];
    const look = (): void => {
      if (!all().includes(text)) return;
      // Under load a broker says megabytes: to put all of it together for each piece takes longer than the load.
      for (const stream of streams) stream.off("data", look);
      resolve();
    };
    for (const stream of streams) stream.on("data", look);
    void ended.then(({ code }) => reject(new Error(`coffer ended (${code}): ${all()}`)));
    look();
  });
  return inTime(() => `“${text}”, of a process that said: ${all()}`, heard);
}

/** Runs `coffer …` to its end. */
export async function coffer(args: readonly string[], environment: Environment = {}): Promise<Ended> {
  return start(args, environment).ended;
}

/** Starts `coffer …`, to be killed before it ends. */
export function spawnCoffer(
  args: readonly string[],
  environment: Environment = {},
): { readonly ended: Promise<Ended>; said(text: string): Promise<void>; kill(): Promise<Ended> } {
  const started = start(args, environment);
  const { child, ended } = started;
  return {
    ended,
    said: (text) => said(started, text),
    kill: () => {
      child.kill("SIGKILL");
      return ended;
    },
  };
}

export type BrokerProcess = {
  readonly url: string;
  readonly home: string;
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  as(token: string): Api;
  /** What is in `admin.token`. */
  admin(): Promise<Api>;
  /** All that it said so far. */
  output(): string;
  /** Resolves once it has said this. */
  said(text: string): Promise<void>;
  stop(): Promise<Ended>;
  /** `kill -9` of it and of all that it started, its PostgreSQL included. */
  killAll(): Promise<void>;
};

/** Starts `coffer serve` on a free port. @throws Error with what it said, when it ends before it is ready */
export async function spawnBroker(
  home: string,
  environment: Environment = {},
  /** Node's own, before the file it runs. */
  flags: readonly string[] = [],
): Promise<BrokerProcess> {
  // A busy machine stops a process for a second now and then; that is not what most tests are about.
  const own = { COFFER_HOME: home, COFFER_PORT: "0", COFFER_LOOP_DELAY_MAX_MS: "0" };
  const started = start(["serve"], { ...own, ...environment }, flags);
  const { child, output, ended } = started;
  await said(started, '"coffer is ready"');
  const [, url = ""] = /"address":"([^"]+)"/.exec(output.stdout) ?? [];
  return {
    url,
    home,
    child,
    ended,
    as: (token) => client(url, token),
    admin: async () => client(url, await readFile(join(home, "admin.token"), "utf8")),
    output: () => output.stdout + output.stderr,
    said: (text) => said(started, text),
    stop: () => {
      child.kill("SIGTERM");
      return ended;
    },
    killAll: async () => {
      const doomed = familyOf(child.pid ?? 0);
      for (const pid of doomed) killNow(pid);
      await ended;
      for (const pid of doomed) await gone(pid);
    },
  };
}

export async function newHome() {
  const path = await mkdtemp(join(tmpdir(), "coffer-chaos-"));
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 10 }) };
}

/** A process and all that descend from it. */
function familyOf(root: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const fields = readFileSync(`/proc/${name}/stat`, "latin1")
        .replace(/^.*\) /s, "")
        .split(" ");
      parents.set(Number(name), Number(fields[1]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const family = [root];
  for (const member of family) for (const [pid, parent] of parents) if (parent === member) family.push(pid);
  return family;
}

function killNow(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}

/** No event tells of the end of somebody else's process. */
export async function gone(pid: number): Promise<void> {
  await until(`the end of process ${pid}`, () => startOf(pid) === undefined);
}

/** The pid of a home's PostgreSQL. */
export async function postgresOf(home: string): Promise<number> {
  return Number((await readFile(join(home, "postgres/data/postmaster.pid"), "utf8")).split("\n")[0]);
}
