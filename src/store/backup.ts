// All rows of all tables as text, from one snapshot that nothing that is written meanwhile gets into. Values go as they
// rest, sealed: nothing is opened. Control lines start with #; every other line is a row, as PostgreSQL's own JSON,
// which is never parsed here, so that no number or text can change on its way.
import pg from "pg";

export const BACKUP_FORMAT = 1;
const rowsAtOnceMax = 500;
/** About as much is held at once, however wide a table's rows are. */
const bytesAtOnce = 1_048_576;

export type BackupFacts = {
  readonly format: number;
  readonly created_at: string;
  /** The names of the migrations that made the schema. */
  readonly migrations: readonly string[];
};

/** A connection of its own, whose statements may take as long as they take. */
export async function connectAlone(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    keepAlive: true,
    application_name: "coffer backup",
  });
  // What fails, fails the statement that is under way.
  client.on("error", () => undefined);
  await client.connect();
  await client.query(
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET TimeZone = 'UTC'; " +
      "SET plan_cache_mode = force_generic_plan",
  );
  return client;
}

/** Transactions' numbers: they mean nothing in another database. */
const OWN_TABLES = "'_prisma_migrations', 'recent_writes', 'recent_writes_from'";

/** The tables of this schema that hold an instance's rows; partitions are part of their table. */
export async function tablesOf(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relnamespace = current_schema()::regnamespace
       AND relkind IN ('r', 'p') AND NOT relispartition AND relname NOT IN (${OWN_TABLES}) ORDER BY relname`,
  );
  return rows.map(({ name }) => name);
}

export async function migrationsOf(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    "SELECT migration_name AS name FROM _prisma_migrations WHERE rolled_back_at IS NULL ORDER BY migration_name",
  );
  return rows.map(({ name }) => name);
}

export async function* dumpTables(databaseUrl: string, now: Date): AsyncGenerator<string> {
  const client = await connectAlone(databaseUrl);
  try {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const facts: BackupFacts = {
      format: BACKUP_FORMAT,
      created_at: now.toISOString(),
      migrations: await migrationsOf(client),
    };
    yield `#backup ${JSON.stringify(facts)}\n`;
    let total = 0;
    for (const table of await tablesOf(client)) {
      yield `#table ${table}\n`;
      const name = pg.escapeIdentifier(table);
      await client.query(
        `DECLARE rows NO SCROLL CURSOR FOR SELECT row_to_json(t)::text AS row FROM ${name} t`,
      );
      for (let count = 1; ; ) {
        const { rows } = await client.query<{ row: string }>(`FETCH ${count} FROM rows`);
        if (rows.length === 0) break;
        total += rows.length;
        const text = rows.map(({ row }) => `${row}\n`).join("");
        yield text;
        const fitting = Math.floor((bytesAtOnce * rows.length) / text.length);
        count = Math.max(1, Math.min(rowsAtOnceMax, 2 * count, fitting));
      }
      await client.query("CLOSE rows");
    }
    yield `#end ${total}\n`;
  } finally {
    await client.end();
  }
}

/** @throws Error when the database was made with another master key */
export async function assertKey(client: pg.Client, keyCheck: Uint8Array): Promise<void> {
  const { rows } = await client.query<{ key_check: Buffer }>("SELECT key_check FROM instance");
  if (rows[0]?.key_check.equals(keyCheck) === true) return;
  throw new Error("The master key is not the one that this database was made with.");
}
