// Writes of one setting each that come while others are under way share the next transaction: one set of locks, one
// statement a step, one commit for all of them. An idle store begins at the end of the turn that a write came in; no
// timer. No two members have the same path: the later one waits. A member that fails writes nothing and its mates go
// on; one that needs more than is shared is run alone. A member is answered only once the commit is.
import type pg from "pg";
import type { AuditEvent } from "../domain/audit.ts";
import { unavailable } from "../domain/errors.ts";
import { TURN_MS } from "../domain/limiter.ts";
import type { Transaction } from "../domain/ports.ts";
import { Busy, type WritePlace } from "../domain/steps.ts";
import type { AccessNotes } from "./access-notes.ts";
import { type Asker, driverAsker } from "./db.ts";
import { asBrokerError, isOfItsConnection } from "./failures.ts";
import type { Spot } from "./lookups.ts";
import { flush } from "./shared-flush.ts";
import { type SharedMember, createFacades, newMember } from "./shared-member.ts";
import { type Kinds, createRounds } from "./shared-rounds.ts";
import { type Turns, rolledBack } from "./transactions.ts";

const membersMax = 64;
const transactionsMax = 2;
/** A second one is worth its statements when so many wait; fewer go when the first has ended. */
const secondAt = 16;
const timeoutMs = 15_000;
/** Who waits longer than this for a lock would have all its mates wait: each is run alone then. */
const begin = "BEGIN; SET LOCAL lock_timeout = '1s'";

type Work = (tx: Transaction) => Promise<unknown>;
type Waiting = {
  readonly spot: string;
  readonly by: WritePlace["by"];
  readonly work: Work;
  readonly alone: () => Promise<unknown>;
  readonly done: (result: unknown) => void;
  readonly failed: (error: unknown) => void;
  readonly timer: NodeJS.Timeout;
};
type Running = Waiting & { readonly member: SharedMember; outcome: Outcome };
type Outcome =
  | { readonly kind: "running" | "told" | "alone" }
  | { readonly kind: "done"; readonly result: unknown };

export type Shared = <Result>(
  place: WritePlace,
  work: (tx: Transaction) => Promise<Result>,
  alone: () => Promise<Result>,
) => Promise<Result>;

type Deps = {
  readonly pool: pg.Pool;
  readonly turns: Turns;
  readonly notes: AccessNotes;
  readonly methods: ReadonlySet<string | symbol>;
  /** Told of what makes a shared transaction fail, where that is neither a race nor the database being away. */
  readonly onBackgroundError: (error: unknown) => void;
  readonly onCommitted: (events: readonly AuditEvent[], deliveries: number | null) => void;
};

export function createShared({ pool, turns, notes, methods, onBackgroundError, onCommitted }: Deps): Shared {
  const queue: Waiting[] = [];
  /** Paths that a write of this process is under way at, shared or alone: the next one there waits here. */
  const taken = new Set<string>();
  let underWay = 0;
  let isScheduled = false;

  function schedule(): void {
    if (isScheduled || underWay >= transactionsMax || !isWorthwhile()) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      underWay += 1;
      void transaction().finally(() => {
        underWay -= 1;
        schedule();
      });
      schedule();
    });
  }

  function isWorthwhile(): boolean {
    if (underWay > 0 && queue.length < secondAt) return false;
    const free = queue.filter(({ spot }) => !taken.has(spot)).length;
    return free >= (underWay === 0 ? 1 : secondAt);
  }

  /** Those that wait longest, one a path. */
  function take(): Running[] {
    const batch: Running[] = [];
    for (let index = 0; index < queue.length && batch.length < membersMax; ) {
      const each = queue[index];
      if (each === undefined || taken.has(each.spot)) index += 1;
      else {
        queue.splice(index, 1);
        taken.add(each.spot);
        clearTimeout(each.timer);
        batch.push({ ...each, member: newMember(), outcome: { kind: "running" } });
      }
    }
    return batch;
  }

  async function transaction(): Promise<void> {
    // Where there is no turn to be had, those who wait are told so by their own timers.
    const release = await turns(null).catch(() => null);
    const batch = release === null ? [] : take();
    try {
      // What goes wrong after the commit is nobody's answer.
      if (batch.length > 0) await run(batch).catch(onLost);
    } finally {
      release?.();
      for (const each of batch) void ended(each);
    }
  }

  /** The driver's error carries the client, and with that its password: only the state goes on. */
  const onLost = (error: unknown): void => onBackgroundError(asBrokerError(error));

  /** Lets go of the path, after a run alone where that is due. */
  async function ended({ outcome, spot, alone, done, failed }: Running): Promise<void> {
    // Whoever was not told is run alone: nothing of theirs was committed.
    if (outcome.kind !== "told")
      try {
        done(await alone());
      } catch (error) {
        failed(error);
      }
    taken.delete(spot);
    schedule();
  }

  async function run(batch: readonly Running[]): Promise<void> {
    const fail = (thrown: unknown): void => {
      for (const each of batch)
        if (each.outcome.kind !== "alone") tell(each, () => each.failed(asBrokerError(thrown)));
    };
    const client = await pool.connect().catch(fail);
    if (client === undefined) return;
    // Without a listener a connection that is lost between two statements would end the process; the next one fails.
    client.on("error", onLost);
    let isBroken = true;
    let told = (): void => undefined;
    try {
      const made = await attempt(client, batch, client.query(begin));
      const finished = batch.filter(({ outcome }) => outcome.kind === "done");
      const written = finished.map(({ member }) => member.written);
      if (finished.length === 0) await client.query("ROLLBACK");
      else {
        const deliveries = await flush(driverAsker(client), written, made);
        await commit(client, fail);
        const events = written.flatMap((each) => each.events);
        told = () => onCommitted(events, deliveries);
        for (const each of finished)
          if (each.outcome.kind === "done") {
            const { result } = each.outcome;
            tell(each, () => each.done(result));
          }
      }
      isBroken = false;
    } catch (error) {
      if (error instanceof Unfinished || isOfItsConnection(error))
        fail(error instanceof Unfinished ? late() : error);
      // A statement that is no good must not hide behind the runs alone that make up for it.
      if (!isExpected(error)) onBackgroundError(asBrokerError(error));
      // Nothing of it was committed: whose fault it was, each finds out alone.
      for (const each of batch) if (each.outcome.kind !== "told") each.outcome = { kind: "alone" };
      isBroken = isOfItsConnection(error) || !(await rolledBack(client));
    } finally {
      client.off("error", onLost);
      client.release(isBroken);
    }
    told();
  }

  /**
   * Resolves when each member's work is over, with the paths that were made for it.
   * @param begun its BEGIN, behind which the first statement is sent at once
   * @throws what a statement threw; Unfinished
   */
  async function attempt(
    client: pg.PoolClient,
    batch: readonly Running[],
    begun: Promise<unknown>,
  ): Promise<readonly Spot[]> {
    const broken = Promise.withResolvers<never>();
    let isStopped = false;
    const stop = (error: unknown): void => {
      isStopped = true;
      broken.reject(error);
    };
    const timer = setTimeout(() => stop(new Unfinished()), timeoutMs);
    begun.catch(stop);
    const asker = driverAsker(client);
    // Whoever is late finds the connection gone: by then it may be somebody else's.
    const db: Asker = {
      query: (...given) => (isStopped ? Promise.reject(new Unfinished()) : asker.query(...given)),
    };
    const rounds = createRounds(batch.length);
    const kind: Kinds = (many, order) =>
      rounds.kind(async (asks) => {
        try {
          return await many(asks);
        } catch (error) {
          stop(error);
          throw error;
        }
      }, order);
    const made: Spot[] = [];
    const facadeOf = createFacades(db, notes, kind, methods, made);
    const works = batch.map(async (each) => {
      const { work, member } = each;
      try {
        const result = await work(facadeOf(member, each.by));
        // Where a statement has failed meanwhile, what this one has made is rolled back with the rest.
        if (!isStopped) each.outcome = member.goesAlone ? { kind: "alone" } : { kind: "done", result };
      } catch (error) {
        if (member.goesAlone) each.outcome = { kind: "alone" };
        // What a failed statement made of it is none of its own.
        else if (!isStopped) tell(each, () => each.failed(error));
      } finally {
        rounds.over(member);
      }
    });
    try {
      await Promise.race([Promise.all([begun, ...works]), broken.promise]);
      return made;
    } finally {
      isStopped = true;
      clearTimeout(timer);
    }
  }

  return <Result>(
    place: WritePlace,
    work: (tx: Transaction) => Promise<Result>,
    alone: () => Promise<Result>,
  ) =>
    new Promise<Result>((resolve, failed) => {
      const spot = `${place.owner.owner_type}/${place.owner.owner_id}/${place.path}`;
      // In its turn it might find that it cannot share, and would have to queue anew behind whoever came later.
      const isBusy = place.only === "shared" && (taken.has(spot) || queue.some((each) => each.spot === spot));
      if (isBusy) return failed(new Busy());
      const timer = setTimeout(() => {
        queue.splice(queue.indexOf(waiting), 1);
        failed(unavailable("Too many changes are waiting for the database."));
      }, TURN_MS);
      const done = resolve as (result: unknown) => void;
      const waiting: Waiting = { spot, by: place.by, work, alone, done, failed, timer };
      queue.push(waiting);
      schedule();
    });
}

const isExpected = (error: unknown): boolean =>
  error instanceof Unfinished || asBrokerError(error).code === "unavailable";

/** A member's work did not end in time. */
class Unfinished extends Error {}
const late = () => unavailable("The database cannot be had just now.");

function tell(each: Running, how: () => void): void {
  if (each.outcome.kind === "told") return;
  each.outcome = { kind: "told" };
  how();
}

/** Whatever goes wrong from here on, nobody can say whether it was committed: it is never run again. */
async function commit(client: pg.PoolClient, fail: (error: unknown) => void): Promise<void> {
  try {
    await client.query("COMMIT");
  } catch (error) {
    fail(error);
    throw error;
  }
}
