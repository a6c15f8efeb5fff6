// What was written lately. Triggers note, with each write, whom or what it was about and the number of its transaction;
// so a statement can tell whether anything that an earlier one has seen was written since, without looking at it again.
// A write that commits late is found by the number that it got early: what counts is not the order of numbers, but
// whether the snapshot of then saw it.
import type { Db, Statement } from "./db.ts";

/** What a statement saw: whatever had committed by then, on the server that was running. */
export type Seen = {
  /** When the server was started: numbers of another's time mean nothing. */
  readonly server: string;
  /** PostgreSQL's pg_snapshot, as text. */
  readonly snapshot: string;
  /** It saw all transactions before this number end. */
  readonly from: number;
};

/** SQL for a statement that wants to know what it sees: the columns `server` and `snapshot`. */
export const seen =
  "extract(epoch FROM pg_postmaster_start_time())::text AS server, pg_current_snapshot()::text AS snapshot";

export function seenBy({ server, snapshot }: { readonly server: string; readonly snapshot: string }): Seen {
  return { server, snapshot, from: Number(snapshot.slice(0, snapshot.indexOf(":"))) };
}

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
