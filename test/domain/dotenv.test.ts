// What an import reads of a .env file.
import { expect, test } from "vitest";
import { parseDotenv } from "../../src/domain/dotenv.ts";

const read = (text: string) => parseDotenv(text, "/dotenv").map(({ name, value }) => [name, value]);

test("a comment after a value goes to the end of its line, whatever ends other lines elsewhere", () => {
  expect(read("A=x # y\nB=2")).toEqual([
    ["A", "x"],
    ["B", "2"],
  ]);
  for (const other of ["\r", "\u2028", "\u2029"]) expect(read(`A=x # y${other}z`)).toEqual([["A", "x"]]);
  expect(read("A=x#y")).toEqual([["A", "x#y"]]);
});
