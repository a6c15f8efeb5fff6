// Brings a database to this build's schema. What is missing is applied by Prisma's own engine in one transaction
// together with its records, under a lock that all replicas respect: a killed start leaves nothing half-done, and
// `prisma migrate` elsewhere agrees with the outcome. A database that is ahead of this build, or whose history was
// changed, is never touched. When nothing is missing it costs one query and loads no engine.
import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { ignoreLateErrors, migrationsFolder, openEngine, readMigrationList } from "./schema-engine.ts";

/** A database that this build must not serve from; the message says what an operator can do. */
export class MigrationRefused extends Error {
  override readonly name = "MigrationRefused";
}

type Migration = { readonly name: string; readonly checksum: string };
type Row = { migration_name: string; checksum: string; finished_at: Date | null };

/** Any number will do, as long as every Coffer uses this one. */
const lockKey = "7420202611220001";

/** Applies what is missing and answers its names, oldest first. */
export async function applyMigrations(
  databaseUrl: string,
  folder = migrationsFolder,
): Promise<{ applied: string[] }> {
  const known = await readMigrations(folder);
  // One connection, never a second: all that the engine does must happen inside the one transaction.
  let connections = 0;
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: 1,
    idleTimeoutMillis: 0,
    verify: (_client, done) => {
      connections += 1;
      done(connections > 1 ? new Error("the connection was lost during a migration") : undefined);
    },
  });
  ignoreLateErrors(pool);
  try {
    if (findMissing(known, await readHistory(pool)).length === 0) return { applied: [] };
    await pool.query("BEGIN");
    await pool.query(`SELECT pg_advisory_xact_lock(${lockKey})`);
    // Another replica may have done it while this one waited.
    const missing = findMissing(known, await readHistory(pool));
    if (missing.length > 0) {
      await refuseLesserRole(pool);
      await applyAll(pool, folder);
    }
    await pool.query("COMMIT");
    return { applied: missing };
  } finally {
    await pool.end();
  }
}

/** Where a lesser role serves, as it should be, only the tables' owner changes the schema. */
async function refuseLesserRole(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ owner: boolean }>(
    `SELECT has_schema_privilege(current_schema(), 'CREATE') AND coalesce((SELECT pg_has_role(relowner, 'USAGE')
       FROM pg_class WHERE oid = to_regclass('_prisma_migrations')), TRUE) AS owner`,
  );
  if (rows[0]?.owner === true) return;
  throw new MigrationRefused(
    "the database lacks migrations, and this role may not apply them. Run `coffer migrate` as its owner",
  );
}

async function applyAll(pool: pg.Pool, folder: string): Promise<void> {
  await using engine = await openEngine(pool);
  const migrationsList = await readMigrationList(folder);
  const filters = { externalTables: [], externalEnums: [] };
  await engine.run((it) => it.applyMigrations({ migrationsList, filters }));
}

/** The migrations that the database lacks; throws when it does not fit this build at all. */
function findMissing(known: readonly Migration[], history: readonly Row[]): string[] {
  const checksums = new Map(known.map(({ name, checksum }) => [name, checksum]));
  for (const row of history) {
    const name = row.migration_name;
    const checksum = checksums.get(name);
    if (checksum === undefined) {
      throw new MigrationRefused(
        `the database has the migration ${name}, which this Coffer does not know: a newer one has run here. ` +
          "Start that version or a newer one",
      );
    }
    if (row.finished_at === null) {
      throw new MigrationRefused(
        `the migration ${name} failed on this database before. Repair it, then mark it with \`prisma migrate resolve\``,
      );
    }
    if (row.checksum !== checksum) {
      throw new MigrationRefused(`the migration ${name} has changed since it was applied to this database`);
    }
  }
  const applied = new Set(history.map((row) => row.migration_name));
  return known.map(({ name }) => name).filter((name) => !applied.has(name));
}

async function readHistory(pool: pg.Pool): Promise<Row[]> {
  // Not to_regclass: inside a transaction it may answer from before the wait for the lock.
  const exists = await pool.query(
    "SELECT FROM pg_tables WHERE tablename = '_prisma_migrations' AND schemaname = ANY (current_schemas(false))",
  );
  if (exists.rows.length === 0) return [];
  const { rows } = await pool.query<Row>(
    "SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL",
  );
  return rows;
}

/** Names sort by time; the checksum is Prisma's: SHA-256 of the file. */
async function readMigrations(folder: string): Promise<Migration[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return Promise.all(
    names.toSorted().map(async (name) => {
      const script = await readFile(join(folder, name, "migration.sql"));
      return { name, checksum: createHash("sha256").update(script).digest("hex") };
    }),
  );
}
