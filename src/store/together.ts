// Lookups that come while one of their kind is under way share the next statement. An idle store asks at the end
// of the turn that the first of them came in: no timer. Each sees what is committed when its statement begins, which
// is after it was asked for. A statement that fails for what is in it is sent again one by one.
import { asBrokerError, isOfItsData } from "./failures.ts";

const batchMax = 64;

/** One answer for each that was asked, in order. */
export type Many<Ask, Answer> = (asks: readonly Ask[]) => Promise<readonly Answer[]>;

export function createTogether<Ask, Answer>(many: Many<Ask, Answer>): (ask: Ask) => Promise<Answer> {
  type Waiting = {
    readonly ask: Ask;
    readonly done: (answer: Answer) => void;
    readonly failed: (error: unknown) => void;
  };
  const queue: Waiting[] = [];
  let isBusy = false;

  function schedule(): void {
    if (isBusy || queue.length === 0) return;
    isBusy = true;
    setImmediate(() => {
      void send(queue.splice(0, batchMax)).finally(() => {
        isBusy = false;
        schedule();
      });
    });
  }

  async function send(batch: readonly Waiting[]): Promise<void> {
    try {
      const answers = await many(batch.map(({ ask }) => ask));
      for (const [index, { done }] of batch.entries()) done(answers[index] as Answer);
    } catch (thrown) {
      const error = asBrokerError(thrown);
      if (batch.length > 1 && isOfItsData(error)) for (const each of batch) await send([each]);
      else for (const { failed } of batch) failed(error);
    }
  }

  return (ask) =>
    new Promise((done, failed) => {
      queue.push({ ask, done, failed });
      schedule();
    });
}
