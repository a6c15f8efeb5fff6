// One broker per home. The lock is a file with the holder's pid and the moment that process started, so that a pid
// used again after a crash or a reboot is not taken for the holder. Must never be held by a dead process, and never
// exist without its content: it is written aside and linked into place.
import { spawnSync } from "node:child_process";
import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Takes the home for this process; the answer gives it back. Fails when a living process holds it. */
export async function holdHome(home: string): Promise<() => Promise<void>> {
  const lock = join(home, "broker.pid");
  const mine = `${process.pid} ${startOf(process.pid) ?? ""}\n`;
  const aside = `${lock}.${process.pid}`;
  for (;;) {
    await writeFile(aside, mine, { mode: 0o600 });
    try {
      await link(aside, lock);
      return () => release(lock, mine);
    } catch (error) {
      if (!isCode(error, "EEXIST")) throw error;
    } finally {
      await rm(aside, { force: true });
    }
    const theirs = await readFile(lock, "utf8").catch(() => undefined);
    if (theirs === undefined) continue; // It has just been released.
    const [pid = "", start = ""] = theirs.trim().split(/ (.*)/s);
    if (startOf(Number(pid)) === start) {
      throw new Error(`${home} is in use: a broker is already running there, pid ${pid}`);
    }
    await takeAway(lock, aside, theirs);
  }
}

/** Removes a dead holder's lock, and only that: of two that found it, the second may meet the first's new one. */
async function takeAway(lock: string, aside: string, dead: string): Promise<void> {
  try {
    await rename(lock, aside);
    if ((await readFile(aside, "utf8")) !== dead) await link(aside, lock);
  } catch (error) {
    if (!isCode(error, "ENOENT") && !isCode(error, "EEXIST")) throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

async function release(lock: string, mine: string): Promise<void> {
  const content = await readFile(lock, "utf8").catch(() => "");
  if (content === mine) await rm(lock, { force: true });
}

/** When the process started, in the system's own words; undefined when it does not run (any more). */
export function startOf(pid: number): string | undefined {
  if (!Number.isSafeInteger(pid) || pid < 1) return undefined;
  if (process.platform === "linux") {
    try {
      // The second field is the program's name in parentheses, which may hold spaces and parentheses itself.
      const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
        .replace(/^.*\) /s, "")
        .split(" ");
      // A zombie runs no more; where nobody reaps, it stays listed for ever.
      return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
    } catch {
      return undefined;
    }
  }
  return (
    spawnSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).stdout?.trim() || undefined
  );
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
