// Ids are UUIDv7s that never go back, however many are made within a millisecond.
import { expect, test } from "vitest";
import { newId } from "../src/ids.ts";

const FORM = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test("each is a UUIDv7 of now, greater than the one before", () => {
  const before = Date.now();
  const ids = Array.from({ length: 50_000 }, newId);
  expect(ids.filter((id) => !FORM.test(id))).toEqual([]);
  expect(ids.filter((id, index) => index > 0 && id <= (ids[index - 1] ?? ""))).toEqual([]);
  const first = Number.parseInt((ids[0] ?? "").replaceAll("-", "").slice(0, 12), 16);
  expect(first).toBeGreaterThanOrEqual(before);
  expect(new Set(ids.map((id) => id.slice(24))).size).toBe(ids.length);
});
