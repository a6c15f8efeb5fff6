// Who listens to changes, and telling them: one look at the log of changes for all listeners of a replica. A listener
// hears of what it may list, at the moment of telling: rights are looked up again when somebody's may have changed, before
// anything that came after is told, and regularly. Nothing is remembered for who is not there: the log is (since when, a
// listener says itself).
import { type Owner, isAtOrUnder, parsePathQuery } from "./address.ts";
import { type Caller, type Grant, type Need, keyOf } from "./admission.ts";
import { INSTANCE_TENANT } from "./audit.ts";
import { type ChangeEvent, RIGHTS_CHANGED, isAt } from "./change-events.ts";
import { BrokerError, unavailable } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { ChangeLog } from "./lifecycle-ports.ts";
import { placeOf } from "./settings-read.ts";

/** Events that are told at once, with a kilobyte each or so; and of those that a listener missed. */
const BATCH = 500;
const CATCH_UP_BATCH = 100;
const RECHECKS_AT_ONCE = 8;
const RECHECK_MS = 30_000;
/** What one replica bears, and what of it one principal may have. */
const LIMITS = { all: 10_000, perPrincipal: 2_000 };

export type Told = ChangeEvent & { readonly position: bigint };
export type ListenInput = {
  readonly owner: Owner;
  /** Only what is at or under it. */
  readonly path: string | null;
  /** The last position heard; null: from now on. */
  readonly after: bigint | null;
  readonly tell: (event: Told) => void;
  /** Resolves when it has read most of what it was told, or reads no more. */
  readonly room: () => Promise<void>;
  /** Told that events were forgotten which it has not heard. */
  readonly missed: () => void;
  /** Nothing comes any more: the right is gone, or the broker stops. */
  readonly end: () => void;
};

export type Listening = {
  /** What to come back with. */
  readonly position: () => bigint;
  /** Has it told what it missed, as fast as it reads, and then what comes. Whatever goes wrong with that ends it. */
  readonly begin: () => Promise<void>;
  readonly stop: () => void;
};

type Listener = Omit<ListenInput, "after"> & {
  readonly caller: Caller;
  readonly need: Need;
  grant: Grant;
  checkedAt: number;
  /** The last position that it was told of, or passed over. */
  position: bigint;
  /** Whether it hears what comes, and no longer what it missed. */
  isLive: boolean;
};

export function createChangeFeed(
  gate: Pick<Gate, "read" | "stillMay">,
  changes: ChangeLog,
  limits: typeof LIMITS = LIMITS,
) {
  const listeners = new Set<Listener>();
  let position: bigint | null = null;
  let pumping: Promise<void> | null = null;
  let isAsked = false;

  function drop(listener: Listener): void {
    if (listeners.delete(listener)) listener.end();
  }

  function mayHear(listener: Listener, event: Told): boolean {
    const { grant, path } = listener;
    if (event.kind === RIGHTS_CHANGED || event.position <= listener.position) return false;
    if (!isAt(event, keyOf(grant))) return false;
    if (path !== null && (event.path === null || !isAtOrUnder(event.path, path))) return false;
    const ofOwner = event.owner_id === grant.key?.owner_id;
    // Of its projects an organization's owner hears, with a credential that is not confined.
    if (!ofOwner)
      return grant.principal.ceilings.length === 0 && grant.decide("manage", null).verdict === "allow";
    return grant.decide("list", event.path).verdict === "allow";
  }

  function tell(listener: Listener, events: readonly Told[]): void {
    for (const event of events) {
      if (!listeners.has(listener)) return;
      if (isOver(listener, event.at)) return drop(listener);
      if (mayHear(listener, event)) listener.tell(event);
      if (event.position > listener.position) listener.position = event.position;
    }
  }

  async function recheck(some: readonly Listener[], now: Date): Promise<void> {
    const waiting = [...some];
    const worker = async (): Promise<void> => {
      for (let listener = waiting.pop(); listener !== undefined; listener = waiting.pop()) {
        try {
          listener.grant = await gate.stillMay(listener.caller, listener.need);
          listener.checkedAt = now.getTime();
        } catch {
          // Whatever it was is on record, or the database is away: then it comes back, and hears what it missed.
          drop(listener);
        }
      }
    };
    await Promise.all(Array.from({ length: RECHECKS_AT_ONCE }, worker));
  }

  /** Whose rights an event may have changed: all of a tenant's, or everybody's. */
  function concerned(events: readonly Told[]): readonly Listener[] {
    const tenants = new Set(
      events.filter(({ kind }) => kind === RIGHTS_CHANGED).map(({ tenant_id }) => tenant_id),
    );
    if (tenants.size === 0) return [];
    const everybody = tenants.has(INSTANCE_TENANT);
    return [...listeners].filter(({ grant }) => {
      const own = grant.principal.organization_id ?? grant.principal.id;
      return everybody || tenants.has(keyOf(grant).tenant_id) || tenants.has(own);
    });
  }

  async function round(): Promise<void> {
    const last = await changes.place();
    position ??= last;
    while (listeners.size > 0 && position < last) {
      const events: readonly Told[] = await changes.after(position, null, BATCH);
      const end = events.at(-1);
      if (end === undefined) break;
      await recheck(concerned(events), end.at);
      for (const listener of listeners) if (listener.isLive) tell(listener, events);
      position = end.position;
    }
    if (listeners.size === 0) position = last;
  }

  /** One look at a time; whoever asks meanwhile gets another look after it. */
  function pump(): Promise<void> {
    isAsked = true;
    pumping ??= (async () => {
      try {
        while (isAsked) {
          isAsked = false;
          await round();
        }
      } finally {
        pumping = null;
      }
    })();
    return pumping;
  }

  /**
   * What a listener missed before it came. It goes no further than the others are: up to there rights were looked up,
   * whosever log says that they changed. When it is there it hears with them: between the last look and that moment
   * nothing is awaited.
   */
  async function catchUp(listener: Listener): Promise<void> {
    for (let isNew = true; ; isNew = false) {
      await listener.room();
      if (!listeners.has(listener)) return;
      const others = position ?? 0n;
      const { tenant_id } = keyOf(listener.grant);
      const found = await changes.after(listener.position, tenant_id, CATCH_UP_BATCH);
      // Asked after that look: what had been forgotten by then is not in it.
      const kept = await changes.keptSince();
      const events = found.filter((event) => event.position <= others);
      // At first in any case: what the others had passed when it came may be about it, and in another's log.
      const isDue = isNew || concerned(events).includes(listener);
      await recheck(isDue ? [listener] : [], listener.grant.at);
      if (listener.position < kept) {
        listener.missed();
        listener.position = kept;
      }
      tell(listener, events);
      if (events.length === CATCH_UP_BATCH || others !== position) continue;
      if (others > listener.position) listener.position = others;
      listener.isLive = true;
      return;
    }
  }

  /** @throws BrokerError `rate_limited`, `unavailable` */
  function assertRoom({ principal }: Grant): void {
    if (listeners.size >= limits.all) throw unavailable("Too many listen here; try again, or elsewhere.");
    const own = [...listeners].filter(({ grant }) => grant.principal.id === principal.id).length;
    if (own < limits.perPrincipal) return;
    const limit = limits.perPrincipal;
    throw new BrokerError("rate_limited", "This principal has too many streams open.", {
      retry_after_seconds: 10,
      limit,
    });
  }

  return {
    /** Listens, once it has begun, until `end` or `stop` is called: what is told to it comes in order, and nothing twice. */
    async listen(caller: Caller, input: ListenInput): Promise<Listening> {
      const { owner, after, ...rest } = input;
      const path = placeOf(parsePathQuery(input.path ?? undefined, "under"));
      const need: Need = {
        ask: { action: "list", path, breadth: "some" },
        place: { kind: "owner", owner },
      };
      return gate.read(
        caller,
        need,
        async () => ({ found: await changes.place() }),
        async (last, _permit, grant) => {
          const start = after !== null && after < last ? after : last;
          assertRoom(grant);
          // What was taken away between the decision and this place is before where it listens: it is looked up again
          // at once.
          const state = { checkedAt: 0, position: start, isLive: false };
          const listener: Listener = { ...rest, owner, path, caller, need, grant, ...state };
          // With nobody there, nobody looked: what came meanwhile is told by catching up.
          if (listeners.size === 0) position = last;
          listeners.add(listener);
          position ??= last;
          return {
            position: () => listener.position,
            begin: () => catchUp(listener).catch(() => drop(listener)),
            stop: () => void listeners.delete(listener),
          };
        },
      );
    },

    pump,

    /** Looks up rights that were not for a while. */
    async recheckDue(now: Date): Promise<void> {
      const due = [...listeners].filter(({ checkedAt }) => now.getTime() - checkedAt >= RECHECK_MS);
      await recheck(due, now);
    },

    count: (): number => listeners.size,
  };
}

/** Whether a credential has run out by then. */
function isOver({ grant }: Listener, at: Date): boolean {
  const ends = [grant.token.expires_at, grant.access?.expires_at ?? null];
  return ends.some((end) => end !== null && end <= at);
}

/** A position as a client gives it back. @throws BrokerError `invalid_request` */
export function parsePosition(text: string): bigint {
  if (!/^\d{1,18}$/.test(text))
    throw new BrokerError("invalid_request", "Last-Event-ID is none of this stream's.");
  return BigInt(text);
}
