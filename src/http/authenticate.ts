// Who presents what: the one reader of the Authorization header. It tells the forms of credentials apart and hashes
// the token; whether the token is any good is for the gate to find out, in the round trip that finds the rights.
// The token itself is never kept, logged or put into an error.
import type { FastifyRequest } from "fastify";
import { parseApiToken } from "../auth/api-token.ts";
import type { RequestContext } from "../domain/audit.ts";
import type { Caller } from "../domain/admission.ts";
import type { Credential } from "../domain/ports.ts";
import { stateOf } from "./request-state.ts";

const ABSENT: Credential = { kind: "absent" };
const MALFORMED: Credential = { kind: "malformed" };
const BEARER = /^bearer +([^\s,]+) *$/i;
const USER_AGENT_LENGTH_MAX = 256;

/** The credential in an Authorization header. A header that cannot hold a token of ours is `malformed`. */
export function credentialOf(header: string | undefined): Credential {
  if (header === undefined) return ABSENT;
  const token = BEARER.exec(header)?.[1];
  const hash = token === undefined ? null : parseApiToken(token);
  return hash === null ? MALFORMED : { kind: "api", hash };
}

/** Where a request comes from, as the audit tells it. */
export function contextOf(request: FastifyRequest): RequestContext {
  return {
    request_id: request.id,
    operation: stateOf(request).route.operation,
    ip: request.ip || null,
    user_agent: request.headers["user-agent"]?.slice(0, USER_AGENT_LENGTH_MAX) ?? null,
  };
}

/** The request's caller. One object a request, since the gate counts a use of a token once for each. */
export function callerOf(request: FastifyRequest): Caller {
  const state = stateOf(request);
  state.caller ??= { credential: state.credential, context: contextOf(request) };
  return state.caller;
}
