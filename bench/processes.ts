// The processes that are measured or do the measuring: brokers as users start them, a bare Fastify, the load. Each
// runs by itself; processor time is what the kernel accounts to it, which other work on the machine hardly moves.
import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { BareAnswer } from "./bare.ts";
import type { Fired, Round } from "./load.ts";

export type Started = {
  readonly url: string;
  readonly pid: number;
  readonly readyMs: number;
  stop(): Promise<void>;
};

const root = join(import.meta.dirname, "..");

/** `coffer serve` on a free port; ready when it says so. */
export function startBroker(home: string, environment: Record<string, string> = {}): Promise<Started> {
  const own = {
    COFFER_HOME: home,
    COFFER_PORT: "0",
    COFFER_RATE_LIMIT: "1000000",
    COFFER_LOOP_DELAY_MAX_MS: "0",
    ...environment,
  };
  return start(
    [
      ...(process.env["BENCH_NODE"] ?? "").split(" ").filter((flag) => flag !== ""),
      join(root, "src/cli.ts"),
      "serve",
    ],
    own,
  );
}

export function startBare(answers: Record<string, BareAnswer>): Promise<Started> {
  return start([join(root, "bench/bare.ts")], { BENCH_ANSWERS: JSON.stringify(answers) });
}

async function start(args: readonly string[], environment: Record<string, string>): Promise<Started> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !name.startsWith("COFFER_") && name !== "DATABASE_URL",
  );
  const startedAt = performance.now();
  const child = spawn(process.execPath, args, {
    env: { ...Object.fromEntries(inherited), ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await addressOf(child);
  return {
    url,
    pid: child.pid ?? 0,
    readyMs: performance.now() - startedAt,
    async stop() {
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      await gone;
    },
  };
}

/** The first line of its log that names an address. Reading goes on, so that its output never stops it. */
async function addressOf(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("the process has no output");
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    const address = /"address":"([^"]+)"/.exec(line)?.[1];
    if (address === undefined) return;
    lines.close();
    child.stdout?.resume();
    resolve(address);
  });
  child.once("exit", (code) => reject(new Error(`it ended with ${code} before it was ready`)));
  return promise;
}

export type Load = { fire(round: Round): Promise<Fired>; stop(): void };

export function startLoad(): Load {
  const child = fork(join(root, "bench/load.ts"));
  return {
    async fire(round) {
      child.send(round);
      const [answer] = (await once(child, "message")) as [{ fired?: Fired; error?: string }];
      if (answer.fired === undefined) throw new Error(answer.error);
      return answer.fired;
    },
    stop: () => void child.kill("SIGTERM"),
  };
}

/** Microseconds of processor time that a process, or it with its children, has had so far. Linux only. */
export async function cpuOf(pid: number, withChildren = false): Promise<number> {
  const pids = withChildren ? [pid, ...(await childrenOf(pid))] : [pid];
  const each = await Promise.all(pids.map(nanosecondsOf));
  return each.reduce((sum, one) => sum + one, 0) / 1_000;
}

/** Of all its threads. */
async function nanosecondsOf(pid: number): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const texts = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/schedstat`, "utf8").catch(() => "0")),
  );
  return texts.reduce((sum, text) => sum + Number(text.split(" ")[0]), 0);
}

async function childrenOf(pid: number): Promise<number[]> {
  const all = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = await Promise.all(all.map(parentOf));
  return all.filter((_, index) => parents[index] === pid);
}

async function parentOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/PPid:\s+(\d+)/.exec(status)?.[1]);
}

/** Linux's VmRSS. */
export async function residentBytesOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024;
}
