// The statement for reads whose answer is known from before. It puts each on record unless something that the answer
// rests on was written since: the rows of who reads and of where they stand, and whatever rests at the owner. It looks
// for none of those rows, and knows no rule: the same rows at another time make the same answer, but for what expires,
// which is for the caller to see to.
import type { AuditEvent } from "../domain/audit.ts";
import { takePositions } from "./audit-place.ts";
import { columns as eventColumns } from "./audit-write.ts";
import { type Cell, type Column, type Written, arrayOf, namesOf, unnested } from "./columns.ts";
import type { Db, Param, Statement } from "./db.ts";
import type { KnownPage, KnownStanding } from "./kept.ts";
import { ALLOWED } from "./read-ahead-sql.ts";
import { areNoted, server, unseen } from "./recent-writes.ts";

/** A read whose answer is known. */
export type Confirmable = {
  /** But for who, whose log it is in, and which settings. */
  readonly event: AuditEvent;
  readonly standing: KnownStanding;
  readonly page: KnownPage;
  readonly tokenId: string | null;
  readonly providerId: string | null;
};

/** What the event as it is handed in does not have. */
const OWN: Readonly<Record<string, (ask: Confirmable) => Cell | Written>> = {
  tenant_id: ({ standing }) => standing.standing.tenant_id,
  principal_id: ({ standing }) => standing.who.principal.id,
  token_id: ({ tokenId }) => tokenId,
  settings: ({ page: { named } }) => ("written" in named ? named : null),
};
type Cells = readonly [name: string, type: string, of: (ask: Confirmable) => Cell | Written];
const shared: readonly Cells[] = [
  ...eventColumns
    .filter(([name]) => ALLOWED[name] === undefined)
    .map(
      ([name, type, of]: Column<AuditEvent>): Cells => [name, type, OWN[name] ?? (({ event }) => of(event))],
    ),
  ["provider_id", "uuid", ({ providerId }) => providerId],
  ["standing_seen", "text", ({ standing }) => standing.seen.snapshot],
  ["page_seen", "text", ({ page }) => page.seen.snapshot],
  ["standing_from", "bigint", ({ standing }) => String(standing.seen.from)],
  ["page_from", "bigint", ({ page }) => String(page.seen.from)],
  ["server", "text", ({ page }) => page.seen.server],
];
const eventNames = eventColumns.map(([name]) => `"${name}"`);

/** How what an event names comes into the log. `join`: of parameters, by their names. `more` of those, after all others. */
type Naming = {
  readonly columns: readonly Cells[];
  readonly join: (parameter: (name: string) => string) => string;
  readonly settings: string;
  readonly isThere: string;
  readonly more: (asks: readonly Confirmable[]) => readonly Param[];
};
const SENT: Naming = {
  columns: [],
  join: () => "",
  settings: "q.settings",
  isThere: "TRUE",
  more: () => [],
};
/**
 * Copied from an event that names it already, as it lies there, packed: the very row that was written as the page was
 * found. One that somebody has written anew is by another transaction, and the read is not current then.
 */
const COPIED: Naming = {
  columns: [
    ["named_in", "uuid", ({ page: { named } }) => ("event_id" in named ? named.event_id : null)],
    ["placed_by", "text", ({ page: { named } }) => ("event_id" in named ? named.placed_by : null)],
  ],
  join: (parameter) => `LEFT JOIN coffer_settings_named(
    ${["tenant_id", "named_in", "placed_by", "first", "last"].map(parameter).join(", ")}) twin ON twin.n = q.n`,
  settings: "coalesce(twin.settings, q.settings)",
  isThere: "(q.named_in IS NULL OR twin.settings IS NOT NULL)",
  /** The first and last of those events: ids are in the order of time, and months of the log are by them. */
  more: (asks) => {
    const ids = asks.flatMap(({ page: { named } }) => ("event_id" in named ? named.event_id : [])).toSorted();
    return [ids[0] ?? null, ids.at(-1) ?? null];
  },
};

/** Of each whom or what the batch rests on, the newest write alone: however many there are, it is one look. */
function confirmation(name: string, { columns: own, join, settings, isThere, more }: Naming) {
  const columns = [...shared, ...own];
  const names = [...columns.map(([each]) => each), "positions", "about", "since", "many", "first", "last"];
  const parameter = (each: string): string => `$${names.indexOf(each) + 1}`;
  const [positions, about, since, many] = ["positions", "about", "since", "many"].map(parameter);
  const kept = columns.map(([each]) => (each === "settings" ? `${settings} AS settings` : `q."${each}"`));
  const text = `
WITH written AS MATERIALIZED (
  SELECT a.id, w.written_by FROM unnest(${about}::uuid[]) AS a (id) CROSS JOIN LATERAL (
    SELECT r.written_by FROM recent_writes r WHERE r.about = a.id AND r.written_by >= ${since}::bigint
    ORDER BY r.written_by DESC LIMIT 1) w
), current AS MATERIALIZED (
  SELECT ${kept.join(", ")}
  FROM ${unnested(columns)} WITH ORDINALITY AS q (${namesOf(columns)}, n) ${join(parameter)}
  WHERE q.server = (SELECT ${server}) AND (SELECT ${areNoted}) AND ${isThere}
    AND least(q.standing_from, q.page_from) >= (SELECT f.written_by FROM recent_writes_from f WHERE f.id = 1)
    AND NOT EXISTS (SELECT FROM written w WHERE
      (w.written_by >= q.standing_from AND w.id IN (q.principal_id, q.token_id, q.provider_id, q.owner_id)
        AND ${unseen("w.id", "w.written_by", "q.standing_seen")})
      OR (w.written_by >= q.page_from AND w.id = q.owner_id
        AND ${unseen("w.id", "w.written_by", "q.page_seen")}))
), tail AS (${takePositions("SELECT count(*) AS n FROM current", `${positions}::bigint`)}
), recorded AS (
  INSERT INTO audit_events (${eventNames.join(", ")}, position)
  SELECT ${eventColumns.map(([each]) => ALLOWED[each] ?? `"${each}"`).join(", ")}, last + row_number() OVER ()
  FROM current LEFT JOIN tail ON TRUE RETURNING id
)
SELECT CASE WHEN count(*) < ${many}::int THEN coalesce(array_agg(id::text), '{}') END AS ids FROM recorded`;
  return { statement: { name, text } satisfies Statement, columns, more };
}
const sending = confirmation("confirm_reads", SENT);
const copying = confirmation("confirm_reads_copying", COPIED);

const seenFrom = ({ standing, page }: Confirmable): number => Math.min(standing.seen.from, page.seen.from);

/** Members are noted about the principal; which organization a project belongs to is a matter of its own row. */
function rowsOf({ event, standing, tokenId, providerId }: Confirmable): readonly (string | null)[] {
  return [standing.who.principal.id, tokenId, providerId, event.owner_id];
}

/**
 * @param asks standing and page were seen on one server
 * @param after positions come after this one
 * @returns the ids of those events that are on record now; null: all are
 */
export async function confirmReads(
  db: Db,
  asks: readonly Confirmable[],
  after: number,
): Promise<ReadonlySet<string> | null> {
  const { statement, columns, more } = asks.some(({ page }) => "event_id" in page.named) ? copying : sending;
  const cells = columns.map(([, , of]) => arrayOf(asks.map(of)));
  const rows = new Set(asks.flatMap(rowsOf));
  rows.delete(null);
  const [row] = await db.query<{ ids: string[] | null }>(statement, [
    ...cells,
    after,
    arrayOf([...rows]),
    String(Math.min(...asks.map(seenFrom))),
    asks.length,
    ...more(asks),
  ]);
  return row === undefined || row.ids !== null ? new Set(row?.ids) : null;
}
