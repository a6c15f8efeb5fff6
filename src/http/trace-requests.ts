// A request's span: its route's pattern, its status and its id, and what comes of it below. The URL is in none.
import type { onRequestHookHandler } from "fastify";
import { stateOf } from "./request-state.ts";

/** Begins a request's span, in whose `run` the rest of the request takes place. */
export type TraceRequest = (traceparent: string | undefined) => {
  readonly run: (next: () => void) => void;
  readonly end: (
    name: string,
    attributes: Readonly<Record<string, string | number>>,
    failed: boolean,
  ) => void;
};

const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** The first hook of all, so that everything else is within the span. */
export function tracing(trace: TraceRequest): onRequestHookHandler {
  return (request, reply, done) => {
    const { traceparent } = request.headers;
    const span = trace(typeof traceparent === "string" ? traceparent : undefined);
    reply.raw.on("close", () => {
      const { route, code } = stateOf(request);
      const method = METHODS.has(request.method) ? request.method : "other";
      const { statusCode } = reply;
      const told = {
        "http.request.method": method,
        "http.route": route.pattern,
        "http.response.status_code": statusCode,
        "coffer.request_id": request.id,
      };
      const problem = code === null ? {} : { "coffer.code": code };
      span.end(`${method} ${route.pattern}`, { ...told, ...problem }, statusCode >= 500);
    });
    span.run(done);
  };
}
