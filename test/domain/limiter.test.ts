// The limiter by itself: whose turn it is.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLimiter } from "../../src/domain/limiter.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("lets so many in, and the others in the order they came", async () => {
  const limiter = createLimiter(2);
  const order: number[] = [];
  const take = async (n: number) => {
    expect(await limiter.take(1_000, null)).toBe(true);
    order.push(n);
  };
  const all = [0, 1, 2, 3].map(take);
  await Promise.all(all.slice(0, 2));
  expect([limiter.busy, order]).toEqual([4, [0, 1]]);
  limiter.give(null);
  await all[2];
  limiter.give(null);
  await all[3];
  expect(order).toEqual([0, 1, 2, 3]);
  limiter.give(null);
  limiter.give(null);
  expect(limiter.busy).toBe(0);
});

test("gives no place to one who no longer waits", async () => {
  const limiter = createLimiter(1);
  await limiter.take(1, null);
  const late = limiter.take(100, null);
  await vi.advanceTimersByTimeAsync(100);
  expect(await late).toBe(false);
  limiter.give(null);
  expect(await limiter.take(1, null)).toBe(true);
  limiter.give(null);
});

test("lets no tenant have more than half of the places, and goes round those who wait", async () => {
  const limiter = createLimiter(4);
  const order: string[] = [];
  const take = async (lane: string) => {
    expect(await limiter.take(1_000, lane)).toBe(true);
    order.push(lane);
  };
  const greedy = Array.from({ length: 6 }, () => take("greedy"));
  await Promise.all(greedy.slice(0, 2));
  await Promise.all([take("modest"), take("other")]);
  expect([order, limiter.busy]).toEqual([["greedy", "greedy", "modest", "other"], 8]);
  const late = take("late");
  limiter.give("modest");
  await late;
  limiter.give("greedy");
  await greedy[2];
  expect(order.slice(4)).toEqual(["late", "greedy"]);
  for (const lane of ["late", "other", "greedy", "greedy", "greedy", "greedy", "greedy"]) {
    limiter.give(lane);
    await Promise.resolve();
  }
  await Promise.all(greedy);
  expect(limiter.busy).toBe(0);
});

test("a lane may be given more than half, and never all that it asks for", async () => {
  const limiter = createLimiter(4, { laneMax: 3 });
  const greedy = Array.from({ length: 4 }, () => limiter.take(1_000, "greedy"));
  await Promise.all(greedy.slice(0, 3));
  expect(await limiter.take(0, "modest")).toBe(true);
  limiter.give("modest");
  limiter.give("greedy");
  expect(await greedy[3]).toBe(true);
});

test("who finds the lane's line full is told at once, and another lane has its own", async () => {
  const limiter = createLimiter(1, { lineMax: 2 });
  await limiter.take(1_000, "greedy");
  const waiting = [limiter.take(1_000, "greedy"), limiter.take(1_000, "greedy")];
  expect(await limiter.take(1_000, "greedy")).toBe(false);
  const modest = limiter.take(1_000, "modest");
  limiter.give("greedy");
  expect(await waiting[0]).toBe(true);
  const next = limiter.take(1_000, "greedy");
  limiter.give("greedy");
  expect(await modest).toBe(true);
  limiter.give("modest");
  expect(await waiting[1]).toBe(true);
  limiter.give("greedy");
  expect(await next).toBe(true);
});
