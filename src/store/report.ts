// What is due and what is dead among settings, and who reads what. One statement decides what a setting's findings are;
// rows and totals are made of it, so that they agree.
import type {
  Finding,
  LifecycleReads,
  ReaderRecord,
  ReportQuery,
  ReportRow,
  ReportToken,
  ReportTotals,
} from "../domain/lifecycle-ports.ts";
import { FINDINGS } from "../domain/lifecycle-ports.ts";
import type { Page } from "../domain/ports.ts";
import type { AccessNotes } from "./access-notes.ts";
import type { Db, Param, Statement } from "./db.ts";
import { toPage } from "./rows.ts";

/** Each finding as a condition on a live setting `s`. A reader is pinned who read an older version since it was replaced. */
const pinnedOf = `FROM setting_readers r WHERE r.tenant_id = s.tenant_id AND r.setting_id = s.id
  AND r.version <> s.current_version AND r.last_read_at > s.current_since AND r.last_read_at >= $6::timestamptz`;
const conditions: Readonly<Record<Finding, string>> = {
  rotation_overdue: `s.rotate_after_days IS NOT NULL
    AND s.current_since + s.rotate_after_days * interval '24 hours' <= $4::timestamptz`,
  expiring: "s.expires_at > $4::timestamptz AND s.expires_at <= $5::timestamptz",
  expired: "s.expires_at <= $4::timestamptz",
  never_read: "s.last_accessed_at IS NULL",
  unread: "s.last_accessed_at < $6::timestamptz",
  pinned_readers: `EXISTS (SELECT ${pinnedOf})`,
};
const live = `SELECT s.*, ${FINDINGS.map((each) => `coalesce(${conditions[each]}, FALSE) AS ${each}`).join(", ")}
  FROM settings s WHERE s.tenant_id = $1::uuid AND s.deleted_at IS NULL
    AND ((s.owner_type = $2::text AND s.owner_id = $3::uuid) OR $7::boolean)`;

const rowsStatement: Statement = {
  name: "report_rows",
  text: `SELECT s.owner_type, s.owner_id, s.id, s.path, s.current_version AS version, s.current_since, s.rotate_after_days,
      s.expires_at, s.last_accessed_at, ${FINDINGS.join(", ")},
      coalesce((SELECT json_agg(json_build_object('principal_id', r.principal_id, 'version', r.version,
        'last_read_at', r.last_read_at) ORDER BY r.last_read_at DESC, r.principal_id, r.version) ${pinnedOf}), '[]') AS pinned
    FROM (${live}) s WHERE (${FINDINGS.join(" OR ")})
      AND (s.owner_id, s.path) > (coalesce($8::uuid, '00000000-0000-0000-0000-000000000000'), $9::text)
    ORDER BY s.owner_id, s.path LIMIT $10::int`,
};
const totalsStatement: Statement = {
  name: "report_totals",
  text: `SELECT count(*)::int AS settings, ${FINDINGS.map((each) => `(count(*) FILTER (WHERE ${each}))::int AS ${each}`).join(", ")}
    FROM (${live}) s`,
};
/** A federated access token has no row; of the others, those that are good still. */
const tokensStatement: Statement = {
  name: "report_tokens",
  text: `SELECT t.id, t.principal_id, t.name, t.created_at, t.expires_at, t.last_used_at
    FROM tokens t JOIN principals p ON p.id = t.principal_id
    WHERE (t.principal_id = $1::uuid OR ($1::uuid IS NULL AND p.organization_id = $2::uuid
        AND ($3::uuid IS NULL OR EXISTS (SELECT FROM memberships m WHERE m.owner_id = $3::uuid AND m.principal_id = p.id))))
      AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $4::timestamptz)
      AND (t.expires_at <= $5::timestamptz OR coalesce(t.last_used_at, t.created_at) < $6::timestamptz)
    ORDER BY t.id LIMIT 1000`,
};
const readersStatement: Statement = {
  name: "readers_of",
  text: `SELECT principal_id, version, last_read_at FROM setting_readers
    WHERE tenant_id = $1::uuid AND setting_id = $2::uuid AND last_read_at >= $3::timestamptz
      AND ($4::int IS NULL OR version = $4::int)
    ORDER BY last_read_at DESC, principal_id, version LIMIT 1000`,
};

type Row = Omit<ReportRow, "findings" | "pinned"> &
  Record<Finding, boolean> & {
    pinned: (Omit<ReaderRecord, "last_read_at"> & { last_read_at: string })[];
  };

const commonOf = ({ key, now, expiring_before, unread_before, with_projects }: ReportQuery): Param[] => [
  key.tenant_id,
  key.owner_type,
  key.owner_id,
  now,
  expiring_before,
  unread_before,
  with_projects,
];

function toRow({ pinned, ...row }: Row): ReportRow {
  const { id, path, version, current_since, rotate_after_days, expires_at, last_accessed_at } = row;
  return {
    owner_type: row.owner_type,
    owner_id: row.owner_id,
    id,
    path,
    version,
    current_since,
    rotate_after_days,
    expires_at,
    last_accessed_at,
    findings: FINDINGS.filter((each) => row[each]),
    pinned: pinned.map(({ last_read_at, ...each }) => ({ ...each, last_read_at: new Date(last_read_at) })),
  };
}

type ReportReads = Pick<LifecycleReads, "report" | "reportTokens" | "readersOf">;

/** What this replica has noted is written first, so that what it has answered is in what it reports. */
export function reportReads(db: Db, notes: AccessNotes): ReportReads {
  async function pageOf(query: ReportQuery): Promise<Page<ReportRow>> {
    const [owner, ...path] = query.after?.split("/") ?? [];
    const params = [...commonOf(query), owner ?? null, path.join("/"), query.limit + 1];
    return toPage((await db.query<Row>(rowsStatement, params)).map(toRow), query);
  }

  async function totalsOf(query: ReportQuery): Promise<ReportTotals> {
    const [row] = await db.query<ReportTotals>(totalsStatement, commonOf(query));
    if (row === undefined) throw new Error("an aggregate has one row");
    return row;
  }

  return {
    async report(query) {
      await notes.flush();
      const [page, totals] = await Promise.all([pageOf(query), totalsOf(query)]);
      return { page, totals };
    },
    reportTokens({ key, now, expiring_before, unread_before }, whose) {
      const principal = whose === "service_accounts" ? null : whose.principal_id;
      const project = key.owner_type === "project" ? key.owner_id : null;
      const params = [principal, key.tenant_id, project, now, expiring_before, unread_before];
      return db.query<ReportToken>(tokensStatement, params);
    },
    async readersOf({ tenant_id, id }, since, version) {
      await notes.flush();
      return db.query<ReaderRecord>(readersStatement, [tenant_id, id, since, version]);
    },
  };
}
