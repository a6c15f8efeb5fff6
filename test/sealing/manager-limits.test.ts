// Breaker and limiter by themselves.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createBreaker, createLimiter } from "../../src/sealing/manager-limits.ts";

describe("the breaker", () => {
  const bounds = { outagesMax: 2, pauseMilliseconds: 5_000 };

  test("lets one probe through when its pause is over, and another pause follows its outage", () => {
    let now = 0;
    const breaker = createBreaker(() => now, bounds);
    const pass = () => breaker.enter() ?? { isProbe: false };
    for (let n = 0; n < 2; n += 1) breaker.leave(pass(), "outage");
    expect(breaker.enter()).toBeNull();
    expect(breaker.closedFor()).toBe(5_000);
    now = 5_000;
    const probe = breaker.enter();
    expect(probe).toEqual({ isProbe: true });
    expect(breaker.enter()).toBeNull();
    breaker.leave(probe ?? { isProbe: false }, "outage");
    now = 9_999;
    expect(breaker.enter()).toBeNull();
    now = 10_000;
    const next = breaker.enter();
    breaker.leave(next ?? { isProbe: false }, "unknown");
    // A probe that tells nothing makes way for the next.
    const last = breaker.enter();
    expect(last).toEqual({ isProbe: true });
    breaker.leave(last ?? { isProbe: false }, "answered");
    expect(breaker.enter()).toEqual({ isProbe: false });
    // Counted from nothing again.
    breaker.leave(pass(), "outage");
    expect(breaker.enter()).not.toBeNull();
  });

  test("opens once for many that were under way, and an answer from one of them opens the way", () => {
    let now = 0;
    const breaker = createBreaker(() => now, bounds);
    const passes = Array.from({ length: 5 }, () => breaker.enter() ?? { isProbe: false });
    for (const pass of passes.slice(0, 4)) {
      breaker.leave(pass, "outage");
      now += 100;
    }
    expect(breaker.closedFor()).toBe(5_000 - 300);
    breaker.leave(passes[4] ?? { isProbe: false }, "answered");
    expect(breaker.closedFor()).toBe(0);
  });
});

describe("the limiter", () => {
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
});
