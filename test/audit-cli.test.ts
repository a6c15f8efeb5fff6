// `coffer audit …` on a broker that serves, and on files: what it exports verifies with the public key alone, and
// whatever is done to the file is found.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "./harness/broker.ts";
import { coffer, newHome } from "./harness/process.ts";
import { until } from "./harness/until.ts";

let home: Awaited<ReturnType<typeof newHome>>;
let broker: TestBroker;
let world: World;
let database: pg.Pool;
let environment: Readonly<Record<string, string>>;
let key: string;
let exported: string[];

const VALUE = "canary-of-the-audit-export";

beforeAll(async () => {
  home = await newHome();
  broker = await startBroker();
  world = await furnish(broker);
  database = new pg.Pool({ connectionString: broker.databaseUrl, max: 1 });
  database.on("error", () => undefined);
  environment = {
    COFFER_HOME: join(home.path, "none"),
    DATABASE_URL: broker.databaseUrl,
    COFFER_MASTER_KEY: broker.masterKey,
  };
  const url = settingsUrl(world.project, "secret/Custom/a");
  await made(world.writer.api.put(url, { body: { value: VALUE } }));
  await made(world.writer.api.get(settingsUrl(world.project, "secret/Custom/a", { decrypt: "true" })));
  await allSealed();
  key = (await coffer(["audit", "key"], environment)).stdout.trim();
  exported = (await coffer(["audit", "export"], environment)).stdout.trimEnd().split("\n");
});
afterAll(async () => {
  await database.end();
  await broker.close();
  await home.remove();
});

/** The broker seals by itself; this only looks until it has. */
async function allSealed(): Promise<void> {
  await until("every event sealed", async () => {
    const { rows } = await database.query(
      "SELECT (SELECT count(*) FROM audit_events) = (SELECT sum(count) FROM audit_seals) AS sealed",
    );
    return rows[0].sealed === true;
  });
}

const verify = async (lines: readonly string[], ...more: string[]) => {
  const file = join(home.path, "export.jsonl");
  await writeFile(file, `${lines.join("\n")}\n`);
  return coffer(["audit", "verify", "--export", file, "--public-key", key, ...more]);
};
const parsed = () => exported.map((line) => JSON.parse(line));
const indexOf = (kind: string, from = 0) =>
  parsed().findIndex((each, at) => at >= from && each.kind === kind);

describe("a live database", () => {
  test("verifies beside the broker that writes it, which has sealed what it wrote", async () => {
    const { code, stdout, stderr } = await coffer(["audit", "verify"], environment);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^The audit log is as it was sealed: \d+ events under \d+ seals\.\n/);
    expect(stdout).not.toContain("not sealed yet");
  });

  test("the head that was written down, from the command or the broker's log, must be there", async () => {
    const head = (await coffer(["audit", "head"], environment)).stdout.trim();
    expect(head).toMatch(/^\d+:[0-9a-f]{64}$/);
    expect(await coffer(["audit", "verify", "--head", head], environment)).toMatchObject({ code: 0 });
    const [, seal, hash] = /"seal":(\d+),"hash":"([0-9a-f]{64})"[^\n]*"audit head"/.exec(broker.log()) ?? [];
    expect(await coffer(["audit", "verify", "--head", `${seal}:${hash},${head}`], environment)).toMatchObject(
      {
        code: 0,
      },
    );
    const [number = ""] = head.split(":");
    const other = await coffer(["audit", "verify", "--head", `${number}:${"0".repeat(64)}`], environment);
    expect(other.code).toBe(1);
    const later = await coffer(["audit", "verify", "--head", `${number}9:${"0".repeat(64)}`], environment);
    expect(later).toMatchObject({ code: 1, stdout: expect.stringContaining("truncated") });
  });

  test("an event that was changed in it is named, and the exit code is 1", async () => {
    const { rows } = await database.query("SELECT id FROM audit_events ORDER BY position LIMIT 1 OFFSET 3");
    const change = async (count: number): Promise<void> => {
      await database.query("ALTER TABLE audit_events DISABLE TRIGGER USER");
      await database.query("UPDATE audit_events SET count = $1 WHERE id = $2", [count, rows[0].id]);
      await database.query("ALTER TABLE audit_events ENABLE TRIGGER USER");
    };
    await change(7);
    const { code, stdout } = await coffer(["audit", "verify"], environment);
    await change(1);
    expect(code).toBe(1);
    expect(stdout).toContain(`changed, event ${rows[0].id}, position 4`);
    expect(await coffer(["audit", "verify"], environment)).toMatchObject({ code: 0 });
  });
});

describe("an export", () => {
  test("is JSON Lines of every event, with its seals, and holds no value", () => {
    const kinds = parsed().map(({ kind }) => kind);
    expect(kinds[0]).toBe("header");
    expect(kinds.at(-1)).toBe("end");
    expect(new Set(kinds)).toEqual(new Set(["header", "seal", "event", "end"]));
    const operations = parsed().map(({ operation }) => operation);
    expect(operations).toEqual(expect.arrayContaining(["createFirstAdmin", "putSetting", "listSettings"]));
    expect(exported.join("\n")).not.toContain(VALUE);
  });

  test("verifies with the public key alone, or with the master key", async () => {
    const { code, stdout } = await verify(exported);
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining("as it was sealed") });
    const file = join(home.path, "export.jsonl");
    expect(await coffer(["audit", "verify", "--export", file], environment)).toMatchObject({ code: 0 });
  });

  // A key may well begin with a dash; one in 4096 looks like an option.
  test.each(["CQkJ", "-_-_", "--nn"])(
    "does not verify with somebody else's key, that begins with %s",
    async (text) => {
      const mine = key;
      key = Buffer.alloc(32, Buffer.from(text, "base64url")).toString("base64url");
      const { code, stdout } = await verify(exported);
      key = mine;
      expect({ code, stdout }).toMatchObject({ code: 1, stdout: expect.stringContaining("seal_forged") });
    },
  );

  const at = (index: number, count: number, ...instead: string[]) =>
    exported.toSpliced(index, count, ...instead);
  const edited = (index: number, change: object) =>
    at(index, 1, JSON.stringify({ ...JSON.parse(exported[index] ?? ""), ...change }));

  test.each([
    ["an event changed", () => edited(indexOf("event"), { outcome: "denied" }), "changed"],
    ["an event left out", () => at(indexOf("event", 5), 1), "removed"],
    [
      "two events swapped",
      () => {
        const first = indexOf("event", 5);
        return at(first, 2, exported[first + 1] ?? "", exported[first] ?? "");
      },
      "removed",
    ],
    ["an event told twice", () => at(indexOf("event"), 0, exported[indexOf("event")] ?? ""), "reordered"],
    ["a seal left out", () => at(indexOf("seal"), 1), ""],
    ["a seal changed", () => edited(indexOf("seal"), { count: 1 }), "seal_forged"],
    ["the end cut off", () => exported.slice(0, -1), "truncated"],
    ["the last event cut off", () => exported.toSpliced(-2, 1), ""],
    [
      "all from the last seal on cut off, with the end put back",
      () => [
        ...exported.slice(
          0,
          parsed().findLastIndex(({ kind }) => kind === "seal"),
        ),
        exported.at(-1) ?? "",
      ],
      "truncated",
    ],
    ["the end changed", () => edited(exported.length - 1, { events: 1 }), "truncated"],
    [
      "a claim that retention took what is missing",
      () => edited(0, { kept_from: "2999-01-01T00:00:00.000Z" }),
      "",
    ],
  ])("with %s is found out", async (_what, tampered, word) => {
    const { code, stdout } = await verify(tampered());
    expect(code).toBe(1);
    expect(stdout).toContain("The audit log was tampered with: ");
    expect(stdout).toContain(word);
  });

  test("that is cut within a line, or is no export, is an error that names the line and quotes nothing", async () => {
    const cut = exported.slice(0, 4);
    cut[3] = cut[3]?.slice(0, 40) ?? "";
    const { code, stdout, stderr } = await verify(cut);
    expect({ code, stdout, stderr }).toEqual({
      code: 1,
      stdout: "",
      stderr: "coffer: Line 4 is not a line of an export.\n",
    });
  });
});

test("an export that is not there is told in a sentence, whatever it is verified with", async () => {
  const wanted = { code: 1, stdout: "", stderr: "coffer: The export /nonexistent cannot be read: ENOENT.\n" };
  const args = ["audit", "verify", "--export", "/nonexistent"];
  expect(await coffer([...args, "--public-key", key])).toEqual(wanted);
  expect(await coffer(args, environment)).toEqual(wanted);
});

test("what the commands do not take is told with exit code 2", async () => {
  const misuses = [
    ["--public-key", key],
    ["--head", "nonsense"],
    ["--nonsense"],
    ["--export"],
    ["--export", "--public-key", key],
    ["--export", `--public-key=${key}`],
  ];
  for (const args of misuses)
    expect(await coffer(["audit", "verify", ...args], environment)).toMatchObject({ code: 2 });
});
