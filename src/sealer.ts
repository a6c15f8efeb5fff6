// Has the audit log sealed, twice a second, as long as the broker runs and once more when it stops. The newest seal goes
// into the log once a minute: a copy of the head that whoever writes the database cannot reach. Once an hour, and at the
// start, its months are looked after.
import type { Logger } from "pino";
import type { Seal } from "./domain/audit-chain.ts";
import type { Dropped } from "./domain/audit-retention.ts";
import type { Sealing } from "./domain/audit-sealing.ts";

const INTERVAL_MS = 500;
const HEAD_INTERVAL_MS = 60_000;
const UPKEEP_INTERVAL_MS = 3_600_000;

export function sealRegularly(
  sealing: Sealing,
  upkeep: () => Promise<Dropped | null>,
  metrics: { sealed(at: Date): void },
  logger: Logger,
): () => Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let stopping = false;
  let failing = false;
  let nextUpkeepAt = 0;
  let told = { number: 0, at: -Infinity };

  function tell(head: Seal | null): void {
    const now = performance.now();
    if (head === null) return;
    metrics.sealed(head.sealed_at);
    if (head.number === told.number) return;
    if (!stopping && now - told.at < HEAD_INTERVAL_MS) return;
    told = { number: head.number, at: now };
    const { number, last_position, sealed_at } = head;
    const hash = Buffer.from(head.hash).toString("hex");
    logger.info({ seal: number, hash, last_position, sealed_at: sealed_at.toISOString() }, "audit head");
  }

  async function keep(): Promise<void> {
    if (stopping || performance.now() < nextUpkeepAt) return;
    nextUpkeepAt = performance.now() + UPKEEP_INTERVAL_MS;
    try {
      const dropped = await upkeep();
      if (dropped !== null) logger.info(dropped, "months of the audit log are gone by retention");
    } catch (error) {
      logger.error({ err: error }, "the upkeep of the audit log failed; it is tried again in an hour");
    }
  }

  async function step(): Promise<void> {
    try {
      tell(await sealing.seal());
      failing = false;
    } catch (error) {
      // Once: it comes twice a second, and the database that is away is told of elsewhere, too.
      if (!failing) logger.error({ err: error }, "sealing the audit log failed; it is tried again");
      failing = true;
    }
    await keep();
    if (!stopping) schedule();
  }

  function schedule(): void {
    timer = setTimeout(() => {
      running = step();
    }, INTERVAL_MS);
    timer.unref();
  }

  let running: Promise<void> = Promise.resolve();
  schedule();
  return async () => {
    stopping = true;
    clearTimeout(timer);
    await running;
    await step();
  };
}
