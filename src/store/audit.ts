// Reading the audit log. Newest first goes by the events' ids. Oldest first is for a collector that tails: it goes by
// positions, which are given to committed events only, one asker at a time (audit-place.ts); so an event that commits
// late gets a late position, and no cursor has passed it.
import type { Action } from "../domain/access.ts";
import { isUuid } from "../domain/address.ts";
import { type AuditEvent, INSTANCE_TENANT, type Outcome, type Subject } from "../domain/audit.ts";
import { badInput } from "../domain/errors.ts";
import type { AuditPage, AuditQuery, OwnerKey } from "../domain/ports.ts";
import { type SealedUpTo, placeSome, placedMax } from "./audit-place.ts";
import type { Db } from "./db.ts";
import { Prisma } from "./generated/client.ts";
import type { AuditEventModel } from "./generated/models.ts";
import type { PageTurn } from "./page-turns.ts";

/** How often events get positions before a page is answered. */
const roundsMax = 4;
const positionMax = 2n ** 63n - 1n;

/**
 * A page ends early past this many stored bytes of what its events are about: one read of a long list is an event that
 * names a thousand settings, and a thousand of those are more than a process can hold. As they rest, compressed where
 * they are long, so that what is passed over is not even read; a page then holds some ten times as much at the most.
 */
const pageBytesMax = 524_288;

/** Runs `work` in a transaction: of its own, or in the one that is under way. */
export type Within = <Result>(work: (db: Db) => Promise<Result>, tenant?: string) => Promise<Result>;

export function auditRead(
  db: Db,
  within: Within,
  now: () => Date,
  sealed: SealedUpTo,
  inTurn: PageTurn,
): (query: AuditQuery) => Promise<AuditPage> {
  const selectInTurn: typeof select = (...given) => inTurn(tenantOf(given[1].place), () => select(...given));

  return async (query) => {
    if (query.order === "desc") {
      const rows = await selectInTurn(db, query, afterId(query), Prisma.sql`id DESC`, Prisma.sql`id DESC`);
      const events = rows.slice(0, query.limit).map(toEvent);
      const isMore = (rows[0]?.found ?? 0) > events.length;
      return { events, next: isMore ? (events.at(-1)?.id ?? null) : null };
    }
    const after = turnOf(query.after);
    const place = () =>
      within((tx) => placeSome(tx, sealed, tenantsOf(query.place), now()), tenantOf(query.place));
    for (let round = 0; round < roundsMax; round++) if ((await place()) < placedMax) break;
    const inLog = Prisma.sql`turn, nth, position`;
    const rows = await selectInTurn(db, query, afterTurn(after), Prisma.sql`position`, inLog);
    const page = rows.slice(0, query.limit);
    const last = page.at(-1);
    // What is told together is told in the order in which it happened: reads have their positions sooner than writes.
    const events = page.map(toEvent).toSorted((one, other) => (one.id < other.id ? -1 : 1));
    return { events, next: last === undefined ? (query.after ?? "0") : cursorOf(last) };
  };
}

/** @throws BrokerError `invalid_request` for a cursor of the other order, or of nobody */
function afterId({ after }: AuditQuery): Prisma.Sql {
  if (after === null) return Prisma.sql`TRUE`;
  if (!isUuid(after)) throw badCursor();
  return Prisma.sql`id < ${after}::uuid`;
}

/**
 * Where a collector is: past an event of the position `turn`, and of an owner that is no more (the nth to go, when `turn`
 * was the last position) past its event of the position `late`.
 */
type Turn = { readonly turn: bigint; readonly nth: number; readonly late: bigint };

/** @throws BrokerError `invalid_request` */
function turnOf(after: string | null): Turn {
  const [, turn, nth = "0", late = "0"] = /^(\d{1,19})(?:~(\d{1,9})~(\d{1,19}))?$/.exec(after ?? "0") ?? [];
  if (turn === undefined || [turn, late].some((each) => BigInt(each) > positionMax)) throw badCursor();
  return { turn: BigInt(turn), nth: Number(nth), late: BigInt(late) };
}

const cursorOf = ({ turn, nth, position }: Row): string =>
  nth === 0 ? `${position}` : `${turn}~${nth}~${position}`;

/** What of a tenant's events is still to come. */
const afterTurn = ({ turn, nth, late }: Turn): Prisma.Sql => Prisma.sql`position > CASE
    WHEN t.joined < ${turn}::bigint OR t.joined = ${turn}::bigint AND t.nth < ${nth}::int THEN ${turn}::bigint
    WHEN t.joined = ${turn}::bigint AND t.nth = ${nth}::int THEN ${late}::bigint ELSE 0 END`;

function badCursor() {
  return badInput("invalid_request", "query", "/cursor", "This is no cursor of this list.");
}

/** Rows of an inner select of events by position, while those before them are not too many bytes. */
export const withinBytes = (
  inner: string,
): string => `SELECT * FROM (SELECT page.*, coalesce(sum(pg_column_size(page.settings)) OVER (ORDER BY position, id, tenant_id
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS bytes_before FROM (${inner}) page) cut
  WHERE bytes_before < ${pageBytesMax} ORDER BY position, id, tenant_id`;

export const tenantOf = (place: AuditQuery["place"]): string =>
  place === "instance" ? INSTANCE_TENANT : place.tenant_id;

/** Whose log it is. The instance's has what has no owner, and the logs of owners that are no more, from when they went. */
function tenantsOf(place: OwnerKey | "instance"): Prisma.Sql {
  const own = place === "instance" ? INSTANCE_TENANT : place.tenant_id;
  const first = Prisma.sql`SELECT ${own}::uuid AS tenant_id, 0::bigint AS joined, 0 AS nth`;
  return place === "instance"
    ? Prisma.sql`${first} UNION ALL SELECT tenant_id, position, nth FROM removed_tenants`
    : first;
}

type Row = AuditEventModel & {
  readonly turn: bigint;
  /** Of an owner that is no more, where the event was there before it went; else 0. */
  readonly nth: number;
  readonly found: number;
  readonly bytes_before: bigint;
};

/**
 * Each tenant's log is read from its own index and the pages are merged, so that a small one costs little. One row more
 * than the limit tells whether there is more; rows are taken while those before them have fewer bytes than a page may.
 */
async function select(
  db: Db,
  query: AuditQuery,
  after: Prisma.Sql,
  ofTenant: Prisma.Sql,
  order: Prisma.Sql,
): Promise<Row[]> {
  const conditions = Prisma.join([after, ...filters(query)], " AND ");
  return db.prisma.$queryRaw<Row[]>`SELECT * FROM (
      SELECT page.*, (count(*) OVER ())::int AS found, coalesce(sum(pg_column_size(page.settings))
          OVER (ORDER BY ${order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS bytes_before
      FROM (
        SELECT e.* FROM (${tenantsOf(query.place)}) t CROSS JOIN LATERAL (
          SELECT a.*, greatest(a.position, t.joined) AS turn, CASE WHEN a.position <= t.joined THEN t.nth ELSE 0 END AS nth
          FROM audit_events a WHERE a.tenant_id = t.tenant_id AND ${conditions}
          ORDER BY ${ofTenant} LIMIT ${query.limit + 1}::int
        ) e ORDER BY ${order} LIMIT ${query.limit + 1}::int
      ) page
    ) cut WHERE bytes_before < ${pageBytesMax}::bigint ORDER BY ${order}`;
}

function filters({
  place,
  since,
  until,
  action,
  principal_id,
  outcome,
  path,
  request_id,
}: AuditQuery): Prisma.Sql[] {
  const all: Prisma.Sql[] = [];
  // An organization's log has its projects'; a project's is a part of that.
  if (place !== "instance" && place.owner_type === "project")
    all.push(Prisma.sql`owner_type = 'project' AND owner_id = ${place.owner_id}::uuid`);
  if (since !== null) all.push(Prisma.sql`at >= ${since}::timestamptz`);
  if (until !== null) all.push(Prisma.sql`at < ${until}::timestamptz`);
  if (action !== null) all.push(Prisma.sql`action = ${action}::text`);
  if (principal_id !== null) all.push(Prisma.sql`principal_id = ${principal_id}::uuid`);
  if (outcome !== null) all.push(Prisma.sql`outcome = ${outcome}::text`);
  if (request_id !== null) all.push(Prisma.sql`request_id = ${request_id}::text`);
  if (path !== null)
    all.push(Prisma.sql`(${atOrUnder(Prisma.sql`path`, path)} OR EXISTS (
      SELECT FROM jsonb_array_elements(settings) s WHERE ${atOrUnder(Prisma.sql`s->>'path'`, path)}))`);
  return all;
}

/** Segment by segment, and no character is a wildcard. */
function atOrUnder(column: Prisma.Sql, path: string): Prisma.Sql {
  return Prisma.sql`(${column} = ${path}::text OR starts_with(${column}, ${`${path}/`}::text))`;
}

export function toEvent(row: AuditEventModel): AuditEvent {
  return {
    tenant_id: row.tenant_id,
    id: row.id,
    at: row.at,
    principal_id: row.principal_id,
    token_id: row.token_id,
    action: row.action as Action,
    outcome: row.outcome as Outcome,
    operation: row.operation,
    owner_type: row.owner_type as AuditEvent["owner_type"],
    owner_id: row.owner_id,
    path: row.path,
    settings: row.settings as unknown as readonly Subject[],
    target_id: row.target_id,
    details: row.details as Record<string, string>,
    request_id: row.request_id,
    follows: row.follows,
    ip: row.ip,
    user_agent: row.user_agent,
    reason: row.reason,
    count: row.count,
  };
}
