// Lookups that come while two of their kind are under way share the next statement. An idle store asks at the end of
// the turn that the first of them came in: no timer. Each sees what is committed when its statement begins, which
// is after it was asked for. A statement that fails for what is in it is sent again one by one.
import { asBrokerError, isOfItsData } from "./failures.ts";
import { takeOverdue } from "./overdue.ts";

const batchMax = 64;
const statementsMax = 2;

/** One answer for each that was asked, in order. */
export type Many<Ask, Answer> = (asks: readonly Ask[]) => Promise<readonly Answer[]>;

export function createTogether<Ask, Answer>(many: Many<Ask, Answer>): (ask: Ask) => Promise<Answer> {
  type Waiting = {
    readonly ask: Ask;
    readonly since: number;
    readonly done: (answer: Answer) => void;
    readonly failed: (error: unknown) => void;
  };
  const queue: Waiting[] = [];
  let underWay = 0;

  function schedule(): void {
    if (underWay >= statementsMax || queue.length === 0) return;
    underWay += 1;
    setImmediate(() => {
      void send(queue.splice(0, batchMax)).finally(() => {
        underWay -= 1;
        schedule();
      });
    });
  }

  async function send(batch: readonly Waiting[]): Promise<void> {
    if (batch.length === 0) return;
    try {
      const answers = await many(batch.map(({ ask }) => ask));
      for (const [index, { done }] of batch.entries()) done(answers[index] as Answer);
    } catch (thrown) {
      const error = asBrokerError(thrown);
      if (batch.length > 1 && isOfItsData(error)) for (const each of batch) await send([each]);
      else for (const { failed } of [...batch, ...takeOverdue(queue)]) failed(error);
    }
  }

  return (ask) =>
    new Promise((done, failed) => {
      queue.push({ ask, since: performance.now(), done, failed });
      schedule();
    });
}
