// What is counted of the broker's inside: events on record, how they were written, keys found in memory, connections,
// requests turned away. Like all metrics it has labels from closed lists alone.
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256];

export type PoolCounts = { readonly total: number; readonly idle: number; readonly waiting: number };
/** Why a request was turned away before anything was done for it. */
export type ShedReason = "requests_under_way" | "event_loop";

/** `count`: how many refusals it tells of; 1 of anything else. */
type Recorded = { readonly action: string; readonly outcome: string; readonly count: number };

export function insideMetrics(registry: Registry) {
  const registers = [registry];
  const events = new Counter({
    name: "coffer_audit_events_total",
    help: "Events durable in the audit log: decrypts are action decrypt, denials outcome denied.",
    labelNames: ["action", "outcome"] as const,
    registers,
  });
  const batch = new Histogram({
    name: "coffer_audit_batch_events",
    help: "Events that one write of the audit log had.",
    buckets: BATCH_SIZES,
    registers,
  });
  const lag = new Histogram({
    name: "coffer_audit_lag_seconds",
    help: "From when the first event of a write was handed in until it was durable.",
    buckets: SECONDS,
    registers,
  });
  const failures = new Counter({
    name: "coffer_audit_write_failures_total",
    help: "Writes of the audit log that failed; the requests in them were answered 503.",
    registers,
  });
  const sealedAt = new Gauge({
    name: "coffer_audit_newest_seal_timestamp_seconds",
    help: "When the newest seal over the audit log was made, as of this replica's last look; 0 before the first.",
    registers,
  });
  const keys = new Counter({
    name: "coffer_key_cache_total",
    help: "Keys looked for in memory, by whether they were there.",
    labelNames: ["result"] as const,
    registers,
  });
  for (const result of ["hit", "miss"]) keys.inc({ result }, 0);
  const shed = new Counter({
    name: "coffer_requests_shed_total",
    help: "Requests turned away with 503 before anything was done for them.",
    labelNames: ["reason"] as const,
    registers,
  });
  for (const reason of ["requests_under_way", "event_loop"]) shed.inc({ reason }, 0);
  let poolNow = (): PoolCounts => ({ total: 0, idle: 0, waiting: 0 });
  registry.registerMetric(
    new Gauge({
      name: "coffer_database_connections",
      help: "The pool: connections in use and idle, and who waits for one.",
      labelNames: ["state"] as const,
      registers: [],
      collect() {
        const { total, idle, waiting } = poolNow();
        this.set({ state: "in_use" }, total - idle);
        this.set({ state: "idle" }, idle);
        this.set({ state: "waiting" }, waiting);
      },
    }),
  );

  return {
    /** @param event of which only words from closed lists are taken */
    recorded({ action, outcome, count }: Recorded): void {
      events.inc({ action, outcome }, count);
    },
    auditWritten(size: number, lagSeconds: number): void {
      batch.observe(size);
      lag.observe(lagSeconds);
    },
    auditFailed(): void {
      failures.inc();
    },
    /** @param at when the newest seal was made */
    sealed(at: Date): void {
      sealedAt.set(at.getTime() / 1_000);
    },
    keyLookedFor(found: boolean): void {
      keys.inc({ result: found ? "hit" : "miss" });
    },
    shed(reason: ShedReason): void {
      shed.inc({ reason });
    },
    /** @param now what the pool is like; asked when the metrics are */
    watchPool(now: () => PoolCounts): void {
      poolNow = now;
    },
  };
}
