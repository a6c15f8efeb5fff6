// The one gate. No value leaves and no state changes but through it: it finds out who calls, decides, and has the
// event on record before the answer exists. A read's event is durable before its result; a change (gate-changes.ts)
// commits together with its event; a denial is on record before it is told. Nothing else in the tree makes a Permit.
import { type PrincipalFacts, judge } from "./access.ts";
import {
  type Caller,
  Denied,
  type Grant,
  type Need,
  type RefusalLimit,
  Refused,
  type Source,
  createAdmission,
  forbidden,
  tooManyRefused,
  unauthenticated,
} from "./admission.ts";
import { type AuditEvent, type RequestContext, addressBlock } from "./audit.ts";
import { BrokerError, type ErrorCode, unavailable } from "./errors.ts";
import { SIGN_IN, createEvents } from "./events.ts";
import { createChanges } from "./gate-changes.ts";
import type { Clock, NewId, Reader, Store } from "./ports.ts";
import { type Early, type Plan, createReadingAhead } from "./read-ahead.ts";
import type { Permit } from "./sealing-ports.ts";
import { type Answer, type Find, Stale, type Undisclosed } from "./steps.ts";

const UNCOUNTED: ReadonlySet<ErrorCode> = new Set(["unavailable", "rate_limited"]);
const SELF: Need = { ask: { action: "identify" }, place: { kind: "self" } };

export type GateDeps = {
  readonly store: Store;
  readonly clock: Clock;
  readonly newId: NewId;
  readonly refusals: RefusalLimit;
};

export type Gate = ReturnType<typeof createGate>;
export type Read = <Rows, Result>(
  caller: Caller,
  need: Need,
  find: Find<Rows>,
  answer: Answer<Rows, Result>,
  plan?: Plan | null,
) => Promise<Result>;
/** Makes the event that follows a read, where its part of the answer was not given, for a reason. */
type Part = (reason: string) => AuditEvent;

export function createGate({ store, clock, newId, refusals }: GateDeps) {
  const { standpoint, uncount } = createAdmission(store, clock);
  const events = createEvents(newId, clock);
  const { eventOf, eventFor, denialsFor } = events;
  const source: Source = {
    ...store.reader,
    admit: (presented, owner, lookup) => store.admit(presented, owner, lookup),
  };
  const mayStand = new WeakSet<Error>();
  const { ahead } = createReadingAhead(store, source, events);
  // The cast is the making of the proof; test/layers.test.ts sees that no other file has one.
  const permit = {} as Permit;

  /** Counts what may be a guess; the error where there are too many. */
  function tooManyGuesses({ ip }: RequestContext, client?: string): BrokerError | null {
    const ofClient = client === undefined ? 0 : refusals.count(client);
    const waitSeconds = Math.max(ofClient, refusals.count(addressBlock(ip)));
    return waitSeconds > 0 ? tooManyRefused(waitSeconds, refusals.max) : null;
  }

  /** Has a refused credential on record; the error that says so. */
  async function recordRefusal(
    context: RequestContext,
    refusal: Refused,
    failure: ErrorCode = "unauthenticated",
  ): Promise<BrokerError> {
    const { who, reason } = refusal;
    await store.countRefusal(eventOf(context, who, SIGN_IN, null, "denied", { reason }));
    return unauthenticated(refusal, failure);
  }

  /** Of what may be a guess: of who signs in always. */
  async function refuseGuess(
    context: RequestContext,
    refusal: Refused,
    client?: string,
    failure?: ErrorCode,
  ): Promise<BrokerError> {
    const tooMany = tooManyGuesses(context, client);
    // On record in any case: how many they were is the more of use, the more they were.
    const refused = await recordRefusal(context, refusal, failure);
    return tooMany ?? refused;
  }

  /** Of a request. Who presents nothing guesses nothing, nor does who has a token that was good once, or that we signed. */
  async function refuseCaller(
    { context, client, credential }: Caller,
    refusal: Refused,
  ): Promise<BrokerError> {
    const isKnown =
      credential.kind === "absent" || credential.kind === "access" || refusal.who.token_id !== null;
    if (isKnown && client === undefined) return recordRefusal(context, refusal);
    return refuseGuess(context, refusal, client);
  }

  async function admitted(caller: Caller, need: Need, early?: Early): Promise<Grant> {
    const found = standpoint(caller, need, early?.source ?? source, early?.at);
    const { grant, facts } = await found.catch(async (error: unknown) => {
      throw error instanceof Refused ? await refuseCaller(caller, error) : error;
    });
    const decision = judge(facts, need.ask);
    if (decision.verdict === "allow") return grant;
    return settle(caller, need, grant, new Denied(decision, need.ask.action));
  }

  /** Puts what went wrong after admission on record, then lets it out as the caller may see it. */
  async function settle(
    caller: Caller,
    need: Need,
    grant: Grant,
    error: unknown,
    follows?: AuditEvent,
  ): Promise<never> {
    if (error instanceof Refused) throw await refuseCaller(caller, error);
    if (error instanceof Denied) {
      const denials = denialsFor(caller, need, grant, error);
      await Promise.all(denials.map((each) => store.record(each)));
      throw forbidden(error);
    }
    const told = error instanceof Stale ? unavailable("Others keep writing here; try again.") : error;
    const reason = reasonOf(told);
    const report =
      follows === undefined ? { reason } : { reason, follows: follows.id, subjects: follows.settings };
    await store.record(eventFor(caller, need, grant, "failed", report, follows?.action));
    throw told;
  }

  /** Runs the whole of a request; one that ends in 503 or 429 is no use of the caller's token. */
  async function counted<Result>(caller: Caller, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof BrokerError && UNCOUNTED.has(error.code)) await uncount(caller);
      throw error;
    }
  }

  /**
   * A read. `find` fetches what the answer is about; its event is durable before `answer` gets the Permit that
   * opens values, and before anything comes back. A failure of `answer` leaves a second event, that follows.
   * With a `plan` the store may have found and recorded it in one statement; it is judged here all the same.
   */
  const readInto =
    (parts: Part[] | null): Read =>
    async (caller, need, find, answer, plan = null) =>
      counted(caller, async () => {
        const early = await ahead(caller, need, plan);
        const grant = await admitted(caller, need, early).catch((error: unknown) => early.refute(error));
        const step = await find(grant, early.reader).catch((error: unknown) =>
          early.recorded === null ? settle(caller, need, grant, error) : early.refute(error),
        );
        const worded = eventFor(caller, need, grant, "allowed", step, step.action);
        const beside = (step.withheld ?? []).map((each) =>
          eventFor(caller, need, grant, each.outcome, each, each.action),
        );
        const event = await early.settled(worded, beside);
        const result = await answer(step.found, permit, grant).catch((error: unknown) =>
          settle(caller, need, grant, error, event),
        );
        const failed = (each: Undisclosed): AuditEvent =>
          eventFor(caller, need, grant, "failed", { ...each, follows: event.id }, event.action);
        const { undisclosed = [] } = result;
        await Promise.all(undisclosed.map((each) => store.record(failed(each)))).catch((error: unknown) =>
          settle(caller, need, grant, error, event),
        );
        const subjects = parts === null ? [] : disclosed(event.settings, undisclosed);
        if (subjects.length > 0 || undisclosed.length === 0)
          parts?.push((reason) => failed({ reason, subjects }));
        return result;
      });

  return {
    /** Who calls, and nothing else: so that a malformed request with a bad token is told of the token. */
    async identify(caller: Caller): Promise<void> {
      await counted(caller, () => admitted(caller, SELF));
    },

    /** Finds out where a question belongs. Nothing of it is told, and what is then asked there is on record there. */
    async locate<Place>(
      caller: Caller,
      look: (reader: Reader, principal: PrincipalFacts) => Promise<Place>,
    ): Promise<Place> {
      return counted(caller, async () => {
        const { principal } = await admitted(caller, SELF);
        return look(store.reader, principal);
      });
    },

    /**
     * Whether a caller who was let in still would be, for what stays open long after its answer has begun. A refusal
     * or denial is on record like any other; that all is as it was is not.
     */
    async stillMay(caller: Caller, need: Need): Promise<Grant> {
      return counted(caller, () => admitted(caller, need));
    },

    read: readInto(null),

    /**
     * Work that gives what several reads gave, one after the other, or nothing: where a later step fails, each of them has
     * a second event, that follows, for what it had allowed and is not disclosed after all. Where that step was a change
     * which may stand all the same, nobody can say that it is not.
     */
    async whole<Result>(caller: Caller, work: (read: Read) => Promise<Result>): Promise<Result> {
      const parts: Part[] = [];
      return counted(caller, () =>
        work(readInto(parts)).catch(async (error: unknown) => {
          const isOpen = error instanceof Error && mayStand.has(error);
          if (!isOpen) await Promise.all(parts.map((each) => store.record(each(reasonOf(error)))));
          throw error;
        }),
      );
    },

    ...createChanges({
      store,
      clock,
      newId,
      events,
      permit,
      standpoint,
      admitted,
      counted,
      mayStand,
      settle,
      refuse: refuseGuess,
    }),
  };
}

const reasonOf = (error: unknown): string => (error instanceof BrokerError ? error.code : "internal");

/** What is not on record as undisclosed already. */
function disclosed(subjects: AuditEvent["settings"], undisclosed: readonly Undisclosed[]) {
  const told = undisclosed.flatMap((each) => each.subjects);
  return subjects.filter(({ id, version }) => !told.some((one) => one.id === id && one.version === version));
}
