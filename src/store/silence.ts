// Connections whose server has fallen silent: no end is told, and what was asked would be waited for without end. All
// are looked at from time to time, in place of the driver's `query_timeout`: with that, each statement is held by
// closures of its own, which V8's young collections do not take (docs/decisions/0022-young-objects-die-young.md).
import type pg from "pg";

const lookMs = 500;

/** What is told of a connection as it goes. */
export type Answers = {
  /** One more answer is owed. */
  awaited(this: void): void;
  /** It came, or the error in its place. */
  came(this: void): void;
};

/**
 * @param maxMs for so long an answer may be owed without another coming; Infinity: for ever. Half a second more at most
 * @param onSilent told once of each
 */
export function watchSilence(maxMs: number, onSilent: (client: pg.PoolClient) => void) {
  /** `since`: when the first of what it owes was asked for, or when it last answered. */
  const owing = new Map<pg.PoolClient, { answers: number; since: number }>();
  let timer: NodeJS.Timeout | null = null;

  function look(): void {
    const now = performance.now();
    for (const [client, { answers, since }] of owing) {
      if (answers === 0 || now - since < maxMs) continue;
      forget(client);
      onSilent(client);
    }
  }

  function forget(client: pg.PoolClient): void {
    owing.delete(client);
    if (owing.size > 0 || timer === null) return;
    clearInterval(timer);
    timer = null;
  }

  return {
    of(client: pg.PoolClient): Answers {
      const owed = { answers: 0, since: 0 };
      owing.set(client, owed);
      timer ??= setInterval(look, lookMs).unref();
      return {
        awaited: () => {
          if (owed.answers === 0) owed.since = performance.now();
          owed.answers += 1;
        },
        came: () => {
          owed.answers -= 1;
          owed.since = performance.now();
        },
      };
    },
    forget,
  };
}
