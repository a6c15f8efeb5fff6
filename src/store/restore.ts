// Puts a backup's rows into an empty database, in one transaction: all of it, proven, or nothing. What is restored is
// the past, so in the same transaction every token made before is made void, and numbers of versions go on past any
// that can have been given since.
import pg from "pg";
import type { AuditEvent } from "../domain/audit.ts";
import { VERSION_FLOOR_STEP } from "../domain/setting.ts";
import { recordIn } from "./audit-write.ts";
import { type AuditStream, auditStream } from "./audit-stream.ts";
import {
  BACKUP_FORMAT,
  type BackupFacts,
  assertKey,
  connectAlone,
  migrationsOf,
  tablesOf,
} from "./backup.ts";
import type { Db } from "./db.ts";

const rowsAtOnce = 200;
const bytesAtOnceMax = 4_194_304;

/** A backup that cannot be restored here; the message says why, and quotes no row. */
export class RestoreRefused extends Error {
  override readonly name = "RestoreRefused";
}

export type Restored = {
  readonly created_at: Date;
  readonly rows: number;
  readonly tokens_voided: number;
  readonly version_floor: number;
  /** The last position in the snapshot, and the events in it that had none yet. */
  readonly position: number;
  readonly unplaced: ReadonlySet<string>;
};

export type RestoreSteps = {
  readonly keyCheck: Uint8Array;
  readonly now: Date;
  /** Throws when the restored log is not as it was sealed. */
  readonly prove: (audit: AuditStream) => Promise<void>;
  /** What the log says of it. */
  readonly eventOf: (facts: Pick<Restored, "created_at" | "tokens_voided" | "version_floor">) => AuditEvent;
};

/**
 * To be asked before anything is done to the database: it has no table, or it is Coffer's and has no row.
 * @throws RestoreRefused
 */
export async function assertRestorable(databaseUrl: string): Promise<void> {
  const client = await connectAlone(databaseUrl);
  try {
    const tables = await tablesOf(client);
    if (tables.length === 0) return;
    const { rows } = await client.query<{ ours: boolean }>(
      "SELECT to_regclass('_prisma_migrations') IS NOT NULL AND to_regclass('audit_seals') IS NOT NULL AS ours",
    );
    if (rows[0]?.ours !== true) throw notEmpty();
    await assertNoRows(client, tables);
  } finally {
    await client.end();
  }
}

/** The schema must be there. @throws RestoreRefused, or what `lines` or `prove` throws; nothing is restored then */
export async function restoreTables(
  databaseUrl: string,
  lines: AsyncIterable<string>,
  { keyCheck, now, prove, eventOf }: RestoreSteps,
): Promise<Restored> {
  const client = await connectAlone(databaseUrl);
  try {
    await client.query("BEGIN");
    const tables = await tablesOf(client);
    await makeRoom(client, tables);
    const { created_at, rows } = await load(client, tables, lines);
    await assertKey(client, keyCheck);
    await client.query("ANALYZE audit_events, audit_seals");
    const db = queryDb(client);
    await prove(await auditStream(db));
    const facts = { created_at, ...(await leaveThePast(client, now)) };
    const { position, unplaced } = await endOf(client);
    await recordIn(db)(eventOf(facts));
    await client.query("COMMIT");
    return { ...facts, rows, position, unplaced };
  } finally {
    // Without a COMMIT before it, this rolls back.
    await client.end();
  }
}

function queryDb(client: pg.Client): Pick<Db, "query"> {
  return {
    query: async <Row>({ name, text }: { name: string; text: string }, params: readonly unknown[]) =>
      (await client.query({ name, text, values: [...params] })).rows as Row[],
  };
}

const notEmpty = (): RestoreRefused =>
  new RestoreRefused("The database is not empty: a backup is restored into an empty one only.");

async function assertNoRows(client: pg.Client, tables: readonly string[]): Promise<void> {
  for (const table of tables) {
    // Rows that the migrations themselves put there.
    if (table.endsWith("_tail")) continue;
    const { rowCount } = await client.query(`SELECT FROM ${pg.escapeIdentifier(table)} LIMIT 1`);
    if ((rowCount ?? 0) > 0) throw notEmpty();
  }
}

/** No replica starts on it meanwhile, either: its first act waits for this lock. */
async function makeRoom(client: pg.Client, tables: readonly string[]): Promise<void> {
  await client.query("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE");
  await assertNoRows(client, tables);
  for (const table of tables)
    if (table.endsWith("_tail")) await client.query(`DELETE FROM ${pg.escapeIdentifier(table)}`);
}

async function load(client: pg.Client, tables: readonly string[], lines: AsyncIterable<string>) {
  let facts: BackupFacts | null = null;
  let table: string | null = null;
  let batch: string[] = [];
  let [bytes, total, told] = [0, 0, -1];

  async function flush(): Promise<void> {
    if (batch.length > 0 && table !== null) {
      const name = pg.escapeIdentifier(table);
      const text = `INSERT INTO ${name} SELECT * FROM json_populate_recordset(NULL::${name}, $1::json)`;
      await client.query(text, [`[${batch.join(",")}]`]);
    }
    total += batch.length;
    batch = [];
    bytes = 0;
  }

  for await (const line of lines) {
    if (line === "") continue;
    if (!line.startsWith("#")) {
      batch.push(line);
      bytes += line.length;
      if (batch.length >= rowsAtOnce || bytes >= bytesAtOnceMax) await flush();
      continue;
    }
    await flush();
    const [word = "", ...rest] = line.split(" ");
    const argument = rest.join(" ");
    if (word === "#backup") facts = await fitting(client, argument);
    else if (word === "#end") told = Number(argument);
    else if (word === "#table" && facts !== null && tables.includes(argument)) table = argument;
    else throw new RestoreRefused("The backup has a table that this version does not know.");
  }
  if (facts === null || told !== total) throw new RestoreRefused("The backup is not whole.");
  return { created_at: new Date(facts.created_at), rows: total };
}

async function fitting(client: pg.Client, text: string): Promise<BackupFacts> {
  const facts = JSON.parse(text) as BackupFacts;
  const here = await migrationsOf(client);
  if (facts.format === BACKUP_FORMAT && here.join() === facts.migrations.join()) return facts;
  throw new RestoreRefused(
    "The backup was made by another version: restore it with that one, and upgrade afterwards. " +
      `Its last migration is ${facts.migrations.at(-1) ?? "none"}, this version's ${here.at(-1) ?? "none"}.`,
  );
}

/** Tokens, enrolment codes and the keys of access tokens are void; every path goes on after the same high number. */
async function leaveThePast(client: pg.Client, now: Date) {
  const revoked = await client.query("UPDATE tokens SET revoked_at = $1 WHERE revoked_at IS NULL", [now]);
  await client.query("DELETE FROM enrolments");
  await client.query("DELETE FROM signing_keys");
  const { rows } = await client.query<{ highest: number }>(
    `SELECT greatest((SELECT max(last_version) FROM path_ledger), (SELECT max(version) FROM setting_versions),
       (SELECT version_floor FROM instance)) AS highest`,
  );
  const version_floor = (Math.floor((rows[0]?.highest ?? 0) / VERSION_FLOOR_STEP) + 1) * VERSION_FLOOR_STEP;
  await client.query("UPDATE instance SET version_floor = $1", [version_floor]);
  await client.query("UPDATE path_ledger SET last_version = $1", [version_floor]);
  // Nor is an entity tag given twice, which is of the revision: what was changed after the backup had later ones.
  await client.query("UPDATE settings SET revision = revision + $1", [VERSION_FLOOR_STEP]);
  return { tokens_voided: revoked.rowCount ?? 0, version_floor };
}

async function endOf(client: pg.Client): Promise<Pick<Restored, "position" | "unplaced">> {
  const tail = await client.query<{ position: string }>("SELECT position FROM audit_tail");
  const open = await client.query<{ id: string }>("SELECT id FROM audit_events WHERE position IS NULL");
  return { position: Number(tail.rows[0]?.position ?? 0), unplaced: new Set(open.rows.map(({ id }) => id)) };
}
