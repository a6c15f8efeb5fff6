// Retention of the audit log: whole months go, once every event in them is sealed, in one transaction with a seal that
// says from when on events are kept and with an event that says what went. The seals stay, so that what remains is
// still provable, and that nothing else is missing.
import type { MakeSeal, SealMaker, SealStore } from "./audit-chain.ts";
import type { Gate } from "./gate.ts";

const MONTHS_AHEAD = 3;
const LEAVES_AT_ONCE = 1_000;

export type RetentionDeps = {
  readonly seals: SealStore;
  readonly maker: SealMaker;
  /** Whole months that are kept beside the one that runs; 0: all. */
  readonly months: number;
};

export type Dropped = { readonly kept_from: Date; readonly months: readonly string[] };

export function createAuditRetention(gate: Gate, { seals, maker, months }: RetentionDeps) {
  /** @throws BrokerError `forbidden` when the database's role may not drop what it does not own */
  async function pruneAudit(): Promise<Dropped | null> {
    if (months === 0) return null;
    const dropped = await gate.housekeep("pruneAudit", async (tx, now) => {
      const kept_from = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - months, 1));
      const gone = await tx.dropAuditMonths(kept_from, sealOf(kept_from, now));
      if (gone.length === 0) return null;
      const details = {
        change: "audit_dropped",
        kept_from: kept_from.toISOString(),
        months: gone.join(","),
      };
      return { result: { kept_from, months: gone }, key: null, details };
    });
    while ((await seals.forgetLeaves(LEAVES_AT_ONCE)) > 0);
    return dropped;
  }

  const sealOf =
    (keptFrom: Date, now: Date): MakeSeal =>
    async (head) => {
      if (head === null || !maker.isGenuine(head)) return null;
      const { number, hash, last_position, kept_from, sealed_at } = head;
      return maker.seal(
        {
          number: number + 1,
          previous: hash,
          first_position: last_position + 1,
          kept_from: kept_from !== null && kept_from > keptFrom ? kept_from : keptFrom,
          sealed_at: sealed_at > now ? sealed_at : now,
        },
        [],
      );
    };

  return {
    pruneAudit,

    /**
     * What has to be done now and then: room for the months to come and, where the broker's role owns the tables,
     * retention. Where it does not, retention is the owner's to run.
     */
    async keepAudit(): Promise<Dropped | null> {
      await seals.prepareMonths(MONTHS_AHEAD);
      return months > 0 && (await seals.mayDrop()) ? pruneAudit() : null;
    },
  };
}
