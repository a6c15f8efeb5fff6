// The gate's half that changes state: what it lets in commits together with its event, or not at all. Nothing else in
// the tree is handed a Transaction. Who signs in is let in here too, whether or not something is changed by it.
import { judge } from "./access.ts";
import { type Caller, Denied, type Grant, type Need, Refused, type createAdmission } from "./admission.ts";
import type { RequestContext } from "./audit.ts";
import { recordChange } from "./change-events.ts";
import { BrokerError, type ErrorCode } from "./errors.ts";
import { type Events, SIGN_IN } from "./events.ts";
import { createKnownWriters } from "./known-writers.ts";
import type { WaitingWork } from "./lifecycle-ports.ts";
import type { Clock, NewId, OwnerKey, Store, Transaction } from "./ports.ts";
import type { Permit } from "./sealing-ports.ts";
import {
  type BackgroundSteps,
  Busy,
  type ChangeSteps,
  type Done,
  type SignedIn,
  type Stage,
  Stale,
} from "./steps.ts";

const ATTEMPTS_MAX = 8;
/** A line of their own: of whose tenant they are nothing is known yet. */
const SIGNING_IN = { tenant: "signing in" };
const NOBODY = { principal_id: null, token_id: null };

/** What the gate shares with its other half; gate.ts says what each does. */
type Inside = {
  readonly store: Store;
  readonly clock: Clock;
  readonly newId: NewId;
  readonly events: Events;
  readonly permit: Permit;
  readonly standpoint: ReturnType<typeof createAdmission>["standpoint"];
  readonly admitted: (caller: Caller, need: Need) => Promise<Grant>;
  readonly counted: <Result>(caller: Caller, work: () => Promise<Result>) => Promise<Result>;
  /** Errors of changes that were made, and may have been committed all the same. */
  readonly mayStand: WeakSet<Error>;
  readonly settle: (caller: Caller, need: Need, grant: Grant, error: unknown) => Promise<never>;
  readonly refuse: (
    context: RequestContext,
    refusal: Refused,
    client?: string,
    failure?: ErrorCode,
  ) => Promise<BrokerError>;
};

export function createChanges({ store, clock, newId, events, permit, ...inside }: Inside) {
  const { standpoint, admitted, counted, mayStand, settle, refuse } = inside;
  const { eventOf, eventFor } = events;
  const writers = createKnownWriters(clock);

  /** The broker's own work, on record like anybody's. `apply` answers null when there was nothing to do, as mostly. */
  async function housekeep<Result>(
    operation: string,
    apply: (tx: Transaction, now: Date) => Promise<(Done<Result> & { readonly key: OwnerKey | null }) | null>,
    /** What has to be there for it: looked for beforehand. */
    waiting?: (now: Date) => WaitingWork,
  ): Promise<Result | null> {
    if (waiting !== undefined && !(await store.reader.isWaiting(waiting(clock.now())))) return null;
    return store.transact(async (tx) => {
      const now = clock.now();
      const done = await apply(tx, now);
      if (done === null) return null;
      const context: RequestContext = { request_id: newId(), operation, ip: null, user_agent: null };
      const what = { action: "housekeep" as const, path: null };
      const event = eventOf(context, NOBODY, what, done.key, "allowed", done);
      await recordChange(tx, event, done.happenings, newId);
      return done.result;
    });
  }

  /**
   * `work` throws Refused when what was presented is no good; it is counted against the address and, where one is named,
   * against the client, and told as `failure`.
   */
  async function signingIn<Result>(
    context: RequestContext,
    client: string | null,
    failure: ErrorCode,
    work: () => Promise<Result>,
  ): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Refused) throw await refuse(context, error, client ?? undefined, failure);
      // Who they are was good, and what they asked for was not: that is on record too.
      if (error instanceof BrokerError && error.code !== "unavailable") {
        await store.record(eventOf(context, NOBODY, SIGN_IN, null, "failed", { reason: error.code }));
      }
      throw error;
    }
  }

  return {
    /**
     * A change of state. `prepare` may take its time (a network call); then, in one transaction: `lock` queues behind
     * rivals, the right is decided again from what is committed by then, `apply` does the work, and its event is written.
     * All of it commits, or nothing. What `prepare` stages is only what is to be done elsewhere: it is undone by the
     * sweeper unless `apply` takes it over. Who changed something there lately may begin with the transaction.
     */
    async change<Prepared, Locked, Result>(
      caller: Caller,
      need: Need,
      steps: ChangeSteps<Prepared, Locked, Result>,
    ): Promise<Result> {
      const stageFor =
        (grant: Grant, only?: "shared", onLetIn?: (again: Grant) => void): Stage<Locked> =>
        (work) =>
          store.transact(
            async (tx) => {
              const locked = await steps.lock(tx, grant);
              const again = await standpoint(caller, need, tx);
              const decision = judge(again.facts, need.ask);
              if (decision.verdict === "deny") throw new Denied(decision, need.ask.action);
              // What is locked is elsewhere.
              if (again.grant.key?.tenant_id !== grant.key?.tenant_id) throw new Stale();
              onLetIn?.(again.grant);
              return work(tx, again.grant, locked);
            },
            { place: steps.at && { ...steps.at, only }, tenant: grant.key?.tenant_id ?? grant.principal.id },
          );
      const commit = (stage: Stage<Locked>, prepared: Prepared): Promise<Result> => {
        let isMade = false;
        const made = stage(async (tx, again, locked) => {
          isMade = false;
          const { result, happenings, ...report } = await steps.apply(tx, again, prepared, locked);
          const event = eventFor(caller, need, again, "allowed", report);
          await recordChange(tx, event, happenings, newId);
          isMade = true;
          return result;
        });
        return made.catch((error: unknown) => {
          if (isMade && error instanceof Error) mayStand.add(error);
          throw error;
        });
      };
      /** Null where it has to go the usual way. Who is not plainly let in is told so there. */
      async function atOnce(): Promise<{ readonly result: Result } | null> {
        const trial = steps.atOnce === undefined ? null : writers.begin(caller, need);
        if (steps.atOnce === undefined || trial === null) return null;
        const letIn: Grant[] = [];
        const stage = stageFor(trial.grant, "shared", (again) => letIn.push(again));
        try {
          const result = await commit(stage, steps.atOnce(trial.grant, permit));
          trial.done();
          return { result };
        } catch (error) {
          if (error instanceof Busy) {
            trial.done();
            return null;
          }
          const now = letIn.at(-1);
          if (now !== undefined && !(error instanceof Stale)) {
            trial.done();
            return settle(caller, need, now, error);
          }
          trial.failed(error instanceof Stale);
          // Nobody waits twice for a database that cannot be had. Who was not let in is nobody whom a record could name.
          if (error instanceof BrokerError && error.code === "unavailable") throw error;
          return null;
        }
      }
      return counted(caller, async () => {
        const made = await atOnce();
        if (made !== null) return made.result;
        for (let tries = 1; ; tries++) {
          const grant = await admitted(caller, need);
          const stage = stageFor(grant);
          try {
            const result = await commit(stage, await steps.prepare(grant, store.reader, permit, stage));
            writers.note(caller, need, grant);
            return result;
          } catch (error) {
            if (!(error instanceof Stale && tries < ATTEMPTS_MAX)) return settle(caller, need, grant, error);
          }
        }
      });
    },

    /** Somebody signs in who may be made by it, or whose code it uses up: one transaction with their event. @throws as `signingIn` */
    signIn<Result>(
      context: RequestContext,
      client: string | null,
      failure: ErrorCode,
      apply: (tx: Transaction, now: Date) => Promise<SignedIn<Result>>,
    ): Promise<Result> {
      return signingIn(context, client, failure, () =>
        store.transact(async (tx) => {
          const made = await apply(tx, clock.now());
          await tx.record(eventOf(context, made, SIGN_IN, made.key, "allowed", made));
          return made.result;
        }, SIGNING_IN),
      );
    },

    /**
     * Somebody signs in, and nothing but their event is written: it is durable before this resolves. No lock is held: what
     * `find` goes by may change at any time, as it may after any sign-in, so each use of what was had is judged anew.
     * @throws as `signingIn`
     */
    signInKnown<Result>(
      context: RequestContext,
      client: string | null,
      failure: ErrorCode,
      find: (now: Date) => Promise<SignedIn<Result>>,
    ): Promise<Result> {
      return signingIn(context, client, failure, async () => {
        const found = await find(clock.now());
        await store.record(eventOf(context, found, SIGN_IN, found.key, "allowed", found));
        return found.result;
      });
    },

    housekeep,

    /** The broker's own work that asks a manager. Null: nothing to claim. @throws what its steps do, after `giveUp` */
    async background<Claimed, Worked, Result>(
      operation: string,
      steps: BackgroundSteps<Claimed, Worked, Result>,
    ): Promise<{ readonly result: Result | null } | null> {
      if (steps.waiting !== undefined && !(await store.reader.isWaiting(steps.waiting))) return null;
      const claimed = await store.transact((tx) => steps.claim(tx, clock.now()));
      if (claimed === null) return null;
      try {
        const worked = await steps.work(claimed, permit);
        return { result: await housekeep(operation, (tx, now) => steps.finish(tx, now, claimed, worked)) };
      } catch (error) {
        await store.transact((tx) => steps.giveUp(tx, clock.now(), claimed, error));
        throw error;
      }
    },
  };
}
