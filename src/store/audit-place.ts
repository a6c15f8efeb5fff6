// Giving positions to events, in the order in which they come to be seen, by one at a time, without a gap: so whoever
// reads by position misses nothing, and a position that no event has is one whose event was taken away. An event with a
// position is frozen. Reads give theirs as they record them, where nobody else is giving any (read-ahead-sql.ts); what is
// left over, and all other events, get theirs here, once they are committed.
import type { Db, Statement } from "./db.ts";
import { Prisma } from "./generated/client.ts";

/** How many events get their position in one transaction. */
export const placedMax = 5_000;
/** A counted refusal may grow until its minute is over, and a little longer, since replicas' clocks differ. */
const openSeconds = 15;

/**
 * The last position that this process knows to be sealed. Those that it gives come after it, whatever the database says:
 * it may have been cut back.
 */
export type SealedUpTo = { position: number };

/**
 * Whoever gives positions holds this lock until the commit: they commit in their order. Who asks for it waits; who only
 * tries does not get it while somebody waits, so that nobody waits for more than what is under way. Any number will do,
 * as long as every Coffer uses this one.
 */
const TAIL_LOCK = "7420202611260003";

/** The row is locked as well: it was the only lock once, and a replica of then may still be running. */
const lockTailStatement: Statement = {
  name: "lock_audit_tail",
  text: `SELECT position FROM audit_tail, pg_advisory_xact_lock(${TAIL_LOCK}) WHERE id = 1 FOR UPDATE OF audit_tail`,
};

/** The last position that was given; no other is until the transaction ends. */
export async function lockTail(db: Pick<Db, "query">): Promise<bigint> {
  const [row] = await db.query<{ position: string }>(lockTailStatement, []);
  return BigInt(row?.position ?? 0);
}

const soonStatement: Statement = {
  name: "lock_audit_tail_soon",
  text: "SELECT set_config('lock_timeout', '500ms', TRUE)",
};

/**
 * While a transaction stays open for long (a backup), no version of the tail's row that it might still see is removed,
 * and whoever wants the newest goes through all of them. Past so many, by PostgreSQL's statistics, only the sealer makes
 * more, until a vacuum has removed them.
 */
const TAIL_VERSIONS_MAX = 2_000;

/**
 * SQL that takes the next positions for as many events as `count` selects as `n`, after `floor` at least, and answers
 * the `last` one before them; no row where there are none, or somebody else is giving some.
 */
export const takePositions = (
  count: string,
  floor: string,
): string => `UPDATE audit_tail SET position = greatest(position, ${floor}) + n
  FROM (${count}) fresh CROSS JOIN LATERAL (
    SELECT t.id AS free FROM audit_tail t
    WHERE t.id = 1 AND n > 0 AND pg_stat_get_dead_tuples('audit_tail'::regclass) < ${TAIL_VERSIONS_MAX}
      AND pg_try_advisory_xact_lock(${TAIL_LOCK}) FOR UPDATE SKIP LOCKED
  ) tried
  WHERE id = free RETURNING position - n AS last`;

const unplaced = (now: Date): Prisma.Sql => Prisma.sql`a.position IS NULL
  AND NOT (a.action = 'sign_in' AND a.outcome = 'denied'
    AND date_trunc('minute', a.at) + interval '1 minute' + ${openSeconds}::int * interval '1 second' > ${now}::timestamptz)`;

/**
 * Gives positions to events of some tenants that have none yet; answers how many. Those that commit meanwhile are seen
 * the next time. A statement of its own takes the lock, so that the next one sees what its last holder has placed.
 */
export async function placeSome(db: Db, sealed: SealedUpTo, tenants: Prisma.Sql, now: Date): Promise<number> {
  await db.query(lockTailStatement, []);
  const due = Prisma.sql`SELECT e.tenant_id, e.id FROM (${tenants}) t CROSS JOIN LATERAL (
      SELECT a.tenant_id, a.id FROM audit_events a WHERE a.tenant_id = t.tenant_id AND ${unplaced(now)}
      ORDER BY a.id LIMIT ${placedMax}::int
    ) e ORDER BY e.id LIMIT ${placedMax}::int`;
  return give(db, due, sealed);
}

/** The same for everybody's events. It does not wait for long: what has its position waits to be sealed meanwhile. */
export async function placeAny(db: Db, sealed: SealedUpTo, now: Date): Promise<number> {
  await db.query(soonStatement, []);
  await db.query(lockTailStatement, []);
  const due = Prisma.sql`SELECT a.tenant_id, a.id FROM audit_events a WHERE ${unplaced(now)}
    ORDER BY a.id LIMIT ${placedMax}::int`;
  return give(db, due, sealed);
}

async function give(db: Db, due: Prisma.Sql, { position: floor }: SealedUpTo): Promise<number> {
  const [row] = await db.prisma.$queryRaw<{ placed: number }[]>`
    WITH chosen AS (${due}),
    due AS (SELECT tenant_id, id, row_number() OVER (ORDER BY id) AS n FROM chosen),
    placed AS (
      UPDATE audit_events a SET position = greatest(tail.position, ${floor}::bigint) + due.n FROM due, audit_tail tail
      WHERE tail.id = 1 AND a.tenant_id = due.tenant_id AND a.id = due.id RETURNING 1
    ), moved AS (
      UPDATE audit_tail SET position = greatest(position, ${floor}::bigint) + (SELECT count(*) FROM due) WHERE id = 1
    )
    SELECT count(*)::int AS placed FROM placed`;
  return row?.placed ?? 0;
}
