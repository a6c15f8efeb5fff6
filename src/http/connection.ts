// What holds for the connection, before and beside the routes: how long a client may take, what every answer's
// headers say, and what is told to whoever does not speak HTTP.
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { BrokerError } from "../domain/errors.ts";
import { PROBLEMS, problemBody } from "./problem.ts";
import { STATUS_CODES } from "./status-codes.ts";

const HEADER_BYTES_MAX = 16_384;

/** Slow clients: the head within 10 s, the whole request within 15 s. Silence ends it, or twice as much where an answer is stuck. */
export function connectionFor(silenceSeconds: number) {
  return {
    requestTimeout: 15_000,
    connectionTimeout: silenceSeconds * 1_000,
    // Longer than a load balancer's, so that it is never we who close under a request.
    keepAliveTimeout: 65_000,
    http: {
      headersTimeout: 10_000,
      connectionsCheckingInterval: 2_000,
      maxHeaderSize: HEADER_BYTES_MAX,
      // A request without a body gets no stream of its own, with all that comes with one (body.ts).
      optimizeEmptyRequests: true,
      // Node's own refusal has neither a body nor an id; `hostError` is ours.
      requireHostHeader: false,
    },
  };
}

/** RFC 9112, section 3.2: from HTTP/1.1 on, a request names its host, and none names two. */
export function hostError({ rawHeaders, httpVersion }: IncomingMessage): BrokerError | undefined {
  const count = countOf(rawHeaders, "host");
  if (count === 1 || (count === 0 && httpVersion === "1.0")) return undefined;
  return new BrokerError(
    "invalid_request",
    `The request has ${count === 0 ? "no" : "more than one"} Host header.`,
  );
}

/**
 * How often a request has a header. Of two that may be there once, Node keeps the first and says nothing; a proxy may
 * have judged by the other.
 * @param name in lower case
 */
export function countOf(rawHeaders: readonly string[], name: string): number {
  let count = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const each = rawHeaders[index];
    // The length first, and no `headersDistinct`: each request comes by here.
    if (each?.length === name.length && each.toLowerCase() === name) count += 1;
  }
  return count;
}

/**
 * Looked at once, an address is known for as long as there is the connection. Else it is gone as soon as the client resets
 * that, and what it had asked for just before would be on record as from nowhere, and counted as nobody's. A connection
 * that was reset before it could be looked at has asked for nothing yet.
 */
export function knowAddress(socket: Socket): void {
  if (socket.remoteAddress === undefined) socket.destroy();
}

/** Requests that one connection may have sent ahead of their answers. No client that waits for an answer has two. */
const SENT_AHEAD_MAX = 16;

/**
 * Ends connections that ask for more and more and take nothing: each answer would wait in memory for its turn.
 * `begin` answers whether the connection may go on; `end` is for each that has begun, whether or not it was answered.
 */
export function countSentAhead() {
  const unanswered = new WeakMap<Socket, number>();
  return {
    begin(socket: Socket): boolean {
      const count = (unanswered.get(socket) ?? 0) + 1;
      unanswered.set(socket, count);
      if (count <= SENT_AHEAD_MAX) return true;
      socket.destroy();
      return false;
    },
    end(socket: Socket): void {
      unanswered.set(socket, (unanswered.get(socket) ?? 1) - 1);
    },
  };
}

/** As long as a URL can be: a path's parameters have no bound of their own. */
export const PARAMETER_LENGTH_MAX = HEADER_BYTES_MAX;

/** What every answer says; a route may say otherwise. */
export function headersFor(publicUrl: string | null): readonly (readonly [string, string])[] {
  const headers = [
    ["cache-control", "no-store"],
    ["x-content-type-options", "nosniff"],
    ["x-frame-options", "DENY"],
    ["referrer-policy", "no-referrer"],
    ["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
    ["cross-origin-resource-policy", "same-origin"],
  ] as const;
  const transport = ["strict-transport-security", "max-age=31536000; includeSubDomains"] as const;
  return publicUrl?.startsWith("https:") === true ? [...headers, transport] : headers;
}

/** What never became a request is told on the bare connection. */
export function answerOnSocket(
  thrown: Error & { readonly code?: string },
  socket: Duplex,
  requestId: string,
): void {
  if (thrown.code === "ECONNRESET" || socket.destroyed) return;
  if (!socket.writable) return void socket.destroy();
  const slow = thrown.code === "ERR_HTTP_REQUEST_TIMEOUT";
  const long = thrown.code === "HPE_HEADER_OVERFLOW";
  const detail = slow
    ? "The request did not arrive in time."
    : long
      ? "The request's head has more than 16 KiB."
      : "This is no HTTP request.";
  // RFC 6585, section 5. No code is for it alone; `too_large` is of bodies and values, and always 413.
  const status = long ? 431 : PROBLEMS.invalid_request.status;
  const body = problemBody(new BrokerError("invalid_request", detail), requestId, status);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`,
    "Content-Type: application/problem+json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-ID: ${requestId}`,
    "Cache-Control: no-store",
    "Connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}
