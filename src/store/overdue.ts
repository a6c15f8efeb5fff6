// Who waits behind a statement that failed. A database that is silent must not be waited for by one batch after the other:
// the last of many would be told after as many time-outs.

/** As long as a connection is waited for. */
const patienceMs = 3_000;

/** Takes those out of a queue that have waited long enough to be told so as well. @param queue the oldest first */
export function takeOverdue<Waiting extends { readonly since: number }>(queue: Waiting[]): Waiting[] {
  const now = performance.now();
  const fresh = queue.findIndex(({ since }) => now - since < patienceMs);
  return queue.splice(0, fresh < 0 ? queue.length : fresh);
}
