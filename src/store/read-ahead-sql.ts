// The one statement for all reads that wait: who calls, where they stand, the rows, and the audit events, in one
// snapshot and one commit. It evaluates access.ts's table to see whether a read is plain and allowed as a whole; only
// then is anything found and put on record, with its position where nobody else is giving any. A read whose page is
// known, or known to be too long, is only admitted here; confirm.ts records it, or the gate. Whether a ceiling covers all
// of the place is known beforehand, of the very versions of token and principal that it finds. Whether it was right, the
// gate decides again.
import { ACTIONS_BY_ROLE, type OwnerAction, ROLES } from "../domain/access.ts";
import { takePositions } from "./audit-place.ts";
import { columns as eventColumns } from "./audit-write.ts";
import { atPath, withVersion } from "./by-key.ts";
import type { Statement } from "./db.ts";
import { server, snapshot } from "./recent-writes.ts";

/** More rows than this, or more bytes, are not read ahead: they would keep the others waiting. */
export const ROWS_MAX = 100;
const BYTES_MAX = 131_072;
const BYTES_EACH_MAX = 16_384;

/** What is asked, a column each; the event's own columns come after these. */
export const ASKED = [
  ["n", "int"],
  ["hash", "bytea"],
  ["token", "uuid"],
  ["principal", "uuid"],
  ["provider", "uuid"],
  ["revision", "int"],
  ["stand_in", "uuid"],
  ["wanted", "text"],
  ["strict", "boolean"],
  ["exact", "text"],
  ["low", "text"],
  ["high", "text"],
  ["each", "jsonb"],
  ["most", "int"],
  ["known_who", "text"],
  ["covered", "boolean"],
  ["known_page", "boolean"],
] as const;

/** The columns of an event that are the same for every read that is allowed as a whole. */
export const ALLOWED: Readonly<Record<string, string>> = {
  outcome: "'allowed'",
  target_id: "NULL::uuid",
  details: "'{}'::jsonb",
  follows: "NULL::uuid",
  reason: "NULL",
  count: "1",
};
/** What the statement fills in by itself. */
const FILLED: Readonly<Record<string, string>> = {
  tenant_id: "tenant_id",
  principal_id: "principal_id",
  token_id: "token_id",
  settings: "subjects",
  action: "wanted",
  ...ALLOWED,
};
export const EVENT = eventColumns.filter(([name]) => FILLED[name] === undefined);

const quoted = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(", ");
const rolesThat = (action: OwnerAction): string =>
  quoted(ROLES.filter((role) => ACTIONS_BY_ROLE[role].includes(action)));

/** Whether the role allows what is wanted. */
const rights = `CASE k.wanted ${(["list", "decrypt"] as const)
  .map((action) => `WHEN '${action}' THEN k.role IN (${rolesThat(action)})`)
  .join(" ")} END`;

/** A row as JSON, in the order in which read-ahead-rows.ts takes it apart. */
export const rowFacts = (
  sealed: string,
  ...more: string[]
): string => `json_build_array(s.id, s.path, s.type, s.description, s.labels, s.revision, s.current_version, s.current_since,
          s.expires_at, s.rotate_after_days, s.created_at, s.created_by, s.updated_at, s.updated_by, s.last_accessed_at,
          encode(s.mac, 'hex'), v.version, v.state, v.storage, v.manager, v.data_key_id, v.location, v.created_at,
          v.created_by, v.last_accessed_at, encode(v.mac, 'hex'),
          ${[sealed, ...more].join(", ")})`;
const row = rowFacts(
  `CASE WHEN f.wanted = 'decrypt' AND octet_length(v.sealed) <= ${BYTES_EACH_MAX} THEN encode(v.sealed, 'hex') END`,
);

const ofOwner = `s.tenant_id = f.tenant_id AND s.owner_type = f.owner_type AND s.owner_id = f.owner_id
          AND s.deleted_at IS NULL AND f.looks`;
const bytes =
  "coalesce(octet_length(v.sealed), 0) + octet_length(s.labels::text) + coalesce(octet_length(s.description), 0)";
const subject = "jsonb_build_object('id', s.id, 'path', s.path, 'version', v.version)";

/** One at a time, by its key, whatever else the owner has. */
const atEach = `jsonb_array_elements_text(f.each) WITH ORDINALITY AS e (path, place)
        CROSS JOIN LATERAL (SELECT * FROM settings s WHERE ${ofOwner} AND ${atPath("e.path")}) s`;

const source = (
  at: boolean,
  from = "settings s",
): string => `SELECT ${at} AS at_path, s.path, v.version, ${row} AS facts, ${subject} AS subject,
          v.state = 'enabled' AND (s.expires_at IS NULL OR s.expires_at > f.at) AS is_open,
          ${bytes} AS bytes
        FROM ${from} ${withVersion} WHERE ${ofOwner}`;

/** As read-ahead-rows.ts takes them apart. */
export const tokenFacts = `CASE WHEN t.id IS NOT NULL THEN json_build_array(t.id, t.name, t.parent_id, t.made_with, t.scopes, t.max_uses, t.uses,
  t.allowed_cidrs, t.expires_at, t.last_used_at, t.revoked_at, t.created_at, t.created_by) END`;
export const principalFacts = `json_build_array(p.id, p.kind, p.name, p.email, p.admin, p.organization_id, p.scopes,
  p.disabled_at, p.created_at, p.created_by)`;

/** By its key, one at a time: joined, all that a principal is a member of was gone through for the one at an owner. */
const membership = (ownerId: string, ownerType: string): string =>
  `SELECT m.role FROM memberships m WHERE m.owner_id = ${ownerId} AND m.principal_id = p.id AND m.owner_type = ${ownerType} LIMIT 1`;

/** For each `q`: its token `t`, its principal `p`, the owner's tenant `place`, and the roles `here` and `above`. */
export const whoAndWhere = `LEFT JOIN LATERAL (
    SELECT *, ctid AS at_place, xmin AS made_by FROM tokens WHERE hash = q.hash
    UNION ALL SELECT *, ctid, xmin FROM tokens WHERE id = q.token
  ) t ON TRUE
  JOIN principals p ON p.id = coalesce(t.principal_id, q.principal) AND (q.provider IS NULL OR EXISTS (
    SELECT FROM identity_providers i
    WHERE i.organization_id = p.organization_id AND i.id = q.provider AND i.revision = q.revision))
  LEFT JOIN LATERAL (
    SELECT o.id AS tenant_id FROM organizations o WHERE q.owner_type = 'organization' AND o.id = q.owner_id
    UNION ALL SELECT j.organization_id FROM projects j WHERE q.owner_type = 'project' AND j.id = q.owner_id
    UNION ALL SELECT u.id FROM principals u WHERE q.owner_type = 'user' AND u.id = q.owner_id AND u.kind = 'user'
  ) place ON TRUE
  LEFT JOIN LATERAL (${membership("q.owner_id", "q.owner_type")}) here ON TRUE
  LEFT JOIN LATERAL (${membership("place.tenant_id", "'organization'")}) above ON TRUE`;

/**
 * Which rows of a token and a principal, and which versions of them: every change makes another, at another place, by
 * another transaction. The ids too, since a table that is rewritten as a whole may have another row of the same
 * transaction at the place of one that is gone.
 */
const who = "concat(server, ' ', t.id, t.at_place, t.made_by, ' ', p.id, p.ctid, p.xmin)";
const whoFacts = `json_build_array(w.stamp, ${tokenFacts}, ${principalFacts})::text`;

const text = `
WITH server AS (SELECT ${server} AS server), q AS (
  SELECT * FROM unnest(${[...ASKED, ...EVENT].map(([, type], index) => `$${index + 1}::${type}[]`).join(", ")})
    AS q (${[...ASKED, ...EVENT].map(([name]) => (name === "id" ? "event_id" : `"${name}"`)).join(", ")})
), asked AS MATERIALIZED (
  SELECT k.*, coalesce(k.is_plain AND k.tenant_id IS NOT NULL AND ${rights}, FALSE) AS allowed FROM (
    SELECT q.*, coalesce(t.id, q.stand_in) AS token_id, p.id AS principal_id, place.tenant_id,
      here.role AS role_at_owner, above.role AS role_at_organization,
      server, CASE WHEN w.stamp IS DISTINCT FROM q.known_who THEN ${whoFacts} END AS who,
      p.disabled_at IS NULL AND (t.id IS NULL OR (t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > q.at)
        AND t.max_uses IS NULL AND cardinality(t.allowed_cidrs) = 0))
        AND (cardinality(p.scopes) = 0 AND (t.id IS NULL OR cardinality(t.scopes) = 0)
          OR (q.covered AND w.stamp = q.known_who)) AS is_plain,
      CASE WHEN q.owner_type = 'user' THEN CASE WHEN p.kind = 'user' AND p.id = q.owner_id THEN 'owner' END
        WHEN p.kind = 'service_account' AND p.organization_id IS DISTINCT FROM place.tenant_id THEN NULL
        WHEN q.owner_type = 'project' AND above.role = 'owner' THEN 'owner'
        ELSE here.role END AS role
    FROM server CROSS JOIN q ${whoAndWhere} CROSS JOIN LATERAL (SELECT ${who} AS stamp OFFSET 0) w
    -- Not merged with the query around it, where each column would be worked out for each of its uses.
    OFFSET 0
  ) k
), found AS MATERIALIZED (
  SELECT f.*, r.at_path, r.subjects,
    CASE WHEN f.looks AND r.is_whole THEN r.rows::text END AS rows,
    f.looks AND r.is_whole AND (f.wanted = 'list' OR r.all_open) AND (r.at_path OR NOT f.strict)
      AND (f.each IS NULL OR r.many = jsonb_array_length(f.each)) AS recorded
  FROM (SELECT *, allowed AND NOT known_page AS looks FROM asked) f CROSS JOIN LATERAL (
    SELECT count(*) AS many, count(*) <= f.most AND coalesce(sum(bytes) <= ${BYTES_MAX} AND max(bytes) <= ${BYTES_EACH_MAX}, TRUE)
        AND coalesce(bool_and(version IS NOT NULL), TRUE) AS is_whole,
      coalesce(bool_and(is_open), TRUE) AS all_open, coalesce(bool_or(at_path), FALSE) AS at_path,
      coalesce(json_agg(facts), '[]') AS rows, coalesce(jsonb_agg(subject), '[]') AS subjects
    FROM (
      (${source(true)} AND ${atPath("f.exact")})
      UNION ALL
      (${source(false)} AND s.path > f.low AND s.path < f.high AND (
          SELECT s.id FROM settings s WHERE ${ofOwner} AND ${atPath("f.exact")}) IS NULL
        ORDER BY s.path LIMIT ${ROWS_MAX + 1})
      UNION ALL
      (${source(true, atEach)} ORDER BY e.place)
    ) beneath
  ) r
), tail AS (${takePositions("SELECT count(*) AS n FROM found WHERE recorded", `$${ASKED.length + EVENT.length + 1}::bigint`)}
), written AS (
  INSERT INTO audit_events (${eventColumns.map(([name]) => `"${name}"`).join(", ")}, position)
  SELECT ${eventColumns.map(([name]) => FILLED[name] ?? (name === "id" ? "event_id" : `"${name}"`)).join(", ")},
    last + row_number() OVER ()
  FROM found LEFT JOIN tail ON TRUE WHERE recorded RETURNING id
)
SELECT n, who, tenant_id, role_at_owner, role_at_organization, allowed, at_path, rows, server, ${snapshot} AS snapshot,
  -- Somebody's trigger may have left it out.
  recorded AND event_id IN (SELECT id FROM written) AS recorded,
  CASE WHEN (SELECT last FROM tail) IS NOT NULL THEN pg_current_xact_id()::text END AS placed_by
FROM found`;

export const readAheadStatement: Statement = { name: "read_ahead", text };
