// Seals the audit log, a step at a time, by whichever replica comes first. Committed events get their positions, and
// events with positions get a seal that is chained to the one before. It remembers the last seal it saw: a database
// that has less, or another, was cut back or forged, and the chain goes on from what is remembered, so that the cut
// stays visible to whoever verifies.
import {
  type Leaf,
  type Place,
  type Seal,
  type SealMaker,
  type SealStore,
  sameBytes,
} from "./audit-chain.ts";
import type { EventHashes } from "./event-hashes.ts";
import type { Clock } from "./ports.ts";

/** With nothing to seal a seal of no events is made this often: what is removed after it leaves a gap in time. */
export const HEARTBEAT_SECONDS = 60;
/** They are packed and hashed in one go, which everybody else waits for. */
const EVENTS_PER_SEAL = 1_000;
/** Fewer, where they have to be read and hashed first. */
const EVENTS_READ = 250;

export type SealAlert = {
  readonly kind: "audit_cut_back" | "audit_seal_forged";
  readonly seal: number;
};

export type SealingDeps = {
  readonly seals: SealStore;
  readonly maker: SealMaker;
  /** Of the events that this process recorded. */
  readonly hashes: Pick<EventHashes, "get" | "forget">;
  /** Throws where this process was not given the master key that a key-check value names. */
  readonly keys: { named(keyCheck: Uint8Array | null): unknown };
  readonly clock: Clock;
  readonly onAlert: (alert: SealAlert) => void;
};

/** What the next seal is to cover, and whether there may be more than that. */
type Next = { readonly leaves: readonly Leaf[]; readonly isMore: boolean };

export type Sealing = ReturnType<typeof createSealing>;

export function createSealing({ seals, maker, hashes, keys, clock, onAlert }: SealingDeps) {
  let known: Seal | null = null;
  const told = new Set<string>();

  function alert(kind: SealAlert["kind"], seal: number): void {
    const key = `${kind} ${seal}`;
    if (!told.has(key)) onAlert({ kind, seal });
    told.add(key);
  }

  function know(seal: Seal | null): void {
    known = seal;
    seals.goOnAfter(seal?.last_position ?? 0);
  }

  /** Which seal the next one follows: the newest in the database, unless that is not to be believed. */
  function baseOf(head: Seal | null): Seal | null {
    // Judged when it came to be known.
    if (head === known) return known;
    if (head !== null && !maker.isGenuine(head)) alert("audit_seal_forged", head.number);
    else if (known === null || (head !== null && head.number >= known.number)) return head;
    else alert("audit_cut_back", known.number);
    return known;
  }

  function isDue(base: Seal | null, leaves: readonly Leaf[], now: Date): boolean {
    if (base === null || leaves.length > 0) return true;
    return now.getTime() - base.sealed_at.getTime() >= HEARTBEAT_SECONDS * 1000;
  }

  /** Those after a position, up to one whose event is neither remembered nor among those read at once. */
  async function leavesAfter(position: number): Promise<Next> {
    const places = await seals.placesAfter(position, EVENTS_PER_SEAL);
    const remembered = places.map(({ id }) => hashes.get(id));
    const unknown = places.filter((_, n) => remembered[n] === null).slice(0, EVENTS_READ);
    const keyOf = ({ position: at, id }: Place): string => `${at} ${id}`;
    const read = new Map<string, string>();
    if (unknown.length > 0)
      for (const placed of await seals.eventsAt(unknown.map((place) => place.position)))
        read.set(keyOf({ position: placed.position, id: placed.event.id }), maker.hashEvent(placed.event));
    const leaves: Leaf[] = [];
    for (const [n, place] of places.entries()) {
      const hash = remembered[n] ?? read.get(keyOf(place));
      if (hash === undefined) break;
      leaves.push({ position: place.position, id: place.id, hash });
    }
    return { leaves, isMore: places.length === EVENTS_PER_SEAL || leaves.length < places.length };
  }

  /** Null when there is nothing to add. `isMore`: there may be more than that seal takes. */
  async function append(): Promise<{ made: Seal; isMore: boolean } | null> {
    let next: Next = { leaves: [], isMore: false };
    const made = await seals.append(known, async (head, keyCheck) => {
      keys.named(keyCheck);
      const base = baseOf(head);
      const last = base?.last_position ?? 0;
      next = await leavesAfter(last);
      const { leaves } = next;
      const now = clock.now();
      if (!isDue(base, leaves, now)) return null;
      return maker.seal(
        {
          // Past a forged one, which has taken its number.
          number: Math.max(head?.number ?? 0, base?.number ?? 0) + 1,
          previous: base?.hash ?? null,
          // The first of all begins where the log does.
          first_position: base === null ? (leaves[0]?.position ?? 1) : last + 1,
          kept_from: base?.kept_from ?? null,
          sealed_at: base !== null && base.sealed_at > now ? base.sealed_at : now,
        },
        leaves,
      );
    });
    if (made === null) return null;
    for (const { id } of next.leaves) hashes.forget(id);
    return { made, isMore: next.isMore };
  }

  /** Whatever keeps events from getting positions, those that have them are sealed. Answers the error to throw then. */
  async function placeAll(): Promise<{ readonly error: unknown } | null> {
    try {
      while (await seals.place());
      return null;
    } catch (error) {
      return { error };
    }
  }

  return {
    /** Seals all that is committed by now; answers the newest seal that it knows. @throws as `keys.named` */
    async seal(): Promise<Seal | null> {
      const { head, known: still, tail, waiting, keyCheck } = await seals.state(known);
      // A replica that was left behind when the master key was replaced would take the others' seals for forged, and go
      // on with a chain that they take for forged.
      keys.named(keyCheck);
      if (known !== null && !sameBytes(still, known.hash)) alert("audit_cut_back", known.number);
      const base = baseOf(head);
      know(base);
      const last = base?.last_position ?? 0;
      const failed = waiting ? await placeAll() : null;
      const idleMs = base === null ? Infinity : clock.now().getTime() - base.sealed_at.getTime();
      if (!waiting && tail === last && idleMs < HEARTBEAT_SECONDS * 1000) return known;
      for (let more = true; more; ) {
        const added = await append();
        if (added !== null) know(added.made);
        more = added?.isMore === true && added.made.count > 0;
      }
      if (failed !== null) throw failed.error;
      return known;
    },
  };
}
