// What writes the notes of access: a statement a table, each answering the numbers of those notes whose rows it had.
// Locking in the order of the key, and never waiting for a lock, rules out deadlocks with writers. What is held carries
// its time along: joined with what was noted once more, thousands of notes were compared each with each, for seconds.
// None of them is noted as a write about the row (docs/decisions/0023): what is kept of it stays good.
import type { Statement } from "./db.ts";

const quietly = "quietly AS MATERIALIZED (SELECT set_config('coffer.only_last_use', 'on', TRUE) AS is)";

export const settingStatement: Statement = {
  name: "note_settings",
  text: `WITH ${quietly}, noted AS (SELECT n.* FROM quietly, unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) WITH ORDINALITY AS n (tenant_id, id, at, n)),
    held AS (SELECT s.tenant_id, s.id, n.at, n.n FROM settings s JOIN noted n ON s.tenant_id = n.tenant_id AND s.id = n.id
      ORDER BY s.tenant_id, s.id FOR NO KEY UPDATE OF s SKIP LOCKED)
    UPDATE settings s SET last_accessed_at = greatest(s.last_accessed_at, h.at) FROM held h
    WHERE s.tenant_id = h.tenant_id AND s.id = h.id RETURNING h.n::int`,
};
export const versionStatement: Statement = {
  name: "note_versions",
  text: `WITH ${quietly}, noted AS (SELECT n.* FROM quietly, unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::int[]) WITH ORDINALITY
      AS n (tenant_id, id, at, version, n)),
    held AS (SELECT v.tenant_id, v.setting_id, v.version, n.at, n.n FROM setting_versions v
      JOIN noted n ON v.tenant_id = n.tenant_id AND v.setting_id = n.id AND v.version = n.version
      ORDER BY v.tenant_id, v.setting_id, v.version FOR NO KEY UPDATE OF v SKIP LOCKED)
    UPDATE setting_versions v SET last_accessed_at = greatest(v.last_accessed_at, h.at) FROM held h
    WHERE v.tenant_id = h.tenant_id AND v.setting_id = h.setting_id AND v.version = h.version RETURNING h.n::int`,
};
// One row for each who and which: who is still with an old version, and since when nobody is.
export const readerStatement: Statement = {
  name: "note_readers",
  text: `WITH noted AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::int[], $5::uuid[]) WITH ORDINALITY
      AS n (tenant_id, id, at, version, principal_id, n)),
    written AS (INSERT INTO setting_readers AS r (tenant_id, setting_id, version, principal_id, last_read_at)
      SELECT n.tenant_id, n.id, n.version, n.principal_id, n.at FROM noted n
      JOIN setting_versions v ON v.tenant_id = n.tenant_id AND v.setting_id = n.id AND v.version = n.version
      ORDER BY n.tenant_id, n.id, n.version, n.principal_id
      ON CONFLICT (tenant_id, setting_id, version, principal_id)
        DO UPDATE SET last_read_at = greatest(r.last_read_at, EXCLUDED.last_read_at)
      RETURNING setting_id, version, principal_id)
    SELECT n.n::int FROM noted n JOIN written w
      ON w.setting_id = n.id AND w.version = n.version AND w.principal_id = n.principal_id`,
};
export const tokenStatement: Statement = {
  name: "note_tokens",
  text: `WITH ${quietly}, noted AS (SELECT n.* FROM quietly, unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) WITH ORDINALITY AS n (tenant_id, id, at, n)),
    held AS (SELECT t.id, n.at, n.n FROM tokens t JOIN noted n ON t.id = n.id ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED)
    UPDATE tokens t SET last_used_at = greatest(t.last_used_at, h.at) FROM held h WHERE t.id = h.id RETURNING h.n::int`,
};
