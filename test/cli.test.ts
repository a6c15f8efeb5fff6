// The command line as an operator meets it: each command's output and exit code, and what a first start says.
import { execFile } from "node:child_process";
import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { made, settingsUrl } from "./harness/broker.ts";
import { createDatabase } from "./harness/postgres.ts";
import { coffer, newHome, spawnBroker } from "./harness/process.ts";

const run = promisify(execFile);
let home: Awaited<ReturnType<typeof newHome>>;

beforeAll(async () => {
  home = await newHome();
});
afterAll(() => home.remove());

describe("a command", () => {
  test("help lists the commands and exits 0; so does no command", async () => {
    const help = await coffer(["help"]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    for (const name of ["serve", "keygen", "check-config", "openapi"])
      expect(help.stdout).toContain(`coffer ${name}`);
    expect(await coffer([])).toEqual(help);
  });

  test.each([["nonsense"], ["serve", "more"], ["constructor"]])(
    "that does not exist exits 2 and tells which there are: %s",
    async (...args) => {
      const { code, stdout, stderr } = await coffer(args);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toContain("coffer serve");
    },
  );

  test("with an unknown option exits 2, in words and without a stack", async () => {
    const { code, stderr } = await coffer(["serve", "--port=1"]);
    expect(code).toBe(2);
    expect(stderr).toContain("--port");
    expect(stderr).not.toContain("    at ");
  });
});

describe("check-config", () => {
  test("shows what is in force, and no secret", async () => {
    const key = "ab".repeat(32);
    const { code, stdout } = await coffer(["check-config"], {
      COFFER_HOME: home.path,
      COFFER_MASTER_KEY: key,
      DATABASE_URL: "postgresql://coffer:hunter2@db.example/coffer",
      COFFER_RECOVERY_DAYS: "7",
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://me:hunter2@collector.example/v1/traces?key=hunter2",
    });
    expect(code).toBe(0);
    expect(stdout).toContain("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://collector.example/v1/traces\n");
    expect(stdout).toContain(`COFFER_HOME=${home.path}\n`);
    expect(stdout).toContain("COFFER_RECOVERY_DAYS=7\n");
    expect(stdout).toContain("DATABASE_URL=[redacted]\n");
    expect(stdout).not.toContain(key);
    expect(stdout).not.toContain("hunter2");
  });

  test("reports all problems at once, unknown names among them, quotes none of it and exits 2", async () => {
    const secret = "hunter2-in-the-wrong-place";
    const { code, stdout, stderr } = await coffer(["check-config"], {
      COFFER_HOME: home.path,
      COFFER_PORT: secret,
      COFFER_PROT: "7420",
      COFFER_LOG_LEVEL: secret,
      COFFER_MANAGER: secret,
      DATABASE_URL: secret,
    });
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    for (const name of [
      "COFFER_PORT",
      "COFFER_PROT",
      "COFFER_LOG_LEVEL",
      "COFFER_MANAGER",
      "DATABASE_URL",
      "COFFER_MASTER_KEY_FILE",
    ])
      expect(stderr).toContain(name);
    expect(stderr).not.toContain(secret);
  });

  test("among them identity providers that could never vouch for anybody, and a user in the public address", async () => {
    const issuers = ["https", "http"].map((scheme) => ({
      issuer: "https://login.example",
      audience: "coffer",
      jwks_uri: `${scheme}://login.example/jwks`,
    }));
    const { code, stderr } = await coffer(["check-config"], {
      COFFER_HOME: home.path,
      COFFER_PORT: "x",
      COFFER_PUBLIC_URL: "https://me:hunter2@coffer.example",
      COFFER_IDENTITY_PROVIDERS: JSON.stringify(issuers),
    });
    expect(code).toBe(2);
    expect(stderr).toContain("The configuration has 3 problem(s)");
    for (const name of ["COFFER_PORT", "COFFER_PUBLIC_URL", "COFFER_IDENTITY_PROVIDERS, entry 2:"])
      expect(stderr).toContain(`- ${name}`);
    expect(stderr).not.toContain("hunter2");
  });

  test("among them keys that are none, in whatever is wrong of them", async () => {
    for (const key of ["abc", "ab".repeat(31), `${"ab".repeat(31)}zz`, `${"A".repeat(42)}*`]) {
      const environment = {
        COFFER_HOME: home.path,
        COFFER_PORT: "x",
        COFFER_MASTER_KEY: key,
        COFFER_MASTER_KEY_NEXT: key,
      };
      const { code, stderr } = await coffer(["check-config"], environment);
      expect(code).toBe(2);
      for (const name of ["COFFER_PORT", "COFFER_MASTER_KEY ", "COFFER_MASTER_KEY_NEXT "])
        expect(stderr).toContain(`- ${name}`);
      expect(stderr).not.toContain(key);
    }
  });
});

describe("keygen", () => {
  test("prints a key that a broker starts with, and another each time", async () => {
    const one = await coffer(["keygen"]);
    const other = await coffer(["keygen"]);
    expect(one).toMatchObject({ code: 0, stderr: "" });
    expect(one.stdout).not.toBe(other.stdout);
    const database = await createDatabase();
    const environment = { DATABASE_URL: database.url, COFFER_MASTER_KEY: one.stdout.trim() };
    const broker = await spawnBroker(join(home.path, "keygen"), environment);
    expect((await broker.stop()).code).toBe(0);
    await database.drop();
  });
});

describe("serve with DATABASE_URL", () => {
  test("and no master key refuses, and makes none up", async () => {
    const folder = join(home.path, "no-key");
    const { code, stderr } = await coffer(["serve"], {
      COFFER_HOME: folder,
      DATABASE_URL: "postgresql://127.0.0.1:1/x",
    });
    expect(code).toBe(2);
    expect(stderr).toMatch(/With DATABASE_URL a master key is needed/);
    await expect(stat(folder)).rejects.toThrow("ENOENT");
  });

  test("and a database that is away exits 1 and says so, without the password", async () => {
    const { code, stderr } = await coffer(["serve"], {
      COFFER_HOME: join(home.path, "away"),
      COFFER_PORT: "0",
      COFFER_MASTER_KEY: "cd".repeat(32),
      DATABASE_URL: "postgresql://coffer:hunter2@127.0.0.1:1/coffer",
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^coffer: \S/);
    expect(stderr).not.toContain("hunter2");
    expect(stderr).not.toContain("    at ");
  });
});

test("the first start says where it is, where the token is, and a line that works as pasted; a later one does not", async () => {
  // A path that a shell would cut in pieces.
  const folder = join(home.path, "it's a home; $(false)");
  await mkdir(folder, { mode: 0o700 });
  const first = await spawnBroker(folder);
  await first.said("Try it:");
  expect(first.output()).toContain(`Coffer listens on ${first.url}\n`);
  const tokenFile = join(folder, "admin.token");
  expect(first.output()).toContain(tokenFile);
  const admin = await first.admin();
  expect(admin.token).toMatch(/^cfr_\S+$/);
  expect(first.output()).not.toContain(admin.token);
  for (const name of ["admin.token", "master.key"])
    expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
  const [line = ""] = /^ *curl .*$/m.exec(first.output()) ?? [];
  const { stdout } = await run("sh", ["-c", line.trim()]);
  const me = JSON.parse(stdout);
  expect(me).toMatchObject({ admin: true, token: { expires_at: null } });
  await made(
    admin.put(settingsUrl({ type: "user", id: me.id }, "secret/Custom/kept"), { body: { value: "kept" } }),
  );
  expect((await first.stop()).code).toBe(0);

  // The broker never writes over the file: an operator may well have removed it.
  await rm(tokenFile);
  const second = await spawnBroker(folder);
  expect(second.output()).not.toMatch(/cfr_|admin\.token|curl/);
  await expect(stat(tokenFile)).rejects.toThrow("ENOENT");
  const kept = await second
    .as(admin.token)
    .get(settingsUrl({ type: "user", id: me.id }, "secret/Custom/kept", {}, "/settings/value"));
  expect(kept.body.value).toBe("kept");
  const rival = await coffer(["serve"], { COFFER_HOME: folder, COFFER_PORT: "0" });
  expect(rival).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("a broker is already running there"),
  });
  expect((await second.stop()).code).toBe(0);

  // Without its key the home is of no use, and a new one would bury what is there.
  const key = join(folder, "master.key");
  const text = await readFile(key, "utf8");
  await rm(key);
  const third = await coffer(["serve"], { COFFER_HOME: folder, COFFER_PORT: "0" });
  expect(third).toMatchObject({ code: 1, stderr: expect.stringContaining("master.key is missing") });
  expect(third.stderr).not.toContain(text.trim());
  await expect(stat(key)).rejects.toThrow("ENOENT");
}, 60_000);

test("what a broker compiled is there after it was killed, and every other command can use it", async () => {
  const [database, own] = [await createDatabase(), await newHome()];
  const environment = { DATABASE_URL: database.url, COFFER_MASTER_KEY: "ab".repeat(32) };
  const cached = { ...environment, NODE_COMPILE_CACHE: join(own.path, "compiled") };
  try {
    await (await spawnBroker(own.path, cached)).killAll();
    const debug = { ...cached, COFFER_HOME: own.path, NODE_DEBUG_NATIVE: "COMPILE_CACHE" };
    // A command that loads no server, and one that does.
    for (const [command, least] of [
      [["audit", "verify"], 200],
      [["openapi"], 500],
    ] as const) {
      const { code, stderr } = await coffer(command, debug);
      expect(code).toBe(0);
      expect(stderr.match(/ was accepted/g)?.length).toBeGreaterThan(least);
      expect(stderr).not.toContain(" was rejected");
    }
  } finally {
    await own.remove();
    await database.drop();
  }
});
