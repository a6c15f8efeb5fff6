// What a call fails with. Made from the broker's problem (RFC 9457) or OAuth error; holds no value and no token.
import type { InputProblem, Problem } from "./generated/api.ts";

/** The broker's codes, and those of the client itself, whose status is 0 when there was no answer. */
export type ErrorCode =
  | Problem["code"]
  | "unreachable"
  | "timeout"
  | "redirected"
  | "invalid_answer"
  | "invalid_options"
  | "no_token";

export type ErrorFields = {
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly problem?: Partial<Problem> | undefined;
};

/** A call that failed. `status` and `code` say how; `requestId` finds it in the broker's log and audit. */
export class CofferError extends Error {
  override readonly name = "CofferError";
  /** The HTTP status; 0 where there was no answer. */
  readonly status: number;
  /** Stable, for programs. */
  readonly code: ErrorCode;
  readonly requestId: string | undefined;
  /** How long the broker asked to wait. */
  readonly retryAfterMs: number | undefined;
  /** 403: why the caller has not the right, and the action that it lacks. */
  readonly reason: string | undefined;
  readonly required: string | undefined;
  /** 400 and 422: each piece of bad input; never its content. */
  readonly errors: readonly InputProblem[];
  /** 502 and 503: the settings whose values could not be had. */
  readonly paths: readonly string[];

  constructor(
    { status, code, detail, requestId, retryAfterMs, problem = {} }: ErrorFields,
    options?: ErrorOptions,
  ) {
    const where = requestId === undefined ? "" : ` (request ${requestId})`;
    super(`${status === 0 ? "" : `${status} `}${code}: ${detail}${where}`, options);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
    this.retryAfterMs = retryAfterMs;
    this.reason = problem.reason;
    this.required = problem.required;
    this.errors = problem.errors ?? [];
    this.paths = problem.paths ?? [];
  }

  /** Whether the same call may well succeed later: 429, 503, or no answer at all. But for 429, a write may have been made. */
  get temporary(): boolean {
    return (
      this.status === 429 || this.status === 503 || this.code === "unreachable" || this.code === "timeout"
    );
  }
}

/** A misuse of the client that no answer is needed to tell. */
export function invalidOptions(detail: string): CofferError {
  return new CofferError({ status: 0, code: "invalid_options", detail });
}
