// SQL that finds rows of settings by their whole keys, whatever the planner takes the tables for. While they are empty,
// as at a first start, a part of a key looks as good to it as the whole, and a connection keeps such a plan until the
// tables have been analyzed: until then each look would go through all that a tenant has.

/**
 * Joins the current version `v` of each setting `s`, one at a time. LEFT: a setting whose version row is gone must not be
 * missing from a list without a word.
 */
export const withVersion = `LEFT JOIN LATERAL (SELECT * FROM setting_versions w WHERE w.tenant_id = s.tenant_id
  AND w.setting_id = s.id AND w.version = s.current_version LIMIT 1) v ON TRUE`;

/**
 * Ends the query for the one setting `s` of an owner at a path. In order of the path, which the index of ids does not have.
 * @param path SQL
 */
export const atPath = (path: string): string =>
  `s.path >= ${path} AND s.path <= ${path} ORDER BY s.path LIMIT 1`;
