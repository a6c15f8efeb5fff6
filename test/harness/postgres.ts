// Databases for tests: each is fresh, and nobody else's. `drop` may be called while connections are open.
import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";

export type TestDatabase = { readonly url: string; drop(): Promise<void> };

/** A database that this build's migrations have been applied to. */
export function createDatabase(): Promise<TestDatabase> {
  return clone(`${inject("postgres").prefix}template`);
}

/** A database with nothing in it. */
export function emptyDatabase(): Promise<TestDatabase> {
  return clone("template0");
}

async function clone(template: string): Promise<TestDatabase> {
  const { url, prefix } = inject("postgres");
  const name = `${prefix}${randomBytes(6).toString("hex")}`;
  // Copied as files, half the work of writing each page into the log: nothing of a test's has to be flushed for it.
  await execute(url, `CREATE DATABASE ${name} TEMPLATE ${template} STRATEGY FILE_COPY`);
  const own = new URL(url);
  own.pathname = `/${name}`;
  return { url: own.href, drop: () => execute(url, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

async function execute(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
