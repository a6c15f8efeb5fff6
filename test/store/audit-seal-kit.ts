// A store with a sealer whose clock is set by hand, and somebody who can write the database as its owner.
import { randomBytes } from "node:crypto";
import { v7 } from "uuid";
import { createAuditRetention } from "../../src/domain/audit-retention.ts";
import { createGate } from "../../src/domain/gate.ts";
import { type Sealing, createSealing, type SealAlert } from "../../src/domain/audit-sealing.ts";
import type { EventHashes } from "../../src/domain/event-hashes.ts";
import { type Verdict, verifyChain } from "../../src/domain/audit-verify.ts";
import type { OpenStore } from "../../src/store/store.ts";
import { createSealMaker, onlySeed } from "../../src/sealing/audit-seal.ts";
import { createMasterKeys } from "../../src/sealing/master-key.ts";
import { event, openFixture } from "./fixture.ts";

export const newMaker = () => createSealMaker(onlySeed(createMasterKeys(randomBytes(32)).auditSealing));

export async function openSealed() {
  const fixture = await openFixture();
  const maker = newMaker();
  const alerts: SealAlert[] = [];
  fixture.time.now = new Date();
  const sealerOf = ({ seals, hashes }: Pick<OpenStore, "seals"> & { hashes: EventHashes }): Sealing =>
    createSealing({
      seals,
      maker,
      hashes,
      keys: { named: () => null },
      clock: { now: () => fixture.time.now },
      onAlert: (alert) => alerts.push(alert),
    });
  const sealing = sealerOf(fixture);
  const { orgKey, key } = await fixture.organization();

  async function verify(known: { number: number; hash: Uint8Array }[] = []): Promise<Verdict> {
    const { head, items } = await fixture.auditStream();
    return verifyChain(items, maker, { keptFrom: head?.kept_from ?? null, known });
  }

  /** Writes some events and seals them. */
  async function sealed(count: number) {
    const at = fixture.time.now;
    const events = Array.from({ length: count }, (_, index) =>
      event(key, { at, id: v7({ msecs: at.getTime() + index }) }),
    );
    for (const each of events) await fixture.store.record(each);
    await sealing.seal();
    return events;
  }

  /** What somebody who owns the database can do: nothing stops them. */
  async function attack(...statements: string[]): Promise<void> {
    await fixture.driver.query("ALTER TABLE audit_events DISABLE TRIGGER USER");
    for (const statement of statements) await fixture.driver.query(statement);
  }

  const refusals = { max: 100, count: () => 0 };
  const clock = { now: () => fixture.time.now };
  const gate = createGate({ store: fixture.store, clock, newId: () => v7(), refusals });
  const retention = (months: number) => createAuditRetention(gate, { seals: fixture.seals, maker, months });

  const problem = async () => {
    const verdict = await verify();
    return verdict.problem;
  };

  return {
    ...fixture,
    maker,
    alerts,
    sealing,
    sealerOf,
    orgKey,
    key,
    verify,
    problem,
    sealed,
    attack,
    retention,
  };
}
