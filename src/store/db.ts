// A handle on the database: the pool's, or one transaction's. Every read is a function of one, so that the same code
// serves a Reader and a Transaction. A Statement's name makes the driver prepare it once a connection.
import type pg from "pg";
import type { Prisma, PrismaClient } from "./generated/client.ts";

/** The text is the name's for ever: two texts under one name are a bug that the driver refuses. */
export type Statement = { readonly name: string; readonly text: string };

/** What both Prisma and the driver take and write the same way. Null needs a cast in the statement's text. */
export type Param = string | number | boolean | Date | Uint8Array | readonly (string | null)[] | null;

export type Db = {
  readonly prisma: Prisma.TransactionClient;
  /** The row type is the caller's word for what the statement selects. */
  query<Row>(statement: Statement, params: readonly Param[]): Promise<readonly Row[]>;
};

/** Whoever can be asked a statement. */
export type Asker = Pick<Db, "query">;

/** Statements go to the driver, prepared: through the pool, or on one of its connections. */
export function driverAsker(driver: pg.Pool | pg.PoolClient): Asker {
  return {
    query: async <Row>({ name, text }: Statement, params: readonly Param[]) => {
      const { rows } = await driver.query({ name, text, values: [...params] });
      return rows as Row[];
    },
  };
}

/** Outside any transaction. */
export function poolDb(pool: pg.Pool, prisma: PrismaClient): Db {
  return { prisma, ...driverAsker(pool) };
}

/** Inside one interactive transaction of Prisma. */
export function transactionDb(prisma: Prisma.TransactionClient): Db {
  return {
    prisma,
    query: <Row>({ text }: Statement, params: readonly Param[]) =>
      prisma.$queryRawUnsafe<Row[]>(text, ...params),
  };
}
