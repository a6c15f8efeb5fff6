// What is logged, and how little: one line for each request, with the route's pattern and never its URL, and one for
// each fault, with names and code positions and never a message, since a message may quote what it was given.
// The framework has no logger at all, so no line of its own can say more.
import { type DestinationStream, type Level, type Logger, pino } from "pino";
import { BrokerError } from "../domain/errors.ts";
import { isoOf } from "../domain/iso-time.ts";

/** Nobody logs these; should somebody, it says so instead. */
const NEVER = "authorization headers body query url token secret password value plaintext".split(" ");

/** Lines are written together: a call of the system for each would cost more than all the rest of it. */
const BUFFER_BYTES = 8_192;
const FLUSH_MS = 100;

/** @param destination standard output unless given, written in the background */
export function createLogger(level: Level | "silent", destination?: DestinationStream): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${isoOf(new Date())}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: NEVER, censor: "[redacted]" },
      serializers: { err: describeError, error: describeError },
    },
    destination ??
      pino.destination({ dest: 1, sync: false, minLength: BUFFER_BYTES, periodicFlush: FLUSH_MS }),
  );
}

export type Description = {
  readonly name: string;
  readonly code?: string;
  /** Of a failed call to a manager: what was asked, and the vendor's name, status and request id. */
  readonly call?: Readonly<Record<string, string | number>>;
  readonly frames?: readonly string[];
  readonly cause?: Description;
};

const NAME = /^[A-Z][A-Za-z0-9]{0,63}$/;
/** As Node, Fastify, Prisma and SQLSTATE write them; free text is not among them. */
const CODE = /^[A-Z0-9][A-Z0-9_]{2,63}$/;
/** As managers' errors, operations and request ids are written. */
const WORD = /^[A-Za-z0-9_:.-]{1,80}$/;
const FRAMES_MAX = 12;
const CAUSES_MAX = 4;

/** An error as the log may have it: what it is called and where it came from, not what it says. */
export function describeError(error: unknown, depth = 0): Description {
  if (!(error instanceof Error)) return { name: error === null ? "null" : typeof error };
  const { code } = error as { code?: unknown };
  const own = error instanceof BrokerError;
  const told = typeof code === "string" && (own || CODE.test(code)) ? { code } : {};
  // Where a BrokerError was made says nothing of why, unless it is all that there is.
  const frames = own && (code !== "internal" || error.cause !== undefined) ? [] : framesOf(error);
  const where = frames.length === 0 ? {} : { frames };
  const why =
    error.cause === undefined || depth === CAUSES_MAX ? {} : { cause: describeError(error.cause, depth + 1) };
  const call = callOf(error);
  const asked = call === null ? {} : { call };
  return { name: NAME.test(error.name) ? error.name : "Error", ...told, ...asked, ...where, ...why };
}

/** Plain words and numbers alone, whatever else there may be. */
function callOf(error: Error): Readonly<Record<string, string | number>> | null {
  const { operation, failure, facts } = error as { operation?: unknown; failure?: unknown; facts?: unknown };
  if (typeof facts !== "object" || facts === null) return null;
  const plain = Object.entries({ operation, failure, ...facts }).filter(
    (entry): entry is [string, string | number] => {
      const [, fact] = entry;
      return typeof fact === "number" || (typeof fact === "string" && WORD.test(fact));
    },
  );
  return Object.fromEntries(plain);
}

/** A stack without the message that heads it. A message may look like frames, so it is cut off by its length. */
function framesOf({ stack, message }: Error): string[] {
  if (typeof stack !== "string") return [];
  const start = stack.indexOf(message);
  // The message was changed after the stack was taken: no telling where it ends.
  if (start < 0) return [];
  return stack
    .slice(start + message.length)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("at "))
    .slice(0, FRAMES_MAX);
}
