// What can go wrong with a call to a cloud's secret manager, as one closed set of classes that both clouds share, and the
// one table from a class and a kind of operation to what our caller is told and whether trying again can help.
// A failure quotes nothing of the vendor's words: its public text stands here, and its private cause holds no more than
// the error's name, status and request id. The vendor's own error object, whose properties may hold a value, is dropped.
import { BrokerError, type ErrorCode } from "../domain/errors.ts";

export type Failure =
  /** The manager knows no such secret or version. */
  | "absent"
  /** The secret is there, but being deleted. */
  | "scheduled_for_deletion"
  /** The version is there, but disabled or destroyed. */
  | "disabled"
  /** The name or the token is taken, or a precondition does not hold. */
  | "exists"
  | "too_large"
  | "throttled"
  /** A limit that waiting a few seconds does not lift. */
  | "quota"
  /** The key that the manager seals under cannot be used. */
  | "kms_refused"
  /** Permission or credentials. */
  | "denied"
  | "checksum"
  /** The server, the network or time. */
  | "away"
  /** Whatever else the manager says no to, and answers that make no sense. */
  | "rejected";

export type OperationKind = "read" | "write" | "delete";

/** All that is kept of a vendor's error. */
export type CallFacts = {
  readonly name: string;
  readonly status?: number | undefined;
  readonly request_id?: string | undefined;
};

/** What a vendor's error comes down to. */
export type Classified = CallFacts & { readonly failure: Failure };

type Answer = readonly [code: ErrorCode, detail: string];
type Row = Readonly<Record<OperationKind, Answer>> & {
  /** `idempotent`: only where the same call twice is as good as once. */
  readonly retry: "no" | "once" | "yes" | "idempotent";
  readonly retryAfterSeconds?: number;
};

const same = (code: ErrorCode, detail: string) => {
  const answer: Answer = [code, detail];
  return { read: answer, write: answer, delete: answer };
};

const GONE: Answer = ["manager_failed", "The secret manager does not have this value."];
const OFF: Answer = ["manager_failed", "The secret manager no longer gives this value out."];
const LARGE = "The value is larger than the secret manager takes: 65,536 bytes.";

const TABLE: Readonly<Record<Failure, Row>> = {
  absent: {
    retry: "no",
    read: GONE,
    write: ["manager_failed", "The secret manager does not have the secret that was to be changed."],
    delete: GONE,
  },
  scheduled_for_deletion: {
    retry: "no",
    read: OFF,
    write: ["conflict", "The secret is being deleted in the secret manager."],
    delete: ["manager_failed", "The secret is being deleted in the secret manager already."],
  },
  disabled: {
    retry: "no",
    read: OFF,
    write: ["conflict", "The version is disabled or destroyed in the secret manager."],
    delete: ["manager_failed", "The version is disabled or destroyed in the secret manager."],
  },
  exists: {
    retry: "no",
    read: ["manager_failed", "The secret manager's state forbids to read this value."],
    write: ["conflict", "The secret manager already has something else in this place."],
    delete: ["conflict", "The secret was changed in the secret manager meanwhile."],
  },
  too_large: { retry: "no", ...same("too_large", LARGE) },
  throttled: {
    retry: "yes",
    retryAfterSeconds: 2,
    ...same("unavailable", "The secret manager is throttling."),
  },
  quota: {
    retry: "no",
    retryAfterSeconds: 60,
    ...same("unavailable", "A quota of the secret manager is used up."),
  },
  kms_refused: {
    retry: "no",
    ...same("manager_failed", "The secret manager cannot use the key that the value is sealed under."),
  },
  denied: { retry: "no", ...same("manager_failed", "The secret manager refuses the broker.") },
  checksum: { retry: "once", ...same("manager_failed", "The value was damaged on its way.") },
  away: {
    retry: "idempotent",
    retryAfterSeconds: 1,
    ...same("unavailable", "The secret manager cannot be reached."),
  },
  rejected: { retry: "no", ...same("manager_failed", "The secret manager did not do what it was asked.") },
};

/** The private cause of a failed call: for the log, and for those who must tell one failure from another. */
export class ManagerCallError extends Error {
  readonly operation: string;
  readonly failure: Failure;
  readonly facts: CallFacts;

  constructor(operation: string, failure: Failure, { name, status, request_id }: CallFacts) {
    const facts = { name: plainWord(name) ?? "Unnamed", status, request_id: plainWord(request_id) };
    const known = [facts.name, facts.status, facts.request_id].filter((each) => each !== undefined);
    super(`${operation}: ${failure} (${known.join(", ")})`);
    this.name = "ManagerCallError";
    this.operation = operation;
    this.failure = failure;
    this.facts = facts;
  }
}

/** A vendor's name is data from outside too: a word at most, never a text. */
function plainWord(text: string | undefined): string | undefined {
  return text !== undefined && /^[A-Za-z0-9_:.-]{1,80}$/.test(text) ? text : undefined;
}

/** What our caller is told of a failure. */
export function failureError(
  operation: string,
  kind: OperationKind,
  { failure, ...facts }: Classified,
): BrokerError {
  const row = TABLE[failure];
  const [code, detail] = row[kind];
  const { retryAfterSeconds } = row;
  const fields = retryAfterSeconds === undefined ? {} : { retry_after_seconds: retryAfterSeconds };
  return new BrokerError(code, detail, fields, new ManagerCallError(operation, failure, facts));
}

/** A call that was never sent, for `why`: the manager is known to be away, or has more to do than it gets done. */
export function unsentError(operation: string, why: string, retryAfterSeconds: number): BrokerError {
  const [code, detail] = TABLE.away.read;
  const cause = new ManagerCallError(operation, "away", { name: why });
  return new BrokerError(code, detail, { retry_after_seconds: retryAfterSeconds }, cause);
}

/** The class of the failure that a call ended with; null for an error of another origin. */
export function failureOf(error: unknown): Failure | null {
  return error instanceof BrokerError && error.cause instanceof ManagerCallError ? error.cause.failure : null;
}

/** True when the attempt after the `attempts` that failed can help. */
export function canRetry(failure: Failure, attempts: number, idempotent: boolean): boolean {
  switch (TABLE[failure].retry) {
    case "no":
      return false;
    case "once":
      return idempotent && attempts === 1;
    case "yes":
      return true;
    case "idempotent":
      return idempotent;
  }
}
