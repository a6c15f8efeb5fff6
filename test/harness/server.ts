// One PostgreSQL for the whole run: an embedded one in a temporary folder, or COFFER_TEST_DATABASE_URL's (whose role must
// be allowed to create databases). The migrations are applied once, to a template that tests clone.
// Nothing of it is left when the run ends; should the run be killed, the embedded server ends by itself.
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { applyMigrations } from "../../src/store/migrate.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Where tests may create databases; see harness/postgres.ts. */
    postgres: { url: string; prefix: string };
  }
}

/** vitest calls it before the first test file; the answer is called after the last. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await openServer();
  const prefix = `coffer_test_${randomBytes(4).toString("hex")}_`;
  const admin = new pg.Client({ connectionString: server.url });
  admin.on("error", () => undefined);
  await admin.connect();
  const close = async () => {
    const found = await admin.query("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", [
      prefix,
    ]);
    for (const { datname } of found.rows) await admin.query(`DROP DATABASE "${datname}" WITH (FORCE)`);
    await admin.end();
    await server.close();
  };
  try {
    await admin.query(`CREATE DATABASE ${prefix}template TEMPLATE template0`);
    const url = new URL(server.url);
    url.pathname = `/${prefix}template`;
    await applyMigrations(url.href);
  } catch (error) {
    await close();
    throw error;
  }
  project.provide("postgres", { url: server.url, prefix });
  return close;
}

async function openServer(): Promise<{ url: string; close(): Promise<void> }> {
  const given = process.env["COFFER_TEST_DATABASE_URL"];
  if (given) return { url: given, close: async () => undefined };
  const home = await mkdtemp(join(tmpdir(), "coffer-server-"));
  // What a test kills is the broker, not the machine: the kernel keeps what was written, flushed or not.
  // An autovacuum worker is the superuser's, and would keep a test's database from being dropped.
  const settings = { fsync: "off", max_connections: "200", autovacuum: "off", max_wal_size: "256MB" };
  const server = await startEmbeddedPostgres({
    home,
    settings,
    logger: { info: () => undefined, error: console.error },
  });
  const close = async () => {
    await server.stop();
    await rm(home, { recursive: true, force: true });
  };
  return { url: server.url, close };
}
