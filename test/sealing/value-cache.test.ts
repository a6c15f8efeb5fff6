// Values of managers that are kept for some seconds: never longer, whatever the clock does and whoever asks.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { checkValue } from "../../src/domain/plaintext.ts";
import type { SettingRow } from "../../src/domain/setting.ts";
import { createValueCache } from "../../src/sealing/value-cache.ts";

const row = {
  setting: { id: "00000000-0000-7000-8000-000000000001" },
  version: { version: 1, storage: "manager", location: { version_id: "v1" } },
} as unknown as SettingRow;

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

test("it is let go of also where nobody reads any more", () => {
  const cache = cacheOf(5);
  cache.put(row, checkValue("custom", "v"));
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(5_000);
  // Nothing is left that would have to be looked after.
  expect(vi.getTimerCount()).toBe(0);
});
