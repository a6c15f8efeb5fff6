// What the database says went wrong, in the core's words. The text of a PostgreSQL or Prisma error may quote a row's
// content, so none of it goes on: what is kept is the SQLSTATE (or the driver's code), as the cause, for the log.
import { BrokerError, unavailable } from "../domain/errors.ts";

/** The cause of every BrokerError made here; `state` is a SQLSTATE, a driver's code, or the kind of error. */
export class DatabaseFailure extends Error {
  override readonly name = "DatabaseFailure";
  readonly state: string;
  constructor(state: string) {
    super(`the database failed: ${state}`);
    this.state = state;
  }
}

/** The state of a transaction that lost against another; running it again can help. */
const racedState = "coffer_raced";

/** Others changed or removed what this transaction stands on: it is run again from the start. */
export function raced(): BrokerError {
  return unavailable("Others are changing the same thing; try again.", new DatabaseFailure(racedState));
}

/**
 * Whether running the transaction again can help: a deadlock, a serialization failure, `raced`, or a name that was
 * taken meanwhile, since the next run sees what has it.
 */
export function isWorthRepeating(error: unknown): boolean {
  if (!(error instanceof BrokerError) || !(error.cause instanceof DatabaseFailure)) return false;
  return error.code === "conflict" || ["40P01", "40001", racedState].includes(error.cause.state);
}

/** Whether the fault may lie in what was sent, not in the database as a whole. */
export function isOfItsData(error: BrokerError): boolean {
  return error.code !== "unavailable";
}

/** Whether another connection could do what this one cannot: its server is silent, going, or takes no writes. */
export function isOfItsConnection(error: unknown): boolean {
  return /^(connection|08...|57P0[1-35]|25006)$/.test(stateOf(error));
}

/** Whether that holds for every connection to the same server: another one is the primary by now. */
export function isOfItsServer(error: unknown): boolean {
  return stateOf(error) === "25006";
}

/** Anything that came out of Prisma or the driver; a BrokerError is left as it is. */
export function asBrokerError(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  const state = stateOf(error);
  const cause = new DatabaseFailure(state);
  switch (kindOf(state)) {
    case "taken":
      return new BrokerError("conflict", "Something else has this name or id.", {}, cause);
    case "raced":
      return unavailable("Others are changing the same thing; try again.", cause);
    case "away":
      return unavailable("The database cannot be had just now.", cause);
    case "unknown":
      return new BrokerError("internal", "The database refused a statement.", {}, cause);
  }
}

/** To be put behind a promise: its failure as a BrokerError. */
export function rethrow(error: unknown): never {
  throw asBrokerError(error);
}

type Kind = "taken" | "raced" | "away" | "unknown";

function kindOf(state: string): Kind {
  switch (state) {
    case "23505":
    case "P2002":
      return "taken";
    case "40001":
    case "40P01":
    case "P2034":
      return "raced";
    // Lock, statement and transaction time-outs; a server that only reads; one that has no room; one that stops.
    case "55P03":
    case "57014":
    case "25P03":
    case "25006":
    case "57P01":
    case "57P02":
    case "57P03":
    case "57P05":
    case "58030":
    // Prisma: not reachable, timed out, closed, no free connection, the transaction is over.
    case "P1001":
    case "P1002":
    case "P1008":
    case "P1017":
    case "P2024":
    case "P2028":
    case "P2037":
    case "connection":
      return "away";
    default:
      // 08: the connection. 53: out of disk, memory or connections.
      return /^(08|53)...$/.test(state) ? "away" : "unknown";
  }
}

type Shape = {
  code?: unknown;
  severity?: unknown;
  syscall?: unknown;
  message?: unknown;
  name?: unknown;
  meta?: unknown;
};
type DriverCause = { originalCode?: unknown; code?: unknown; kind?: unknown };

/** Prisma's kinds of driver error that carry no SQLSTATE. */
const awayKinds = new Set([
  "DatabaseNotReachable",
  "ConnectionClosed",
  "SocketTimeout",
  "TooManyConnections",
  "TlsConnectionError",
]);
/** node-postgres has no code for these; the texts are its own and quote nothing. */
const awayTexts =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed|Cannot use a pool after|timeout expired)/;

/** What kind of failure it is, without a word of its text. */
function stateOf(error: unknown): string {
  if (typeof error !== "object" || error === null) return typeof error;
  const { code, severity, syscall, message, name } = error as Shape;
  const driver = driverCauseOf(error);
  if (driver !== null) {
    if (typeof driver.originalCode === "string") return driver.originalCode;
    if (driver.kind === "postgres" && typeof driver.code === "string") return driver.code;
    if (typeof driver.kind === "string" && awayKinds.has(driver.kind)) return "connection";
  }
  if (typeof syscall === "string" || (typeof message === "string" && awayTexts.test(message)))
    return "connection";
  // The operating system's own: ECONNREFUSED, ENOENT of a socket, and so on.
  if (typeof code === "string" && /^E[A-Z]+$/.test(code)) return "connection";
  if (typeof code === "string" && (typeof severity === "string" || /^P\d{4}$/.test(code))) return code;
  if (error instanceof AggregateError) return stateOf(error.errors[0]);
  return typeof name === "string" ? name : "unknown";
}

/** What Prisma's adapter made of a driver's error; Prisma keeps it in `meta`, or throws it bare. */
function driverCauseOf(error: object): DriverCause | null {
  const { meta } = error as Shape;
  const inMeta =
    typeof meta === "object" && meta !== null
      ? (meta as { driverAdapterError?: unknown }).driverAdapterError
      : null;
  const { cause } = (inMeta ?? error) as { cause?: unknown };
  return typeof cause === "object" && cause !== null && "kind" in cause ? cause : null;
}

type Methods = Readonly<Record<string, (...args: never[]) => Promise<unknown>>>;

/**
 * The same methods, whose failures are BrokerErrors. `onFailure` is told of each, since a transaction in which a
 * statement failed commits nothing, whatever its work makes of the error.
 */
export function translated<Api extends Methods>(
  api: Api,
  onFailure: (error: BrokerError) => void = () => undefined,
): Api {
  const wrapped = Object.entries(api).map(([name, method]) => [
    name,
    async (...args: never[]) => {
      try {
        return await method(...args);
      } catch (thrown) {
        const error = asBrokerError(thrown);
        onFailure(error);
        throw error;
      }
    },
  ]);
  return Object.fromEntries(wrapped) as Api;
}
