// The embedded PostgreSQL runs for as long as the broker does: somebody who ends it, or the kernel that takes its memory,
// costs a moment, and no operator. What was acknowledged is on disk.
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "./guard.ts";

/** Doubled with each start that fails. */
const pauseMinMs = 500;
const pauseMaxMs = 30_000;

export type Running = {
  /** Resolves when it has ended, stopped or by itself. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
};

/**
 * Starts it again whenever it has ended by itself, after a pause that grows with each start that fails.
 * @param again throws an Error that says why it could not be started
 */
export function keepRunning(
  first: Running,
  again: () => Promise<Running>,
  logger: Logger | undefined,
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  let server = first;

  async function keep(): Promise<void> {
    for (;;) {
      await server.ended;
      const next = await revived();
      if (next === null) return;
      server = next;
      if (stopping.signal.aborted) await server.stop();
    }
  }

  /** Null once it is to stop. */
  async function revived(): Promise<Running | null> {
    for (let pauseMs = pauseMinMs; ; pauseMs = Math.min(2 * pauseMs, pauseMaxMs)) {
      await pause(pauseMs, undefined, { signal: stopping.signal, ref: false }).catch(() => undefined);
      if (stopping.signal.aborted) return null;
      try {
        const next = await again();
        logger?.info("the embedded PostgreSQL runs again");
        return next;
      } catch (error) {
        logger?.error(error instanceof Error ? error.message : String(error));
      }
    }
  }

  const keeping = keep();
  return {
    async stop(): Promise<void> {
      stopping.abort();
      await server.stop();
      await keeping;
    },
  };
}
