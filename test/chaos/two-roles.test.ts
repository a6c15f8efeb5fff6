// The two-role set-up of docs/operations.md, done as it says there: the owner migrates, a lesser role serves. The broker
// does all its work, and PostgreSQL itself refuses that role whatever would change or remove what is on record.
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chooseAccount } from "../../src/embedded/account.ts";
import { findPrograms, runSingle } from "../../src/embedded/cluster.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { type Api, type World, client, furnish, made, settingsUrl } from "../harness/broker.ts";
import { type BrokerProcess, coffer, newHome, spawnBroker } from "../harness/process.ts";
import { until } from "../harness/until.ts";

let home: Awaited<ReturnType<typeof newHome>>;
let server: EmbeddedPostgres;
let broker: BrokerProcess;
let world: World;
let admin: Api;
let owner: pg.Pool;
let serving: pg.Pool;
const key = randomBytes(32).toString("hex");
const urls = { owner: "", serving: "" };
const as = (url: string, more: Readonly<Record<string, string>> = {}) => ({
  COFFER_HOME: join(home.path, "broker"),
  DATABASE_URL: url,
  COFFER_MASTER_KEY: key,
  ...more,
});

beforeAll(async () => {
  home = await newHome();
  const cluster = join(home.path, "cluster");
  await (await startEmbeddedPostgres({ home: cluster })).stop();
  // The embedded cluster's own role makes no roles; here it stands for an operator's.
  const data = join(cluster, "postgres/data");
  await runSingle(data, ["ALTER ROLE coffer CREATEROLE"], await chooseAccount(), await findPrograms());
  await writeFile(
    join(data, "pg_hba.conf"),
    "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n",
  );
  server = await startEmbeddedPostgres({ home: cluster });
  urls.owner = server.url;
  const url = new URL(server.url);
  url.username = "coffer_serve";
  url.password = "serving";
  urls.serving = url.href;
  [owner, serving] = [urls.owner, urls.serving].map((connectionString) => {
    const pool = new pg.Pool({ connectionString, max: 1 });
    pool.on("error", () => undefined);
    return pool;
  }) as [pg.Pool, pg.Pool];
  await owner.query("CREATE ROLE coffer_serve LOGIN PASSWORD 'serving'");
});
afterAll(async () => {
  await broker.stop();
  await owner.end();
  await serving.end();
  await server.stop();
  await home.remove();
});

test("before the owner has migrated, the serving role starts nothing and says what is to be done", async () => {
  const { code, stderr } = await coffer(["serve"], as(urls.serving, { COFFER_PORT: "0" }));
  expect(code).toBe(1);
  expect(stderr).toContain("this role may not apply them. Run `coffer migrate` as its owner");
});

test("the owner migrates without the master key, and gives the serving role its rights; more than once", async () => {
  const environment = { COFFER_HOME: join(home.path, "none"), DATABASE_URL: urls.owner };
  const first = await coffer(["migrate", "--serving-role", "coffer_serve"], environment);
  expect(first).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining("Applied: ") });
  const again = await coffer(["migrate", "--serving-role", "coffer_serve"], environment);
  expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining("No migration was missing.") });
  const none = await coffer(["migrate", "--serving-role", "nobody_at_all"], environment);
  expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no role nobody_at_all") });
  const itself = await coffer(["migrate", "--serving-role", "coffer"], environment);
  expect(itself).toMatchObject({ code: 1, stderr: expect.stringContaining("can do all that the owner can") });
});

describe("as the serving role", () => {
  beforeAll(async () => {
    broker = await spawnBroker(join(home.path, "broker"), as(urls.serving));
    admin = await broker.admin();
    world = await furnish({ url: broker.url, admin, as: (token) => broker.as(token) });
  });

  test("the broker reads, writes, deletes, refuses, removes, collects and seals", async () => {
    const { writer, keeper, owner: person, project, organization } = world;
    const url = settingsUrl(project, "secret/Custom/a");
    await made(writer.api.put(url, { body: { value: "one" } }));
    await made(writer.api.put(url, { body: { value: "two" } }));
    expect(
      (await writer.api.get(settingsUrl(project, "secret/Custom/a", {}, "/settings/value"))).body.value,
    ).toBe("two");
    await made(writer.api.delete(url));
    await made(keeper.api.delete(settingsUrl(project, "secret/Custom/a", { purge: "true" })));
    for (let count = 0; count < 3; count++)
      expect((await client(broker.url, "nonsense").get("/auth/me")).status).toBe(401);
    const log = `/audit?owner_type=organization&owner_id=${organization.id}&order=asc`;
    expect((await made(person.api.get(log))).events.length).toBeGreaterThan(0);
    await made(person.api.delete(`/organizations/${organization.id}?purge=true`));
    await until("every event with its position", async () => {
      const { rows } = await owner.query(
        "SELECT count(*)::int AS open FROM audit_events WHERE position IS NULL AND outcome <> 'denied'",
      );
      return rows[0].open === 0;
    });
    expect((await made(admin.get("/users"))).users.length).toBeGreaterThan(0);
    expect(broker.output()).not.toContain('"level":"error"');
    const verified = await coffer(["audit", "verify"], as(urls.serving));
    expect(verified).toMatchObject({ code: 0, stderr: "" });
  });

  test.each([
    "UPDATE audit_events SET outcome = 'denied'",
    "UPDATE audit_events SET settings = '[]'",
    "UPDATE audit_events SET at = now()",
    "DELETE FROM audit_events",
    "TRUNCATE audit_events",
    "DROP TABLE audit_events",
    "ALTER TABLE audit_events DISABLE TRIGGER ALL",
    "DELETE FROM audit_events_before",
    "UPDATE audit_events_before SET count = 1",
    "SELECT FROM audit_events_before",
    "INSERT INTO audit_events_default SELECT * FROM audit_events",
    "DROP TABLE audit_events_before",
    "UPDATE audit_seals SET leaves = NULL",
    "DELETE FROM audit_seals",
    "TRUNCATE audit_seals",
    "DELETE FROM audit_tail",
    "DELETE FROM removed_tenants",
    "DELETE FROM _prisma_migrations",
    "INSERT INTO recent_writes VALUES (gen_random_uuid(), 1)",
    "DELETE FROM recent_writes",
    "UPDATE recent_writes_from SET written_by = 0",
    "ALTER TABLE settings DISABLE TRIGGER ALL",
    "CREATE TABLE x (y int)",
    "CREATE OR REPLACE FUNCTION coffer_audit_frozen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "SET session_replication_role = replica",
  ])("PostgreSQL refuses %s", async (statement) => {
    await expect(serving.query(statement)).rejects.toMatchObject({ code: "42501" });
  });

  test("what it writes is noted, also beside a table of its own of that name, and is forgotten in time alone", async () => {
    const notes = async (): Promise<number> =>
      (await owner.query("SELECT count(*)::int AS n FROM recent_writes")).rows[0].n;
    const before = await notes();
    await serving.query("CREATE TEMP TABLE recent_writes (about UUID, written_by BIGINT)");
    await serving.query("UPDATE principals SET name = name");
    expect(await notes()).toBeGreaterThan(before);
    await serving.query("DROP TABLE pg_temp.recent_writes");
    await serving.query("SELECT coffer_forget_writes(0)");
    expect(await notes()).toBeGreaterThan(before);
  });

  test("partitions that were made since give it no more", async () => {
    await owner.query("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO coffer_serve");
    const months = "SELECT relid::regclass::text AS name FROM pg_partition_tree('audit_events') WHERE isleaf";
    const { rows: made } = await owner.query(`${months} ORDER BY name`);
    await owner.query(`DROP TABLE ${made[0].name}`);
    expect((await serving.query("SELECT coffer_audit_months(3) AS made")).rows).toEqual([{ made: 1 }]);
    const { rows } = await owner.query(months);
    expect(rows.length).toBeGreaterThan(4);
    for (const { name } of rows)
      await expect(serving.query(`DELETE FROM ${name}`)).rejects.toMatchObject({ code: "42501" });
  });

  test.each([
    "UPDATE audit_events SET position = NULL WHERE position IS NOT NULL",
    "UPDATE audit_events SET position = position + 1 WHERE position IS NOT NULL",
    "UPDATE audit_events SET count = count + 1 WHERE position IS NOT NULL",
    "UPDATE audit_events SET principal_id = NULL WHERE position IS NOT NULL",
  ])("what has its position is frozen: %s", async (statement) => {
    await expect(serving.query(statement)).rejects.toMatchObject({ code: "23001" });
  });

  test("retention is the owner's alone", async () => {
    const months = { COFFER_AUDIT_RETENTION_MONTHS: "1" };
    await owner.query("ALTER TABLE audit_events DETACH PARTITION audit_events_default");
    await owner.query("DROP TABLE audit_events_default");
    // An empty month of long ago.
    await owner.query("ALTER TABLE audit_events DETACH PARTITION audit_events_before");
    const bound = (await owner.query("SELECT coffer_audit_bound(date_trunc('month', now(), 'UTC')) AS at"))
      .rows[0].at;
    const high = (
      await owner.query(
        "SELECT coffer_audit_bound(date_trunc('month', now(), 'UTC') + interval '1 month') AS at",
      )
    ).rows[0].at;
    await owner.query(
      `ALTER TABLE audit_events ATTACH PARTITION audit_events_before FOR VALUES FROM ('${bound}') TO ('${high}')`,
    );
    await owner.query(
      "CREATE TABLE audit_events_old PARTITION OF audit_events FOR VALUES FROM (MINVALUE) TO ('00000000-0000-0000-0000-000000000001')",
    );
    const lesser = await coffer(["audit", "prune"], as(urls.serving, months));
    expect(lesser).toMatchObject({
      code: 1,
      stderr: "coffer: Only the role that owns the tables may drop a month of the audit log.\n",
    });
    const done = await coffer(["audit", "prune"], as(urls.owner, months));
    expect(done).toMatchObject({
      code: 0,
      stderr: "",
      stdout: expect.stringContaining("Gone: audit_events_old."),
    });
    expect(await coffer(["audit", "verify"], as(urls.serving))).toMatchObject({ code: 0 });
  });
});
