import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  isAtOrUnder,
  parseOwner,
  parsePathQuery,
  parseSettingPath,
  rangeUnder,
  typeOfPath,
} from "../../src/domain/address.ts";
import { BrokerError } from "../../src/domain/errors.ts";

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof BrokerError) return error.code;
    throw error;
  }
  return "ok";
};

const segment = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._@-]{0,10}$/);
const prefix = fc.constantFrom("secret/Custom", "connect/S3", "connect/ContainerRegistry");
const path = fc
  .tuple(prefix, fc.array(segment, { minLength: 1, maxLength: 4 }))
  .map(([head, rest]) => [head, ...rest].join("/"));

describe("a setting's path", () => {
  test("with a known prefix and good segments parses to itself", () => {
    fc.assert(
      fc.property(path, (text) => {
        expect(parseSettingPath(text)).toBe(text);
      }),
    );
  });

  test.each([
    ["connect/S3/a/../b", "invalid_request"],
    ["connect/S3/./b", "invalid_request"],
    ["connect/S3//b", "invalid_request"],
    ["/connect/S3/b", "invalid_request"],
    ["connect/S3/b/", "invalid_request"],
    ["connect/S3/-b", "invalid_request"],
    ["connect/S3/b c", "invalid_request"],
    ["connect/S3/é", "invalid_request"],
    ["connect/S3/a\0", "invalid_request"],
    ["connect/S3/a\n", "invalid_request"],
    [`connect/S3/${"a".repeat(65)}`, "invalid_request"],
    [`connect/S3/${Array.from({ length: 10 }, () => "a".repeat(60)).join("/")}`, "invalid_request"],
    ["connect/s3/b", "invalid_value"],
    ["connect/S3-old/b", "invalid_value"],
    ["other/S3/b", "invalid_value"],
    ["connect/S3", "invalid_value"],
    ["connect/S3/a", "ok"],
    [`connect/S3/${"a".repeat(64)}`, "ok"],
    ["connect/S3/a@b.c-d_e/F", "ok"],
  ])("%j is %s", (text, code) => {
    expect(codeOf(() => parseSettingPath(text))).toBe(code);
  });

  test("fixes the type by its first two segments", () => {
    expect(typeOfPath(parseSettingPath("connect/ContainerRegistry/x/y"))).toBe("container_registry");
  });

  test("lies in the range under a prefix exactly when it lies under it segment by segment", () => {
    fc.assert(
      fc.property(path, path, fc.nat(3), (text, other, cut) => {
        const base = other
          .split("/")
          .slice(0, cut + 1)
          .join("/");
        const { from, before } = rangeUnder(base);
        // Byte order, as COLLATE "C" has it: the grammar is ASCII, where code units are bytes.
        expect(text >= from && text < before).toBe(isAtOrUnder(text, base) && text !== base);
      }),
    );
  });
});

describe("a read's path", () => {
  test.each([
    [undefined, "auto", "all"],
    ["connect", "auto", "under"],
    ["connect/S3", "auto", "under"],
    ["connect/S3/", "auto", "under"],
    ["connect/S3/a/", "auto", "under"],
    ["connect/S3/a", "under", "under"],
    ["connect/S3/a", "auto", "at"],
    ["connect/S3/a", "exact", "at"],
    ["connect/S3", "exact", "at"],
  ] as const)("%j with match=%s selects %s", (text, match, kind) => {
    expect(parsePathQuery(text, match).kind).toBe(kind);
  });

  test.each([
    ["conn", "auto", "invalid_value"],
    ["connect/S", "auto", "invalid_value"],
    ["connect/S3/a/", "exact", "invalid_request"],
    [undefined, "exact", "invalid_request"],
    ["connect/S3//", "auto", "invalid_request"],
    ["", "auto", "invalid_request"],
  ] as const)("%j with match=%s is %s", (text, match, code) => {
    expect(codeOf(() => parsePathQuery(text, match))).toBe(code);
  });
});

test("an unknown prefix's error lists the known ones", () => {
  expect(() => parseSettingPath("a/b/c")).toThrow(/secret\/Custom, connect\/S3, connect\/ContainerRegistry/);
});

test("an owner is a known type and a UUID, told in lower case", () => {
  const id = "01900000-0000-7000-8000-00000000ABCD";
  expect(parseOwner("project", id)).toEqual({ owner_type: "project", owner_id: id.toLowerCase() });
  expect(codeOf(() => parseOwner("team", id))).toBe("invalid_request");
  expect(codeOf(() => parseOwner("project", "1"))).toBe("invalid_request");
});
