// A master key that is replaced while a replica without the new one seals: whenever that is, it adds no seal to the others'
// chain, and takes none of theirs for forged.
import { expect, test } from "vitest";
import { type SealAlert, createSealing } from "../../src/domain/audit-sealing.ts";
import type { Seal, SealStore } from "../../src/domain/audit-chain.ts";
import { createEventHashes } from "../../src/domain/event-hashes.ts";
import { hashEvent } from "../../src/sealing/audit-seal.ts";
import { auditSeals, insertSeal } from "../../src/store/audit-seals.ts";
import type { Db } from "../../src/store/db.ts";
import { newMaker } from "./audit-seal-kit.ts";
import { openFixture } from "./fixture.ts";

const [EARLIER, NEXT] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];

/** A replica with the earlier key, over the real tables; `after` names the statement after which the key is replaced. */
async function leftBehind(after: string) {
  const { driver } = await openFixture();
  const keyCheck = `INSERT INTO instance (id, key_check, created_at) VALUES (1, $1, now())
    ON CONFLICT (id) DO UPDATE SET key_check = EXCLUDED.key_check`;
  await driver.query(keyCheck, [EARLIER]);
  const [maker, others] = [newMaker(), newMaker()];
  const at = { isReplaced: false, isArmed: false };
  const base = { previous: null, first_position: 1, kept_from: null, sealed_at: new Date() };
  const db = {
    query: async (statement: { readonly name: string; readonly text: string }, params: unknown[]) => {
      const { rows } = await driver.query(statement.text, params);
      if (at.isArmed && !at.isReplaced && statement.name === after) {
        at.isReplaced = true;
        await driver.query(keyCheck, [NEXT]);
        await insertSeal(db, others.seal({ ...base, number: 2 }, []));
      }
      return rows;
    },
  } as unknown as Db;
  const within = <Result>(work: (tx: Db) => Promise<Result>): Promise<Result> => work(db);
  const seals = {
    ...auditSeals(db, within, within, () => new Date(), { position: 0 }),
    goOnAfter: () => undefined,
  } as unknown as SealStore;
  const alerts: SealAlert[] = [];
  // The heartbeat is due each time.
  let minutes = 0;
  const sealing = createSealing({
    seals,
    maker,
    hashes: createEventHashes(hashEvent),
    keys: {
      named: (check) => {
        if (check !== null && !EARLIER.equals(check)) throw new Error("left behind");
      },
    },
    clock: { now: () => new Date(Date.now() + (minutes += 1) * 120_000) },
    onAlert: (alert) => alerts.push(alert),
  });
  const first = await sealing.seal();
  return { driver, others, sealing, alerts, at, first: first as Seal };
}

test.each(["newest_seal_unless_known", "audit_state", "hash_of_seal", "lock_audit_seals", "key_epoch"])(
  "replaced after its statement %s, it adds no seal and raises no alarm",
  async (statement) => {
    const { driver, others, sealing, alerts, at, first } = await leftBehind(statement);
    expect(first.number).toBe(1);
    at.isArmed = true;
    const told: unknown[] = [];
    for (let each = 0; each < 3; each++) await sealing.seal().catch((error: unknown) => told.push(error));
    expect(at.isReplaced).toBe(true);
    expect(told.length).toBeGreaterThanOrEqual(2);
    expect(alerts).toEqual([]);
    const { rows } = await driver.query(
      "SELECT number::int, key_id FROM audit_seals ORDER BY number DESC LIMIT 1",
    );
    const made = others.seal(
      { number: 2, previous: null, first_position: 1, kept_from: null, sealed_at: new Date() },
      [],
    );
    expect(rows).toEqual([{ number: 2, key_id: made.key_id }]);
  },
);
