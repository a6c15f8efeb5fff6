// The runner of calls, with its breaker and its limiter, by a clock that is set: what comes when, and what is told.
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import {
  type Attempt,
  type CallEvent,
  type CallsOptions,
  type RunOptions,
  createManagerCalls,
} from "../../src/sealing/manager-calls.ts";
import { type Classified, type Failure, ManagerCallError } from "../../src/sealing/manager-failures.ts";

/** What the fake vendor throws; its `name` is the class. */
const trouble = (failure: Failure) => Object.assign(new Error("words of the vendor"), { failure });
const classify = (error: unknown): Classified => ({
  failure: (error as { failure?: Failure }).failure ?? "rejected",
  name: "VendorException",
  status: 400,
  request_id: "r-1",
});
const READ: RunOptions = { idempotent: true, kind: "read" };
const WRITE_ONCE: RunOptions = { idempotent: false, kind: "write" };
const never: Attempt<never> = () => new Promise(() => undefined);

/** The outcome of work that may fail, and when it came, on the set clock. */
async function seen(work: Promise<unknown>) {
  const start = Date.now();
  const outcome = await work.then(
    (value) => ({ value, error: null }),
    (error: unknown) => {
      if (error instanceof BrokerError) return { value: null, error };
      throw error;
    },
  );
  return { ...outcome, milliseconds: Date.now() - start };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  const left = vi.getTimerCount();
  vi.useRealTimers();
  if (left > 0) throw new Error("a timer outlived what it was for");
});

/** Runs the clock until the work is over. */
async function passing<T>(work: Promise<T>): Promise<T> {
  const state = { isOver: false };
  const watched = work.finally(() => {
    state.isOver = true;
  });
  watched.catch(() => undefined);
  while (!state.isOver) await vi.advanceTimersByTimeAsync(10);
  return watched;
}

function start(options: Partial<CallsOptions> = {}) {
  const events: CallEvent[] = [];
  const calls = createManagerCalls({
    manager: "aws",
    now: () => Date.now(),
    random: () => 0.5,
    onCall: (event) => events.push(event),
    ...options,
  });
  const run = <T>(attempt: Attempt<T>, how: RunOptions = READ) =>
    passing(seen(calls.run("GetSecretValue", attempt, classify, how)));
  return { calls, run, events, outcomes: () => events.map(({ outcome }) => outcome) };
}

/** An attempt that fails in these ways in turn, then succeeds. */
function failing(...failures: readonly Failure[]) {
  const attempt = vi.fn<Attempt<string>>();
  for (const failure of failures)
    attempt.mockImplementationOnce(async () => Promise.reject(trouble(failure)));
  return attempt.mockImplementation(async () => "done");
}

describe("a call", () => {
  test("is made once when it succeeds", async () => {
    const { run, events } = start();
    const attempt = failing();
    expect(await run(attempt)).toMatchObject({ value: "done" });
    expect(attempt).toHaveBeenCalledTimes(1);
    expect(events).toEqual([
      { manager: "aws", operation: "GetSecretValue", outcome: "ok", milliseconds: expect.any(Number) },
    ]);
  });

  test("is made three times at the most, after pauses that grow and are drawn by lot", async () => {
    const { run, outcomes } = start();
    const { error, milliseconds } = await run(failing("away", "away", "away", "away"));
    expect(outcomes()).toEqual(["away", "away", "away"]);
    expect(error).toMatchObject({ code: "unavailable", fields: { retry_after_seconds: 1 } });
    expect(milliseconds).toBeGreaterThanOrEqual(75 + 150);
    expect(milliseconds).toBeLessThan(300);
  });

  test("that is not idempotent is not made again after an outcome that nobody knows", async () => {
    expect((await start().run(failing("away"), WRITE_ONCE)).error).toMatchObject({ code: "unavailable" });
    expect(await start().run(failing("throttled"), WRITE_ONCE)).toMatchObject({ value: "done" });
  });

  test("whose bytes were damaged is made again once", async () => {
    expect(await start().run(failing("checksum"))).toMatchObject({ value: "done" });
    const { run, outcomes } = start();
    expect((await run(failing("checksum", "checksum"))).error).toMatchObject({ code: "manager_failed" });
    expect(outcomes()).toHaveLength(2);
  });

  test("that hangs has 1.5 s an attempt and 4 s in all, and is told to stop", async () => {
    const { run, outcomes } = start();
    const signals: AbortSignal[] = [];
    const told: number[] = [];
    const { error, milliseconds } = await run((signal, attemptMilliseconds) => {
      signals.push(signal);
      told.push(attemptMilliseconds);
      return never(signal, attemptMilliseconds);
    });
    expect(error).toMatchObject({ code: "unavailable" });
    expect(milliseconds).toBeGreaterThanOrEqual(3_900);
    expect(milliseconds).toBeLessThanOrEqual(4_050);
    expect(outcomes()).toEqual(["away", "away", "away"]);
    expect(told.slice(0, 2)).toEqual([1_500, 1_500]);
    expect(told[2]).toBeLessThan(1_000);
    expect(signals.every(({ aborted }) => aborted)).toBe(true);
  });

  test("that fails after it was given up disturbs nobody", async () => {
    const { run } = start();
    const late = Promise.withResolvers<never>();
    await run(() => late.promise);
    late.reject(trouble("away"));
    await vi.advanceTimersByTimeAsync(1);
  });

  test("shares the deadline of its use, and does not begin when that is over", async () => {
    const { calls, run, outcomes } = start();
    const budget = calls.budget();
    await vi.advanceTimersByTimeAsync(3_000);
    const { milliseconds } = await run(never, { ...READ, budget });
    expect(milliseconds).toBeLessThanOrEqual(1_050);
    const attempt = failing();
    expect((await run(attempt, { ...READ, budget })).error).toMatchObject({ code: "unavailable" });
    expect(attempt).not.toHaveBeenCalled();
    expect(outcomes().at(-1)).toBe("unsent");
  });

  test("is called off at once by its signal, before, during and between attempts", async () => {
    const { calls, run } = start();
    for (const [attempt, after] of [
      [never, 100],
      [failing("away", "away"), 10],
    ] as const) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), after);
      const budget = calls.budget(controller.signal);
      const { error, milliseconds } = await run(attempt, { ...READ, budget });
      expect(error).toMatchObject({ code: "unavailable" });
      expect(milliseconds).toBeLessThanOrEqual(after + 20);
      expect((await run(failing(), { ...READ, budget })).error).toMatchObject({ code: "unavailable" });
    }
  });

  test("that failed tells why: the cause holds name, status and request id, and nothing else of the vendor", async () => {
    const { run } = start();
    const { error } = await run(failing("denied"));
    expect(error?.cause).toBeInstanceOf(ManagerCallError);
    expect(error?.cause).toMatchObject({
      operation: "GetSecretValue",
      failure: "denied",
      facts: { name: "VendorException", status: 400, request_id: "r-1" },
    });
    expect(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain("words");
  });
});

describe("the breaker", () => {
  const bounds = { outagesMax: 2, pauseMilliseconds: 5_000 };
  const away = (count: number) => failing(...Array<Failure>(count).fill("away"));

  test("opens after outages in a row, sends nothing meanwhile, and says how long", async () => {
    const { run, outcomes } = start({ breaker: bounds });
    // The third attempt is not made: by then it is open.
    expect((await run(away(9))).error).toMatchObject({ code: "unavailable" });
    expect(outcomes()).toEqual(["away", "away"]);
    await vi.advanceTimersByTimeAsync(1_000);
    const attempt = failing();
    expect((await run(attempt)).error).toMatchObject({
      code: "unavailable",
      fields: { retry_after_seconds: 4 },
    });
    expect(attempt).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await run(attempt)).toMatchObject({ value: "done" });
  });

  test("is not opened by refusals, by outages with successes between, or by calls that were cut short", async () => {
    const { calls, run } = start({ breaker: bounds });
    for (const failure of ["throttled", "denied", "quota", "rejected", "kms_refused", "exists"] as const)
      await run(failing(...Array<Failure>(9).fill(failure)));
    for (let n = 0; n < 5; n += 1) await run(away(1));
    for (let n = 0; n < 5; n += 1) {
      const budget = calls.budget();
      await vi.advanceTimersByTimeAsync(3_500);
      await run(never, { ...READ, budget });
    }
    expect(await run(failing())).toMatchObject({ value: "done" });
  });
});

describe("the limiter", () => {
  test("waiting counts against the budget, and nobody who waits is forgotten", async () => {
    const { calls, outcomes } = start({
      concurrentMax: 1,
      breaker: { outagesMax: 99, pauseMilliseconds: 1 },
    });
    const runs = [1, 2, 3].map(() => seen(calls.run("GetSecretValue", never, classify, WRITE_ONCE)));
    const results = await passing(Promise.all(runs));
    expect(results.map(({ error }) => error?.code)).toEqual(Array(3).fill("unavailable"));
    expect(results.every(({ milliseconds }) => milliseconds <= 4_050)).toBe(true);
    expect(outcomes()).toEqual(["away", "away", "away"]);
    expect(calls.busy).toBe(0);
    const more = [1, 2, 3, 4, 5].map(() => seen(calls.run("GetSecretValue", never, classify, WRITE_ONCE)));
    await passing(Promise.all(more));
    expect(outcomes()).toContain("unsent");
  });
});
