// No server is left behind: one whose broker was killed is shut down at once by a guard, and should the guard have
// been killed as well, by the next start. A process is ended only when it is known to serve this very data folder.
import { spawn, spawnSync } from "node:child_process";
import { readFile, readlink, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { environment } from "./account.ts";
import { startOf } from "./lock.ts";

/** What is worth telling the operator; pino's loggers fit. */
export type Logger = { info(message: string): void; error(message: string): void };

const fastTimeoutMs = 20_000;
const killTimeoutMs = 5_000;

/**
 * A shell that waits on a pipe from this process and interrupts `pid` (negative: that process group) when the pipe
 * breaks, that is when this process has died without saying so; PostgreSQL shuts down then. The answer dismisses it.
 */
export function endWithParent(pid: number): () => void {
  const script = 'if read -r _; then exit 0; fi; kill -INT "$1"';
  const guard = spawn("/bin/sh", ["-c", script, "coffer-postgres-guard", String(pid)], {
    env: environment,
    detached: true,
    cwd: "/",
    stdio: ["pipe", "ignore", "ignore"],
  });
  // Without a shell the server outlives a killed broker until the next start, which ends it.
  guard.on("error", () => undefined);
  guard.stdin.on("error", () => undefined);
  guard.unref();
  if ("unref" in guard.stdin && typeof guard.stdin.unref === "function") guard.stdin.unref();
  return () => void guard.stdin.end("done\n");
}

/** Ends the server that a killed broker left behind. A stale pid file is removed only when its pid is another's. */
export async function endOrphan(data: string, logger: Logger | undefined): Promise<void> {
  const pidFile = join(data, "postmaster.pid");
  const pid = Number((await readFile(pidFile, "utf8").catch(() => "")).split("\n")[0]);
  const start = startOf(pid);
  if (start === undefined) return;
  if (!(await servesFrom(pid, data))) {
    // PostgreSQL would take the stranger for itself. That no other process of its own uses the data is checked by
    // its shared memory, which does not depend on this file.
    await rm(pidFile, { force: true });
    return;
  }
  const signals = [
    ["SIGINT", fastTimeoutMs],
    ["SIGQUIT", fastTimeoutMs],
    ["SIGKILL", killTimeoutMs],
  ] as const;
  logger?.info(`ending the PostgreSQL that an earlier broker left running, pid ${pid}`);
  for (const [signal, timeoutMs] of signals) {
    if (startOf(pid) === start) process.kill(pid, signal);
    for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await pause(20)) {
      if (startOf(pid) !== start) return;
    }
  }
}

/** A PostgreSQL server has its data folder as working directory and on its command line. */
async function servesFrom(pid: number, data: string): Promise<boolean> {
  if (process.platform === "linux") {
    return (await readlink(`/proc/${pid}/cwd`).catch(() => "")) === (await realpath(data));
  }
  return spawnSync("ps", ["-o", "args=", "-p", String(pid)], { encoding: "utf8" }).stdout.includes(data);
}
