// What the tests of the embedded PostgreSQL ask of it: a statement, and which process it is.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";

/** Over a connection of its own. */
export async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

export async function fill(url: string): Promise<void> {
  await query(url, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)");
}

export async function serverPid(home: string): Promise<number> {
  return Number((await readFile(join(home, "postgres/data/postmaster.pid"), "utf8")).split("\n")[0]);
}
