// A log that an older version wrote, with positions given now and then and gaps among them, is sealed as it is.
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import { createSealing } from "../../src/domain/audit-sealing.ts";
import { createEventHashes } from "../../src/domain/event-hashes.ts";
import { hashEvent } from "../../src/sealing/audit-seal.ts";
import { verifyChain } from "../../src/domain/audit-verify.ts";
import { applyMigrations } from "../../src/store/migrate.ts";
import { migrationsFolder } from "../../src/store/schema-engine.ts";
import { createStore } from "../../src/store/store.ts";
import { emptyDatabase } from "../harness/postgres.ts";
import { newMaker } from "./audit-seal-kit.ts";
import { newId } from "./fixture.ts";

const SEALS = "20261126062500_audit_seals";

test("an upgrade keeps every event and passes no collector's cursor over one; then all of it is sealed and verifies", async () => {
  const before = await mkdtemp(join(tmpdir(), "coffer-migrations-"));
  const database = await emptyDatabase();
  const driver = new pg.Pool({ connectionString: database.url, max: 1 });
  // A pool has ended before its connections have: the server may end one of them as its database is dropped.
  driver.on("error", () => undefined);
  const clock = { now: () => new Date() };
  const opened = createStore({ databaseUrl: database.url, clock, onBackgroundError: () => undefined });
  onTestFinished(async () => {
    await opened.close();
    await driver.end();
    await database.drop();
    await rm(before, { recursive: true });
  });
  for (const name of await readdir(migrationsFolder))
    if (name < SEALS || name.includes("."))
      await cp(join(migrationsFolder, name), join(before, name), { recursive: true });
  await applyMigrations(database.url, before);
  // Positions 2 and 5 were given up for later ones; two events have none yet.
  const positions = [1, 3, 4, 6, 7, null, null];
  const ids = positions.map(() => newId());
  for (const [index, position] of positions.entries())
    await driver.query(
      `INSERT INTO audit_events (tenant_id, id, at, action, operation, outcome, owner_type, owner_id, settings, details, request_id, position)
       VALUES ($1, $2, now(), 'list', 'x', 'allowed', 'instance', NULL, '[]', '{}', 'r', $3)`,
      [newId(), ids[index], position],
    );
  await driver.query("UPDATE audit_tail SET position = 7");

  await applyMigrations(database.url);
  const { rows } = await driver.query("SELECT id, position::int FROM audit_events ORDER BY position, id");
  expect(rows.map(({ id }) => id)).toEqual(ids);
  for (const [index, { position }] of rows.entries())
    expect(position ?? 0).toBeGreaterThanOrEqual(positions[index] ?? 0);

  const maker = newMaker();
  const alerts: unknown[] = [];
  const sealing = createSealing({
    seals: opened.seals,
    maker,
    hashes: createEventHashes(hashEvent),
    keys: { named: () => null },
    clock,
    onAlert: (alert) => alerts.push(alert),
  });
  await sealing.seal();
  const { head, items } = await opened.auditStream();
  expect(await verifyChain(items, maker, { keptFrom: head?.kept_from ?? null })).toMatchObject({
    problem: null,
    verified: { events: 7, unsealed: 0 },
  });
  expect(alerts).toEqual([]);
});
