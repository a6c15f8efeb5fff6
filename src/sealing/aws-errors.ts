// What an error of AWS's SDK comes down to, by its name and HTTP status. Several of the names are no exported classes,
// so none is matched by class. Of the error itself nothing goes on but name, status and request id: its other properties
// may hold the body of the answer, and that a value. A message is looked at here and never passed on.
import type { CallFacts, Classified, Failure } from "./manager-failures.ts";

const NAMES: ReadonlyMap<string, Failure> = new Map(
  (
    [
      ["absent", ["ResourceNotFoundException"]],
      ["scheduled_for_deletion", ["InvalidRequestException"]],
      ["exists", ["ResourceExistsException", "PreconditionNotMetException"]],
      ["quota", ["LimitExceededException"]],
      ["kms_refused", ["DecryptionFailure", "EncryptionFailure"]],
      [
        "throttled",
        ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"],
      ],
      [
        "denied",
        [
          "AccessDenied",
          "AccessDeniedException",
          "CredentialsProviderError",
          "ExpiredToken",
          "ExpiredTokenException",
          "IncompleteSignature",
          "IncompleteSignatureException",
          "InvalidClientTokenId",
          "InvalidIdentityToken",
          "InvalidSignatureException",
          "MissingAuthenticationToken",
          "MissingAuthenticationTokenException",
          "NotAuthorized",
          "OptInRequired",
          "RequestExpired",
          "RequestTimeTooSkewed",
          "SignatureDoesNotMatch",
          "TokenProviderError",
          "TokenRefreshRequired",
          "UnrecognizedClientException",
        ],
      ],
      [
        "away",
        ["AbortError", "InternalFailure", "InternalServiceError", "ServiceUnavailable", "TimeoutError"],
      ],
    ] as const
  ).flatMap(([failure, names]) => names.map((name) => [name, failure] as const)),
);

/** The names that a value over 65,536 bytes is refused by, which are also those of any other bad parameter. */
const INVALID = new Set(["ValidationException", "InvalidParameterException"]);

/** How an operation is refused that an account may not use, or that an emulator has not. */
const NO_OPERATION = new Set(["UnknownOperationException", "InvalidAction", "NotImplemented"]);

/** What AWS's names look like, and Node's codes. A name comes over the wire, and what comes that way may be anything. */
const PLAIN = /^([A-Z][A-Za-z]{2,60}(Exception|Error|Failure)|[A-Z][A-Z0-9_]{2,60})$/;
const REQUEST_ID = /^[0-9a-fA-F-]{8,80}$/;

export function classifyAws(error: unknown): Classified {
  const { name, code, status, request_id, message } = partsOf(error);
  const word = code ?? name;
  const isPlain = NAMES.has(word) || NO_OPERATION.has(word) || PLAIN.test(word);
  return {
    failure: failureOf(name, code, status, message),
    name: isPlain ? word : "Unnamed",
    status,
    request_id: request_id !== undefined && REQUEST_ID.test(request_id) ? request_id : undefined,
  };
}

/** True where the operation itself is what is refused, so that asking again in a moment would be in vain. */
export function isOperationRefused({ name, status }: CallFacts): boolean {
  return NO_OPERATION.has(name) || status === 501 || NAMES.get(name) === "denied";
}

function failureOf(
  name: string,
  code: string | undefined,
  status: number | undefined,
  message: string,
): Failure {
  if (status === 429) return "throttled";
  const known = NAMES.get(name);
  if (known === "denied" && /\bKMS\b/.test(message)) return "kms_refused";
  if (known !== undefined) return known;
  if (INVALID.has(name))
    return /length less than or equal to|too large/i.test(message) ? "too_large" : "rejected";
  if (status === undefined) return code === undefined ? "rejected" : "away";
  if (status === 401 || status === 403) return "denied";
  // A body that is no JSON is a proxy's or a load balancer's, whatever its status says.
  return status >= 500 || name === "SyntaxError" ? "away" : "rejected";
}

function partsOf(error: unknown) {
  const { name, code, message, $metadata } = (typeof error === "object" && error !== null ? error : {}) as {
    readonly name?: unknown;
    readonly code?: unknown;
    readonly message?: unknown;
    readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string };
  };
  return {
    name: typeof name === "string" ? name : "unnamed",
    // What Node calls a failure of the network, such as ECONNRESET.
    code: typeof code === "string" ? code : undefined,
    message: typeof message === "string" ? message : "",
    status: $metadata?.httpStatusCode,
    request_id: $metadata?.requestId,
  };
}
