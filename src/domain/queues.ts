// Turns, by name: of all who ask for one under the same name each waits for those before. Nothing is kept of a name
// that nobody waits for.
import { unavailable } from "./errors.ts";

type Waiting = { readonly start: () => void };

export function createQueues() {
  const queues = new Map<string, Waiting[]>();

  function release(name: string): void {
    const queue = queues.get(name);
    queue?.shift();
    const next = queue?.[0];
    if (next === undefined) queues.delete(name);
    else next.start();
  }

  return {
    /**
     * Resolves when it is the caller's turn, with what ends it; ending it twice does nothing.
     * @throws BrokerError `unavailable` when that takes too long
     */
    async turn(name: string, millisecondsMax: number): Promise<() => void> {
      const queue = queues.get(name) ?? [];
      queues.set(name, queue);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const waiting = { start: resolve };
      queue.push(waiting);
      if (queue[0] === waiting) resolve();
      const timer = setTimeout(
        () => reject(unavailable("Others keep writing here; try again.")),
        millisecondsMax,
      );
      try {
        await promise;
      } catch (error) {
        const at = queue.indexOf(waiting);
        if (at > 0) queue.splice(at, 1);
        throw error;
      } finally {
        clearTimeout(timer);
      }
      let ended = false;
      return () => {
        if (!ended) release(name);
        ended = true;
      };
    },
  };
}
