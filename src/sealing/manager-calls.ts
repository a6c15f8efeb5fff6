// How both clouds' managers are called: an attempt has 1.5 s, a call at most 3 attempts, and whatever a use needs has
// 4 s in all, waiting included. That is hard: at the deadline the call has failed, even where the SDK's promise never
// settles. Every failure leaves as a BrokerError of the table in manager-failures.ts, with nothing of the vendor's in it.
import { createLimiter } from "../domain/limiter.ts";
import type { CloudName } from "../domain/manager-ports.ts";
import { type BreakerBounds, type Sign, createBreaker } from "./breaker.ts";
import {
  type Classified,
  type Failure,
  type OperationKind,
  canRetry,
  failureError,
  unsentError,
} from "./manager-failures.ts";

const BUDGET_MS = 4_000;
const ATTEMPT_MS = 1_500;
const ATTEMPTS_MAX = 3;
/** Less is not worth sending: it would end in a write of which nobody knows whether it was done. */
const ATTEMPT_MS_MIN = 20;
/** The first pause is up to this long, the next up to twice that. */
const PAUSE_MS = 150;
const BREAKER: BreakerBounds = { outagesMax: 5, pauseMilliseconds: 5_000 };

/** One deadline for all the calls that a use needs; `signal` calls them off sooner. */
export type Budget = {
  readonly endsAt: number;
  readonly signal?: AbortSignal | undefined;
  /** Whose use it is, for the turns at the manager: a tenant; null for what everybody needs. */
  readonly lane: string | null;
};

/** The deadline of whatever starts now; `now` is the clock of the calls that it is for. */
export function startBudget(now: () => number, signal?: AbortSignal, lane: string | null = null): Budget {
  return { endsAt: now() + BUDGET_MS, signal, lane };
}

/** For metrics: one attempt. `unsent`: there was none, because the manager is known to be away or too busy. */
export type CallEvent = {
  readonly manager: CloudName;
  readonly operation: string;
  readonly outcome: "ok" | "unsent" | Failure;
  readonly milliseconds: number;
};

/** It must stop when the signal says so; that is no more than a courtesy. */
export type Attempt<T> = (signal: AbortSignal, attemptMilliseconds: number) => Promise<T>;
export type Classify = (error: unknown) => Classified;

export type RunOptions = {
  /** True where the same call twice is as good as once: only then it is tried again after an unknown outcome. */
  readonly idempotent: boolean;
  readonly kind: OperationKind;
  /** Shared by all calls of one use; without it this call has one to itself. */
  readonly budget?: Budget | undefined;
};

export type ManagerCalls = {
  /** Starts now. */
  budget(signal?: AbortSignal, lane?: string | null): Budget;
  /**
   * @param name the operation's, for metrics and the log
   * @throws BrokerError as manager-failures.ts has it; `failureOf` tells the class
   */
  run<T>(name: string, attempt: Attempt<T>, classify: Classify, options: RunOptions): Promise<T>;
  /** How many calls are under way or waiting. */
  readonly busy: number;
};

export type CallsOptions = {
  readonly manager: CloudName;
  /** Milliseconds of a clock that only goes forward, such as `performance.now`. */
  readonly now: () => number;
  /** From 0 to below 1; spreads the retries of many callers. */
  readonly random?: (() => number) | undefined;
  readonly onCall?: ((event: CallEvent) => void) | undefined;
  readonly concurrentMax?: number | undefined;
  readonly breaker?: BreakerBounds | undefined;
};

type Outcome<T> = { readonly ok: true; readonly value: T } | ({ readonly ok: false } & Classified);

/** One for each place that can be away by itself: a manager, or a manager's region. */
export function createManagerCalls(options: CallsOptions): ManagerCalls {
  const { manager, now, random = Math.random, onCall, concurrentMax = 16 } = options;
  const breaker = createBreaker(now, options.breaker ?? BREAKER);
  const limiter = createLimiter(concurrentMax);
  const leftOf = (budget: Budget): number => (budget.signal?.aborted === true ? 0 : budget.endsAt - now());

  function unsent(name: string, why: string, milliseconds = 1_000) {
    onCall?.({ manager, operation: name, outcome: "unsent", milliseconds: 0 });
    return unsentError(name, why, Math.max(1, Math.ceil(milliseconds / 1_000)));
  }

  /** One attempt, from the way in to the way out; the place and the pass are given back in any case. */
  async function once<T>(name: string, attempt: Attempt<T>, classify: Classify, budget: Budget) {
    // Asked before queueing, so that nobody waits for a place that would do no good.
    if (breaker.closedFor() > 0) throw unsent(name, "BreakerOpen", breaker.closedFor());
    if (!(await limiter.take(Math.max(0, leftOf(budget)), budget.lane))) throw unsent(name, "NoPlaceInTime");
    try {
      const milliseconds = Math.min(ATTEMPT_MS, leftOf(budget));
      if (milliseconds < ATTEMPT_MS_MIN) throw unsent(name, "NoTimeLeft");
      const pass = breaker.enter();
      if (pass === null) throw unsent(name, "BreakerOpen", breaker.closedFor());
      let sign: Sign = "unknown";
      const start = now();
      try {
        const outcome = await bounded(attempt, classify, milliseconds, budget.signal);
        sign = signOf(outcome, milliseconds, budget);
        const word = outcome.ok ? "ok" : outcome.failure;
        onCall?.({ manager, operation: name, outcome: word, milliseconds: now() - start });
        return outcome;
      } finally {
        breaker.leave(pass, sign);
      }
    } finally {
      limiter.give(budget.lane);
    }
  }

  return {
    budget: (signal, lane) => startBudget(now, signal, lane),
    get busy() {
      return limiter.busy;
    },
    async run(name, attempt, classify, { idempotent, kind, budget = startBudget(now) }) {
      for (let attempts = 1; ; attempts += 1) {
        const outcome = await once(name, attempt, classify, budget);
        if (outcome.ok) return outcome.value;
        const { ok: _, ...classified } = outcome;
        // Full jitter: many who failed together do not come back together.
        const pause = random() * PAUSE_MS * 2 ** (attempts - 1);
        const isLast = attempts === ATTEMPTS_MAX || !canRetry(outcome.failure, attempts, idempotent);
        if (isLast || breaker.closedFor() > 0 || leftOf(budget) < pause + ATTEMPT_MS_MIN)
          throw failureError(name, kind, classified);
        await sleep(pause, budget.signal);
      }
    },
  };
}

function signOf(outcome: Outcome<unknown>, milliseconds: number, budget: Budget): Sign {
  if (outcome.ok || outcome.failure !== "away") return "answered";
  const wasCut = outcome.name === CUT && (milliseconds < ATTEMPT_MS || budget.signal?.aborted === true);
  return wasCut ? "unknown" : "outage";
}

const CUT = "TimeOver";

/** Settles within `milliseconds`, or when it is called off, whatever the attempt does. */
async function bounded<T>(
  attempt: Attempt<T>,
  classify: Classify,
  milliseconds: number,
  calledOff: AbortSignal | undefined,
): Promise<Outcome<T>> {
  const { promise: over, resolve } = Promise.withResolvers<Outcome<T>>();
  const controller = new AbortController();
  const cut = (): void => {
    // First the outcome, then the signal: the SDK's word for having been stopped does not count.
    resolve({ ok: false, failure: "away", name: CUT });
    controller.abort();
  };
  const timer = setTimeout(cut, milliseconds);
  calledOff?.addEventListener("abort", cut, { once: true });
  const work = async (): Promise<Outcome<T>> => {
    try {
      return { ok: true, value: await attempt(controller.signal, milliseconds) };
    } catch (error) {
      return { ok: false, ...classify(error) };
    }
  };
  try {
    return await Promise.race([work(), over]);
  } finally {
    clearTimeout(timer);
    calledOff?.removeEventListener("abort", cut);
  }
}

function sleep(milliseconds: number, calledOff: AbortSignal | undefined): Promise<void> {
  return new Promise((settle) => {
    const done = (): void => {
      clearTimeout(timer);
      calledOff?.removeEventListener("abort", done);
      settle();
    };
    const timer = setTimeout(done, milliseconds);
    calledOff?.addEventListener("abort", done, { once: true });
  });
}
