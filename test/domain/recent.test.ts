// What is kept in memory, and what goes when there is no room.
import fc from "fast-check";
import { expect, test } from "vitest";
import { createRecent } from "../../src/domain/recent.ts";

test("what was used since the last want of room stays, and what was not goes", () => {
  const recent = createRecent<number>(3);
  for (const [at, key] of ["a", "b", "c"].entries()) recent.put(key, at);
  recent.get("a");
  recent.get("c");
  recent.put("d", 3);
  expect(["a", "b", "c", "d"].map((key) => recent.get(key))).toEqual([0, undefined, 2, 3]);
});

test("one that is new is kept, also where all others were used lately", () => {
  const recent = createRecent<number>(2);
  recent.put("a", 0);
  recent.put("b", 1);
  recent.get("a");
  recent.get("b");
  recent.put("c", 2);
  expect(recent.get("c")).toBe(2);
});

test("room is made after a bounded look, also where all of very many were used lately", () => {
  const recent = createRecent<number>(1000);
  const keys = Array.from({ length: 1000 }, (_, n) => `${n}`);
  for (const [n, key] of keys.entries()) recent.put(key, n);
  for (const key of keys) recent.get(key);
  recent.put("more", 1000);
  const gone = keys.filter((key) => recent.get(key) === undefined);
  expect(gone).toEqual(["64"]);
});

test("what weighs more than all may together is not kept, nor does it drive out the rest", () => {
  const recent = createRecent<number>(10, (weight) => weight);
  recent.put("a", 4);
  recent.put("b", 11);
  expect([recent.get("a"), recent.get("b")]).toEqual([4, undefined]);
  // In its own place it is gone all the same: what it was is outdated.
  recent.put("a", 11);
  expect(recent.get("a")).toBeUndefined();
});

test("whatever is put, used and dropped, what is kept is the last put and within the bound", () => {
  const key = fc.constantFrom("a", "b", "c", "d", "e", "f");
  const step = fc.oneof(
    fc.record({ kind: fc.constant("put" as const), key, weight: fc.integer({ min: 1, max: 12 }) }),
    fc.record({ kind: fc.constant("get" as const), key }),
    fc.record({ kind: fc.constant("drop" as const), key }),
    fc.record({ kind: fc.constant("dropWhere" as const), weight: fc.integer({ min: 1, max: 12 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const recent = createRecent<{ readonly weight: number }>(10, ({ weight }) => weight);
      const last = new Map<string, { readonly weight: number }>();
      for (const each of steps) {
        if (each.kind === "put") {
          const value = { weight: each.weight };
          recent.put(each.key, value);
          last.set(each.key, value);
        } else if (each.kind === "get") recent.get(each.key);
        else if (each.kind === "drop") {
          recent.drop(each.key);
          last.delete(each.key);
        } else {
          recent.dropWhere(({ weight }) => weight === each.weight);
          for (const [known, { weight }] of last) if (weight === each.weight) last.delete(known);
        }
        const kept = ["a", "b", "c", "d", "e", "f"].flatMap((known) => {
          const value = recent.get(known);
          if (value !== undefined) expect(value).toBe(last.get(known));
          return value ?? [];
        });
        expect(kept.reduce((sum, { weight }) => sum + weight, 0)).toBeLessThanOrEqual(10);
        if (each.kind === "put" && each.weight <= 10) expect(recent.get(each.key)).toBe(last.get(each.key));
      }
    }),
  );
});
