// Work that is done now and then for as long as a process lives.

/**
 * Does work at once, and again so long after each time it has ended, well or not. What fails in the same way each time
 * is told once, until it has gone well.
 * @returns what ends it; that resolves when the work under way has
 */
export function repeat(
  pauseMs: number,
  work: () => Promise<unknown>,
  onFailure: (error: unknown) => void,
): () => Promise<void> {
  let timer: NodeJS.Timeout | null = null;
  let isStopped = false;
  let running: Promise<void> = Promise.resolve();
  let told: string | null = null;
  const once = async (): Promise<void> => {
    try {
      await work();
      told = null;
    } catch (error) {
      const failure = String(error);
      if (failure !== told) onFailure(error);
      told = failure;
    }
    if (!isStopped) timer = setTimeout(turn, pauseMs).unref();
  };
  const turn = (): void => {
    running = once();
  };
  turn();
  return async () => {
    isStopped = true;
    if (timer !== null) clearTimeout(timer);
    await running;
  };
}
