// Every failure the broker knows, as one closed union of codes.
// A BrokerError has a public face (code, detail, and the few fields that the contract publishes) and a
// private one (cause) for the log. Neither may ever hold a value, a token, or a piece of one.
// Nothing of HTTP is here: http/problem.ts maps each code to its status, in one table.

export type ErrorCode =
  | "invalid_request"
  | "invalid_reference"
  | "unauthenticated"
  | "forbidden"
  | "not_found"
  | "method_not_allowed"
  | "not_acceptable"
  | "conflict"
  | "expired"
  | "destroyed"
  | "precondition_failed"
  | "too_large"
  | "unsupported_media_type"
  | "invalid_value"
  | "rate_limited"
  | "internal"
  | "manager_failed"
  | "unavailable"
  /** The four of OAuth 2.0 (RFC 6749, section 5.2) that the token endpoint adds. */
  | "invalid_client"
  | "invalid_grant"
  | "invalid_scope"
  | "unsupported_grant_type";

/** Where a piece of bad input stands. `detail` names the field and the rule, never the content. */
export type InputProblem = {
  readonly in: "body" | "query" | "path" | "header";
  readonly pointer: string;
  readonly detail: string;
};

/** What a problem answer may carry beside its code and detail. */
export type PublicFields = {
  /** Why a caller who may list there is refused. */
  readonly reason?: DenialReason;
  /** The action that the caller lacks; only to one who may list there. */
  readonly required?: string;
  /** The object that already has the name. */
  readonly existing_id?: string;
  /** The settings that a failed read could not answer. */
  readonly paths?: readonly string[];
  readonly errors?: readonly InputProblem[];
  readonly retry_after_seconds?: number;
  /** The limit that was passed, for `rate_limited`. */
  readonly limit?: number;
};

export type DenialReason = "insufficient_role" | "token_scope";

export class BrokerError extends Error {
  readonly code: ErrorCode;
  readonly fields: PublicFields;

  constructor(code: ErrorCode, detail: string, fields: PublicFields = {}, cause?: unknown) {
    super(detail, cause === undefined ? undefined : { cause });
    this.name = "BrokerError";
    this.code = code;
    this.fields = fields;
  }
}

/** Bad input in one place: 400 when it does not parse, 422 when it parses but is not valid there. */
export function badInput(
  code: "invalid_request" | "invalid_value",
  at: InputProblem["in"],
  pointer: string,
  detail: string,
): BrokerError {
  return new BrokerError(code, detail, { errors: [{ in: at, pointer, detail }] });
}

export function notFound(detail = "There is no such thing here."): BrokerError {
  return new BrokerError("not_found", detail);
}

export function conflict(detail: string, existingId?: string): BrokerError {
  return new BrokerError("conflict", detail, existingId === undefined ? {} : { existing_id: existingId });
}

/** Something the broker stands on is away; trying again can help. */
export function unavailable(what: string, cause?: unknown, retryAfterSeconds = 1): BrokerError {
  return new BrokerError("unavailable", what, { retry_after_seconds: retryAfterSeconds }, cause);
}
