// `coffer run`, as a process: what its command gets and what it does not, how both end, and that nothing starts unless
// every reference has its value.
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { S3, made, settingsUrl } from "../harness/broker.ts";
import { type Environment, coffer, script, startCoffer } from "./cli-kit.ts";
import { startWorkload } from "./workload.ts";

const SECRET = "made-up-s3cret-value";
const HOSTILE: Readonly<Record<string, string>> = {
  quotes: `it's "quoted" \`here\``,
  newlines: "\none\ntwo\r\nthree\n\n",
  shell: "$(touch pwned); ${HOME} $HOME `id` && || \\",
  unicode: "ключ 🔑 \u202e e\u0301 \u{10ffff} \ufeff",
  large: "é".repeat(32 * 1024),
  blank: " \t ",
  nested: "coffer://project/none/secret/Custom/x",
};
const dump = script("process.stdout.write(JSON.stringify(process.env))");

let workload: Awaited<ReturnType<typeof startWorkload>>;
let environment: Environment;

beforeAll(async () => {
  workload = await startWorkload();
  environment = { COFFER_URL: workload.broker.url, COFFER_TOKEN: workload.world.writer.api.token };
  await put("secret/Custom/key", SECRET);
  await put("connect/S3/data", { ...S3, force_path_style: true });
});
afterAll(() => workload.close());

const refTo = (path: string): string => `coffer://project/${workload.world.project.id}/${path}`;

async function put(path: string, value: unknown): Promise<void> {
  const { project, writer } = workload.world;
  await made(writer.api.put(settingsUrl(project, path), { body: { value } }));
}

async function resolutions() {
  const { project, owner } = workload.world;
  const query = new URLSearchParams({ owner_type: "project", owner_id: project.id, limit: "1000" });
  const { events } = await made(owner.api.get(`/audit?${query.toString()}`));
  return events.filter((event: { user_agent: string | null; action: string }) => event.action === "decrypt");
}

describe("the command's environment", () => {
  test("has the values, whatever is in them, had in one call", async () => {
    for (const [name, value] of Object.entries(HOSTILE)) await put(`secret/Custom/hostile/${name}`, value);
    const before = (await resolutions()).length;
    const references = Object.keys(HOSTILE).map((name) => [
      `X_${name}`,
      refTo(`secret/Custom/hostile/${name}`),
    ]);
    const { code, stdout, stderr } = await coffer(["run", ...dump], {
      ...environment,
      ...Object.fromEntries(references),
      PLAIN: "as it is: coffer://x",
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const seen = JSON.parse(stdout);
    const harmed = Object.entries(HOSTILE).filter(([name, value]) => seen[`X_${name}`] !== value);
    expect(harmed.map(([name]) => name)).toEqual([]);
    expect(seen.PLAIN).toBe("as it is: coffer://x");
    expect((await resolutions()).length).toBe(before + 1);
  });

  test("has fields as text, a whole composite value as JSON, a version as it was", async () => {
    await put("secret/Custom/turned", "one");
    await put("secret/Custom/turned", "two");
    const { stdout } = await coffer(["run", ...dump], {
      ...environment,
      FIELD: refTo("connect/S3/data#secret_access_key"),
      FLAG: refTo("connect/S3/data#force_path_style"),
      WHOLE: refTo("connect/S3/data"),
      OLD: refTo("secret/Custom/turned?version=1"),
      NEW: ` ${refTo("secret/Custom/turned")}\n`,
    });
    const seen = JSON.parse(stdout);
    expect(seen).toMatchObject({ FIELD: S3.secret_access_key, FLAG: "true", OLD: "one", NEW: "two" });
    expect(JSON.parse(seen.WHOLE)).toEqual({ ...S3, force_path_style: true });
  });

  test("has none of our credentials, however we signed in", async () => {
    const { subjectTokenFile, world, folder } = workload;
    const tokenFile = join(folder, "api.token");
    await writeFile(tokenFile, `${world.writer.api.token}\n`, { mode: 0o600 });
    const { COFFER_URL = "" } = environment;
    for (const credentials of [
      environment,
      { COFFER_TOKEN_FILE: tokenFile },
      { COFFER_CLIENT_ID: world.writer.id, COFFER_SUBJECT_TOKEN_FILE: subjectTokenFile },
    ]) {
      const given = { ...credentials, COFFER_URL, KEY: refTo("secret/Custom/key") };
      const { stdout, stderr } = await coffer(["run", ...dump], given);
      expect(stderr).toBe("");
      const seen = JSON.parse(stdout);
      expect(seen.KEY).toBe(SECRET);
      expect(Object.keys(seen).filter((name) => name.startsWith("COFFER_"))).toEqual(["COFFER_URL"]);
      expect(stdout).not.toContain(world.writer.api.token);
    }
  });

  test("is the caller's own by scripts/coffer.mjs too: nothing that tunes our own start is handed on", async () => {
    const program = [process.execPath, join(import.meta.dirname, "../../scripts/coffer.mjs")];
    const given = { ...environment, KEY: refTo("secret/Custom/key") };
    const { code, stdout, stderr } = await coffer(["run", ...dump], given, { program });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const seen = JSON.parse(stdout);
    expect(seen.KEY).toBe(SECRET);
    expect(Object.keys(seen).filter((name) => /^(NODE_|MALLOC_)/.test(name))).toEqual([]);
  });
});

describe("a value", () => {
  test("is in no argument and no file, of ours or of the command's", async () => {
    const folder = await mkdtemp(join(tmpdir(), "coffer-run-"));
    const told = `console.log(JSON.stringify(["self", process.ppid].map(
      (pid) => require("fs").readFileSync("/proc/" + pid + "/cmdline", "latin1"))), process.env.KEY.length)`;
    const places = {
      HOME: join(folder, "home"),
      TMPDIR: join(folder, "tmp"),
      NODE_COMPILE_CACHE: join(folder, "cache"),
    };
    for (const place of Object.values(places)) await mkdir(place);
    const given = { ...environment, ...places, KEY: refTo("secret/Custom/key") };
    const { stdout } = await coffer(["run", "--mask", ...script(told)], given, { cwd: folder });
    expect(stdout).toContain(`${SECRET.length}\n`);
    expect(stdout).not.toContain("***");
    expect(stdout).not.toContain(SECRET);
    expect(filesUnder(folder).filter((file) => readFileSync(file).includes(SECRET))).toEqual([]);
    await rm(folder, { recursive: true });
  });

  test("is masked in the command's output with --mask, and the rest of it is untouched", async () => {
    const told = `
      const { KEY, LINES } = process.env;
      process.stdout.write("a" + KEY.slice(0, 5));
      setImmediate(() => {
        process.stdout.write(KEY.slice(5) + "b " + LINES.split("\\n")[1] + "\\n");
        process.stdout.write(Buffer.from([0, 255, 254, 10]));
        process.stderr.write("at " + KEY + "\\n" + KEY.slice(0, 5));
      });`;
    await put("secret/Custom/lines", "-----BEGIN-----\nMIIEvQIBADANBg\n-----END-----\n");
    const { code, stdout, stderr } = await startCoffer(["run", "--mask", ...script(told)], {
      ...environment,
      KEY: refTo("secret/Custom/key"),
      LINES: refTo("secret/Custom/lines"),
    }).ended;
    expect(code).toBe(0);
    expect(stdout).toEqual(Buffer.concat([Buffer.from("a***b ***\n"), Buffer.from([0, 255, 254, 10])]));
    expect(stderr).toBe(`at ***\n${SECRET.slice(0, 5)}`);
  });
});

describe("nothing starts", () => {
  const marked = (folder: string) =>
    script(`require("fs").writeFileSync(${JSON.stringify(join(folder, "started"))}, "")`);

  test("when a reference fails; each that does is named, and why, and no value is", async () => {
    const { folder } = workload;
    const { code, stdout, stderr } = await coffer(["run", ...marked(folder)], {
      ...environment,
      GOOD: refTo("secret/Custom/key"),
      GONE: refTo("secret/Custom/gone"),
      OTHERS: refTo("secret/Custom/key").replace(
        /project\/[^/]+/,
        "project/01980000-0000-7000-8000-000000000000",
      ),
      MISTAKEN: "coffer://hunter2-put-here-by-mistake",
      COMET: "_SECRET_-bm8=",
    });
    expect({ code, stdout }).toEqual({ code: 125, stdout: "" });
    expect(stderr).toMatch(/^coffer: GONE: 404 not_found: \S/m);
    expect(stderr).toMatch(/^coffer: OTHERS: 403 forbidden: \S/m);
    expect(stderr).toMatch(/^coffer: MISTAKEN: 400 invalid_reference: \S/m);
    expect(stderr).toMatch(/^coffer: COMET: 4\d\d \S/m);
    expect(stderr).not.toMatch(/GOOD|hunter2|s3cret/);
    expect(existsSync(join(folder, "started"))).toBe(false);
  });

  test.each([
    ["without a token", { COFFER_TOKEN: "" }, /Who are we\?/],
    ["with a token that is none", { COFFER_TOKEN: "cfr_no" }, /401 unauthenticated/],
    ["with a token file that is not there", { COFFER_TOKEN: "", COFFER_TOKEN_FILE: "/nowhere" }, /ENOENT/],
    ["with an address that is none", { COFFER_URL: "file:///etc" }, /COFFER_URL/],
  ])("%s", async (_what, given, wanted) => {
    const all = { ...environment, ...given, KEY: refTo("secret/Custom/key") };
    const { code, stdout, stderr } = await coffer(["run", ...marked(workload.folder)], all);
    expect({ code, stdout }).toEqual({ code: 125, stdout: "" });
    expect(stderr).toMatch(wanted);
    expect(existsSync(join(workload.folder, "started"))).toBe(false);
  });

  test.each([[["run"]], [["run", "--"]], [["run", "--mask"]], [["run", "--wrong", "--", "true"]]])(
    "for a command line that is none: %s",
    async (args) => {
      const { code, stderr } = await coffer(args, environment);
      expect(code).toBe(125);
      expect(stderr).toContain("[--mask] [--] COMMAND…");
    },
  );
});

describe("the end", () => {
  test.each([
    ["0", "process.exit(0)", 0],
    ["7", "process.exit(7)", 7],
    ["its own SIGTERM", "process.kill(process.pid, 'SIGTERM')", 143],
    ["its own SIGKILL", "process.kill(process.pid, 'SIGKILL')", 137],
  ])("is the command's: %s", async (_what, text, code) => {
    for (const options of [[], ["--mask"]]) {
      const given = { ...environment, KEY: refTo("secret/Custom/key") };
      expect(await coffer(["run", ...options, ...script(text)], given)).toMatchObject({ code, stderr: "" });
    }
  });

  test("is 127 for a command that there is not, 126 for one that does not run; without references nobody is asked", async () => {
    expect((await coffer(["run", "--", "/nowhere/command"], {})).code).toBe(127);
    expect((await coffer(["run", "--", workload.folder], {})).code).toBe(126);
    expect((await coffer(["run", "true"], {})).code).toBe(0);
  });

  test.each(["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const)(
    "waits for the command, which gets %s",
    async (signal) => {
      const told = `
        process.on("${signal}", () => { console.log("got it"); clearInterval(timer); process.exitCode = 9; });
        const timer = setInterval(() => {}, 1000);
        console.log("listening");`;
      const { child, ended, said } = startCoffer(["run", ...script(told)], environment);
      await said("listening");
      child.kill(signal);
      const { code, stdout } = await ended;
      expect({ code, stdout: stdout.toString() }).toEqual({ code: 9, stdout: "listening\ngot it\n" });
    },
  );

  test("is 128 and the number of a signal that the command does not survive", async () => {
    const { child, ended, said } = startCoffer(
      ["run", ...script("console.log('on'); setInterval(() => {}, 1000)")],
      {},
    );
    await said("on");
    child.kill("SIGTERM");
    expect((await ended).code).toBe(143);
  });
});

test("a job of 32 processes that start at once: each gets its values, and each is one event", async () => {
  const paths = ["one", "two", "three"].map((name) => `secret/Custom/job/${name}`);
  for (const path of paths) await put(path, `value of ${path}`);
  const before = (await resolutions()).length;
  const [ONE = "", TWO = "", THREE = ""] = paths.map(refTo);
  const given = { ...environment, ONE, TWO, THREE };
  const told = script("console.log(process.env.ONE, process.env.TWO, process.env.THREE)");
  const all = await Promise.all(Array.from({ length: 32 }, () => coffer(["run", ...told], given)));
  const wanted = { code: 0, stdout: `${paths.map((path) => `value of ${path}`).join(" ")}\n`, stderr: "" };
  expect(all).toEqual(Array.from({ length: 32 }, () => wanted));
  const events = await resolutions();
  const theirs = events.slice(0, events.length - before);
  const seen = theirs.map(({ outcome, settings }: { outcome: string; settings: { path: string }[] }) => ({
    outcome,
    paths: new Set(settings.map(({ path }) => path)),
  }));
  expect(seen).toEqual(Array.from({ length: 32 }, () => ({ outcome: "allowed", paths: new Set(paths) })));
}, 120_000);

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}
