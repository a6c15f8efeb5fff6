// What a shared transaction locks before its members decide anything: owners against removal, then the ledger's rows of
// their paths. What somebody else has is passed over, so that nobody's mates wait for it; only a path that another
// transaction is making at this moment is waited for, and those are made in one order, the one of store/settings-write.ts.
import type { KeyEpoch } from "../domain/sealing-ports.ts";
import { arrayOf, arraysOf, unnested } from "./columns.ts";
import type { Asker, Statement } from "./db.ts";
import { heldEpochAtOnce } from "./key-rotation.ts";
import { type Spot, atSpot, spotColumns } from "./lookups.ts";

const held = (type: string, table: string, parameter: number): string =>
  `SELECT '${type}' AS owner_type, id FROM (
    SELECT id FROM ${table} WHERE id = ANY ($${parameter}::uuid[]) FOR KEY SHARE SKIP LOCKED) held_${type}`;
const spots = `${unnested(spotColumns)} AS q (tenant_id, owner_type, owner_id, path)`;
const isMissing = `NOT EXISTS (SELECT FROM path_ledger l WHERE ${atSpot("l")})`;
/** Also says whether a path has no row in the ledger yet. */
const holdStatement: Statement = {
  name: "hold_owners",
  text: [
    `(SELECT 'missing' AS owner_type, NULL::uuid AS id FROM ${spots} WHERE ${isMissing} LIMIT 1)`,
    held("organization", "organizations", 5),
    held("project", "projects", 6),
    held("user", "principals", 7),
  ].join(" UNION ALL "),
};
const makeStatement: Statement = {
  name: "make_paths",
  text: `INSERT INTO path_ledger (tenant_id, owner_type, owner_id, path, last_version)
    SELECT q.*, coalesce((SELECT version_floor FROM instance WHERE id = 1), 0) FROM ${spots}
    WHERE ${isMissing}
    ORDER BY q.tenant_id, q.owner_type, q.owner_id, q.path COLLATE "C" ON CONFLICT DO NOTHING
    RETURNING owner_type, owner_id, path`,
};
type Made = { readonly owner_type: string; readonly owner_id: string; readonly path: string };
const lockStatement: Statement = {
  name: "lock_spots",
  text: `SELECT q.n, l.last_version FROM ${unnested(spotColumns)} WITH ORDINALITY AS q (tenant_id, owner_type, owner_id, path, n)
    JOIN path_ledger l ON ${atSpot("l")} FOR NO KEY UPDATE OF l SKIP LOCKED`,
};

/**
 * As Transaction.lockPath, for paths that differ; null for one that somebody else has, or whose owner is not there.
 * @param made is told of the paths that had no row in the ledger before
 */
export async function lockSpots(
  db: Asker,
  asks: readonly Spot[],
  made: Spot[],
): Promise<readonly (number | null)[]> {
  const idsOf = (type: string): string[] => [
    ...new Set(
      asks.flatMap(({ key }) => [
        ...(key.owner_type === type ? [key.owner_id] : []),
        ...(type === "organization" && key.owner_type === "project" ? [key.tenant_id] : []),
      ]),
    ),
  ];
  const owners = await db.query<{ owner_type: string; id: string | null }>(holdStatement, [
    ...arraysOf(spotColumns, asks),
    arrayOf(idsOf("organization")),
    arrayOf(idsOf("project")),
    arrayOf(idsOf("user")),
  ]);
  const isHeld = new Set(owners.map(({ owner_type, id }) => `${owner_type}/${id}`));
  const within = asks.filter(
    ({ key }) =>
      isHeld.has(`${key.owner_type}/${key.owner_id}`) &&
      (key.owner_type !== "project" || isHeld.has(`organization/${key.tenant_id}`)),
  );
  const params = arraysOf(spotColumns, within);
  if (owners.some(({ owner_type }) => owner_type === "missing")) {
    const rows = await db.query<Made>(makeStatement, params);
    const names = new Set(rows.map(({ owner_type, owner_id, path }) => `${owner_type}/${owner_id}/${path}`));
    made.push(...within.filter(({ key, path }) => names.has(`${key.owner_type}/${key.owner_id}/${path}`)));
  }
  const locked = await db.query<{ n: string; last_version: number }>(lockStatement, params);
  const last = new Map(locked.map(({ n, last_version }) => [within[Number(n) - 1], last_version]));
  return asks.map((ask) => last.get(ask) ?? null);
}

/** As Transaction.heldKeyCheck: once is enough for all. */
export async function heldKeyChecks(
  db: Asker,
  asks: readonly null[],
): Promise<readonly KeyEpoch["key_check"][]> {
  const { key_check } = await heldEpochAtOnce(db);
  return asks.map(() => key_check);
}

export type DataKeyHold = { readonly tenant_id: string; readonly id: string };
const holdDataKeysStatement: Statement = {
  name: "hold_data_keys",
  text: `SELECT k.tenant_id, k.id FROM data_keys k JOIN unnest($1::uuid[], $2::uuid[]) AS q (tenant_id, id)
      ON k.tenant_id = q.tenant_id AND k.id = q.id
    WHERE k.created_at >= coalesce((SELECT keys_rotated_at FROM instance), '-infinity') FOR KEY SHARE OF k SKIP LOCKED`,
};

/** As Transaction.holdDataKey; false also where somebody else has it to themselves. */
export async function holdDataKeys(db: Asker, asks: readonly DataKeyHold[]): Promise<readonly boolean[]> {
  const nameOf = ({ tenant_id, id }: DataKeyHold): string => `${tenant_id}/${id}`;
  const wanted = [...new Map(asks.map((ask) => [nameOf(ask), ask])).values()];
  const rows = await db.query<DataKeyHold>(holdDataKeysStatement, [
    arrayOf(wanted.map(({ tenant_id }) => tenant_id)),
    arrayOf(wanted.map(({ id }) => id)),
  ]);
  const names = new Set(rows.map(nameOf));
  return asks.map((ask) => names.has(nameOf(ask)));
}
