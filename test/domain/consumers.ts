// The programs that renderings are for, where this machine has them: shells, Python's dotenv and YAML, an AWS SDK.
// Each gives back what it made of a text.
import { spawnSync } from "node:child_process";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

type Variables = Record<string, string | undefined>;

function run(file: string, args: readonly string[], input: string): string {
  const env = { PATH: process.env["PATH"], HOME: "/nonexistent" };
  const { status, stdout, stderr, error } = spawnSync(file, args, {
    input,
    env,
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  if (status !== 0) throw new Error(`${file}: ${String(error ?? stderr)}`);
  return stdout;
}

function has(file: string, ...args: string[]): boolean {
  return spawnSync(file, args, { stdio: "ignore" }).status === 0;
}

/** Every POSIX machine has the first. */
export const SHELLS = ["sh", "bash", "dash", "ksh", "zsh"].filter((shell) => has(shell, "-c", ":"));

const SHOW = "process.stdout.write(JSON.stringify(process.env))";

/** What a process finds in its environment after a shell has evaluated the lines: a real one's, by way of exec. */
export function evaluated(shell: string, lines: string): Variables {
  const script = `vars=$(cat) && eval "$vars" && exec "$0" -e '${SHOW}'`;
  return JSON.parse(run(shell, ["-c", script, process.execPath], lines)) as Variables;
}

/** The same after a shell has read a file of assignments, as `set -a; . ./.env` does. */
export function sourced(shell: string, lines: string): Variables {
  const script = `set -a; eval "$(cat)"; exec "$0" -e '${SHOW}'`;
  return JSON.parse(run(shell, ["-c", script, process.execPath], lines)) as Variables;
}

export const HAS_PYTHON_DOTENV = has("python3", "-c", "import dotenv");
export const HAS_PYTHON_YAML = has("python3", "-c", "import yaml");
export const HAS_BOTOCORE = has("python3", "-c", "import botocore.credentials");

const READ_DOTENV = `
import dotenv, io, json, sys
sys.stdin.reconfigure(encoding='utf-8', newline='')
files = json.load(sys.stdin)
print(json.dumps([dotenv.dotenv_values(stream=io.StringIO(each)) for each in files]))`;

/** What python-dotenv makes of each file, with its own expansion of variables, which is on by default. */
export function readByPythonDotenv(files: readonly string[]): Variables[] {
  return JSON.parse(run("python3", ["-c", READ_DOTENV], JSON.stringify(files))) as Variables[];
}

const READ_YAML = `
import json, sys, yaml
print(json.dumps(yaml.safe_load(sys.stdin.buffer.read().decode('utf-8'))))`;

export function readByPythonYaml(text: string): unknown {
  return JSON.parse(run("python3", ["-c", READ_YAML], text));
}

const READ_PROCESS = `
import json, sys
from botocore.credentials import ProcessProvider
config = {'profiles': {'p': {'credential_process': sys.argv[1]}}}
found = ProcessProvider('p', lambda: config).load()
frozen = found.get_frozen_credentials()
print(json.dumps([frozen.access_key, frozen.secret_key, frozen.token]))`;

/** The credentials that an AWS SDK has from a `credential_process` with this output. */
export async function readByBotocore(output: string): Promise<unknown> {
  const folder = await mkdtemp(join(tmpdir(), "coffer-process-"));
  try {
    const [data, script] = [join(folder, "output"), join(folder, "process")];
    await writeFile(data, output);
    await writeFile(script, `#!/bin/sh\ncat '${data}'\n`);
    await chmod(script, 0o700);
    return JSON.parse(run("python3", ["-c", READ_PROCESS, script], ""));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/**
 * A Docker config as Docker's own loader reads it (cli/config/configfile): `auth` is base64 of `username:password`,
 * split at the first colon, and stands above the plain fields.
 */
export function readByDockerRules(config: unknown): Map<string, { username: string; password: string }> {
  const { auths } = config as { auths: Record<string, { auth: string }> };
  return new Map(
    Object.entries(auths).map(([registry, { auth }]) => {
      if (!/^[A-Za-z0-9+/]*={0,2}$/.test(auth) || auth.length % 4 !== 0) throw new Error("no base64");
      const text = Buffer.from(auth, "base64").toString("utf8");
      const colon = text.indexOf(":");
      if (colon < 0) throw new Error("invalid auth configuration file");
      return [registry, { username: text.slice(0, colon), password: text.slice(colon + 1) }];
    }),
  );
}
