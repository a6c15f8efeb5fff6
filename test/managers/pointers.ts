// What the database points at in managers, read by SQL: `<name>#<version id>` for each version and each key. The other
// side of "the manager holds what the database points at, and nothing else".
import pg from "pg";

export async function pointedAt(databaseUrl: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string }>(
      `SELECT coalesce(location ->> 'secret_id', location ->> 'resource') || '#' || (location ->> 'version_id') AS name
         FROM setting_versions WHERE storage = 'manager' AND state = 'enabled'
       UNION ALL
       SELECT coalesce(address ->> 'secret_id', address ->> 'resource') || '#' || version_id
         FROM managed_secrets WHERE purpose <> 'setting' AND version_id IS NOT NULL`,
    );
    return rows.map(({ name }) => name).toSorted();
  } finally {
    await client.end();
  }
}
