// What to do, for who works on a home from beside its broker.

export function noBrokerAt(home: string): never {
  throw new Error(
    `No broker has ever run in ${home}. Set COFFER_HOME to its home, or DATABASE_URL to its database.`,
  );
}

export function withAdvice(error: unknown): unknown {
  if (!(error instanceof Error && error.message.includes("is in use"))) return error;
  const advice = "Its embedded database is for one process: stop the broker, do this, and start it again.";
  return new Error(`${error.message}. ${advice}`, { cause: error });
}
