// The months of the audit log, a partition each. Room is made ahead of time, by a function that runs as the owner. A
// month is dropped whole, and only when every event in it is under a seal.
import type { MakeSeal } from "../domain/audit-chain.ts";
import { BrokerError } from "../domain/errors.ts";
import { insertSeal, toSeal } from "./audit-seals.ts";
import type { Db, Statement } from "./db.ts";
import { raced } from "./failures.ts";
import type { AuditSealModel } from "./generated/models.ts";

const prepareStatement: Statement = {
  name: "prepare_months",
  text: "SELECT coffer_audit_months($1::int) AS made",
};
const ownsStatement: Statement = {
  name: "owns_audit",
  text: "SELECT pg_has_role(relowner, 'USAGE') AS owns FROM pg_class WHERE oid = 'audit_events'::regclass",
};
/** Oldest first. The default partition is none of them. */
const monthsStatement: Statement = {
  name: "audit_months",
  text: `SELECT name, quoted FROM (
      SELECT c.relname AS name, c.oid::regclass::text AS quoted,
        substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \\(''([0-9a-f-]{36})''\\)')::uuid AS high
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit_events'::regclass
    ) months WHERE high <= coffer_audit_bound($1::timestamptz) ORDER BY high`,
};
/** Waits for the sealer, and keeps it out until the transaction ends. */
const lockStatement: Statement = {
  name: "own_audit_seals",
  text: "SELECT pg_advisory_xact_lock(7420202611260002)::text AS held",
};
const newestStatement: Statement = {
  name: "newest_seal",
  text: "SELECT * FROM audit_seals ORDER BY number DESC LIMIT 1",
};
const forgetStatement: Statement = {
  name: "forget_leaves",
  text: `WITH gone AS (
      SELECT s.number FROM audit_seals s
      WHERE s.leaves IS NOT NULL AND s.count > 0
        AND s.sealed_at < (SELECT kept_from FROM audit_seals ORDER BY number DESC LIMIT 1)
        AND NOT EXISTS (SELECT FROM audit_events e WHERE e.position BETWEEN s.first_position AND s.last_position)
      ORDER BY s.number LIMIT $1::int
    )
    UPDATE audit_seals s SET leaves = NULL FROM gone WHERE s.number = gone.number RETURNING s.number::text`,
};

export function auditMonths(db: Db) {
  return {
    async prepareMonths(ahead: number): Promise<number> {
      const [row] = await db.query<{ made: number }>(prepareStatement, [ahead]);
      return row?.made ?? 0;
    },
    async mayDrop(): Promise<boolean> {
      const [row] = await db.query<{ owns: boolean }>(ownsStatement, []);
      return row?.owns === true;
    },
    forgetLeaves: async (limit: number): Promise<number> =>
      (await db.query<{ number: string }>(forgetStatement, [limit])).length,
  };
}

/**
 * Drops the months that end before a time, within the transaction, with the seal that says so; answers their names.
 * @throws BrokerError `forbidden` when this role does not own them
 */
export async function dropAuditMonths(db: Db, before: Date, make: MakeSeal): Promise<readonly string[]> {
  const due = () => db.query<{ name: string; quoted: string }>(monthsStatement, [before]);
  if ((await due()).length === 0) return [];
  if (!(await auditMonths(db).mayDrop()))
    throw new BrokerError(
      "forbidden",
      "Only the role that owns the tables may drop a month of the audit log.",
    );
  await db.query(lockStatement, []);
  // Another replica may have done it while this one waited.
  const months = await due();
  if (months.length === 0) return [];
  const [newest] = await db.query<AuditSealModel>(newestStatement, []);
  const head = newest === undefined ? null : toSeal(newest);
  const seal = await make(head);
  if (head === null || seal === null) return [];
  // Whoever waits for one of these locks has all who come after wait, too: rather give up, and try again another day.
  await db.prisma.$executeRaw`SET LOCAL lock_timeout = '3s'`;
  const dropped: string[] = [];
  for (const { name, quoted } of months) {
    await db.prisma.$executeRawUnsafe(`LOCK TABLE ${quoted} IN ACCESS EXCLUSIVE MODE`);
    const [open] = await db.prisma.$queryRawUnsafe<{ unsealed: boolean }[]>(
      `SELECT EXISTS (SELECT FROM ${quoted} WHERE position IS NULL OR position > ${head.last_position}) AS unsealed`,
    );
    if (open?.unsealed !== false) throw raced();
    await db.prisma.$executeRawUnsafe(`DROP TABLE ${quoted}`);
    dropped.push(name);
  }
  await insertSeal(db, seal);
  return dropped;
}
