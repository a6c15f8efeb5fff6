// `coffer get`, `put`, `ls` and `explain`, as processes against a real broker; and what every client command does when
// the broker is away for a moment, which a server of the test's own is.
import { writeFile } from "node:fs/promises";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { S3, made, settingsUrl } from "../harness/broker.ts";
import { type Environment, coffer } from "./cli-kit.ts";
import { startWorkload } from "./workload.ts";

const HOSTILE = "'\"`$(id)\\ \n\tключ 🔑\r\n";

let workload: Awaited<ReturnType<typeof startWorkload>>;
let environment: Environment;
let project: string;

beforeAll(async () => {
  workload = await startWorkload();
  environment = { COFFER_URL: workload.broker.url, COFFER_TOKEN: workload.world.writer.api.token };
  project = `project/${workload.world.project.id}`;
});
afterAll(() => workload.close());

async function valueAt(path: string): Promise<unknown> {
  const { world } = workload;
  return (await made(world.writer.api.get(settingsUrl(world.project, path, {}, "/settings/value")))).value;
}

describe("put and get", () => {
  test("write what comes in and print it again, byte for byte; put prints the reference of just that", async () => {
    const ref = `${project}/secret/Custom/in`;
    const written = await coffer(["put", ref], environment, { input: HOSTILE });
    expect(written).toMatchObject({ code: 0, stdout: `coffer://${ref}?version=1\n` });
    expect(written.stderr).toContain("--trim");
    expect(await valueAt("secret/Custom/in")).toBe(HOSTILE);
    await coffer(["put", `coffer://${ref}`], environment, { input: "later" });
    expect(await coffer(["get", written.stdout.trim()], environment)).toEqual({
      code: 0,
      stdout: HOSTILE,
      stderr: "",
    });
    expect((await coffer(["get", ref], environment)).stdout).toBe("later");
  });

  test("a file, without its last newline where that is said; JSON where that is", async () => {
    const file = join(workload.folder, "value");
    await writeFile(file, "from a file\n");
    const ref = `${project}/secret/Custom/file`;
    expect(await coffer(["put", ref, "--file", file, "--trim"], environment)).toMatchObject({
      code: 0,
      stderr: "",
    });
    expect(await valueAt("secret/Custom/file")).toBe("from a file");
    const s3 = `${project}/connect/S3/cli`;
    expect((await coffer(["put", s3, "--json"], environment, { input: JSON.stringify(S3) })).code).toBe(0);
    expect(await valueAt("connect/S3/cli")).toEqual(S3);
    expect(JSON.parse((await coffer(["get", s3], environment)).stdout)).toEqual(S3);
    const field = await coffer(["get", s3, "--field", "access_key_id"], environment);
    expect(field.stdout).toBe(S3.access_key_id);
    expect((await coffer(["get", `${s3}#access_key_id`], environment)).stdout).toBe(S3.access_key_id);
  });

  test("what is refused is told without the value, and nothing is printed", async () => {
    const cases: readonly (readonly [readonly string[], string | Uint8Array, RegExp])[] = [
      [["put", `${project}/connect/S3/no`, "--json"], "{hunter2", /not JSON/],
      [["put", `${project}/connect/S3/no`, "--json"], '{"bucket":"hunter2"}', /422 invalid_value/],
      [["put", `${project}/secret/Custom/no`], Buffer.from("hunter2\xff", "latin1"), /not UTF-8/],
      [["put", `${project}/secret/Custom/no`], "hunter2\0", /422 invalid_value/],
      [["put", `${project}/secret/Custom/no`], "hunter2".repeat(40_000), /too large/],
      [["put", `${project}/secret/Custom/no`], "hunter2".repeat(10_000), /413 too_large/],
      [["put", `${project}/secret/Custom/no`, "--file", "/nowhere"], "", /ENOENT/],
      [["get", `${project}/secret/Custom/gone`], "", /404 not_found/],
      [["get", "hunter2"], "", /400 invalid_reference/],
    ];
    for (const [args, input, wanted] of cases) {
      const { code, stdout, stderr } = await coffer(args, environment, { input });
      expect({ args, code, stdout }).toEqual({ args, code: 1, stdout: "" });
      expect(stderr).toMatch(wanted);
      expect(stderr).not.toContain("hunter2");
    }
  });

  test.each([
    [["get"]],
    [["get", "a", "b"]],
    [["put", "nonsense"]],
    [["put", "a", "the-value"]],
    [["ls", "x", "--no"]],
  ])("a command line that is none exits 2 and tells what it takes: %s", async (args) => {
    const { code, stdout, stderr } = await coffer(args, environment);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(`\nUsage: coffer ${args[0]} `);
  });

  test("a misuse is told in one sentence that fits the usage below it", async () => {
    const told = async (...args: string[]) => (await coffer(args, environment)).stderr.split("\n")[0];
    expect(await told("get")).toBe("coffer: Exactly one reference is to be named.");
    expect(await told("put", `${project}/secret/Custom/x?version=1`)).toBe(
      "coffer: Neither a version nor a field may be named here.",
    );
  });

  test("a broken rule is told once, with where it is broken", async () => {
    const { code, stderr } = await coffer(["put", `${project}/nonsense/x`], environment, { input: "x" });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^coffer: 422 invalid_value: \/path \S[^\n]* \(request [0-9a-f-]+\)\n$/);
    const [, words = ""] = /\/path (.*) \(request/.exec(stderr) ?? [];
    expect(stderr.split(words).length).toBe(2);
  });
});

describe("ls", () => {
  test("lists an owner's settings, or those under a path, without a value", async () => {
    for (const name of ["a", "b"])
      await coffer(["put", `${project}/secret/Custom/ls/${name}`], environment, { input: "not-listed" });
    const { code, stdout } = await coffer(["ls", `${project}/secret/Custom/ls/`], environment);
    expect(code).toBe(0);
    const lines = stdout.trim().split("\n");
    expect(lines.map((line) => line.split("\t").slice(0, 3))).toEqual([
      ["secret/Custom/ls/a", "custom", "1"],
      ["secret/Custom/ls/b", "custom", "1"],
    ]);
    const all = await coffer(["ls", project, "--json"], environment);
    const paths = all.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).path);
    expect(paths).toEqual(expect.arrayContaining(["secret/Custom/ls/a", "connect/S3/cli"]));
    expect(stdout + all.stdout).not.toContain("not-listed");
    const none = await coffer(["ls", `${project}/secret/Custom/none`], environment);
    expect(none).toEqual({ code: 0, stdout: "", stderr: "" });
  });
});

describe("explain", () => {
  test("says what references would resolve to and what stops them, and opens none", async () => {
    const ref = `coffer://${project}/secret/Custom/explained`;
    await coffer(["put", ref], environment, { input: "not-opened" });
    const gone = `${project}/secret/Custom/gone`;
    const { code, stdout } = await coffer(["explain", ref, gone, "hunter2"], environment);
    expect(code).toBe(1);
    const [found = "", missing = "", none = ""] = stdout.split("\n");
    expect(found).toMatch(/^coffer:\S+explained\tversion 1 of [0-9a-f-]{36}$/);
    expect(missing).toMatch(/^project\/\S+gone\t404 not_found: \S/);
    expect(none).toMatch(/^\[not a well-formed reference\]\t400 invalid_reference: \S/);
    expect(stdout).not.toMatch(/not-opened|hunter2/);
  });

  test("without references says it of the environment's, by the variables' names", async () => {
    const KEY = `coffer://${project}/secret/Custom/explained`;
    const { code, stdout } = await coffer(["explain"], { ...environment, KEY });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^KEY\tversion 1 of \S+\n$/);
    expect((await coffer(["explain"], environment)).code).toBe(2);
  });
});

describe("a broker that is away for a moment", () => {
  type Reply = readonly [status: number, headers: Readonly<Record<string, string>>, body: unknown];
  const RESOLVED: Reply = [200, {}, { results: [{ ref: "r", status: 200, value: "had" }] }];
  const AWAY_ITEM: Reply = [
    200,
    {},
    { results: [{ ref: "r", status: 503, code: "unavailable", detail: "d" }] },
  ];
  const asked: string[] = [];
  let replies: Reply[] = [];
  let stub: ReturnType<typeof createServer>;

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    asked.push(request.url ?? "");
    const [status, headers, body] = (replies.length > 1 ? replies.shift() : replies[0]) ?? RESOLVED;
    if (status === 0) return void request.socket.destroy();
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  };
  beforeAll(async () => {
    stub = createServer(answer);
    await new Promise<void>((resolve) => stub.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => stub.close());
  afterEach(() => void asked.splice(0));

  const get = (...given: Reply[]) => {
    replies = given;
    const { port } = stub.address() as AddressInfo;
    return coffer(["get", `${project}/secret/Custom/a`], {
      COFFER_URL: `http://127.0.0.1:${port}`,
      COFFER_TOKEN: "t",
    });
  };
  const passing = { "content-type": "application/problem+json", "retry-after": "0" };

  test.each<[string, Reply[]]>([
    ["503", [[503, passing, {}]]],
    [
      "429, twice",
      [
        [429, passing, {}],
        [429, passing, {}],
      ],
    ],
    ["a proxy's 502", [[502, { "content-type": "text/html" }, "no"]]],
    ["a connection that is cut", [[0, {}, null]]],
    ["one reference of many", [AWAY_ITEM]],
  ])("is asked again: %s", async (_what, before) => {
    expect(await get(...before, RESOLVED)).toEqual({ code: 0, stdout: "had", stderr: "" });
    expect(asked.length).toBe(before.length + 1);
  });

  test.each<[string, Reply, RegExp]>([
    [
      "the broker's own 502",
      [502, { "content-type": "application/problem+json" }, { code: "manager_failed" }],
      /502 manager/,
    ],
    ["403", [403, {}, { code: "forbidden", detail: "No." }], /403 forbidden: No\./],
    [
      "a wait longer than its patience",
      [503, { "retry-after": "3600" }, { code: "unavailable" }],
      /503 unavailable/,
    ],
    [
      "422, of which the first problem is not told twice",
      [
        422,
        {},
        {
          code: "invalid_value",
          detail: "One.",
          errors: [
            { in: "body", pointer: "/a", detail: "One." },
            { in: "body", pointer: "/b", detail: "Two." },
          ],
        },
      ],
      /^coffer: 422 invalid_value: \/a One\.\ncoffer: {3}\/b Two\.\n$/,
    ],
    ["a redirect", [307, { location: "http://127.0.0.1:1/" }, {}], /redirect, which is not followed/],
    ["a 200 without the value", [200, {}, { results: [{ ref: "r", status: 200 }] }], /gave no value/],
    ["a 200 of something else", [200, {}, "hello"], /gave no value/],
  ])("is not asked again: %s", async (_what, reply, wanted) => {
    const { code, stdout, stderr } = await get(reply);
    expect({ code, stdout, asked: asked.length }).toEqual({ code: 1, stdout: "", asked: 1 });
    expect(stderr).toMatch(wanted);
  });

  test("a port that fetch never asks is said to be one at once", async () => {
    const given = { COFFER_URL: "http://127.0.0.1:1", COFFER_TOKEN: "t" };
    const started = performance.now();
    expect(await coffer(["get", `${project}/secret/Custom/a`], given)).toEqual({
      code: 1,
      stdout: "",
      stderr: "coffer: No answer from http://127.0.0.1:1: bad port.\n",
    });
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});
