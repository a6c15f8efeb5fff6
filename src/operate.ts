// The broker, or its database alone, for who has the machine: started for one piece of work, and gone when that has
// ended, well or not.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { type Tools, createLogger, databaseOf, openBroker } from "./compose-broker.ts";
import type { Config } from "./config.ts";
import type { Broker } from "./domain/broker.ts";

/**
 * The broker at work for who has the machine: without HTTP, and gone when `work` has ended. What it wrote is sealed.
 * @throws Error as `compose` does; when the home's own broker runs, one that says what to do
 */
export async function operate<Result>(
  config: Config,
  work: (broker: Broker, tools: Tools) => Promise<Result>,
  afterwards: "seal" | "leave" = "seal",
): Promise<Result> {
  const started: (() => Promise<void>)[] = [];
  try {
    // A database made up in a wrong folder would be nobody's.
    if (config.databaseUrl === null)
      await stat(join(config.home, "postgres")).catch(() => noBrokerAt(config.home));
    const { broker, tools } = await openBroker(config, createLogger("silent"), started).catch(
      (error: unknown) => {
        throw config.databaseUrl === null ? withAdvice(error) : error;
      },
    );
    const result = await work(broker, tools);
    // What it did is done, whether or not this goes well: a replica seals what is left.
    if (afterwards === "seal") await tools.sealing.seal().catch(() => null);
    return result;
  } finally {
    for (const stop of started.splice(0).toReversed()) await stop();
  }
}

/**
 * The database alone, started where it is the embedded one: no broker, no migrations, no key.
 * @throws Error when the home's own broker runs, one that says what to do
 */
export async function withDatabase<Result>(
  config: Config,
  work: (databaseUrl: string) => Promise<Result>,
): Promise<Result> {
  const started: (() => Promise<void>)[] = [];
  try {
    const url = await databaseOf(config, createLogger("silent"), started).catch((error: unknown) => {
      throw withAdvice(error);
    });
    return await work(url);
  } finally {
    for (const stop of started.splice(0).toReversed()) await stop();
  }
}

function noBrokerAt(home: string): never {
  throw new Error(
    `No broker has ever run in ${home}. Set COFFER_HOME to its home, or DATABASE_URL to its database.`,
  );
}

function withAdvice(error: unknown): unknown {
  if (!(error instanceof Error && error.message.includes("is in use"))) return error;
  const advice = "Its embedded database is for one process: stop the broker, do this, and start it again.";
  return new Error(`${error.message}. ${advice}`, { cause: error });
}
