// Fifty kills at random points of writes, destructions, purges and moves in AWS Secrets Manager, its faults on.
import { expect, test } from "vitest";
import { CLOUDS } from "./clouds.ts";
import { surviveKills } from "./kill-kit.ts";

test("whatever it is killed at, acknowledged writes read back, and AWS holds what the database points at", async () => {
  const { kills, written } = await surviveKills(CLOUDS.aws, 50, 20_261_126);
  expect(kills).toBe(50);
  expect(written.length).toBeGreaterThan(50);
}, 480_000);
