// What was written lately. Triggers note, with each write, whom or what it was about and the number of its transaction;
// so a statement can tell whether anything that an earlier one has seen was written since, without looking at it again.
// A number is given early and its transaction may commit late. So what counts as written since is by a transaction that
// came after the snapshot of then, or was under way in it.
import type { Db, Statement } from "./db.ts";

/** What a statement saw: whatever had committed by then, in the database that it asked. */
export type Seen = {
  /** Numbers of another server's or database's time mean nothing. */
  readonly server: string;
  /** PostgreSQL's pg_snapshot, as text. */
  readonly snapshot: string;
  /** It saw all transactions before this number end. */
  readonly from: number;
};

/** As a statement's columns `server` and `snapshot` have it. */
export function seenIn({ server, snapshot }: Pick<Seen, "server" | "snapshot">): Seen {
  return { server, snapshot, from: Number(snapshot.slice(0, snapshot.indexOf(":"))) };
}

/**
 * SQL that tells this server's run and this database, and the very table, from others: of a copy that was swapped in, a
 * dump that was put back.
 */
export const server = `concat(extract(epoch FROM pg_postmaster_start_time()), ' ',
  (SELECT oid FROM pg_database WHERE datname = current_database()), ' ', 'recent_writes_from'::regclass::oid)`;
/** SQL, in the same statement: what it sees. */
export const snapshot = "pg_current_snapshot()::text";

/**
 * SQL: whether anything that was written about `about`, of which `newest` is the newest number, was not seen. Worth asking
 * only of what has a write by a transaction that had not ended.
 * @param about, newest, seen SQL
 */
export const unseen = (
  about: string,
  newest: string,
  seen: string,
): string => `(${newest} >= pg_snapshot_xmax(${seen}::pg_snapshot)::text::bigint
  OR EXISTS (SELECT FROM recent_writes r WHERE r.about = ${about} AND r.written_by = ANY (ARRAY(
    SELECT x::text::bigint FROM pg_snapshot_xip(${seen}::pg_snapshot) x))))`;

/** On how many events each table's triggers note writes, as the migrations made them. */
const NOTED: Readonly<Record<string, number>> = {
  settings: 4,
  setting_versions: 3,
  memberships: 4,
  organizations: 3,
  projects: 3,
  principals: 3,
  tokens: 3,
  identity_providers: 3,
};
const tables = Object.keys(NOTED).map((name) => `'${name}'::regclass`);
const triggers = Object.values(NOTED).reduce((sum, each) => sum + each, 0);
/**
 * SQL: whether every one is there, at the tables that are read, and fires. A restore may have put them off; put on again by
 * name they are not as before. A table that was swapped for a copy of it has none.
 */
export const areNoted = `count(*) = ${triggers} FROM pg_trigger WHERE tgfoid = 'coffer_note_writes'::regproc
  AND tgenabled = 'A' AND tgrelid IN (${tables.join(", ")})`;

/** Writes are remembered for at least so long. What was seen before then is looked for anew. */
const REMEMBERED_MS = 600_000;

const NOT_NOTED =
  "not all triggers that note writes are there and fire always: reads are slower until they do (docs/operations.md, Back up and restore)";

const nowStatement: Statement = {
  name: "oldest_transaction",
  text: `SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS oldest, (SELECT ${areNoted}) AS noted`,
};
const forgetStatement: Statement = {
  name: "forget_writes",
  text: "SELECT coffer_forget_writes($1::bigint)",
};

/**
 * Forgets the writes of long ago, called now and then.
 * @throws Error where writes are not noted at all, whereupon each read is looked up anew
 */
export function forgetWritesIn(db: Pick<Db, "query">): () => Promise<void> {
  const marks: { readonly at: number; readonly oldest: string }[] = [];
  return async () => {
    const [row] = await db.query<{ oldest: string; noted: boolean }>(nowStatement, []);
    if (row?.noted === false) throw new Error(NOT_NOTED);
    if (row !== undefined) marks.push({ at: performance.now(), oldest: row.oldest });
    const due = marks.filter(({ at }) => performance.now() - at >= REMEMBERED_MS);
    const last = due.at(-1);
    if (last === undefined) return;
    marks.splice(0, due.length);
    await db.query(forgetStatement, [last.oldest]);
  };
}
