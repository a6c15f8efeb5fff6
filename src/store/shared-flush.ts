// What the members of a shared transaction, or an import, have written, put into the database by one statement: settings,
// versions, numbers, audit events, and what listeners are told. All of it commits together.
import type { SettingRecord, VersionRecord } from "../domain/setting.ts";
import type { AuditEvent } from "../domain/audit.ts";
import { type ChangeEvent, RIGHTS_CHANGED, payloadOf } from "../domain/change-events.ts";
import { cleanEvent, columns as auditColumns } from "./audit-write.ts";
import { columns as changeColumns, deliverFrom } from "./changes.ts";
import { type Column, arraysOf, bytesCell, namesOf, timeCell, unnested } from "./columns.ts";
import type { Asker, Statement } from "./db.ts";
import { raced } from "./failures.ts";
import { type Spot, atSpot, spotColumns } from "./lookups.ts";

/** What one member has written so far: nothing of it is in the database before the end. */
export type Written = {
  setting: (SettingRecord & { readonly is_new: boolean }) | null;
  last: (Spot & { readonly version: number }) | null;
  readonly versions: VersionRecord[];
  readonly events: AuditEvent[];
  readonly changes: ChangeEvent[];
};

const settingColumns: readonly Column<NonNullable<Written["setting"]>>[] = [
  ["tenant_id", "uuid", (row) => row.tenant_id],
  ["id", "uuid", (row) => row.id],
  ["owner_type", "text", (row) => row.owner_type],
  ["owner_id", "uuid", (row) => row.owner_id],
  ["path", "text", (row) => row.path],
  ["type", "text", (row) => row.type],
  ["description", "text", (row) => row.description],
  ["labels", "jsonb", (row) => JSON.stringify(row.labels)],
  ["revision", "int", (row) => String(row.revision)],
  ["current_version", "int", (row) => String(row.current_version)],
  ["current_since", "timestamptz", (row) => timeCell(row.current_since)],
  ["expires_at", "timestamptz", (row) => timeCell(row.expires_at)],
  [
    "rotate_after_days",
    "int",
    (row) => (row.rotate_after_days === null ? null : String(row.rotate_after_days)),
  ],
  ["created_at", "timestamptz", (row) => timeCell(row.created_at)],
  ["created_by", "uuid", (row) => row.created_by],
  ["updated_at", "timestamptz", (row) => timeCell(row.updated_at)],
  ["updated_by", "uuid", (row) => row.updated_by],
  ["last_accessed_at", "timestamptz", (row) => timeCell(row.last_accessed_at)],
  ["deleted_at", "timestamptz", (row) => timeCell(row.deleted_at)],
  ["purge_at", "timestamptz", (row) => timeCell(row.purge_at)],
  ["mac", "bytea", (row) => bytesCell(row.mac)],
];
const flaggedColumns: typeof settingColumns = [
  ...settingColumns,
  ["is_new", "boolean", (row) => String(row.is_new)],
];
/** `last_accessed_at` is left alone: it moves by itself, and only forward. */
const changed = settingColumns
  .map(([name]) => name)
  .filter((name) => !["tenant_id", "id", "last_accessed_at"].includes(name));

const versionColumns: readonly Column<VersionRecord>[] = [
  ["tenant_id", "uuid", (row) => row.tenant_id],
  ["setting_id", "uuid", (row) => row.setting_id],
  ["version", "int", (row) => String(row.version)],
  ["state", "text", (row) => row.state],
  ["storage", "text", (row) => row.storage],
  ["manager", "text", (row) => row.manager],
  ["data_key_id", "uuid", (row) => row.data_key_id],
  ["sealed", "bytea", (row) => (row.sealed === null ? null : bytesCell(row.sealed))],
  ["location", "jsonb", (row) => (row.location === null ? null : JSON.stringify(row.location))],
  ["created_at", "timestamptz", (row) => timeCell(row.created_at)],
  ["created_by", "uuid", (row) => row.created_by],
  ["last_accessed_at", "timestamptz", (row) => timeCell(row.last_accessed_at)],
  ["mac", "bytea", (row) => bytesCell(row.mac)],
];
const lastColumns: readonly Column<Spot & { readonly version: number }>[] = [
  ...spotColumns,
  ["version", "int", ({ version }) => String(version)],
];
/** With what is sent of it to webhooks. */
const toldColumns: readonly Column<ChangeEvent>[] = [
  ...changeColumns,
  ["body", "text", (event) => (event.kind === RIGHTS_CHANGED ? null : JSON.stringify(payloadOf(event)))],
];

const sources = [flaggedColumns, versionColumns, lastColumns, auditColumns, toldColumns] as const;
const [settings, versions, numbers, events, told] = sources.map((columns, index) => {
  const before = sources.slice(0, index).reduce((sum, each) => sum + each.length, 0);
  return `${unnested(columns, before)} AS q (${namesOf(columns)})`;
});
const insert = (table: string, columns: readonly Column<never>[], from: string): string =>
  `INSERT INTO ${table} (${namesOf(columns)}) SELECT ${namesOf(columns)} FROM ${from}`;

const flushStatement: Statement = {
  name: "flush_writes",
  text: `WITH kept AS MATERIALIZED (SELECT * FROM ${settings}), told AS MATERIALIZED (SELECT * FROM ${told}),
    made AS (${insert("settings", settingColumns, "kept WHERE is_new")}),
    changed AS (
      UPDATE settings s SET ${changed.map((name) => `"${name}" = q."${name}"`).join(", ")} FROM kept q
      WHERE NOT q.is_new AND s.tenant_id = q.tenant_id AND s.id = q.id RETURNING 1),
    versions AS (${insert("setting_versions", versionColumns, String(versions))}),
    numbered AS (
      UPDATE path_ledger l SET last_version = q.version FROM ${numbers} WHERE ${atSpot("l")} RETURNING 1),
    recorded AS (${insert("audit_events", auditColumns, String(events))}),
    listed AS (${insert("change_events", changeColumns, "told")}),
    delivered AS (${deliverFrom("(SELECT * FROM told WHERE body IS NOT NULL) n")})
  SELECT (SELECT count(*)::int FROM changed) AS changed, (SELECT count(*)::int FROM numbered) AS numbered,
    (SELECT count(*)::int FROM delivered) AS deliveries`,
};

const forgetStatement: Statement = {
  name: "forget_paths",
  text: `DELETE FROM path_ledger l USING ${unnested(spotColumns)} AS q (${namesOf(spotColumns)}) WHERE ${atSpot("l")}`,
};

/**
 * Answers how many deliveries there are of what was announced; null: nothing was.
 * @throws BrokerError as `raced`, when a row that was to be changed is not there any more
 */
export async function flush(
  db: Asker,
  all: readonly Written[],
  /** The paths that were made for all members: those of members that failed go again. */
  made: readonly Spot[] = [],
): Promise<number | null> {
  const settings = all.flatMap(({ setting }) => setting ?? []);
  const last = all.flatMap((each) => each.last ?? []);
  const changes = all.flatMap((each) => each.changes);
  const [row] = await db.query<{ changed: number; numbered: number; deliveries: number }>(flushStatement, [
    ...arraysOf(flaggedColumns, settings),
    ...arraysOf(
      versionColumns,
      all.flatMap((each) => each.versions),
    ),
    ...arraysOf(lastColumns, last),
    ...arraysOf(
      auditColumns,
      all.flatMap((each) => each.events.map(cleanEvent)),
    ),
    ...arraysOf(toldColumns, changes),
  ]);
  const nameOf = ({ key, path }: Spot): string => `${key.owner_type}/${key.owner_id}/${path}`;
  const used = new Set(last.map(nameOf));
  const unused = made.filter((each) => !used.has(nameOf(each)));
  if (unused.length > 0) await db.query(forgetStatement, arraysOf(spotColumns, unused));
  const wanted = settings.filter(({ is_new }) => !is_new).length;
  if (row === undefined || row.changed !== wanted || row.numbered !== last.length) throw raced();
  return changes.length === 0 ? null : row.deliveries;
}
