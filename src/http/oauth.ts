// The token endpoint's own way of failing: OAuth 2.0 error bodies (RFC 6749, section 5.2) in place of problems, made
// here field by field from a BrokerError, with the same statuses and headers that problem.ts would give.
import type { FastifyReply } from "fastify";
import { Type } from "./schemas/type.ts";
import type { BrokerError, ErrorCode } from "../domain/errors.ts";
import { PROBLEMS, tellWait } from "./problem.ts";
import type { RequestState } from "./request-state.ts";
import { EXAMPLE } from "./schemas/common.ts";
import { Fields, OpenOneOf, answer, component } from "./schemas/kit.ts";

const ERRORS = [
  "invalid_request",
  "invalid_client",
  "invalid_grant",
  "invalid_scope",
  "unsupported_grant_type",
  "slow_down",
  "temporarily_unavailable",
  "server_error",
] as const;
type OAuthError = (typeof ERRORS)[number];

/** Words of RFC 6749; `slow_down` (of RFC 8628) for 429, since it has none. */
function errorOf(code: ErrorCode): OAuthError {
  if (code === "rate_limited") return "slow_down";
  if (code === "unavailable") return "temporarily_unavailable";
  const fallback = PROBLEMS[code].status >= 500 ? "server_error" : "invalid_request";
  return ERRORS.find((each) => each === code) ?? fallback;
}

const OAuthErrorBody = component(
  "OAuthError",
  Fields(
    {
      error: OpenOneOf(ERRORS, { description: "What went wrong, for programs." }),
      error_description: Type.String({ description: "For people; it may be worded anew at any time." }),
      request_id: Type.String({ description: "As in the X-Request-ID header, the log and the audit." }),
    },
    {
      description: "A failure of the token endpoint, as RFC 6749 (section 5.2) has it.",
      examples: [
        { error: "invalid_grant", error_description: "The token is not valid.", request_id: EXAMPLE.event },
      ],
    },
  ),
);

const WAIT = { "Retry-After": { type: "integer", description: "Seconds to wait." } };
const CHALLENGE = { "WWW-Authenticate": { type: "string", description: "`Basic`." } };
const example = (error: OAuthError, error_description: string) => ({
  examples: { [error]: { error, error_description, request_id: EXAMPLE.event } },
});

/** Every failure that the token endpoint has. */
export const OAUTH_FAILURES = {
  400: answer(
    "`invalid_request`, `invalid_grant` (the subject token is not good here), `invalid_scope`, " +
      "`unsupported_grant_type`.",
    OAuthErrorBody,
    example("invalid_grant", "The token is not valid."),
  ),
  401: answer("`invalid_client`: no such client, or not its secret.", OAuthErrorBody, {
    headers: CHALLENGE,
    ...example("invalid_client", "The token is not valid."),
  }),
  413: answer("`invalid_request`: the form has more than 32 KiB.", OAuthErrorBody),
  415: answer("`invalid_request`: the body is no form.", OAuthErrorBody),
  429: answer("`slow_down`: too many refused sign-ins, or requests.", OAuthErrorBody, { headers: WAIT }),
  500: answer("`server_error`.", OAuthErrorBody),
  503: answer("`temporarily_unavailable`.", OAuthErrorBody, { headers: WAIT }),
};

/** Answers an OAuth error, whatever was being answered before. */
export function sendOAuthError(reply: FastifyReply, error: BrokerError, state: RequestState | null): void {
  const { status } = PROBLEMS[error.code];
  if (state !== null) state.code = error.code;
  reply.header("cache-control", "no-store").header("pragma", "no-cache");
  // RFC 9110 wants it with every 401, RFC 6749 where Basic was used.
  if (status === 401) reply.header("www-authenticate", 'Basic realm="coffer"');
  if (status === 429 || status === 503) tellWait(reply, error);
  const body = {
    error: errorOf(error.code),
    // The characters that RFC 6749 allows.
    error_description: error.message.replaceAll(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, "'"),
    request_id: reply.request.id,
  };
  reply
    .code(status)
    .header("content-type", "application/json")
    .send(Buffer.from(JSON.stringify(body)));
}
