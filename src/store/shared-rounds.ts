// How members of one shared transaction ask together: a call waits until every member waits for one, or is over; then
// all calls of a kind are one statement. A member that does something else meanwhile is waited for. What locks goes first,
// so that all others see what was committed before the locks were had; those are sent at once, on one connection.
export type Member = { asking: number; isOver: boolean };
type Call = {
  readonly member: Member;
  readonly settle: () => void;
};

/** Makes a kind of call of a statement that takes many. */
export type Kinds = ReturnType<typeof createRounds>["kind"];
/** Locks are asked for one kind after the other, and before all else. */
type Order = "lock" | "any";

export function createRounds(members: number) {
  const kinds: Record<Order, (() => Promise<readonly Call[]>)[]> = { lock: [], any: [] };
  let atWork = members;
  let isAsking = false;
  let waiting = 0;

  async function next(): Promise<void> {
    if (atWork > 0 || isAsking || waiting === 0) return;
    isAsking = true;
    waiting = 0;
    const answered: Call[] = [];
    for (const ask of kinds.lock) answered.push(...(await ask()));
    answered.push(...(await Promise.all(kinds.any.map((ask) => ask()))).flat());
    isAsking = false;
    for (const { member, settle } of answered) {
      member.asking -= 1;
      if (member.asking === 0 && !member.isOver) atWork += 1;
      settle();
    }
    // Some may have asked once more while the answers were out.
    void next();
  }

  return {
    /** A kind of call. `many` has one answer for each that is asked, in order; when it fails, each of them does. */
    kind<Ask, Answer>(
      many: (asks: readonly Ask[]) => Promise<readonly Answer[]>,
      order: Order = "any",
    ): (member: Member, ask: Ask) => Promise<Answer> {
      type Waiting = {
        readonly member: Member;
        readonly ask: Ask;
        readonly done: (answer: Answer) => void;
        readonly failed: (error: unknown) => void;
      };
      let queue: Waiting[] = [];
      kinds[order].push(async () => {
        const batch = queue;
        queue = [];
        if (batch.length === 0) return [];
        try {
          const answers = await many(batch.map(({ ask }) => ask));
          return batch.map(({ member, done }, index) => ({
            member,
            settle: () => done(answers[index] as Answer),
          }));
        } catch (error) {
          return batch.map(({ member, failed }) => ({ member, settle: () => failed(error) }));
        }
      });
      return (member, ask) =>
        new Promise((done, failed) => {
          if (member.isOver) return failed(new Error("a member that is over asks no more"));
          queue.push({ member, ask, done, failed });
          waiting += 1;
          if (member.asking === 0) atWork -= 1;
          member.asking += 1;
          void next();
        });
    },

    /** The member asks no more. */
    over(member: Member): void {
      member.isOver = true;
      if (member.asking === 0) atWork -= 1;
      void next();
    },
  };
}
