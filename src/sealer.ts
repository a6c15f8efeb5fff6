// Has the audit log sealed, twice a second, as long as the broker runs and once more when it stops. The newest seal goes
// into the log once a minute: a copy of the head that whoever writes the database cannot reach.
import type { Logger } from "pino";
import type { Seal } from "./domain/audit-chain.ts";
import type { Sealing } from "./domain/audit-sealing.ts";

const INTERVAL_MS = 500;
const HEAD_INTERVAL_MS = 60_000;

export function sealRegularly(sealing: Sealing, logger: Logger): () => Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  let stopping = false;
  let failing = false;
  let told = { number: 0, at: -Infinity };

  function tell(head: Seal | null): void {
    const now = performance.now();
    if (head === null || head.number === told.number) return;
    if (!stopping && now - told.at < HEAD_INTERVAL_MS) return;
    told = { number: head.number, at: now };
    const { number, last_position, sealed_at } = head;
    const hash = Buffer.from(head.hash).toString("hex");
    logger.info({ seal: number, hash, last_position, sealed_at: sealed_at.toISOString() }, "audit head");
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
