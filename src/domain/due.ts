// Events that come with time and not with a request: a rotation that is due, an expiry that is near, an owner at whom
// many were turned away. Each is told once: for a version, for an expiry, for some minutes.
import type { Gate } from "./gate.ts";
import type { Clock, Reader } from "./ports.ts";

const DAY_MS = 86_400_000;
const EXPIRING_DAYS = 30;
const BATCH = 100;
const BURST_MS = 300_000;
/** Denials at one owner within those minutes that are no accident. */
const BURST_LEAST = 20;

const soonAfter = (now: Date): Date => new Date(now.getTime() + EXPIRING_DAYS * DAY_MS);
const burstSince = (now: Date): Date => new Date(now.getTime() - BURST_MS);

export function createDue(gate: Gate, reader: Pick<Reader, "deniedBursts">, clock: Clock) {
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

    /**
     * Tells of owners at whom callers were denied in a burst, up to `limit`; answers of how many. Denials are gone through
     * once, and not for each owner: whoever makes many of them should not make much work of them.
     */
    async tellBursts(limit: number): Promise<number> {
      const since = burstSince(clock.now());
      const bursts = await reader.deniedBursts(since, BURST_LEAST, limit);
      let owners = 0;
      for (const burst of bursts) {
        const told = await gate.housekeep("tellDeniedBursts", async (tx, now) => {
          if (!(await tx.takeDeniedBurst(burst, since, now))) return null;
          const { denied, ...key } = burst;
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
            key,
            details: { change: "burst_told", ...details },
            happenings: [happening],
          };
        });
        if (told !== null) owners += 1;
      }
      return owners;
    },
  };
}
