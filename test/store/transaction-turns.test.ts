// Turns of transactions by themselves: who has much to change keeps no other tenant waiting for all of it.
import { expect, test } from "vitest";
import { createTurns } from "../../src/store/transactions.ts";

test("a tenant leaves three connections to reads, and one of the rest to others", async () => {
  const turns = createTurns(10);
  const begun: string[] = [];
  const begin = async (tenant: string | null) => {
    const release = await turns(tenant);
    begun.push(String(tenant));
    return release;
  };
  const greedy = Array.from({ length: 20 }, () => begin("greedy"));
  await Promise.all(greedy.slice(0, 6));
  const modest = await begin("modest");
  expect(begun).toEqual([...Array.from({ length: 6 }, () => "greedy"), "modest"]);
  // The broker's own work waits like anybody's, and turns go round.
  const own = begin(null);
  const other = begin("other");
  modest();
  for (const each of greedy.slice(0, 2)) (await each)();
  await Promise.all([own, other]);
  const after = begun.slice(7);
  expect(after.slice(0, 3).filter((each) => each === "greedy").length).toBeLessThan(2);
  // Nobody is left waiting: it would give up after its 10 s, in the middle of another file.
  for (const each of [own, other, ...greedy.slice(2)]) (await each)();
  expect(begun.length).toBe(23);
});

test("a single turn goes round, too", async () => {
  const turns = createTurns(2);
  const first = await turns("greedy");
  const order: string[] = [];
  const next = async (tenant: string) => {
    const release = await turns(tenant);
    order.push(tenant);
    release();
  };
  const all = [next("greedy"), next("greedy"), next("greedy"), next("modest")];
  first();
  await Promise.all(all);
  expect(order.indexOf("modest")).toBeLessThan(2);
});
