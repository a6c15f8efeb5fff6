// Values of managers that are kept for some seconds: never longer, whatever the clock does and whoever asks.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { checkValue } from "../../src/domain/plaintext.ts";
import type { SettingRow } from "../../src/domain/setting.ts";
import { createValueCache } from "../../src/sealing/value-cache.ts";

const rowOf = (version: number) =>
  ({
    setting: { id: "00000000-0000-7000-8000-000000000001" },
    version: { version, storage: "manager", location: { version_id: `v${version}` } },
  }) as unknown as SettingRow;
const row = rowOf(1);

beforeEach(() => {
  vi.useFakeTimers({ now: new Date("2026-03-04T05:06:07Z") });
});
afterEach(() => {
  vi.useRealTimers();
});
const cacheOf = (seconds: number) => createValueCache({ now: () => new Date() }, seconds);

test("a value is there for its seconds, and not after them", () => {
  const cache = cacheOf(5);
  cache.put(row, checkValue("custom", "v"));
  vi.setSystemTime(Date.now() + 4_999);
  expect(cache.take(row)?.reveal()).toBe("v");
  vi.setSystemTime(Date.now() + 1);
  expect(cache.take(row)).toBeNull();
});

test("a clock that is set back does not lengthen its life", () => {
  const cache = cacheOf(5);
  cache.put(row, checkValue("custom", "v"));
  vi.setSystemTime(Date.now() - 3_600_000);
  expect(cache.take(row)).toBeNull();
});

test("each is there for its own seconds, whatever was put before it and the clock did between", () => {
  const cache = cacheOf(5);
  cache.put(row, checkValue("custom", "v"));
  vi.setSystemTime(Date.now() + 4_000);
  cache.put(rowOf(2), checkValue("custom", "w"));
  vi.setSystemTime(Date.now() - 2_000);
  expect(cache.take(row)?.reveal()).toBe("v");
  expect(cache.take(rowOf(2))).toBeNull();
});

test("each is let go of after its own seconds, also where nobody reads any more", () => {
  const cache = cacheOf(5);
  cache.put(row, checkValue("custom", "v"));
  vi.advanceTimersByTime(100);
  cache.put(rowOf(2), checkValue("custom", "w"));
  vi.advanceTimersByTime(4_900);
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(100);
  expect(vi.getTimerCount()).toBe(0);
});

test("it is let go of also where nobody reads any more", () => {
  const cache = cacheOf(5);
  cache.put(row, checkValue("custom", "v"));
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(5_000);
  // Nothing is left that would have to be looked after.
  expect(vi.getTimerCount()).toBe(0);
});
