// Finding settings: by path, under a prefix, or all of an owner's, each in one statement, with the current version.
// A prefix is a range on the COLLATE "C" index, never a pattern: `_` and `%` are letters like any other.
import { type PathPrefix, type PathQuery, isAtOrUnder, rangeUnder } from "../domain/address.ts";
import { LATEST } from "../domain/manager-ports.ts";
import { VALUE_BYTES_MAX } from "../domain/plaintext.ts";
import type { OwnerKey, Reader, SettingPage, SettingQuery } from "../domain/ports.ts";
import type { SettingRecord, SettingRow, VersionRecord } from "../domain/setting.ts";
import type { AccessNotes } from "./access-notes.ts";
import { atPath, withVersion } from "./by-key.ts";
import type { Db, Param, Statement } from "./db.ts";
import type { SettingModel, SettingVersionModel } from "./generated/models.ts";
import { toSettingRecord, toVersionRecord } from "./rows.ts";

/** Sorts after every path. */
const lastPath = "\u{10FFFF}";

const settingColumns = `s.tenant_id, s.id, s.owner_type, s.owner_id, s.path, s.type, s.description, s.labels, s.revision,
  s.current_version, s.current_since, s.expires_at, s.rotate_after_days, s.created_at, s.created_by, s.updated_at,
  s.updated_by, s.last_accessed_at, s.deleted_at, s.purge_at, s.mac`;
const columns = (sealed: boolean): string => `${settingColumns}, v.version, v.state, v.storage, v.manager,
  v.data_key_id, v.location, v.created_at AS version_created_at, v.created_by AS version_created_by,
  v.last_accessed_at AS version_last_accessed_at, v.mac AS version_mac, ${sealed ? "v.sealed" : "NULL::bytea"} AS sealed`;
const source = `settings s ${withVersion}`;
const ofOwner = "s.tenant_id = $1::uuid AND s.owner_type = $2::text AND s.owner_id = $3::uuid";
const fits = "($5::text IS NULL OR s.type = $5::text) AND ($6::jsonb IS NULL OR s.labels @> $6::jsonb)";

function exactSelect(sealed: boolean, alive: string, path: string): string {
  return `SELECT ${columns(sealed)}, TRUE AS at_path, (${fits}) AS fits, 1 AS found
    FROM ${source} WHERE ${ofOwner} AND ${alive} AND ${atPath(path)}`;
}

/** Of a value that lies elsewhere the row says how long it was; one that follows its manager may be any length. */
const sizeOf = `CASE WHEN page.storage = 'external' AND page.location ->> 'version_id' = '${LATEST}' THEN ${VALUE_BYTES_MAX}
  ELSE coalesce(octet_length(page.sealed), (page.location ->> 'bytes')::bigint) END`;
/** Labels and descriptions may be 22 KB a setting: without a bound a page would be as large as its writers like. */
const metadataBytesMax = 4_194_304;

/**
 * One row more than the limit tells whether there is more. Of ciphertext, and of what else is long, rows are taken
 * while those before them have fewer bytes than the page may; the others' ciphertext never leaves the disk.
 */
function underSelect(sealed: boolean, reach: string): string {
  return `SELECT * FROM (
    SELECT page.*, (count(*) OVER ())::int AS found, coalesce(sum(${sealed ? sizeOf : "0"})
        OVER before, 0) AS bytes_before,
      coalesce(sum(octet_length(page.labels::text) + coalesce(octet_length(page.description), 0))
        OVER before, 0) AS metadata_before
    FROM (
      SELECT ${columns(sealed)}, FALSE AS at_path, TRUE AS fits FROM ${source}
      WHERE ${ofOwner} AND ${reach} AND s.path < $8::text AND s.path > $9::text
        AND (s.deleted_at IS NULL OR $4::boolean) AND ${fits}
      ORDER BY s.path LIMIT $10::int
    ) page WINDOW before AS (ORDER BY page.path ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  ) cut WHERE bytes_before < $11::bigint AND metadata_before < ${metadataBytesMax}`;
}

/** Many full paths at once, deleted or not. */
const atPathsStatement: Statement = {
  name: "settings_at",
  text: `SELECT here.* FROM unnest($4::text[]) AS p (path) CROSS JOIN LATERAL (
    SELECT ${columns(true)}, TRUE AS at_path, TRUE AS fits, 1 AS found FROM ${source}
    WHERE ${ofOwner} AND ${atPath("p.path")}) here`,
};

type Kind = "exact" | "auto" | "under";
type Row = SettingModel & {
  version: number | null;
  state: string;
  storage: string;
  manager: string;
  data_key_id: string | null;
  location: SettingVersionModel["location"];
  version_created_at: Date;
  version_created_by: string;
  version_last_accessed_at: Date | null;
  version_mac: Uint8Array<ArrayBuffer>;
  sealed: Uint8Array<ArrayBuffer> | null;
  at_path: boolean;
  fits: boolean;
  found: number;
};

function textOf(kind: Kind, sealed: boolean): string {
  switch (kind) {
    case "exact":
      return exactSelect(sealed, "(s.deleted_at IS NULL OR $4::boolean)", "$7::text");
    case "under":
      return `${underSelect(sealed, "s.path > $7::text")} ORDER BY path`;
    case "auto": {
      const live = `SELECT s.id FROM settings s WHERE ${ofOwner} AND s.deleted_at IS NULL AND ${atPath("$12::text")}`;
      // The path's own row is among them when it is deleted and those are asked for.
      const reach = `s.path >= $12::text AND (s.path = $12::text OR s.path > $7::text) AND (${live}) IS NULL`;
      const under = `SELECT * FROM (${underSelect(sealed, reach)}) beneath`;
      // The same columns on both sides of the UNION.
      return `SELECT *, 0::bigint AS bytes_before, 0::bigint AS metadata_before FROM (${exactSelect(sealed, "s.deleted_at IS NULL", "$12::text")}) here
        UNION ALL ${under} ORDER BY path`;
    }
  }
}

const statements = new Map<string, Statement>();
for (const kind of ["exact", "auto", "under"] as const)
  for (const sealed of [true, false]) {
    const name = `settings_${kind}_${sealed ? "sealed" : "plain"}`;
    statements.set(name, { name, text: textOf(kind, sealed) });
  }

function statementFor(kind: Kind, sealed: boolean): Statement {
  const statement = statements.get(`settings_${kind}_${sealed ? "sealed" : "plain"}`);
  if (statement === undefined) throw new Error("there is a statement for each kind");
  return statement;
}

/** A page that began under a path goes on under it, even when a setting has appeared at the path since. */
function effective(select: PathQuery, after: string | null): PathQuery {
  if (select.kind !== "at" || select.match !== "auto" || after === null) return select;
  return isAtOrUnder(after, select.path)
    ? { kind: "under", prefix: select.path as string as PathPrefix }
    : select;
}

function kindOf(select: PathQuery): Kind {
  if (select.kind !== "at") return "under";
  return select.match;
}

function rangeOf(select: PathQuery): { readonly from: string; readonly before: string } {
  switch (select.kind) {
    case "all":
      return { from: "", before: lastPath };
    case "under":
      return rangeUnder(select.prefix);
    case "at":
      return rangeUnder(select.path);
  }
}

function paramsOf(query: SettingQuery, select: PathQuery): Param[] {
  const { key, include_deleted, type, label, after, limit, sealed_bytes_max: bytes } = query;
  const labels = label === null ? null : JSON.stringify({ [label.key]: label.value });
  const common = [key.tenant_id, key.owner_type, key.owner_id, include_deleted, type, labels];
  if (select.kind === "at" && select.match === "exact") return [...common, select.path];
  const { from, before } = rangeOf(select);
  const ranged = [...common, from, before, after ?? "", limit + 1, Math.max(1, bytes ?? 1)];
  return select.kind === "at" ? [...ranged, select.path] : ranged;
}

function toRow(row: Row, notes: AccessNotes): SettingRow {
  const setting = toSettingRecord(row);
  const { version } = row;
  if (version === null) return { setting, version: missingVersion(setting) };
  return notes.overlay({
    setting,
    version: toVersionRecord({
      tenant_id: row.tenant_id,
      setting_id: row.id,
      version,
      state: row.state,
      storage: row.storage,
      manager: row.manager,
      data_key_id: row.data_key_id,
      sealed: row.sealed,
      location: row.location,
      created_at: row.version_created_at,
      created_by: row.version_created_by,
      last_accessed_at: row.version_last_accessed_at,
      mac: row.version_mac,
    }),
  });
}

/**
 * Stands for a current version whose row somebody removed: the setting is still listed, and no MAC of ours fits, so
 * that whatever opens or changes it fails.
 */
export function missingVersion(setting: SettingRecord): VersionRecord {
  return {
    tenant_id: setting.tenant_id,
    setting_id: setting.id,
    version: setting.current_version,
    state: "enabled",
    storage: "envelope",
    manager: "local",
    data_key_id: null,
    sealed: null,
    location: null,
    created_at: setting.current_since,
    created_by: setting.updated_by,
    last_accessed_at: null,
    mac: new Uint8Array(0),
  };
}

type SettingReads = Pick<
  Reader,
  "settings" | "setting" | "settingsAt" | "version" | "versions" | "lastVersion"
>;

export function settingReads(db: Db, notes: AccessNotes): SettingReads {
  async function settings(query: SettingQuery): Promise<SettingPage> {
    const select = effective(query.select, query.after);
    const statement = statementFor(kindOf(select), query.sealed_bytes_max !== null);
    const found = await db.query<Row>(statement, paramsOf(query, select));
    const [first] = found;
    if (first?.at_path === true) {
      const past = query.after !== null && first.path <= query.after;
      return { rows: first.fits && !past ? [toRow(first, notes)] : [], more: false, exact: true };
    }
    const rows = found.slice(0, query.limit).map((row) => toRow(row, notes));
    return { rows, more: (first?.found ?? 0) > rows.length, exact: false };
  }

  return {
    settings,
    async setting(key: OwnerKey, path) {
      const params = [key.tenant_id, key.owner_type, key.owner_id, true, null, null, path];
      const [row] = await db.query<Row>(statementFor("exact", true), params);
      return row === undefined ? null : toRow(row, notes);
    },
    async settingsAt({ tenant_id, owner_type, owner_id }, paths) {
      const params = [tenant_id, owner_type, owner_id, [...paths]];
      const rows = await db.query<Row>(atPathsStatement, params);
      return new Map(rows.map((row) => [row.path, toRow(row, notes)]));
    },
    async version({ tenant_id, id }, version) {
      const where = { tenant_id, setting_id: id, version };
      const row = await db.prisma.settingVersion.findUnique({
        where: { tenant_id_setting_id_version: where },
      });
      return row === null ? null : notes.overlayVersion(toVersionRecord(row));
    },
    async versions({ tenant_id, id }) {
      const where = { tenant_id, setting_id: id };
      const omit = { sealed: true } as const;
      const rows = await db.prisma.settingVersion.findMany({ where, omit, orderBy: { version: "asc" } });
      return rows.map((row) => notes.overlayVersion(toVersionRecord({ ...row, sealed: null })));
    },
    async lastVersion(key, path) {
      const { tenant_id, owner_type, owner_id } = key;
      const where = { tenant_id_owner_type_owner_id_path: { tenant_id, owner_type, owner_id, path } };
      return (await db.prisma.pathLedger.findUnique({ where }))?.last_version ?? 0;
    },
  };
}
