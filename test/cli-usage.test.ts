// What the command line says of itself: help in every place where it is asked for, the version, and what stands beside
// a misuse. None of it asks a broker or a database, so none is there.
import { describe, expect, test } from "vitest";
import packageJson from "../package.json" with { type: "json" };
import { coffer } from "./harness/process.ts";

const AWAY = { COFFER_URL: "http://127.0.0.1:1", COFFER_TOKEN: "t" };
const printed = (stdout: string) => ({ code: 0, stdout, stderr: "" });

/** What `coffer help` says of each command: its name, and the two lines. */
async function blocks(): Promise<readonly (readonly [string, string])[]> {
  const { stdout } = await coffer(["help"]);
  return [...stdout.matchAll(/^ {2}coffer ([a-z-]+(?: [a-z-]+)?)(?: .*)?\n {6}.*\n/gm)].map(
    ([block, name = ""]) => [name, block],
  );
}

describe("help", () => {
  test.each([["--help"], ["-h"], ["help", "--help"]])(
    "is what coffer help prints, and exit code 0: %s",
    async (...args) => {
      expect(await coffer(args)).toEqual(await coffer(["help"]));
    },
  );

  test("of each command is what coffer help says of it, and of those whose names begin with it", async () => {
    const all = (await blocks()).filter(([name]) => name !== "help");
    expect(all.length).toBeGreaterThan(20);
    for (const [name] of all) {
      const wanted = all.filter(([each]) => each === name || each.startsWith(`${name} `));
      expect(await coffer([...name.split(" "), "--help"])).toEqual(
        printed(wanted.map(([, block]) => block).join("")),
      );
    }
  }, 60_000);

  test("is not asked for after --, nor in what coffer run runs; -h before that asks for it", async () => {
    const echo = [process.execPath, "-p", "process.argv.slice(1).join()", "--", "--help", "-h"];
    expect(await coffer(["run", ...echo], AWAY)).toEqual(printed("--help,-h\n"));
    expect(await coffer(["run", "--", ...echo], AWAY)).toEqual(printed("--help,-h\n"));
    const help = await coffer(["run", "--mask", "-h", ...echo], AWAY);
    expect(help).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^ {2}coffer run /) });
    expect(await coffer(["get", "--", "--help"], { COFFER_URL: AWAY.COFFER_URL })).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringContaining("Who are we?"),
    });
  });

  test("does nothing else, whatever stands beside it", async () => {
    const { stdout } = await coffer(["token", "--help"]);
    for (const args of [
      ["token", "--admin", "--name", "--help"],
      ["token", "--wrong", "-h"],
    ])
      expect(await coffer(args)).toEqual(printed(stdout));
  });
});

describe("a group without its second word", () => {
  test.each([
    ["audit", ["verify", "export", "head", "key", "prune"]],
    ["keys", ["rotate-signing", "rotate", "rewrap", "replace-master"]],
  ])("lists its commands and no other; exit code 2, and 0 with --help: %s", async (group, members) => {
    const help = await coffer([group, "--help"]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect([...help.stdout.matchAll(/^ {2}coffer (\S+ \S+)/gm)].map(([, name]) => name)).toEqual(
      members.map((name) => `${group} ${name}`),
    );
    const without = { code: 2, stdout: "", stderr: expect.stringContaining(help.stdout) };
    expect(await coffer([group])).toEqual(without);
    expect(await coffer([group, "nonsense"])).toEqual(without);
  });
});

test("--version prints the version of package.json", async () => {
  expect(await coffer(["--version"])).toEqual(printed(`${packageJson.version}\n`));
});

describe("an option", () => {
  test.each([
    [["serve", "--port=1"], 2, "there is no option --port.\nUsage: coffer serve\n"],
    [["keys", "rotate", "-f"], 2, "there is no option -f.\nUsage: coffer keys rotate\n"],
    [
      ["get", "x", "--fild=hunter2"],
      2,
      "there is no option --fild.\nUsage: coffer get REFERENCE [--field F]\n",
    ],
    [
      ["run", "--wrong=hunter2", "--", "true"],
      125,
      "there is no option --wrong.\nUsage: coffer run [--mask] [--] COMMAND…\n",
    ],
  ])("that there is not is named, with what the command takes: %j", async (args, code, told) => {
    expect(await coffer(args, AWAY)).toEqual({ code, stdout: "", stderr: `coffer: ${told}` });
  });

  test("that there is not, without a command, is named with all commands", async () => {
    const { code, stdout, stderr } = await coffer(["--wrong"]);
    const { stdout: help } = await coffer(["help"]);
    expect({ code, stdout, stderr }).toEqual({
      code: 2,
      stdout: "",
      stderr: `coffer: there is no option --wrong.\n\n${help}`,
    });
  });

  test.each([
    [["get", "x", "--field"], "--field takes a value"],
    [["ls", "x", "--json=hunter2"], "--json takes no value."],
    [["audit", "verify", "--export"], "--export takes a value"],
    [["token", "--admin", "hunter2"], "there is an argument too many."],
  ])("that is used wrongly is told in a sentence, with exit code 2: %j", async (args, told) => {
    const { code, stdout, stderr } = await coffer(args, AWAY);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^coffer: [^\n]+\nUsage: coffer [^\n]+\n$/);
    expect(stderr).toContain(told);
    expect(stderr).not.toMatch(/hunter2|positional/);
  });
});
