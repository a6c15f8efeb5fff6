// The processes that are measured: a broker as users start it, and a bare Fastify that answers fixed bytes.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

export type Started = {
  readonly url: string;
  readonly readyMs: number;
  residentBytes(): Promise<number>;
  stop(): Promise<void>;
};

const root = join(import.meta.dirname, "..");

/** `coffer serve` on a free port; ready when it says so. */
export function startBroker(home: string): Promise<Started> {
  const environment = { COFFER_HOME: home, COFFER_PORT: "0", COFFER_RATE_LIMIT: "1000000" };
  return start([join(root, "src/cli.ts"), "serve"], environment);
}

export function startBare(body: string): Promise<Started> {
  return start([join(root, "bench/bare.ts")], { BENCH_BODY: body });
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
    readyMs: performance.now() - startedAt,
    residentBytes: () => residentBytesOf(child.pid ?? 0),
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
  createInterface({ input: child.stdout }).on("line", (line) => {
    const address = /"address":"([^"]+)"/.exec(line)?.[1];
    if (address !== undefined) resolve(address);
  });
  child.once("exit", (code) => reject(new Error(`it ended with ${code} before it was ready`)));
  return promise;
}

/** Linux's VmRSS; elsewhere there is no portable figure for another process. */
async function residentBytesOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024;
}
