// Keys of RSA are dear: they are made one at a time, and no tenant keeps another from having one.
import { expect, test } from "vitest";
import { createValueGenerator } from "../../src/auth/generated-values.ts";
import { BrokerError } from "../../src/domain/errors.ts";

const nowhere = (): never => {
  throw new Error("no public part is sealed here");
};
const values = createValueGenerator({ seal: nowhere, open: nowhere });

test("of many at once a tenant has some, is told 503 of the others, and another tenant has its own", async () => {
  const kind = { kind: "rsa", bits: 2048 } as const;
  const many = Array.from({ length: 12 }, () => values.generate(kind, "one"));
  const other = values.generate(kind, "other");
  const settled = await Promise.allSettled(many);
  const made = settled.filter(({ status }) => status === "fulfilled");
  expect(made.length).toBeGreaterThan(0);
  expect(made.length).toBeLessThan(12);
  for (const each of settled)
    if (each.status === "rejected") {
      expect(each.reason).toBeInstanceOf(BrokerError);
      expect(each.reason).toMatchObject({ code: "unavailable" });
    }
  expect((await other).value).toContain("BEGIN PRIVATE KEY");
});
