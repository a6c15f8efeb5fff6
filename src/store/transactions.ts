// Running transactions. Only so many run at once that reads and the audit find a free connection, however many writers
// queue at one path; the others wait their turn here, and turns go round the tenants. What goes wrong is told after the
// rollback.
import type pg from "pg";
import { type BrokerError, unavailable } from "../domain/errors.ts";
import { TURN_MS, createLimiter } from "../domain/limiter.ts";
import type { Prisma, PrismaClient } from "./generated/client.ts";
import { type Asker, type Db, driverAsker, transactionDb } from "./db.ts";
import { DatabaseFailure, asBrokerError, isOfItsConnection, isWorthRepeating, rethrow } from "./failures.ts";

const attemptsMax = 3;
const maxWait = 10_000;
const timeout = 15_000;
/** Connections that transactions leave to everybody else; so do pages (page-turns.ts). */
export const connectionsLeft = 3;

/** `onFailure` is to be told of every error of a statement in the transaction. */
export type Work<Result> = (db: Db, onFailure: (error: BrokerError) => void) => Promise<Result>;
/** `tenant`: whose turn it takes; null for the broker's own work, and for what is shared by all. */
export type Transact = <Result>(work: Work<Result>, tenant?: string | null) => Promise<Result>;

/** What `work` throws comes out as it is. */
export function createTransact(prisma: PrismaClient, turns: Turns): Transact {
  async function attempt<Result>(work: Work<Result>): Promise<Result> {
    const failures: BrokerError[] = [];
    const thrown: unknown[] = [];
    const whole = async (client: Prisma.TransactionClient): Promise<Result> => {
      try {
        const result = await work(transactionDb(client), (error) => {
          if (error.cause instanceof DatabaseFailure) failures.push(error);
        });
        // PostgreSQL answers the COMMIT of a failed transaction with a rollback, and Prisma does not tell.
        if (failures[0] !== undefined) throw failures[0];
        return result;
      } catch (error) {
        thrown.push(error);
        throw error;
      }
    };
    try {
      return await prisma.$transaction(whole, { maxWait, timeout });
    } catch (error) {
      throw thrown.length > 0 ? thrown[0] : asBrokerError(error);
    }
  }

  return (work, tenant = null) => inTurn(turns, tenant, () => attempt(work));
}

/**
 * For statements alone, on one of the driver's connections: through Prisma each costs several times as much. What `work`
 * throws comes out as a BrokerError; once a statement has failed nothing is committed, whatever `work` makes of it.
 */
export function createDriverTransact(pool: pg.Pool, turns: Turns) {
  async function attempt<Result>(work: (db: Asker) => Promise<Result>): Promise<Result> {
    const client = await pool.connect();
    // Without a listener a connection that is lost between two statements would end the process; the next one fails.
    client.on("error", ignore);
    const asker = driverAsker(client);
    const failures: unknown[] = [];
    let isOver = false;
    let isGood = false;
    const query: Asker["query"] = async (...given) => {
      // Whoever is late finds the connection gone: by then it may be somebody else's.
      if (isOver) throw new Error("a statement came after its transaction");
      try {
        return await asker.query(...given);
      } catch (error) {
        failures.push(error);
        throw error;
      }
    };
    try {
      await client.query("BEGIN");
      const result = await work({ query }).finally(() => {
        isOver = true;
      });
      if (failures.length > 0) throw failures[0];
      await client.query("COMMIT");
      isGood = true;
      return result;
    } catch (error) {
      isGood = !isOfItsConnection(error) && (await rolledBack(client));
      throw error;
    } finally {
      client.off("error", ignore);
      client.release(!isGood);
    }
  }

  return <Result>(work: (db: Asker) => Promise<Result>) =>
    inTurn(turns, null, () => attempt(work).catch(rethrow));
}

const ignore = (): void => undefined;

/** False where the connection is to be given up, and with it the transaction. */
export async function rolledBack(client: pg.PoolClient): Promise<boolean> {
  try {
    await client.query("ROLLBACK");
    return true;
  } catch {
    return false;
  }
}

/** A race that was lost is run again. */
async function inTurn<Result>(
  turns: Turns,
  tenant: string | null,
  attempt: () => Promise<Result>,
): Promise<Result> {
  const release = await turns(tenant);
  try {
    for (let tries = 1; ; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (tries === attemptsMax || !isWorthRepeating(error)) throw error;
      }
    }
  } finally {
    release();
  }
}

/** Resolves when it is one's turn; the function that it answers ends that. */
export type Turns = (tenant: string | null) => Promise<() => void>;

/** First come first served within a tenant; the one that asks for the most leaves a place to the others. */
export function createTurns(poolSize: number): Turns {
  const max = Math.max(1, poolSize - connectionsLeft);
  const limiter = createLimiter(max, { laneMax: Math.max(1, max - 1) });
  return async (tenant) => {
    if (!(await limiter.take(TURN_MS, tenant)))
      throw unavailable("Too many changes are waiting for the database.");
    return () => limiter.give(tenant);
  };
}
