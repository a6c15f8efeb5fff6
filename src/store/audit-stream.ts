// The audit log in the order of its chain: each seal, then the events under it; at the end those that no seal covers
// yet. Read page by page, so that the memory it takes does not grow with the log. What is sealed does not change, so
// no transaction is held open meanwhile.
import type { Seal } from "../domain/audit-chain.ts";
import type { ChainItem } from "../domain/audit-verify.ts";
import { withinBytes } from "./audit.ts";
import { toPlaced, toSeal } from "./audit-seals.ts";
import type { Db, Statement } from "./db.ts";
import type { AuditEventModel, AuditSealModel } from "./generated/models.ts";

const sealsAtOnce = 20;
const eventsAtOnce = 1_000;
const noId = "00000000-0000-0000-0000-000000000000";
const positionMin = (-(2n ** 63n)).toString();
const positionMax = (2n ** 63n - 1n).toString();

const newestStatement: Statement = {
  name: "newest_seal",
  text: "SELECT * FROM audit_seals ORDER BY number DESC LIMIT 1",
};
const sealsStatement: Statement = {
  name: "seals_after",
  text: "SELECT * FROM audit_seals WHERE number > $1::bigint AND number <= $2::bigint ORDER BY number LIMIT $3::int",
};
const placedStatement: Statement = {
  name: "placed_events",
  text: withinBytes(`SELECT * FROM audit_events WHERE position IS NOT NULL AND (position, id, tenant_id) > ($1::bigint, $2::uuid, $3::uuid)
    AND position <= $4::bigint ORDER BY position, id, tenant_id LIMIT $5::int`),
};
const unplacedStatement: Statement = {
  name: "unplaced_events",
  text: withinBytes(`SELECT * FROM audit_events WHERE position IS NULL AND (id, tenant_id) > ($1::uuid, $2::uuid)
    ORDER BY id, tenant_id LIMIT $3::int`),
};

export type AuditStream = {
  /** The newest seal as the stream begins, which is the last that it gives. */
  readonly head: Seal | null;
  readonly items: AsyncIterable<ChainItem>;
};

export async function auditStream(db: Pick<Db, "query">): Promise<AuditStream> {
  const [newest] = await db.query<AuditSealModel>(newestStatement, []);
  const head = newest === undefined ? null : toSeal(newest);
  return { head, items: itemsUpTo(db, newest?.number ?? 0n) };
}

async function* itemsUpTo(db: Pick<Db, "query">, head: bigint | number | string): AsyncGenerator<ChainItem> {
  let cursor = [positionMin, noId, noId];

  async function* eventsTo(last: string): AsyncGenerator<ChainItem> {
    for (;;) {
      const rows = await db.query<AuditEventModel>(placedStatement, [...cursor, last, eventsAtOnce]);
      for (const row of rows) {
        cursor = [String(row.position), row.id, row.tenant_id];
        yield { kind: "event", ...toPlaced(row) };
      }
      if (rows.length === 0) return;
    }
  }

  for (let after = positionMin; ; ) {
    const rows = await db.query<AuditSealModel>(sealsStatement, [after, String(head), sealsAtOnce]);
    for (const row of rows) {
      after = String(row.number);
      yield { kind: "seal", seal: toSeal(row) };
      yield* eventsTo(String(row.last_position));
    }
    if (rows.length === 0) break;
  }
  yield* eventsTo(positionMax);
  for (let after = [noId, noId]; ; ) {
    const rows = await db.query<AuditEventModel>(unplacedStatement, [...after, eventsAtOnce]);
    for (const row of rows) {
      after = [row.id, row.tenant_id];
      yield { kind: "event", position: null, event: toPlaced(row).event };
    }
    if (rows.length === 0) return;
  }
}
