// Who presents what: the one reader of a bearer token. It tells the forms of credentials apart, hashes an API token,
// and has an access token's signature verified; whether what is behind it is any good is for the gate to find out, in
// the round trip that finds the rights. The token itself is never kept, logged or put into an error.
import type { IncomingMessage } from "node:http";
import type { FastifyRequest } from "fastify";
import { mayHoldToken, parseApiToken } from "../auth/api-token.ts";
import type { RequestContext } from "../domain/audit.ts";
import type { Caller } from "../domain/admission.ts";
import type { AccessClaims } from "../domain/federation-ports.ts";
import type { Credential } from "../domain/ports.ts";
import type { AccessTokens } from "./access-tokens.ts";
import { countOf } from "./connection.ts";
import { stateOf } from "./request-state.ts";

const ABSENT: Credential = { kind: "absent" };
const MALFORMED: Credential = { kind: "malformed" };
const BEARER = /^bearer +([^\s,]+) *$/i;
const USER_AGENT_LENGTH_MAX = 256;

/**
 * The credential in a request's Authorization header. A header that cannot hold a token of ours is `malformed`, and so
 * are two headers, and an access token that does not verify. At once, unless an access token has to be verified first.
 */
export function credentialOf(
  { headers: { authorization }, rawHeaders }: Pick<IncomingMessage, "headers" | "rawHeaders">,
  accessTokens: Pick<AccessTokens, "read">,
): Credential | Promise<Credential> {
  if (authorization === undefined) return ABSENT;
  const token = countOf(rawHeaders, "authorization") > 1 ? undefined : BEARER.exec(authorization)?.[1];
  if (token === undefined) return MALFORMED;
  if (token.startsWith("eyJ")) {
    const read = accessTokens.read(token);
    return read instanceof Promise ? read.then(accessCredential) : accessCredential(read);
  }
  const hash = parseApiToken(token);
  return hash === null ? MALFORMED : { kind: "api", hash };
}

function accessCredential(claims: AccessClaims | null): Credential {
  return claims === null ? MALFORMED : { kind: "access", claims };
}

/** Where a request comes from, as the audit tells it. */
export function contextOf(request: FastifyRequest): RequestContext {
  return {
    request_id: request.id,
    operation: stateOf(request).route.operation,
    ip: request.ip || null,
    user_agent: userAgentOf(request),
  };
}

/** Null, too, where a script has put its token into it. */
function userAgentOf({ headers: { "user-agent": given } }: FastifyRequest): string | null {
  const text = given?.slice(0, USER_AGENT_LENGTH_MAX);
  return text === undefined || mayHoldToken(text) ? null : text;
}

/** The request's caller. One object a request, since the gate counts a use of a token once for each. */
export function callerOf(request: FastifyRequest): Caller {
  const state = stateOf(request);
  state.caller ??= { credential: state.credential, context: contextOf(request) };
  return state.caller;
}
