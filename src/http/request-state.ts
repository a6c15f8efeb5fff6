// What the HTTP layer knows of a request while it is under way, kept on the request itself (`request.state`).
// It must never hold a header, a query, a body or a token: only what may be logged, and the hashed credential.
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Action } from "../domain/access.ts";
import type { ErrorCode } from "../domain/errors.ts";
import type { Caller } from "../domain/admission.ts";
import type { Credential } from "../domain/ports.ts";

/** What may be done without a token is said so, in so many words. */
export type RouteAction = Action | "public";

/** How a query parameter's text becomes a value; a parameter that is not listed stays text. */
export type Coercion = "integer" | "number" | "boolean";

/** A route, as contract.ts has checked it at boot. */
export type RouteInfo = {
  readonly operation: string;
  readonly action: RouteAction;
  /** The pattern, never a URL: what logs and metrics call the route. */
  readonly pattern: string;
  readonly takesBody: boolean;
  /** Whether `consumes` names it: the body may also come as application/merge-patch+json. */
  readonly takesMergePatch: boolean;
  /** Whether `consumes` names it: the body comes as a form, and nothing else, and failures are told as OAuth's. */
  readonly takesForm: boolean;
  readonly coercions: ReadonlyMap<string, Coercion>;
};

/** Where no route matched. */
export const NO_ROUTE: RouteInfo = {
  operation: "none",
  action: "public",
  pattern: "none",
  takesBody: false,
  takesMergePatch: false,
  takesForm: false,
  coercions: new Map(),
};

/** A caller's allowance; limits.ts keeps it. */
export type Bucket = { units: number; at: number; readonly perSecond: number };

export type RequestState = {
  readonly route: RouteInfo;
  readonly reply: FastifyReply;
  readonly startedAt: number;
  credential: Credential;
  caller: Caller | null;
  bucket: Bucket | null;
  /** The problem that was answered, for the log. */
  code: ErrorCode | null;
  /** How many values the answer opened. */
  opened: number;
  /** Whether it is counted as being worked on; shedding.ts. */
  isWorkedOn: boolean;
  /** Where it stands among those under way; under-way.ts. */
  place: number | null;
};

declare module "fastify" {
  interface FastifyRequest {
    /** Null until the first hook has run; read it through `stateOf`. */
    state: RequestState | null;
  }
  interface FastifyContextConfig {
    action?: RouteAction;
    /** Set by contract.ts. */
    info?: RouteInfo;
  }
}

const ABSENT: Credential = { kind: "absent" };

/** Begins a request's state; once a request, in the first hook. */
export function beginState(request: FastifyRequest, reply: FastifyReply, route: RouteInfo): RequestState {
  const state: RequestState = {
    route,
    reply,
    startedAt: performance.now(),
    credential: ABSENT,
    caller: null,
    bucket: null,
    code: null,
    opened: 0,
    isWorkedOn: false,
    place: null,
  };
  request.state = state;
  return state;
}

export function stateOf(request: FastifyRequest): RequestState {
  if (request.state === null) throw new Error("the request has not begun");
  return request.state;
}
