// What became of settings, for listeners. Events are written with the change; the order in which listeners get them is
// given afterwards, to what is committed, by one asker at a time: so an event that commits late gets a late position,
// and no listener has passed it (docs/decisions/0010). A delivery for each webhook is written with its event.
import { type ChangeEvent, RIGHTS_CHANGED, payloadOf } from "../domain/change-events.ts";
import type { ChangeLog } from "../domain/lifecycle-ports.ts";
import type { Within } from "./audit.ts";
import type { Column } from "./columns.ts";
import type { Db, Param, Statement } from "./db.ts";
import type { ChangeEventModel } from "./generated/models.ts";

const placedMax = 5_000;

export const columns: readonly Column<ChangeEvent>[] = [
  ["tenant_id", "uuid", (event) => event.tenant_id],
  ["id", "uuid", (event) => event.id],
  ["at", "timestamptz", (event) => event.at.toISOString()],
  ["kind", "text", (event) => event.kind],
  ["owner_type", "text", (event) => event.owner_type],
  ["owner_id", "uuid", (event) => event.owner_id],
  ["setting_id", "uuid", (event) => event.setting_id],
  ["path", "text", (event) => event.path],
  ["version", "int", (event) => (event.version === null ? null : String(event.version))],
  ["principal_id", "uuid", (event) => event.principal_id],
  ["details", "jsonb", (event) => JSON.stringify(event.details)],
];
const names = columns.map(([name]) => name).join(", ");
const arrays = columns.map(([, type], index) => `$${index + 1}::text[]::${type}[]`).join(", ");
const insertStatement: Statement = {
  name: "announce",
  text: `INSERT INTO change_events (${names}) SELECT * FROM unnest(${arrays})`,
};
/**
 * One for each webhook of the owner, or of the organization above it, that asks for this kind. Due at once.
 * `from` is of events `n`, with the `body` to be sent.
 */
export const deliverFrom = (from: string): string => `INSERT INTO webhook_deliveries
      (tenant_id, id, webhook_id, event_id, kind, body, state, next_attempt_at, created_at)
    SELECT w.tenant_id, gen_random_uuid(), w.id, n.id, n.kind, n.body, 'pending', n.at, n.at
    FROM ${from}
    JOIN webhooks w ON w.tenant_id = n.tenant_id AND w.owner_id IN (n.owner_id, n.tenant_id)
      AND w.disabled_at IS NULL AND n.kind = ANY(w.events)
    RETURNING 1`;
const deliverStatement: Statement = {
  name: "announce_deliveries",
  text: deliverFrom(`unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::text[]::uuid[], $4::text[], $5::text[], $6::text[]::timestamptz[])
      AS n (tenant_id, owner_id, id, kind, body, at)`),
};

/** As LifecycleWrites.announce; answers how many deliveries there are. */
export function announceIn(db: Db): (changes: readonly ChangeEvent[]) => Promise<number> {
  return async (changes) => {
    const params: Param[] = columns.map(([, , of]) => changes.map(of));
    await db.query(insertStatement, params);
    const told = changes.filter(({ kind }) => kind !== RIGHTS_CHANGED);
    if (told.length === 0) return 0;
    const made = await db.query(deliverStatement, [
      told.map(({ tenant_id }) => tenant_id),
      told.map(({ owner_id }) => owner_id),
      told.map(({ id }) => id),
      told.map(({ kind }) => kind),
      told.map((each) => JSON.stringify(payloadOf(each))),
      told.map(({ at }) => at.toISOString()),
    ]);
    return made.length;
  };
}

const unplacedStatement: Statement = {
  name: "unplaced_changes",
  text: `SELECT position::text, EXISTS (SELECT FROM change_events WHERE position IS NULL) AS waiting FROM change_tail WHERE id = 1`,
};
/** A statement of its own, so that the next one sees what the lock's last holder has placed. */
const lockStatement: Statement = {
  name: "lock_change_tail",
  text: "SELECT position FROM change_tail WHERE id = 1 FOR UPDATE",
};
/** Changes of rights first: whoever lost a right hears nothing that is placed with the loss. */
const placeStatement: Statement = {
  name: "place_changes",
  text: `WITH due AS (
      SELECT tenant_id, id, row_number() OVER (ORDER BY (kind = '${RIGHTS_CHANGED}') DESC, id) AS n
      FROM (SELECT tenant_id, id, kind FROM change_events WHERE position IS NULL ORDER BY id LIMIT ${placedMax}) waiting
    ), placed AS (
      UPDATE change_events e SET position = tail.position + due.n FROM due, change_tail tail
      WHERE tail.id = 1 AND e.tenant_id = due.tenant_id AND e.id = due.id RETURNING 1
    )
    UPDATE change_tail SET position = position + (SELECT count(*) FROM due) WHERE id = 1
    RETURNING position::text, (SELECT count(*)::int FROM placed) AS placed`,
};
const afterStatement: Statement = {
  name: "changes_after",
  text: `SELECT * FROM change_events WHERE position > $1::text::bigint AND ($2::uuid IS NULL OR tenant_id = $2::uuid)
    ORDER BY position LIMIT $3::int`,
};
const keptStatement: Statement = {
  name: "changes_kept",
  text: `SELECT coalesce((SELECT min(position) - 1 FROM change_events WHERE position IS NOT NULL),
    (SELECT position FROM change_tail WHERE id = 1))::text AS position`,
};
const forgetStatements: readonly Statement[] = [
  {
    name: "forget_changes",
    text: "DELETE FROM change_events WHERE at < $1::timestamptz",
  },
  {
    name: "forget_deliveries",
    text: "DELETE FROM webhook_deliveries WHERE state <> 'pending' AND ended_at < $1::timestamptz",
  },
];

function toEvent({ position, ...row }: ChangeEventModel): ChangeEvent & { readonly position: bigint } {
  return {
    ...row,
    kind: row.kind as ChangeEvent["kind"],
    owner_type: row.owner_type as ChangeEvent["owner_type"],
    details: row.details as Record<string, string>,
    // The driver gives a bigint as text.
    position: BigInt(position ?? 0),
  };
}

export function changeLog(db: Db, within: Within): ChangeLog {
  return {
    async place() {
      const [tail] = await db.query<{ position: string; waiting: boolean }>(unplacedStatement, []);
      let last = BigInt(tail?.position ?? 0);
      for (let placed = tail?.waiting === true ? placedMax : 0; placed === placedMax; )
        [last, placed] = await within(async (tx): Promise<[bigint, number]> => {
          await tx.query(lockStatement, []);
          const [row] = await tx.query<{ position: string; placed: number }>(placeStatement, []);
          return [BigInt(row?.position ?? 0), row?.placed ?? 0];
        });
      return last;
    },
    async after(position, tenantId, limit) {
      const rows = await db.query<ChangeEventModel>(afterStatement, [String(position), tenantId, limit]);
      return rows.map(toEvent);
    },
    async keptSince() {
      const [row] = await db.query<{ position: string }>(keptStatement, []);
      return BigInt(row?.position ?? 0);
    },
    async forget(before) {
      for (const statement of forgetStatements) await db.query(statement, [before]);
    },
  };
}
