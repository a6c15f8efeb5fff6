// The seals over the audit log. One replica at a time adds one, under a lock that others do not wait for. What it seals
// are events with positions, which are committed and frozen: so they need not be read in the transaction that adds it.
// All of it goes by the driver, which is many times cheaper than Prisma.
import type { PlacedEvent, Seal, SealStore } from "../domain/audit-chain.ts";
import { type Within, toEvent, withinBytes } from "./audit.ts";
import { type SealedUpTo, placeAny, placedMax } from "./audit-place.ts";
import type { Asker, Db, Statement } from "./db.ts";
import type { AuditEventModel, AuditSealModel } from "./generated/models.ts";
import { epochOf } from "./key-rotation.ts";
import type { createDriverTransact } from "./transactions.ts";

/** Any number will do, as long as every Coffer uses this one. */
const lockStatement: Statement = {
  name: "lock_audit_seals",
  text: "SELECT pg_try_advisory_xact_lock(7420202611260002) AS held",
};
const stateStatement: Statement = {
  name: "audit_state",
  text: `SELECT (SELECT position FROM audit_tail WHERE id = 1)::text AS tail,
    EXISTS (SELECT FROM audit_events WHERE position IS NULL) AS waiting,
    (SELECT key_check FROM instance WHERE id = 1) AS key_check`,
};
/** But for the leaves. */
const columns = [
  ["number", "bigint"],
  ["previous", "bytea"],
  ["first_position", "bigint"],
  ["last_position", "bigint"],
  ["count", "int"],
  ["events_hash", "bytea"],
  ["kept_from", "timestamptz"],
  ["sealed_at", "timestamptz"],
  ["key_id", "text"],
  ["hash", "bytea"],
  ["signature", "bytea"],
] as const;
const names = columns.map(([name]) => name).join(", ");
const values = columns.map(([, type], index) => `$${index + 1}::${type}`).join(", ");

/** Without the leaves of one that is known to the letter: they are some fifty kilobytes. */
const newestStatement: Statement = {
  name: "newest_seal_unless_known",
  text: `SELECT ${names}, is_known, CASE WHEN NOT is_known THEN leaves END AS leaves
    FROM (
      SELECT *, ROW(${names}) IS NOT DISTINCT FROM ROW(${values})
        AND (leaves IS NULL OR sha256(leaves) = events_hash) AS is_known
      FROM audit_seals ORDER BY number DESC LIMIT 1
    ) newest`,
};
const hashStatement: Statement = {
  name: "hash_of_seal",
  text: "SELECT hash FROM audit_seals WHERE number = $1::bigint",
};
const placesStatement: Statement = {
  name: "places_to_seal",
  text: "SELECT position, id FROM audit_events WHERE position > $1::bigint ORDER BY position, id, tenant_id LIMIT $2::int",
};
/** Fewer, where they name so many settings that a page of them would be more than a process should hold at once. */
const eventsStatement: Statement = {
  name: "events_to_seal",
  text: withinBytes("SELECT * FROM audit_events WHERE position = ANY ($1::bigint[])"),
};
const insertStatement: Statement = {
  name: "insert_seal",
  text: `INSERT INTO audit_seals (${names}, leaves) VALUES (${values}, $${columns.length + 1}::bytea)`,
};

export function auditSeals(
  db: Db,
  within: Within,
  transact: ReturnType<typeof createDriverTransact>,
  now: () => Date,
  sealed: SealedUpTo,
): Pick<SealStore, "state" | "place" | "placesAfter" | "eventsAt" | "append"> {
  return {
    async state(known) {
      // First: the key that is in force after it is the one that it was made under, or a later one.
      const head = await newest(db, known);
      const [row] = await db.query<{ tail: string; waiting: boolean; key_check: Uint8Array | null }>(
        stateStatement,
        [],
      );
      const [still] =
        known === null ? [] : await db.query<{ hash: Uint8Array }>(hashStatement, [known.number]);
      return {
        head,
        known: still?.hash ?? null,
        tail: Number(row?.tail ?? 0),
        waiting: row?.waiting === true,
        keyCheck: row?.key_check ?? null,
      };
    },

    place: async () => (await within((tx) => placeAny(tx, sealed, now()))) === placedMax,

    async placesAfter(position, limit) {
      const rows = await db.query<{ position: string; id: string }>(placesStatement, [position, limit]);
      return rows.map(({ position: at, id }) => ({ position: Number(at), id }));
    },

    async eventsAt(positions) {
      const rows = await db.query<AuditEventModel>(eventsStatement, [positions.map(String)]);
      return rows.map(toPlaced);
    },

    append: (known, make) =>
      transact(async (tx) => {
        const [lock] = await tx.query<{ held: boolean }>(lockStatement, []);
        if (lock?.held !== true) return null;
        const head = await newest(tx, known);
        // Looked at after it: who made the head had the master key that was in force, or the one before it.
        const seal = await make(head, (await epochOf(tx)).key_check);
        if (seal !== null) await insertSeal(tx, seal);
        return seal;
      }),
  };
}

async function newest(db: Asker, known: Seal | null): Promise<Seal | null> {
  const of = columns.map(([name]) => known?.[name] ?? null);
  const [row] = await db.query<AuditSealModel & { readonly is_known: boolean }>(newestStatement, of);
  if (row === undefined) return null;
  return row.is_known ? known : toSeal(row);
}

export async function insertSeal(db: Asker, seal: Seal): Promise<void> {
  await db.query(insertStatement, [...columns.map(([name]) => seal[name]), seal.leaves]);
}

/** Whatever somebody may have put into the row: what is no number or time fits no signature. */
export function toSeal(row: AuditSealModel): Seal {
  return {
    number: Number(row.number),
    previous: row.previous,
    first_position: Number(row.first_position),
    last_position: Number(row.last_position),
    count: row.count,
    events_hash: row.events_hash,
    leaves: row.leaves,
    kept_from: row.kept_from === null ? null : new Date(row.kept_from),
    sealed_at: new Date(row.sealed_at),
    key_id: row.key_id,
    hash: row.hash,
    signature: row.signature,
  };
}

export function toPlaced(row: AuditEventModel): PlacedEvent {
  return { position: Number(row.position), event: { ...toEvent(row), at: new Date(row.at) } };
}
