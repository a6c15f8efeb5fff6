// Backup and restore, by the commands and on real databases: what comes back is one moment of the instance, proven, with
// every key to it changed, and nothing of it can be read from the file without the master key.
import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, stat, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { type Api, S3, made, settingsUrl } from "../harness/broker.ts";
import { coffer, spawnBroker } from "../harness/process.ts";
import {
  CANARY,
  commandsOn,
  database,
  filledInstance,
  instanceOn,
  liveTokens,
  plainOf,
  query,
  setCountByHand,
  tornVersions,
} from "./backup-kit.ts";

// Each of these starts a dozen processes.
vi.setConfig({ testTimeout: 120_000 });

const TOKEN = /^cfr_[0-9A-Za-z]{49}\n$/;
type Filled = Awaited<ReturnType<typeof filledInstance>>;
let home: Filled["home"];
let broker: Filled["broker"];
let world: Filled["world"];
let enrolment: string;
let access: string;
const running = () => ({ home, broker, world });
const { at, environment, backup, restore, serve, tokenFor, newRecipient } = commandsOn(running);
const { secret, put, busyWriters, allSealed } = instanceOn(running);

beforeAll(async () => {
  ({ home, broker, world, enrolment, access } = await filledInstance());
  await backup("first");
});
afterAll(async () => {
  await broker.close();
  await home.remove();
});

describe("a backup", () => {
  test("is a private file that appears whole, and is not written over", async () => {
    expect((await stat(at("first"))).mode & 0o777).toBe(0o600);
    expect((await readdir(home.path)).filter((name) => name.endsWith(".part"))).toEqual([]);
    const again = await coffer(["backup", "--output", at("first")], environment(broker.databaseUrl));
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining("is there already") });
  });

  test("holds no value and no token, even for who has its key: rows are in it as they rest", async () => {
    const file = await readFile(at("first"));
    const plain = await plainOf(file, broker.masterKey);
    expect(plain).toContain("secret/Custom/kept");
    expect(plain).toContain("#table audit_seals");
    for (const text of [
      CANARY,
      S3.secret_access_key,
      broker.masterKey,
      enrolment,
      world.writer.api.token,
      access,
    ]) {
      expect(plain).not.toContain(text);
      expect(file.includes(text)).toBe(false);
    }
    expect(file.includes("secret/Custom")).toBe(false);
  });

  test("is not made under a master key that is not the database's", async () => {
    const wrong = { COFFER_MASTER_KEY: randomBytes(32).toString("hex") };
    const made = await coffer(["backup", "--output", at("wrong")], environment(broker.databaseUrl, wrong));
    expect(made).toMatchObject({ code: 1, stderr: expect.stringContaining("The master key is not the one") });
    await expect(stat(at("wrong"))).rejects.toThrow("ENOENT");
  });
});

describe("a restore", () => {
  test("brings back every value, voids every token made before, and prints a new admin token that works", async () => {
    const url = await database();
    const { code, stdout, stderr } = await restore(url, "first");
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining("as it was sealed") });
    expect(stdout).toMatch(TOKEN);
    const restored = await serve(url);
    const admin = restored.as(stdout.trim());
    expect((await made(admin.get("/auth/me"))).admin).toBe(true);
    for (const old of [
      broker.admin,
      world.owner.api,
      world.writer.api,
      world.keeper.api,
      restored.as(access),
    ])
      expect((await restored.as(old.token).get("/auth/me")).status).toBe(401);
    expect((await restored.as("").post("/auth/enrol", { body: { code: enrolment } })).status).toBe(401);
    const worker = restored.as(await tokenFor(url, world.writer.id));
    const { settings } = await made(worker.get(settingsUrl(world.project, undefined, { decrypt: "true" })));
    expect(settings).toHaveLength(43);
    expect(settings.every(({ decrypted }: { decrypted: boolean }) => decrypted)).toBe(true);
    for (const version of [1, 2, 3]) {
      const read = secret("kept", { version: String(version) }, "/settings/value");
      expect((await made(worker.get(read))).value).toBe(`${CANARY} ${version}`);
    }
    expect(await coffer(["audit", "verify"], environment(url))).toMatchObject({ code: 0 });
    const log = await made(admin.get("/audit?owner_type=instance&action=housekeep"));
    expect(log.events.map(({ operation }: { operation: string }) => operation)).toContain("restoreBackup");
  });

  test("gives no version number or entity tag twice: of a path that went on, is new since, or was purged", async () => {
    await backup("numbers");
    const tagged = async (api: Api, description: string): Promise<string> =>
      (await made(api.patch(secret("kept"), { body: { description } }))).etag;
    const tag = await tagged(world.writer.api, "after the backup");
    const given = {
      kept: (await put("kept", "after the backup")).version,
      fresh: (await put("fresh", "after the backup")).version,
    };
    const url = await database();
    const { stdout } = await restore(url, "numbers");
    const restored = await serve(url);
    expect(stdout).toMatch(TOKEN);
    const worker = restored.as(await tokenFor(url, world.writer.id));
    expect(await tagged(worker, "after the restore")).not.toBe(tag);
    // What was given after the backup is nobody's now; that a row was altered is not the reason.
    const lost = secret("kept", { version: String(given.kept) }, "/settings/value");
    expect((await worker.get(lost)).status).toBe(410);
    const next = async (name: string) =>
      (await made(worker.put(secret(name), { body: { value: "restored" } }))).version as number;
    expect(await next("kept")).toBeGreaterThan(given.kept);
    expect((await worker.get(lost)).status).toBe(410);
    expect(await next("fresh")).toBeGreaterThan(given.fresh);
    expect(await next("purged-before")).toBeGreaterThan(1);
    const first = await next("never-heard-of");
    await restored.stop();
    // And again, of the restored one.
    expect(await coffer(["backup", "--output", at("again")], environment(url))).toMatchObject({ code: 0 });
    const other = await database();
    await restore(other, "again");
    const second = await serve(other);
    const again = second.as(await tokenFor(other, world.writer.id));
    const { version } = await made(again.put(secret("never-heard-of"), { body: { value: "x" } }));
    expect(version).toBeGreaterThan(first + 1);
  });

  test("with the newer audit export it lists what was destroyed, taken and written since", async () => {
    await put("destroyed-later", CANARY);
    await backup("listed");
    await put("doomed", `${CANARY} later`);
    await made(world.keeper.api.delete(secret("doomed", { version: "1" }, "/settings/versions")));
    await made(world.keeper.api.delete(secret("destroyed-later", { purge: "true" })));
    await made(
      world.owner.api.put(`/projects/${world.project.id}/members/${world.reader.id}`, {
        body: { role: "write" },
      }),
    );
    await made(world.owner.api.delete(`/projects/${world.project.id}/members/${world.reader.id}`));
    await allSealed();
    const exported = await coffer(["audit", "export"], environment(broker.databaseUrl));
    await writeFile(at("newer.jsonl"), exported.stdout);
    const url = await database();
    const { code, stderr } = await restore(url, "listed", "--audit-export", at("newer.jsonl"));
    expect(code).toBe(0);
    const project = `project/${world.project.id}`;
    expect(stderr).toContain(`destroy it again: ${project}/secret/Custom/doomed?version=1 (`);
    expect(stderr).toContain(`destroy it again: ${project}/secret/Custom/destroyed-later (`);
    expect(stderr).toContain(`taken since, and held again: write of ${world.reader.id} at ${project}`);
    expect(stderr).toContain(`written since, and gone: ${project}/secret/Custom/doomed?version=2`);
    expect(stderr).not.toContain("secret/Custom/bulk");
    expect(stderr).not.toContain(CANARY);
  });

  test("refuses an audit export that is older than the backup, or that was tampered with, and restores nothing", async () => {
    const lines = (await coffer(["audit", "export"], environment(broker.databaseUrl))).stdout.split("\n");
    await writeFile(at("tampered.jsonl"), lines.toSpliced(4, 1).join("\n"));
    await writeFile(at("older.jsonl"), lines.join("\n"));
    await put("kept", "one more");
    await allSealed();
    await backup("newer");
    const url = await database();
    for (const file of ["tampered.jsonl", "older.jsonl"]) {
      const { code, stdout, stderr } = await restore(url, "newer", "--audit-export", at(file));
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toContain("The audit export is not as it was sealed");
    }
    expect(await restore(url, "newer")).toMatchObject({ code: 0 });
  });

  test("refuses a database that is not empty, and leaves it as it is", async () => {
    const before = await liveTokens(broker.databaseUrl);
    const { code, stdout, stderr } = await restore(broker.databaseUrl, "first");
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain("The database is not empty");
    expect(await liveTokens(broker.databaseUrl)).toEqual(before);
  });

  test("refuses a database that is somebody else's, and makes no table in it", async () => {
    const url = await database();
    await query(url, "CREATE TABLE theirs (x int)");
    expect(await restore(url, "first")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("The database is not empty"),
    });
    const names = await query(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'");
    expect(names).toEqual([{ tablename: "theirs" }]);
  });

  test("refuses a file that is cut off or altered, and restores nothing", async () => {
    const whole = await readFile(at("first"));
    expect(whole.length).toBeGreaterThan(140_000);
    const url = await database();
    const altered = Buffer.from(whole);
    altered.writeUInt8(altered.readUInt8(100_000) ^ 1, 100_000);
    const flawed = [whole.subarray(0, 20), whole.subarray(0, 100_000), whole.subarray(0, -1), altered];
    for (const file of flawed) {
      await writeFile(at("flawed"), file);
      const { code, stdout, stderr } = await restore(url, "flawed");
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toMatch(
        /The file is no backup|The backup does not open|The backup was cut off or altered/,
      );
    }
    expect(await restore(url, "first")).toMatchObject({ code: 0 });
  });

  test("refuses another instance's master key", async () => {
    const url = await database();
    const wrong = { COFFER_MASTER_KEY: randomBytes(32).toString("hex") };
    const { code, stderr } = await coffer(["restore", "--input", at("first")], environment(url, wrong));
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining("for another key") });
  });

  test("refuses a backup of a log that was tampered with, naming the event", async () => {
    const [event] = await query(broker.databaseUrl, "SELECT id FROM audit_events WHERE position = 5");
    await setCountByHand(broker.databaseUrl, 9);
    await backup("tampered");
    await setCountByHand(broker.databaseUrl, 1);
    const url = await database();
    const { code, stdout, stderr } = await restore(url, "tampered");
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain(`changed, event ${String(event?.["id"])}`);
    expect(await query(url, "SELECT count(*)::int FROM audit_events")).toEqual([{ count: 0 }]);
  });

  test("is of one moment, whatever is written while the backup is made", async () => {
    const endWriters = busyWriters();
    await backup("busy");
    await endWriters();
    const url = await database();
    expect(await restore(url, "busy")).toMatchObject({ code: 0 });
    const restored = await serve(url);
    const worker = restored.as(await tokenFor(url, world.writer.id));
    const read = settingsUrl(world.project, "secret/Custom/busy", { decrypt: "true" });
    for (const { decrypted } of (await made(worker.get(read))).settings) expect(decrypted).toBe(true);
    // A version and its event committed together, so either both are there or neither.
    expect(await tornVersions(url)).toEqual([]);
  });
});

describe("for a recipient", () => {
  test("a backup is made without the master key, and opens with the identity alone", async () => {
    const recipient = await newRecipient("identity");
    const keyless = { COFFER_HOME: at("none"), DATABASE_URL: broker.databaseUrl };
    const args = ["backup", "--output", at("received"), "--recipient", recipient];
    expect(await coffer(args, keyless)).toEqual({ code: 0, stdout: "", stderr: "" });
    const url = await database();
    const without = await restore(url, "received");
    expect(without).toMatchObject({ code: 1, stderr: expect.stringContaining("its identity is needed") });
    await newRecipient("other");
    const foreign = await restore(url, "received", "--identity", at("other"));
    expect(foreign).toMatchObject({ code: 1, stderr: expect.stringContaining("for another key") });
    expect(await restore(url, "received", "--identity", at("identity"))).toMatchObject({ code: 0 });
  });

  test("that is none no backup is made", async () => {
    const made = await coffer(
      ["backup", "--output", at("none"), "--recipient", "age1nonsense"],
      environment(broker.databaseUrl),
    );
    expect(made).toMatchObject({ code: 1, stderr: expect.stringContaining("That is no recipient") });
  });
});

test("a fresh home with the same master key takes a backup in, and serves it", async () => {
  const fresh = at("fresh");
  await mkdir(fresh, { mode: 0o700 });
  await writeFile(at("fresh/master.key"), broker.masterKey, { mode: 0o600 });
  const { code, stdout } = await coffer(["restore", "--input", at("first")], { COFFER_HOME: fresh });
  expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(TOKEN) });
  const restored = await spawnBroker(fresh);
  onTestFinished(async () => {
    await restored.stop();
  });
  expect((await made(restored.as(stdout.trim()).get("/auth/me"))).admin).toBe(true);
  await restored.stop();
  const again = await coffer(["restore", "--input", at("first")], { COFFER_HOME: fresh });
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining("The database is not empty") });
});
