// What a failed call to Secret Manager comes down to, by its gRPC code. Of the client's error nothing goes on but the
// code, and the word that Google gives as the reason: its other properties hold the server's texts, and those may hold
// anything. A text is looked at here and never passed on.
import type { Classified, Failure } from "./manager-failures.ts";

/** The codes by number; https://grpc.io/docs/guides/status-codes/ */
const NAMES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

const KMS = /\bkms\b|cloudkms|cryptoKey/i;
/** grpc-js's words for credentials that gave no token, under whatever code. */
const NO_TOKEN = /Getting metadata from plugin failed/;
const NETWORK =
  /\bE(?:CONN|HOST|NET|PIPE|TIMEDOUT|AI_AGAIN)|ENOTFOUND|socket hang up|time(?:d )?[ -]?out|status code 5\d\d/i;

/** What came was not what was sent, by our own check. */
export class ChecksumError extends Error {}

/** An answer that makes no sense. The text is one of our own. */
export class AnswerError extends Error {}

/** The credentials that the client looked for before its first call; nothing of its error is kept. */
export class CredentialsError extends Error {
  readonly isNetwork: boolean;

  constructor(error: unknown) {
    super("no usable credentials");
    this.isNetwork = NETWORK.test(textOf(error));
  }
}

export function classifyGcp(error: unknown): Classified {
  if (error instanceof ChecksumError) return { failure: "checksum", name: "ChecksumMismatch" };
  if (error instanceof AnswerError) return { failure: "rejected", name: "NoUsableAnswer" };
  if (error instanceof CredentialsError)
    return { failure: error.isNetwork ? "away" : "denied", name: "CredentialsError" };
  const { code, reason, text } = partsOf(error);
  const name = code === undefined ? undefined : NAMES[code];
  if (NO_TOKEN.test(text))
    return { failure: NETWORK.test(text) ? "away" : "denied", name: "CredentialsError", status: code };
  if (name === undefined) return { failure: "rejected", name: "NoGrpcStatus" };
  return { failure: failureOf(name, reason, text), name: reason ?? name, status: code };
}

/** As `classifyGcp`; access to a version whose precondition fails is one to a version that is off. */
export function classifyAccess(error: unknown): Classified {
  const classified = classifyGcp(error);
  const isOff = classified.failure === "exists" && classified.status === NAMES.indexOf("FAILED_PRECONDITION");
  return isOff ? { ...classified, failure: "disabled" } : classified;
}

function failureOf(name: (typeof NAMES)[number], reason: string | undefined, text: string): Failure {
  switch (name) {
    case "CANCELLED":
    case "UNKNOWN":
    case "DEADLINE_EXCEEDED":
    case "INTERNAL":
    case "UNAVAILABLE":
      return "away";
    case "INVALID_ARGUMENT":
      if (/checksum|crc32c/i.test(text)) return "checksum";
      return /65,?536|64 ?KiB|too large|larger than/i.test(text) ? "too_large" : "rejected";
    case "NOT_FOUND":
      return "absent";
    case "ALREADY_EXISTS":
    case "ABORTED":
      return "exists";
    case "FAILED_PRECONDITION":
      if (KMS.test(text)) return "kms_refused";
      return /\b(?:DISABLED|DESTROYED)\b/.test(text) ? "disabled" : "exists";
    case "PERMISSION_DENIED":
      return KMS.test(text) ? "kms_refused" : "denied";
    case "UNAUTHENTICATED":
      return "denied";
    case "RESOURCE_EXHAUSTED":
      return isQuota(reason, text) ? "quota" : "throttled";
    case "OK":
    case "OUT_OF_RANGE":
    case "UNIMPLEMENTED":
    case "DATA_LOSS":
      return "rejected";
  }
}

/** A limit per minute is a quota too in Google's words, but one that passes by itself. */
function isQuota(reason: string | undefined, text: string): boolean {
  if (reason === "RATE_LIMIT_EXCEEDED") return false;
  return (
    reason === "RESOURCE_QUOTA_EXCEEDED" || (/quota/i.test(text) && !/per (?:second|minute)/i.test(text))
  );
}

function textOf(error: unknown): string {
  const { message } = (error ?? {}) as { readonly message?: unknown };
  return typeof message === "string" ? message : "";
}

function partsOf(error: unknown) {
  const { code, reason, details } = (error ?? {}) as {
    readonly code?: unknown;
    readonly reason?: unknown;
    readonly details?: unknown;
  };
  return {
    code: typeof code === "number" ? code : undefined,
    reason: typeof reason === "string" && reason !== "" ? reason : undefined,
    text: typeof details === "string" ? details : textOf(error),
  };
}
