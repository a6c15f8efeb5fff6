// Seals the audit log, a step at a time, by whichever replica comes first. Committed events get their positions, and
// events with positions get a seal that is chained to the one before. It remembers the last seal it saw: a database
// that has less, or another, was cut back or forged, and the chain goes on from what is remembered, so that the cut
// stays visible to whoever verifies.
import { type PlacedEvent, type Seal, type SealMaker, type SealStore, sameBytes } from "./audit-chain.ts";
import type { Clock } from "./ports.ts";

/** With nothing to seal a seal of no events is made this often: what is removed after it leaves a gap in time. */
export const HEARTBEAT_SECONDS = 60;
/** Reading and hashing them is done in one go, which everybody else waits for. */
const EVENTS_PER_SEAL = 250;

export type SealAlert = {
  readonly kind: "audit_cut_back" | "audit_seal_forged";
  readonly seal: number;
};

export type SealingDeps = {
  readonly seals: SealStore;
  readonly maker: SealMaker;
  readonly clock: Clock;
  readonly onAlert: (alert: SealAlert) => void;
};

export type Sealing = ReturnType<typeof createSealing>;

export function createSealing({ seals, maker, clock, onAlert }: SealingDeps) {
  let known: Seal | null = null;
  const told = new Set<string>();

  function alert(kind: SealAlert["kind"], seal: number): void {
    const key = `${kind} ${seal}`;
    if (!told.has(key)) onAlert({ kind, seal });
    told.add(key);
  }

  /** Which seal the next one follows: the newest in the database, unless that is not to be believed. */
  function baseOf(head: Seal | null): Seal | null {
    if (head !== null && !maker.isGenuine(head)) alert("audit_seal_forged", head.number);
    else if (known === null || (head !== null && head.number >= known.number)) return head;
    else alert("audit_cut_back", known.number);
    return known;
  }

  function isDue(base: Seal | null, events: readonly PlacedEvent[], now: Date): boolean {
    if (base === null || events.length > 0) return true;
    return now.getTime() - base.sealed_at.getTime() >= HEARTBEAT_SECONDS * 1000;
  }

  async function append(): Promise<Seal | null> {
    return seals.append(async (head, eventsAfter) => {
      const base = baseOf(head);
      const last = base?.last_position ?? 0;
      const events = await eventsAfter(last, EVENTS_PER_SEAL);
      const now = clock.now();
      if (!isDue(base, events, now)) return null;
      return maker.seal(
        {
          // Past a forged one, which has taken its number.
          number: Math.max(head?.number ?? 0, base?.number ?? 0) + 1,
          previous: base?.hash ?? null,
          // The first of all begins where the log does.
          first_position: base === null ? (events[0]?.position ?? 1) : last + 1,
          kept_from: base?.kept_from ?? null,
          sealed_at: base !== null && base.sealed_at > now ? base.sealed_at : now,
        },
        events,
      );
    });
  }

  return {
    /** Seals all that is committed by now; answers the newest seal that it knows. */
    async seal(): Promise<Seal | null> {
      const { head, known: still, tail, waiting } = await seals.state(known?.number ?? null);
      if (known !== null && (still === null || !sameBytes(still.hash, known.hash)))
        alert("audit_cut_back", known.number);
      const base = baseOf(head);
      const last = base?.last_position ?? 0;
      if (waiting) while ((await seals.place(last)) > 0);
      const idleMs = base === null ? Infinity : clock.now().getTime() - base.sealed_at.getTime();
      if (!waiting && tail === last && idleMs < HEARTBEAT_SECONDS * 1000) {
        known = base;
        return known;
      }
      for (;;) {
        const made = await append();
        if (made === null) break;
        known = made;
        if (made.count === 0) break;
      }
      return known;
    },
  };
}
