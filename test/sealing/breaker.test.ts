// The breaker by itself.
import { expect, test } from "vitest";
import { createBreaker } from "../../src/sealing/breaker.ts";

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
