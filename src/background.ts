// What a replica does without being asked: it sweeps, delivers, asks rotation hooks, and tells listeners. Each is a loop
// that runs now and then, and at once when it is woken. Replicas share the work, since each takes only rows that no other
// holds. Nothing here decides anything: the use cases do.
import type { Logger } from "pino";
import type { Broker } from "./domain/broker.ts";
import type { createDeliveries } from "./domain/deliver.ts";
import type { ChangeLog } from "./domain/lifecycle-ports.ts";
import type { Clock } from "./domain/ports.ts";
import { repeat } from "./repeat.ts";

const SWEEP_MS = 60_000;
const SWEEP_BATCH = 100;
/** What a crash left in a manager is seen to soon after its lease has run out. */
const SETTLE_MS = 2_000;
const DELIVER_MS = 1_000;
const HOOKS_MS = 2_000;
/** How late a listener hears of a change that another replica made. */
const FEED_MS = 250;
/** How long events and ended deliveries are kept. */
const KEEP_MS = 7 * 86_400_000;
/** How long stopping waits for receivers; what they have not answered by then is sent again by the next start. */
const DRAIN_MS = 3_000;

/** A bell for each loop that need not wait for its turn: there is something to tell, something to deliver, or room. */
export function createWake() {
  const sleepers = { feed: new Set<() => void>(), deliveries: new Set<() => void>() };
  const ring = (which: keyof typeof sleepers): void => {
    for (const wake of sleepers[which]) wake();
  };
  return {
    announced: (deliveries: number): void => {
      ring("feed");
      if (deliveries > 0) ring("deliveries");
    },
    delivered: (): void => ring("deliveries"),
    listen: (which: keyof typeof sleepers, wake: () => void): void => void sleepers[which].add(wake),
  };
}

type Loop = { readonly wake: () => void; readonly stop: () => Promise<void> };

/** Runs `work` every so often and when woken, one at a time; woken while it runs, it runs once more. */
function startLoop(everyMs: number, work: () => Promise<unknown>, onError: (error: unknown) => void): Loop {
  let running: Promise<void> | null = null;
  let timer: NodeJS.Timeout | null = null;
  let isAsked = false;
  let isStopped = false;

  async function run(): Promise<void> {
    isAsked = false;
    await work().catch(onError);
    running = null;
    if (isStopped) return;
    if (isAsked) wake();
    else timer = setTimeout(wake, everyMs).unref();
  }

  function wake(): void {
    isAsked = true;
    if (running !== null || isStopped) return;
    if (timer !== null) clearTimeout(timer);
    running = run();
  }

  wake();
  return {
    wake,
    stop: async () => {
      isStopped = true;
      if (timer !== null) clearTimeout(timer);
      await running;
    },
  };
}

export type BackgroundDeps = {
  readonly broker: Broker;
  readonly deliveries: ReturnType<typeof createDeliveries>;
  readonly changes: ChangeLog;
  readonly forgetWrites: () => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly wake: ReturnType<typeof createWake>;
  /** Whether any cloud's manager is configured: without one there is nothing to settle or to move. */
  readonly hasClouds: boolean;
};

/** Starts all of it; the answer stops it. */
export function startBackground(deps: BackgroundDeps) {
  const { broker, deliveries, changes, forgetWrites, clock, logger, wake, hasClouds } = deps;
  const failed = (what: string) => (error: unknown) => logger.error({ err: error }, `${what} failed`);
  const sweep = async (): Promise<void> => {
    const steps: readonly (readonly [string, () => Promise<unknown>])[] = [
      ["retiring old versions", () => broker.retireOldVersions(SWEEP_BATCH)],
      ["telling what is due", () => broker.tellDue(SWEEP_BATCH)],
      ["telling of denials", () => broker.tellBursts(SWEEP_BATCH)],
      ["forgetting old events", () => changes.forget(new Date(clock.now().getTime() - KEEP_MS))],
      ["forgetting old writes", forgetWrites],
    ];
    for (const [what, step] of steps) await step().catch(failed(what));
  };
  const tell = async (): Promise<void> => {
    if (broker.feed.count() === 0) return;
    await broker.feed.recheckDue(clock.now());
    await broker.feed.pump();
  };
  const delivering = startLoop(DELIVER_MS, () => deliveries.begin(), failed("delivering"));
  // Many may be due at once, such as a whole project's: one batch follows the other.
  const purging = startLoop(
    SWEEP_MS,
    async () => {
      if ((await broker.purgeDue(SWEEP_BATCH)) === SWEEP_BATCH) purging.wake();
    },
    failed("purging what is due"),
  );
  const telling = startLoop(FEED_MS, tell, failed("telling listeners"));
  wake.listen("deliveries", delivering.wake);
  wake.listen("feed", telling.wake);
  const settleHook = failed("settling a hook");
  const stops = [
    delivering.stop,
    purging.stop,
    telling.stop,
    repeat(HOOKS_MS, () => broker.askRotationHooks(settleHook), failed("asking hooks")),
    repeat(SWEEP_MS, sweep, failed("sweeping")),
  ];
  if (hasClouds)
    stops.push(
      repeat(SETTLE_MS, () => broker.settleManagedSecrets(SWEEP_BATCH), failed("settling secrets")),
      repeat(SETTLE_MS, () => broker.runMoves(), failed("moving values")),
    );
  return async (): Promise<void> => {
    // What is under way is told to end first: a move would go on for as long as there is something to move.
    await Promise.all([broker.drain(), ...stops.map((stop) => stop())]);
    const drained = Promise.all([deliveries.drained(), broker.rotationHooksDrained()]);
    await Promise.race([drained, new Promise((resolve) => setTimeout(resolve, DRAIN_MS).unref())]);
  };
}
