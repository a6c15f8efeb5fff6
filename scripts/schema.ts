// Compares prisma/migrations with prisma/schema.prisma, and writes the migration that is missing between them.
// Works on a throw-away PostgreSQL of its own; never on anybody's database.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { startEmbeddedPostgres } from "../src/embedded/postgres.ts";
import {
  type Engine,
  ignoreLateErrors,
  migrationsFolder,
  openEngine,
  readMigrationList,
  readSchema,
} from "../src/store/schema-engine.ts";

const filters = { externalTables: [], externalEnums: [] };

/** The script that would bring a migrated database to the schema, or undefined when it is there already. */
export async function diffSchema(): Promise<string | undefined> {
  return withEngine(async (engine) => {
    const from = { tag: "migrations" as const, ...(await readMigrationList()) };
    const to = { tag: "schemaDatamodel" as const, ...(await readSchema()) };
    const result = await engine.run((it) => it.diff({ from, to, script: true, exitCode: true, filters }));
    return result.exitCode === 0 ? undefined : (result.stdout ?? "");
  });
}

/** Writes prisma/migrations/<time>_<name>/migration.sql and answers its path; undefined when nothing is missing. */
export async function createMigration(name: string): Promise<string | undefined> {
  await mkdir(migrationsFolder, { recursive: true });
  await writeFile(join(migrationsFolder, "migration_lock.toml"), 'provider = "postgresql"\n');
  const script = await diffSchema();
  if (script === undefined) return undefined;
  const time = new Date()
    .toISOString()
    .replaceAll(/[^0-9]/g, "")
    .slice(0, 14);
  const folder = join(migrationsFolder, `${time}_${name}`);
  await mkdir(folder);
  await writeFile(join(folder, "migration.sql"), script);
  return join(folder, "migration.sql");
}

async function withEngine<T>(action: (engine: Engine) => Promise<T>): Promise<T> {
  const home = await mkdtemp(join(tmpdir(), "coffer-schema-"));
  const server = await startEmbeddedPostgres({ home, settings: { fsync: "off" } });
  const pool = new pg.Pool({ connectionString: server.url, max: 2 });
  ignoreLateErrors(pool);
  try {
    await using engine = await openEngine(pool);
    return await action(engine);
  } finally {
    await pool.end();
    await server.stop();
    await rm(home, { recursive: true, force: true });
  }
}
