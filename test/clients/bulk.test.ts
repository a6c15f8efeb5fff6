// `coffer report`, `export` and `import` as processes against a real broker: what is printed, what is in a file, and that
// a file holds no value in clear.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Decrypter, generateIdentity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { S3, made, settingsUrl } from "../harness/broker.ts";
import { projectOf } from "../http/rights-kit.ts";
import { settingsOf } from "../http/settings-kit.ts";
import { type Environment, coffer } from "./cli-kit.ts";
import { startWorkload } from "./workload.ts";

let workload: Awaited<ReturnType<typeof startWorkload>>;
let environment: Environment;
let project: string;
let other: { type: string; id: string };

beforeAll(async () => {
  workload = await startWorkload();
  const { broker, world } = workload;
  environment = { COFFER_URL: broker.url, COFFER_TOKEN: world.owner.api.token };
  other = await projectOf(world.owner.api, world.organization, "other");
  const source = await projectOf(world.owner.api, world.organization, "source");
  project = `project/${source.id}`;
  const settings = settingsOf(world.owner.api, source);
  await made(settings.put("secret/Custom/app/PLAIN", "canary-7f3a9c", { labels: { team: "vision" } }));
  await made(settings.put("secret/Custom/app/LINES", "one\ntwo 'quoted'", { rotate_after_days: 30 }));
  await made(settings.put("connect/S3/data", S3, { description: "training" }));
});
afterAll(() => workload.close());

const target = () => `project/${other.id}`;
const there = () => settingsOf(workload.world.owner.api, other);

describe("export and import", () => {
  test("JSON comes back as it was, values and metadata; a second time nothing is written", async () => {
    const exported = await coffer(["export", project], environment);
    expect([exported.code, exported.stderr]).toEqual([0, ""]);
    expect(JSON.parse(exported.stdout).settings).toEqual([
      { path: "connect/S3/data", value: S3, description: "training" },
      { path: "secret/Custom/app/LINES", value: "one\ntwo 'quoted'", rotate_after_days: 30 },
      { path: "secret/Custom/app/PLAIN", value: "canary-7f3a9c", labels: { team: "vision" } },
    ]);
    const dry = await coffer(["import", target(), "--dry-run"], environment, { input: exported.stdout });
    expect(dry.stdout).toContain("created\tconnect/S3/data\t0\n");
    const imported = await coffer(["import", target()], environment, { input: exported.stdout });
    expect([imported.code, imported.stdout.split("\n").length]).toEqual([0, 4]);
    const { settings } = await made(there().open("secret/Custom/app"));
    expect(settings).toMatchObject([
      { value: "one\ntwo 'quoted'", rotate_after_days: 30 },
      { value: "canary-7f3a9c", labels: { team: "vision" } },
    ]);
    const again = await coffer(["import", target()], environment, { input: exported.stdout });
    expect(again.code).toBe(1);
    expect(again.stderr).toContain("409 conflict");
    expect(again.stderr).not.toContain("canary");
  });

  test("a .env file goes out and comes in", async () => {
    const exported = await coffer(
      ["export", `${project}/secret/Custom/app`, "--format", "dotenv"],
      environment,
    );
    expect(exported.stdout).toBe("LINES=\"one\ntwo 'quoted'\"\nPLAIN='canary-7f3a9c'\n");
    const args = ["import", target(), "--format", "dotenv", "--under", "secret/Custom/env"];
    expect((await coffer(args, environment, { input: exported.stdout })).code).toBe(0);
    expect((await there().value("secret/Custom/env/LINES")).body.value).toBe("one\ntwo 'quoted'");
  });

  test("an encrypted file for a recipient: age reads it, import takes it, and nothing of it is in clear", async () => {
    const identity = await generateIdentity();
    const recipient = await identityToRecipient(identity);
    const out = join(workload.folder, "export.age");
    const exported = await coffer(["export", project, "--out", out, "--recipient", recipient], environment);
    expect(exported).toEqual({ code: 0, stdout: "", stderr: "" });
    const sealed = await readFile(out);
    expect(sealed.toString("latin1")).toMatch(/^age-encryption\.org\/v1\n/);
    expect(sealed.includes("canary")).toBe(false);
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    expect(JSON.parse(await decrypter.decrypt(sealed, "text")).settings.length).toBe(3);
    const keyFile = join(workload.folder, "key.txt");
    await writeFile(keyFile, `# a key\n${identity}\n`);
    const args = ["import", target(), "--file", out, "--conflict", "skip"];
    expect((await coffer(args, environment)).stderr).toContain("--identity-file");
    expect((await coffer([...args, "--identity-file", keyFile], environment)).stdout).toContain("skipped\t");
    await writeFile(keyFile, `${await generateIdentity()}\n`);
    const wrong = await coffer([...args, "--identity-file", keyFile], environment);
    expect([wrong.code, wrong.stderr]).toEqual([1, "coffer: The file does not open with this key.\n"]);
  });

  test("and under a passphrase; a plain file is not written", async () => {
    const out = join(workload.folder, "export-two.age");
    const passphrase = join(workload.folder, "passphrase");
    await writeFile(passphrase, "correct horse\n");
    const plain = await coffer(["export", project, "--out", out], environment);
    expect([plain.code, plain.stderr.split("\n")[0]]).toEqual([
      2,
      "coffer: --out writes an encrypted file: it goes with --recipient or --passphrase-file.",
    ]);
    const args = ["--passphrase-file", passphrase];
    expect((await coffer(["export", project, "--out", out, ...args], environment)).code).toBe(0);
    const back = await coffer(
      ["import", target(), "--file", out, "--dry-run", "--conflict", "skip", ...args],
      environment,
    );
    expect(back.stdout.trim().split("\n").length).toBe(3);
  }, 30_000);

  test("who may not decrypt all of it exports nothing; bad input is named without being quoted", async () => {
    const reader = { ...environment, COFFER_TOKEN: workload.world.reader.api.token };
    const own = `project/${workload.world.project.id}`;
    await made(settingsOf(workload.world.owner.api, workload.world.project).put("secret/Custom/x", "canary"));
    const refused = await coffer(["export", own], reader);
    expect([refused.code, refused.stdout]).toEqual([1, ""]);
    expect(refused.stderr).toContain("secret/Custom/x: insufficient_role");
    const bad = await coffer(["import", target()], environment, { input: '{"settings": canary-7f3a9c' });
    expect(bad.code).toBe(1);
    expect(bad.stderr).not.toContain("canary");
  });
});

describe("report", () => {
  test("is a table for people, and JSON", async () => {
    const source = { type: "project", id: project.slice(8) };
    await made(settingsOf(workload.world.owner.api, source).put("secret/Custom/unread", "x"));
    const table = await coffer(["report", project], environment);
    expect(table.code).toBe(0);
    expect(table.stdout).toMatch(/^4 settings, 0 rotation overdue, .*1 never read/);
    expect(table.stdout).toMatch(/SETTING +VERSION +FINDINGS +ROTATE BY/);
    const json = await coffer(["report", project, "--json", "--unused-days", "1"], environment);
    const report = JSON.parse(json.stdout);
    expect(report.totals.settings).toBe(4);
    expect(report).toEqual({
      ...(await made(
        workload.world.owner.api.get(
          settingsUrl(source, undefined, { unused_days: "1" }, "/settings/report"),
        ),
      )),
      at: report.at,
    });
    expect((await coffer(["report", `${project}/secret/Custom`], environment)).code).toBe(2);
  });
});
