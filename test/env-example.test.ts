// `.env.example` says of each setting what is true: its name, its default and its bounds.
import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { describeConfig } from "../src/config-describe.ts";
import { readConfig } from "../src/config.ts";

const text = await readFile(new URL("../.env.example", import.meta.url), "utf8");
/** Each setting with its default, and the last line of the comment before it. */
const settings = [...text.matchAll(/(?<=^(?<comment>.*)\n)#(?<name>[A-Z_]+)=(?<given>.*)$/gm)].map(
  ({ groups = {} }) => ({
    name: groups["name"] ?? "",
    given: groups["given"] ?? "",
    comment: groups["comment"] ?? "",
  }),
);
const bounded = settings.flatMap(({ name, comment }) => {
  const [, least, most] = /(\d+)(?: \([^)]*\))? to (\d+)\.$/.exec(comment) ?? [];
  return least === undefined || most === undefined
    ? []
    : [{ name, least: Number(least), most: Number(most) }];
});
const inForce = (environment: Record<string, string>) => describeConfig(readConfig(environment));

test("every setting that check-config prints is in it, and no other name of ours", () => {
  const printed = inForce({}).match(/^COFFER_[A-Z_]+/gm) ?? [];
  const keys = ["", "_FILE", "_NEXT", "_NEXT_FILE"].map((end) => `COFFER_MASTER_KEY${end}`);
  const named = settings.map(({ name }) => name).filter((name) => name.startsWith("COFFER_"));
  expect(named.toSorted()).toEqual([...printed, ...keys].toSorted());
});

test.each(settings.filter(({ given }) => given !== ""))(
  "$name is $given unless it is set",
  ({ name, given }) => {
    expect(inForce({ [name]: given })).toBe(inForce({}));
  },
);

describe("bounds", () => {
  test("are said of whole numbers", () => expect(bounded.length).toBeGreaterThan(8));

  test.each(bounded)("$name is $least to $most, and nothing beyond", ({ name, least, most }) => {
    for (const value of [least, most]) expect(() => inForce({ [name]: `${value}` })).not.toThrow();
    for (const value of [least - 1, most + 1]) expect(() => inForce({ [name]: `${value}` })).toThrow(name);
  });
});
