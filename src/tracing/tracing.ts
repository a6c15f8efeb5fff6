// Spans: one for a request, and under it one for each use case (which is to pass the gate), each call of the store and
// each attempt to call a cloud's manager. Names and attributes are words of the code's own, never of the input: no
// path, owner, principal, value or token is in any. This file is loaded only where traces are asked for.
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import type { TracingSettings } from "../config-tracing.ts";
import { type Attributes, type EndedSpan, createExporter } from "./otlp.ts";

type Context = { readonly traceId: string; readonly spanId: string };
type Started = Omit<EndedSpan, "endMs" | "failed" | "attributes">;

/** A request's span. */
export type RequestSpan = {
  /** Runs the rest of the request as a part of it. */
  readonly run: (next: () => void) => void;
  readonly end: (name: string, attributes: Attributes, failed: boolean) => void;
};

export type Tracing = {
  /** @param traceparent the caller's, as W3C Trace Context has it */
  request(traceparent: string | undefined): RequestSpan;
  /** The same object, each of whose methods is a span named `layer.method` wherever a traced request calls it. */
  around<Api extends object>(layer: string, api: Api): Api;
  /** Something that has just ended, as a part of whatever is under way here. */
  past(name: string, milliseconds: number, attributes: Attributes, failed: boolean): void;
  close(): Promise<void>;
};

const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

export function startTracing(
  { sampling, ...rest }: TracingSettings,
  version: string,
  onDropped: (spans: number, why: string) => void,
): Tracing {
  const exporter = createExporter(rest, version, onDropped);
  const storage = new AsyncLocalStorage<Context>();
  const now = (): number => performance.timeOrigin + performance.now();
  const newId = (bytes: number): string => randomBytes(bytes).toString("hex");

  /** The trace that a request belongs to; null when it is not to be traced. */
  function decide(traceparent: string | undefined): { traceId: string; parentSpanId: string | null } | null {
    const [, traceId, parent, flags] = TRACEPARENT.exec(traceparent ?? "") ?? [];
    if (traceId !== undefined && parent !== undefined) {
      const isSampled = (Number.parseInt(flags ?? "0", 16) & 1) === 1;
      const wanted = sampling.followsParent ? isSampled : isWithin(traceId);
      return wanted ? { traceId, parentSpanId: parent } : null;
    }
    const fresh = newId(16);
    return isWithin(fresh) ? { traceId: fresh, parentSpanId: null } : null;
  }
  /** By the trace's id, so that all who see it decide alike. */
  function isWithin(traceId: string): boolean {
    return Number.parseInt(traceId.slice(-13), 16) < sampling.ratio * 2 ** 52;
  }

  function begin(name: string, kind: EndedSpan["kind"], parent: Context): Started {
    return {
      traceId: parent.traceId,
      spanId: newId(8),
      parentSpanId: parent.spanId,
      name,
      kind,
      startMs: now(),
    };
  }
  const end = (span: Started, attributes: Attributes, failed: boolean): void =>
    exporter.add({ ...span, endMs: now(), attributes, failed });

  function spanned(name: string, method: (...given: unknown[]) => unknown) {
    return (...given: unknown[]): unknown => {
      const parent = storage.getStore();
      if (parent === undefined) return method(...given);
      const span = begin(name, "internal", parent);
      const result = storage.run(span, () => {
        try {
          return method(...given);
        } catch (error) {
          end(span, {}, true);
          throw error;
        }
      });
      if (!(result instanceof Promise)) {
        end(span, {}, false);
        return result;
      }
      return result.then(
        (value: unknown) => {
          end(span, {}, false);
          return value;
        },
        (error: unknown) => {
          end(span, codeOf(error), true);
          throw error;
        },
      );
    };
  }

  return {
    request(traceparent) {
      const trace = decide(traceparent);
      if (trace === null) return { run: (next) => storage.exit(next), end: () => undefined };
      const span: Started = { ...trace, spanId: newId(8), name: "request", kind: "server", startMs: now() };
      return {
        run: (next) => storage.run(span, next),
        end: (name, attributes, failed) => end({ ...span, name }, attributes, failed),
      };
    },
    around<Api extends object>(layer: string, api: Api): Api {
      const methods = Object.entries(api).map(([name, method]) => [
        name,
        typeof method === "function"
          ? spanned(`${layer}.${name}`, method as (...given: unknown[]) => unknown)
          : method,
      ]);
      return Object.fromEntries(methods) as Api;
    },
    past(name, milliseconds, attributes, failed) {
      const parent = storage.getStore();
      if (parent === undefined) return;
      const span = begin(name, "client", parent);
      end({ ...span, startMs: span.startMs - milliseconds }, attributes, failed);
    },
    close: () => exporter.close(),
  };
}

/** A BrokerError's code, which is a word of ours; of anything else nothing. */
function codeOf(error: unknown): Attributes {
  const code =
    error instanceof Error && error.name === "BrokerError" ? (error as { code?: unknown }).code : null;
  return typeof code === "string" ? { "coffer.code": code } : {};
}
