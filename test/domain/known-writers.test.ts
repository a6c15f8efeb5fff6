// Who may begin with the transaction: whoever wrote a moment ago, a few at a time, so that nobody waits behind one who may
// no more.
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import type { Caller, Grant, Need } from "../../src/domain/admission.ts";
import { createKnownWriters } from "../../src/domain/known-writers.ts";

const context = { request_id: "r", operation: "o", ip: null, user_agent: null };
const owner = { owner_type: "project", owner_id: randomUUID() } as const;
const callerOf = (byte: number): Caller => ({
  credential: { kind: "api", hash: Buffer.alloc(32, byte) },
  context,
});
const at = (path: string, place: Need["place"] = { kind: "owner", owner }): Need => ({
  ask: { action: "write", path, breadth: "whole" },
  place,
});
const grantOf = (max_uses: number | null = null) => ({ token: { max_uses } }) as Grant;

function known() {
  const time = { now: new Date("2026-01-01T00:00:00Z") };
  const writers = createKnownWriters({ now: () => time.now });
  return { time, writers };
}

test("nobody does who has not written there, nor with a token whose uses are counted", () => {
  const { writers } = known();
  writers.note(callerOf(1), at("a"), grantOf());
  writers.note(callerOf(2), at("a"), grantOf(3));
  expect(writers.begin(callerOf(1), at("b"))).not.toBeNull();
  expect(writers.begin(callerOf(2), at("a"))).toBeNull();
  expect(writers.begin(callerOf(3), at("a"))).toBeNull();
  const elsewhere = { kind: "owner", owner: { ...owner, owner_id: randomUUID() } } as const;
  expect(writers.begin(callerOf(1), at("a", elsewhere))).toBeNull();
});

test("one at a path, and sixteen in all: the others are admitted first", () => {
  const { writers } = known();
  writers.note(callerOf(1), at("a"), grantOf());
  const first = writers.begin(callerOf(1), at("a"));
  expect(writers.begin(callerOf(1), at("a"))).toBeNull();
  const others = Array.from({ length: 15 }, (_, n) => writers.begin(callerOf(1), at(`b${n}`)));
  expect(others.every((each) => each !== null)).toBe(true);
  expect(writers.begin(callerOf(1), at("c"))).toBeNull();
  first?.done();
  expect(writers.begin(callerOf(1), at("a"))).not.toBeNull();
});

test("whoever had to prepare after all does so at first for a while; who was not let in is not known any more", () => {
  const { time, writers } = known();
  writers.note(callerOf(1), at("a"), grantOf());
  writers.begin(callerOf(1), at("a"))?.failed(true);
  expect(writers.begin(callerOf(1), at("a"))).toBeNull();
  time.now = new Date(time.now.getTime() + 5_000);
  writers.begin(callerOf(1), at("a"))?.failed(false);
  expect(writers.begin(callerOf(1), at("a"))).toBeNull();
  writers.note(callerOf(1), at("a"), grantOf());
  expect(writers.begin(callerOf(1), at("a"))).not.toBeNull();
});
