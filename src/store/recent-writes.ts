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
 * SQL: whether of what `w.id` was written about, of which `w.written_by` is the newest, anything was not seen. Few are
 * asked so far: those with a write by a transaction that had not ended.
 */
export const unseen = (
  seen: string,
): string => `(w.written_by >= pg_snapshot_xmax(${seen}::pg_snapshot)::text::bigint
  OR EXISTS (SELECT FROM recent_writes r WHERE r.about = w.id AND r.written_by = ANY (ARRAY(
    SELECT x::text::bigint FROM pg_snapshot_xip(${seen}::pg_snapshot) x))))`;

/** How many triggers note writes, as the migration made them. */
const TRIGGERS = 26;
/** SQL: whether every one is there and fires. A restore may have put them off; put on again by name they are not as before. */
export const areNoted = `count(*) = ${TRIGGERS} FROM pg_trigger WHERE tgfoid = 'coffer_note_writes'::regproc AND tgenabled = 'A'`;

/** Writes are remembered for at least so long. What was seen before then is looked for anew. */
const REMEMBERED_MS = 600_000;

const nowStatement: Statement = {
  name: "oldest_transaction",
  text: "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS oldest",
};
const forgetStatement: Statement = {
  name: "forget_writes",
  text: "SELECT coffer_forget_writes($1::bigint)",
};

/** Forgets the writes of long ago, called now and then. */
export function forgetWritesIn(db: Pick<Db, "query">): () => Promise<void> {
  const marks: { readonly at: number; readonly oldest: string }[] = [];
  return async () => {
    const [row] = await db.query<{ oldest: string }>(nowStatement, []);
    if (row !== undefined) marks.push({ at: performance.now(), oldest: row.oldest });
    const due = marks.filter(({ at }) => performance.now() - at >= REMEMBERED_MS);
    const last = due.at(-1);
    if (last === undefined) return;
    marks.splice(0, due.length);
    await db.query(forgetStatement, [last.oldest]);
  };
}
