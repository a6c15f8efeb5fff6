// The one place that words a failure for a client: RFC 9457 problem details, from a BrokerError and nothing else.
// The whole body is made here, field by field, as text: no error object, no schema and no default handler of the
// framework ever has a say, so that nothing a failure quotes can leave with it.
import type { FastifyReply } from "fastify";
import { Type } from "./schemas/type.ts";
import { BrokerError, type ErrorCode } from "../domain/errors.ts";
import type { RequestState } from "./request-state.ts";
import { EXAMPLE } from "./schemas/common.ts";
import { Fields, OneOf, OpenOneOf, component } from "./schemas/kit.ts";

type Kind = { readonly status: number; readonly title: string; readonly when: string };

/** The one code → status table; what it says is also the reference in openapi.yaml and /docs. */
export const PROBLEMS: Readonly<Record<ErrorCode, Kind>> = {
  invalid_request: {
    status: 400,
    title: "Invalid request",
    when: "Malformed syntax; a bad, repeated or unknown parameter; a body that is no JSON or has not the right form.",
  },
  invalid_reference: {
    status: 400,
    title: "Invalid reference",
    when: "Text that is no reference to a setting.",
  },
  unauthenticated: {
    status: 401,
    title: "Not authenticated",
    when: "No token, or one that is bad, expired, used up or revoked.",
  },
  forbidden: {
    status: 403,
    title: "Forbidden",
    when: "The caller has not the right, or there is no such thing: without the right to list, the two look the same.",
  },
  not_found: {
    status: 404,
    title: "Not found",
    when: "There is no such thing. Told only to who may list there.",
  },
  method_not_allowed: {
    status: 405,
    title: "Method not allowed",
    when: "Not this method; see the Allow header.",
  },
  not_acceptable: {
    status: 406,
    title: "Not acceptable",
    when: "The Accept header allows no form that there is.",
  },
  conflict: {
    status: 409,
    title: "Conflict",
    when: "The state of things forbids it: the name is taken (see existing_id), it is the last owner, it is live already.",
  },
  invalid_client: {
    status: 401,
    title: "Invalid client",
    when: "OAuth: the client's credentials are not good.",
  },
  invalid_grant: { status: 400, title: "Invalid grant", when: "OAuth: the subject token is not good here." },
  invalid_scope: {
    status: 400,
    title: "Invalid scope",
    when: "OAuth: a scope that is malformed or wider than allowed.",
  },
  unsupported_grant_type: {
    status: 400,
    title: "Unsupported grant type",
    when: "OAuth: a grant_type that is not taken here.",
  },
  expired: { status: 410, title: "Expired", when: "The setting's expires_at has passed." },
  destroyed: { status: 410, title: "Destroyed", when: "The version's value is destroyed, for ever." },
  precondition_failed: {
    status: 412,
    title: "Precondition failed",
    when: "If-Match or If-None-Match does not fit the current state.",
  },
  too_large: {
    status: 413,
    title: "Too large",
    when: "A body over 256 KiB, a value over 64 KiB, or a render over 1 MiB.",
  },
  unsupported_media_type: {
    status: 415,
    title: "Unsupported media type",
    when: "The body is not application/json (for PATCH also application/merge-patch+json), or has a Content-Encoding.",
  },
  invalid_value: {
    status: 422,
    title: "Invalid value",
    when: "Well-formed, but the value or path is not valid for its type.",
  },
  rate_limited: {
    status: 429,
    title: "Rate limited",
    when: "The token has cost too much, or its address was refused or came without a token too often. Wait for Retry-After seconds.",
  },
  internal: {
    status: 500,
    title: "Internal error",
    when: "A fault of the broker; its log has it under the request_id.",
  },
  manager_failed: {
    status: 502,
    title: "Manager failed",
    when: "A value cannot be had, and trying again does not help; paths says which.",
  },
  unavailable: {
    status: 503,
    title: "Unavailable",
    when: "Something that the broker stands on is away. Try again after Retry-After seconds.",
  },
};

const typeOf = (code: ErrorCode): string => `urn:coffer:problem:${code}`;
const CODES = Object.keys(PROBLEMS) as ErrorCode[];

const InputProblem = component(
  "InputProblem",
  Fields(
    {
      in: OneOf(["body", "query", "path", "header"], { description: "The part of the request." }),
      pointer: Type.String({ description: "A JSON Pointer into that part." }),
      detail: Type.String({ description: "The rule that is broken; never the content." }),
    },
    { description: "Where one piece of bad input stands." },
  ),
);

const Problem = component(
  "Problem",
  Fields(
    {
      type: Type.String({ format: "uri", description: "Stands for the code." }),
      title: Type.String({ description: "What the code means, in a few words." }),
      status: Type.Integer({
        description:
          "The HTTP status: the code's own, but for a head over 16 KiB, which is 431 with `invalid_request`.",
      }),
      detail: Type.String({
        description: "What went wrong here. For people; it may be worded anew at any time.",
      }),
      code: OpenOneOf(CODES, { description: "What went wrong, for programs." }),
      request_id: Type.String({ description: "As in the X-Request-ID header, the log and the audit." }),
      errors: Type.Optional(Type.Array(InputProblem, { description: "Each piece of bad input." })),
      reason: Type.Optional(
        OpenOneOf(["insufficient_role", "token_scope"], { description: "Why the caller has not the right." }),
      ),
      required: Type.Optional(Type.String({ description: "The action that the caller has no right to." })),
      existing_id: Type.Optional(Type.String({ format: "uuid", description: "What has the name already." })),
      paths: Type.Optional(
        Type.Array(Type.String(), { description: "The settings whose values could not be had." }),
      ),
    },
    { description: "A problem, as RFC 9457 has it." },
  ),
);

const PROBLEM_TYPE = "application/problem+json";

function exampleOf(code: ErrorCode) {
  const { status, title, when } = PROBLEMS[code];
  const request_id = EXAMPLE.event;
  return { summary: title, value: { type: typeOf(code), title, status, detail: when, code, request_id } };
}

function responseOf(status: number) {
  const codes = CODES.filter((code) => PROBLEMS[code].status === status);
  if (codes.length === 0) throw new Error(`no problem has the status ${status}`);
  return {
    description: codes.map((code) => `\`${code}\`: ${PROBLEMS[code].when}`).join(" "),
    headers: headersOf(status),
    content: {
      [PROBLEM_TYPE]: {
        schema: Problem,
        examples: Object.fromEntries(codes.map((code) => [code, exampleOf(code)])),
      },
    },
  };
}

const text = (description: string) => ({ type: "string", description });

function headersOf(status: number) {
  const wait = { "Retry-After": { type: "integer", description: "Seconds to wait.", example: 1 } };
  const count = (description: string) => ({ type: "integer", description });
  const allowance = {
    "RateLimit-Limit": count("What may be asked in a second, or a minute."),
    "RateLimit-Remaining": count("What is left of it."),
    "RateLimit-Reset": count("Seconds until all of it is there again."),
  };
  if (status === 401 || status === 403)
    return { "WWW-Authenticate": text("`Bearer`, with an `error` where one applies (RFC 6750).") };
  if (status === 415)
    return {
      "Accept-Encoding": text("`identity`, where the body had a Content-Encoding."),
      "Accept-Patch": text("The media types of a PATCH, where the body had another."),
    };
  if (status === 405) return { Allow: text("The methods that there are.") };
  if (status === 503) return wait;
  if (status === 429) return { ...wait, ...allowance };
  return {};
}

type Responses = { readonly [status: number]: ReturnType<typeof responseOf> };
const RESPONSES = new Map<number, ReturnType<typeof responseOf>>(
  CODES.map((code) => [PROBLEMS[code].status, responseOf(PROBLEMS[code].status)]),
);

function pick(statuses: readonly number[]): Responses {
  return Object.fromEntries(statuses.map((status) => [status, RESPONSES.get(status) ?? responseOf(status)]));
}

/** The problems that any route with a token can answer, and the ones that are this route's own. */
export function problems(...extra: readonly number[]): Responses {
  return pick([400, 401, 403, 429, 500, 503, ...extra]);
}

/** The problems of a route that needs no token. */
export function publicProblems(...extra: readonly number[]): Responses {
  return pick([400, 500, ...extra]);
}

/** True for an entry that `problems` or `publicProblems` made. */
export function isProblemResponse(response: unknown): boolean {
  return [...RESPONSES.values()].some((each) => each === response);
}

/** The body. Its fields always come in this order: two refusals differ in nothing but the request id. */
export function problemBody(
  error: BrokerError,
  requestId: string,
  status = PROBLEMS[error.code].status,
): string {
  const { title } = PROBLEMS[error.code];
  const { errors, reason, required, existing_id, paths } = error.fields;
  const { code, message: detail } = error;
  const type = typeOf(code);
  return JSON.stringify({
    type,
    title,
    status,
    detail,
    code,
    request_id: requestId,
    errors: errors?.map(({ in: place, pointer, detail }) => ({ in: place, pointer, detail })),
    reason,
    required,
    existing_id,
    paths,
  });
}

/** Answers a problem, whatever was being answered before. */
export function sendProblem(reply: FastifyReply, error: BrokerError, state: RequestState | null): void {
  const { status } = PROBLEMS[error.code];
  if (state !== null) state.code = error.code;
  // What the handler said of its own answer does not hold for this one.
  reply.removeHeader("etag").removeHeader("location").removeHeader("vary");
  reply.header("cache-control", "no-store").header("content-type", PROBLEM_TYPE);
  const challenge = challengeOf(error, state);
  if (challenge !== null) reply.header("www-authenticate", challenge);
  if (status === 429 || status === 503) tellWait(reply, error);
  // As bytes, so that the framework adds no charset: JSON has none (RFC 8259, section 11).
  reply.code(status).send(Buffer.from(problemBody(error, reply.request.id)));
}

export function tellWait(reply: FastifyReply, { fields }: BrokerError): void {
  const seconds = String(Math.max(1, Math.ceil(fields.retry_after_seconds ?? 1)));
  reply.header("retry-after", seconds);
  if (fields.limit === undefined) return;
  // Those of the limit that was passed, whatever the token's own bucket holds.
  reply.header("ratelimit-limit", String(fields.limit));
  reply.header("ratelimit-remaining", "0").header("ratelimit-reset", seconds);
}

/** RFC 6750, section 3. */
function challengeOf({ code, fields }: BrokerError, state: RequestState | null): string | null {
  if (code === "forbidden" && fields.reason === "token_scope") return 'Bearer error="insufficient_scope"';
  if (code !== "unauthenticated") return null;
  const presented = state !== null && state.credential.kind !== "absent";
  return presented ? 'Bearer error="invalid_token"' : "Bearer";
}

/** What a failure of unknown origin is told as: nothing of it. */
export function internalError(cause: unknown): BrokerError {
  return new BrokerError(
    "internal",
    "Something went wrong; the broker's log has it under the request id.",
    {},
    cause,
  );
}
