import { expect, test } from "vitest";
import { createRefusalLimit } from "../../src/auth/refusals.ts";
import { testClock } from "../sealing/fixture.ts";

const times = (count: number, work: () => number): number[] => Array.from({ length: count }, work);

test("a hundred refusals a minute are answered, the next waits for the end of the minute", () => {
  const clock = testClock();
  const limit = createRefusalLimit(clock);
  expect(times(100, () => limit.count("192.0.2.1")).every((wait) => wait === 0)).toBe(true);
  expect(limit.count("192.0.2.1")).toBe(60);
  clock.pass(59.5);
  expect(limit.count("192.0.2.1")).toBe(1);
  clock.pass(0.5);
  expect(limit.count("192.0.2.1")).toBe(0);
});

test("waiting is not made longer by trying on", () => {
  const clock = testClock();
  const limit = createRefusalLimit(clock);
  times(1_000, () => limit.count("a"));
  clock.pass(60);
  expect(times(100, () => limit.count("a")).every((wait) => wait === 0)).toBe(true);
  expect(limit.count("a")).toBeGreaterThan(0);
});

test("one block's refusals are not another's", () => {
  const limit = createRefusalLimit(testClock());
  times(101, () => limit.count("a"));
  expect(limit.count("b")).toBe(0);
});

test("a clock that is set back locks nobody out", () => {
  const clock = testClock();
  const limit = createRefusalLimit(clock);
  times(101, () => limit.count("a"));
  clock.pass(-3_600);
  expect(limit.count("a")).toBe(0);
});

test("past the bound the oldest window is given up, the others hold", () => {
  const clock = testClock();
  const limit = createRefusalLimit(clock, 3);
  for (const block of ["a", "b", "c"]) {
    times(101, () => limit.count(block));
    clock.pass(1);
  }
  expect(limit.count("d")).toBe(0);
  expect(limit.count("b")).toBeGreaterThan(0);
  expect(limit.count("c")).toBeGreaterThan(0);
  expect(limit.count("a")).toBe(0);
});
