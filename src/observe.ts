// Traces, where the configuration asks for them; otherwise nothing is loaded, wrapped or called.
import type { Logger } from "pino";
import type { TracingSettings } from "./config-tracing.ts";
import type { Store } from "./domain/ports.ts";
import type { Tracing } from "./tracing/tracing.ts";

type ManagerCall = {
  readonly manager: string;
  readonly operation: string;
  readonly outcome: string;
  readonly milliseconds: number;
};

type Observed = Pick<Tracing, "around" | "close"> & {
  /** An attempt to call a cloud's manager has ended. */
  readonly called: (call: ManagerCall) => void;
  /** Null: requests are not traced. */
  readonly request: Tracing["request"] | null;
};

const NOTHING: Observed = {
  request: null,
  around: (_layer, api) => api,
  called: () => undefined,
  close: () => Promise.resolve(),
};

export async function openTracing(
  settings: TracingSettings | null,
  version: string,
  logger: Logger,
): Promise<Observed> {
  if (settings === null) return NOTHING;
  const { startTracing } = await import("./tracing/tracing.ts");
  const tracing = startTracing(settings, version, (spans, why) =>
    logger.warn({ spans, why }, "spans were dropped: the collector did not take them"),
  );
  return {
    ...tracing,
    called: ({ manager, operation, outcome, milliseconds }) =>
      tracing.past(`manager.${operation}`, milliseconds, { manager, outcome }, outcome !== "ok"),
  };
}

/** A store whose calls are spans. What happens inside a transaction is one. */
export function tracedStore({ around }: Pick<Observed, "around">, store: Store): Store {
  return around("store", { ...store, reader: around("store", store.reader) });
}
