// What is counted, in a registry of its own for each app: requests, how long they took, values opened, refusals.
// Labels come from closed lists (route patterns, statuses, codes), never from input: nothing here names an owner, a
// path or a caller, and nobody can make the registry grow.
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import type { ErrorCode } from "../domain/errors.ts";
import { insideMetrics } from "./metrics-inside.ts";

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

const none = (): number => 0;

/** An attempt to call a cloud's secret manager. */
export type ManagerCall = {
  readonly manager: string;
  readonly operation: string;
  readonly outcome: string;
  readonly milliseconds: number;
};

export type Metrics = ReturnType<typeof createMetrics>;

/** @param ofProcess also the process's own (memory, event loop, …); for the one app that is really served */
export function createMetrics({ ofProcess }: { readonly ofProcess: boolean }) {
  const registry = new Registry();
  const registers = [registry];
  if (ofProcess) collectDefaultMetrics({ register: registry });
  const requests = new Counter({
    name: "coffer_http_requests_total",
    help: "Requests answered.",
    labelNames: ["method", "route", "status"] as const,
    registers,
  });
  const seconds = new Histogram({
    name: "coffer_http_request_duration_seconds",
    help: "From the arrival of a request's head to the end of its answer.",
    labelNames: ["route"] as const,
    buckets: SECONDS,
    registers,
  });
  const opened = new Counter({
    name: "coffer_values_opened_total",
    help: "Secret values opened.",
    registers,
  });
  const problems = new Counter({
    name: "coffer_problems_total",
    help: "Problems answered, by code; denials are unauthenticated, forbidden and rate_limited.",
    labelNames: ["code"] as const,
    registers,
  });
  const alerts = new Counter({
    name: "coffer_alerts_total",
    help: "Stored records found damaged, or altered outside the broker. Anything but 0 wants a human.",
    labelNames: ["kind"] as const,
    registers,
  });
  const managerCalls = new Counter({
    name: "coffer_manager_calls_total",
    help: "Attempts to call a cloud's secret manager, by how they ended.",
    labelNames: ["manager", "operation", "outcome"] as const,
    registers,
  });
  const managerSeconds = new Histogram({
    name: "coffer_manager_call_duration_seconds",
    help: "How long attempts to call a cloud's secret manager took.",
    labelNames: ["manager", "operation"] as const,
    buckets: SECONDS,
    registers,
  });
  let countUnderWay: () => number = none;
  registry.registerMetric(
    new Gauge({
      name: "coffer_http_requests_under_way",
      help: "Requests not yet answered.",
      registers: [],
      collect() {
        this.set(countUnderWay());
      },
    }),
  );

  return {
    registry,
    ...insideMetrics(registry),
    /** A request has ended. `status` 499: its client left first. */
    answered(method: string, route: string, status: number, durationSeconds: number): void {
      requests.inc({ method: METHODS.has(method) ? method : "other", route, status });
      seconds.observe({ route }, durationSeconds);
    },
    opened(values: number): void {
      opened.inc(values);
    },
    problem(code: ErrorCode): void {
      problems.inc({ code });
    },
    /** @param kind a word of the broker's own */
    alert(kind: string): void {
      alerts.inc({ kind });
    },
    /** @param event words of the broker's own, from closed lists */
    managerCall({ manager, operation, outcome, milliseconds }: ManagerCall): void {
      managerCalls.inc({ manager, operation, outcome });
      managerSeconds.observe({ manager, operation }, milliseconds / 1_000);
    },
    /** @param count how many requests are under way; asked when the metrics are */
    watch(count: () => number): void {
      countUnderWay = count;
    },
  };
}
