import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { applyMigrations } from "../../src/store/migrate.ts";
import { ignoreLateErrors, openEngine, readMigrationList } from "../../src/store/schema-engine.ts";
import { type TestDatabase, emptyDatabase } from "../harness/postgres.ts";

let database: TestDatabase;
let folder: string;

beforeEach(async () => {
  database = await emptyDatabase();
  folder = await mkdtemp(join(tmpdir(), "coffer-migrations-"));
  await writeFile(join(folder, "migration_lock.toml"), 'provider = "postgresql"\n');
  await write("1_one", "CREATE TABLE one (id int); COMMENT ON TABLE one IS 'a; b';");
  await write("2_two", "CREATE FUNCTION two() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 2; END $$;");
});

afterEach(async () => {
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

async function write(name: string, sql: string): Promise<void> {
  await mkdir(join(folder, name), { recursive: true });
  await writeFile(join(folder, name, "migration.sql"), sql);
}

async function query(sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: database.url });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

test("an empty database gets every migration once, whole scripts as they are written", async () => {
  expect(await applyMigrations(database.url, folder)).toEqual({ applied: ["1_one", "2_two"] });
  expect(await query("SELECT two(), obj_description('one'::regclass) AS says")).toEqual([
    { two: 2, says: "a; b" },
  ]);
  expect(await applyMigrations(database.url, folder)).toEqual({ applied: [] });
});

test("replicas that start at once apply each migration once", async () => {
  const starts = await Promise.all(Array.from({ length: 6 }, () => applyMigrations(database.url, folder)));
  expect(starts.flatMap(({ applied }) => applied)).toEqual(["1_one", "2_two"]);
  expect(await query("SELECT count(*)::int AS rows FROM _prisma_migrations")).toEqual([{ rows: 2 }]);
});

test("a migration that fails leaves nothing, says why, and can be tried again", async () => {
  await write("3_three", "CREATE TABLE three (id int); SELECT 1 / 0;");
  await expect(applyMigrations(database.url, folder)).rejects.toThrow("division by zero");
  expect(
    await query("SELECT to_regclass('one') AS one, to_regclass('_prisma_migrations') AS history"),
  ).toEqual([{ one: null, history: null }]);
  await write("3_three", "CREATE TABLE three (id int);");
  expect((await applyMigrations(database.url, folder)).applied).toHaveLength(3);
});

test("a database that a newer build migrated is refused", async () => {
  await applyMigrations(database.url, folder);
  await rm(join(folder, "2_two"), { recursive: true });
  await expect(applyMigrations(database.url, folder)).rejects.toThrow("a newer one has run here");
});

test("a migration that was changed after it was applied is refused", async () => {
  await applyMigrations(database.url, folder);
  await write("1_one", "CREATE TABLE one (id bigint);");
  await expect(applyMigrations(database.url, folder)).rejects.toThrow("1_one has changed since");
});

test("a migration that another tool left failed is refused", async () => {
  await applyMigrations(database.url, folder);
  await query("UPDATE _prisma_migrations SET finished_at = NULL WHERE migration_name = '2_two'");
  await expect(applyMigrations(database.url, folder)).rejects.toThrow("2_two failed on this database before");
});

test("Prisma's own engine agrees with the history", async () => {
  await applyMigrations(database.url, folder);
  const pool = new pg.Pool({ connectionString: database.url, max: 1 });
  ignoreLateErrors(pool);
  try {
    await using engine = await openEngine(pool);
    const migrationsList = await readMigrationList(folder);
    const filters = { externalTables: [], externalEnums: [] };
    const diagnosis = await engine.run((it) =>
      it.diagnoseMigrationHistory({ migrationsList, optInToShadowDatabase: false, filters }),
    );
    expect(diagnosis).toMatchObject({ history: null, editedMigrationNames: [], failedMigrationNames: [] });
  } finally {
    await pool.end();
  }
});
