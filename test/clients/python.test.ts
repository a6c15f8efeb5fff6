// The Python client's own tests (clients/python/tests), against a real broker, by every Python found here: the one that
// is called python3, and the oldest that the client promises to run on.
import { execFile, execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { startWorkload } from "./workload.ts";

const run = promisify(execFile);
const folder = fileURLToPath(new URL("../../clients/python", import.meta.url));
const TESTS_LEAST = 30;
const TIMEOUT_MS = 180_000;

/** Pythons that answer, by version; what is older than 3.9 is none. */
function pythons(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const name of ["python3", "python3.9"]) {
    const version = versionOf(name);
    if (version !== null && !found.has(version)) found.set(version, name);
  }
  return found;
}

function versionOf(name: string): string | null {
  try {
    const told = execFileSync(name, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    const [, version = "", minor = ""] = /^Python (3\.(\d+)\.\S+)/.exec(told) ?? [];
    return Number(minor) >= 9 ? version : null;
  } catch {
    return null;
  }
}

/** Runs them all by one Python. */
async function tryWith(python: string): Promise<void> {
  const workload = await startWorkload();
  const { broker, world, subjectTokenFile } = workload;
  const others = Object.entries(process.env).filter(([name]) => !/^(COFFER_|PYTHON)/.test(name));
  const env = {
    ...Object.fromEntries(others),
    PYTHONDONTWRITEBYTECODE: "1",
    COFFER_TEST_URL: broker.url,
    COFFER_TEST_TOKEN: world.writer.api.token,
    COFFER_TEST_READER_TOKEN: world.reader.api.token,
    COFFER_TEST_PROJECT: world.project.id,
    COFFER_TEST_CLIENT_ID: world.writer.id,
    COFFER_TEST_SUBJECT_TOKEN_FILE: subjectTokenFile,
  };
  // Newer Pythons warn of any fork beside threads, which is what one of the tests is about.
  const warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"];
  const args = [...warnings, "-m", "unittest", "discover", "-s", "tests", "-t", "."];
  try {
    const { stderr } = await run(python, args, { cwd: folder, env, maxBuffer: 1 << 24 });
    const [, count = "0"] = /^Ran (\d+) tests? in/m.exec(stderr) ?? [];
    expect(Number(count)).toBeGreaterThanOrEqual(TESTS_LEAST);
    expect(stderr).toMatch(/^OK$/m);
    expect(broker.log()).not.toContain("made-up-key");
  } finally {
    await workload.close();
  }
}

async function sayThatThereIsNone(): Promise<void> {
  console.log("No python3 (3.9 or newer) was found: the Python client's tests did not run.");
}

type Case = readonly [name: string, body: () => Promise<void>];
const cases = [...pythons()].map(
  ([version, python]): Case => [
    `the Python client's own tests pass on Python ${version}`,
    () => tryWith(python),
  ],
);
const none: Case = ["no python3 (3.9 or newer) is here: the Python client was not tried", sayThatThereIsNone];

test.each(cases.length === 0 ? [none] : cases)("%s", (_what, body) => body(), TIMEOUT_MS);
