// The two-role set-up: who owns the tables migrates, and a lesser role serves. The lesser one adds to the audit log and
// its seals and can neither change nor remove what is there. The rights themselves are SQL, in prisma/serving-role.sql.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { ignoreLateErrors, migrationsFolder } from "./schema-engine.ts";

const scriptPath = join(migrationsFolder, "../serving-role.sql");

/**
 * Gives `role` what serving takes, and takes from it what it does not: to be run as the owner after each migration.
 * @throws Error when there is no such role, or when it could do all that the owner can
 */
export async function grantServing(databaseUrl: string, role: string): Promise<void> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 1 });
  ignoreLateErrors(pool);
  const client = await pool.connect();
  try {
    await client.query("SELECT set_config('coffer.serving_role', $1, false)", [role]);
    await client.query(await readFile(scriptPath, "utf8"));
  } finally {
    client.release(true);
    await pool.end();
  }
}
