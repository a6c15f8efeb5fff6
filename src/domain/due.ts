// Events that come with time and not with a request: a rotation that is due, an expiry that is near, an owner at whom
// many were turned away. Each is told once: for a version, for an expiry, for some minutes.
import type { Gate } from "./gate.ts";

const DAY_MS = 86_400_000;
const EXPIRING_DAYS = 30;
const BATCH = 100;
const BURST_MS = 300_000;
/** Denials at one owner within those minutes that are no accident. */
const BURST_LEAST = 20;

const soonAfter = (now: Date): Date => new Date(now.getTime() + EXPIRING_DAYS * DAY_MS);
const burstSince = (now: Date): Date => new Date(now.getTime() - BURST_MS);

export function createDue(gate: Gate) {
  return {
    /** Tells of what has become due, an owner at a time, up to `limit` of them; answers how many owners. */
    async tellDue(limit: number): Promise<number> {
      for (let owners = 0; ; owners++) {
        if (owners === limit) return owners;
        const told = await gate.housekeep(
          "tellDueSettings",
          async (tx, now) => {
            const due = await tx.takeDueNotices(now, soonAfter(now), BATCH);
            const [first] = due;
            if (first === undefined) return null;
            const { owner_type, owner_id, tenant_id } = first;
            return {
              result: true,
              key: { owner_type, owner_id, tenant_id },
              subjects: due.map(({ id, path, version }) => ({ id, path, version })),
              details: { change: "due_told" },
              happenings: due.map(({ kind, id, path, version, due_at }) => {
                return { kind, id, path, version, details: { due_at: due_at.toISOString() } };
              }),
            };
          },
          (now) => ({ kind: "notices", now, expiringBefore: soonAfter(now) }),
        );
        if (told === null) return owners;
      }
    },

    /** Tells of owners at whom callers were denied in a burst, up to `limit`; answers of how many. */
    async tellBursts(limit: number): Promise<number> {
      for (let owners = 0; ; owners++) {
        if (owners === limit) return owners;
        const told = await gate.housekeep(
          "tellDeniedBursts",
          async (tx, now) => {
            const burst = await tx.takeDeniedBurst(burstSince(now), BURST_LEAST, now);
            if (burst === null) return null;
            const { owner_type, owner_id, tenant_id, denied } = burst;
            const details = { denied: String(denied), minutes: String(BURST_MS / 60_000) };
            const happening = {
              kind: "access.denied_burst" as const,
              id: null,
              path: null,
              version: null,
              details,
            };
            return {
              result: true,
              key: { owner_type, owner_id, tenant_id },
              details: { change: "burst_told", ...details },
              happenings: [happening],
            };
          },
          (now) => ({ kind: "burst", since: burstSince(now), least: BURST_LEAST }),
        );
        if (told === null) return owners;
      }
    },
  };
}
