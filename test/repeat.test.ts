// What is done now and then, and told of where it fails.
import { expect, test } from "vitest";
import { repeat } from "../src/repeat.ts";

test("what fails in the same way again and again is told once, until it has gone well or fails otherwise", async () => {
  const turns = ["away", "away", "away", "refused", "away", null, "away", "away"];
  const told: string[] = [];
  const over = Promise.withResolvers<void>();
  const stop = repeat(
    0,
    async () => {
      const turn = turns.shift();
      if (turn === undefined) return over.resolve();
      if (turn !== null) throw new Error(turn);
    },
    (error) => told.push((error as Error).message),
  );
  await over.promise;
  await stop();
  expect(told).toEqual(["away", "refused", "away", "away"]);
});
