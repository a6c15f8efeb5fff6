// Traces, where the configuration asks for them; otherwise nothing is loaded, wrapped or called.
import type { Logger } from "pino";
import type { TracingSettings } from "./config-tracing.ts";
import type { Store } from "./domain/ports.ts";
import type { Tracing } from "./tracing/tracing.ts";

type Observed = Pick<Tracing, "around" | "past" | "close"> & {
  /** Null: requests are not traced. */
  readonly request: Tracing["request"] | null;
};

const NOTHING: Observed = {
  request: null,
  around: (_layer, api) => api,
  past: () => undefined,
  close: () => Promise.resolve(),
};

export async function openTracing(
  settings: TracingSettings | null,
  version: string,
  logger: Logger,
): Promise<Observed> {
  if (settings === null) return NOTHING;
  const { startTracing } = await import("./tracing/tracing.ts");
  return startTracing(settings, version, (spans, why) =>
    logger.warn({ spans, why }, "spans were dropped: the collector did not take them"),
  );
}

/** A store whose calls are spans. What happens inside a transaction is one. */
export function tracedStore({ around }: Pick<Observed, "around">, store: Store): Store {
  return around("store", { ...store, reader: around("store", store.reader) });
}
