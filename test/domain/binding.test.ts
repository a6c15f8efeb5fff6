// Bindings against an oracle that is written another way: the glob as a regular expression, a pointer as a walk.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Binding, assertBinding, bindingMatches, fitsGlob } from "../../src/domain/binding.ts";
import { BrokerError } from "../../src/domain/errors.ts";

const ACCOUNT = "01900000-0000-7000-8000-00000000abcd";
const PROJECT = "01900000-0000-7000-8000-00000000dcba";

const binding = (claims: Binding["claims"], match: Binding["match"] = "exact"): Binding => ({
  claims,
  match,
  service_account_id: ACCOUNT,
  scopes: null,
});

const problemOf = (given: Binding): { code: string; pointer: string | undefined } | null => {
  try {
    assertBinding(given, 3);
    return null;
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error;
    return { code: error.code, pointer: error.fields.errors?.[0]?.pointer };
  }
};

/** The oracle: each star is `[^:/]*`, all else is itself. */
function oracle(text: string, pattern: string): boolean {
  const source = Array.from(pattern)
    .map((character) => (character === "*" ? "[^:/]*" : character.replaceAll(/[\\^$.|?+()[\]{}/-]/g, "\\$&")))
    .join("");
  return new RegExp(`^(?:${source})$`, "su").test(text);
}

const alphabet = fc.constantFrom("a", "b", ":", "/", ".", "+", "\n", "é", "😀");
const text = fc.array(alphabet, { maxLength: 12 }).map((parts) => parts.join(""));
const pattern = fc
  .array(fc.oneof(alphabet, fc.constant("*")), { maxLength: 8 })
  .map((parts) => parts.join(""));

describe("a glob", () => {
  test("fits exactly what the oracle says, whatever the text and the pattern", () => {
    fc.assert(
      fc.property(text, pattern, (value, wanted) => {
        expect(fitsGlob(value, wanted)).toBe(oracle(value, wanted));
      }),
      { numRuns: 20_000 },
    );
  });

  test("fits what it was made from, and the oracle agrees", () => {
    const run = fc
      .array(fc.constantFrom("a", "b", "é", "😀", "."), { maxLength: 4 })
      .map((all) => all.join(""));
    const piece = fc.oneof(
      text.map((each) => [each, each] as const),
      run.map((each) => [each, "*"] as const),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
        const value = pieces.map(([each]) => each).join("");
        const wanted = pieces.map(([, each]) => each).join("");
        expect(fitsGlob(value, wanted)).toBe(true);
        expect(oracle(value, wanted)).toBe(true);
      }),
      { numRuns: 5_000 },
    );
  });

  test("no star crosses a colon or a slash", () => {
    fc.assert(
      fc.property(text, (value) => {
        expect(fitsGlob(value, "*")).toBe(!/[:/]/.test(value));
      }),
    );
    expect(fitsGlob("repo:acme/a:ref:refs/heads/main", "repo:acme/*:ref:refs/heads/main")).toBe(true);
    expect(fitsGlob("repo:acme/a/b:ref:refs/heads/main", "repo:acme/*:ref:refs/heads/main")).toBe(false);
    expect(fitsGlob("repo:acme/a:x:ref:refs/heads/main", "repo:acme/*:ref:refs/heads/main")).toBe(false);
    expect(fitsGlob("repo:acme/a:ref:refs/heads/x/main", "repo:acme/a:ref:refs/heads/*")).toBe(false);
  });

  test("is literal in all but the star", () => {
    for (const special of ["?", ".", "[a]", "{a,b}", "a|b", "^a$", "\\*", "(a)", "a+"])
      expect(fitsGlob(special, special)).toBe(true);
    expect(fitsGlob("ab", "a?")).toBe(false);
    expect(fitsGlob("aXb", "a.b")).toBe(false);
    expect(fitsGlob("b", "{a,b}")).toBe(false);
    expect(fitsGlob("ACME", "acme")).toBe(false);
  });

  test("pieces do not overlap", () => {
    expect(fitsGlob("aba", "ab*ba")).toBe(false);
    expect(fitsGlob("a", "a*a")).toBe(false);
    expect(fitsGlob("aa", "a*a")).toBe(true);
    expect(fitsGlob("abab", "*ab*ab")).toBe(true);
    expect(fitsGlob("aab", "*ab*ab")).toBe(false);
  });

  test("of many stars against a long text ends", () => {
    expect(fitsGlob("a".repeat(512), `${"*a".repeat(255)}*b`)).toBe(false);
    expect(fitsGlob("a".repeat(512), `${"*a".repeat(255)}*`)).toBe(true);
  });
});

describe("a binding matches", () => {
  const claims = {
    sub: "repo:acme/train:ref:refs/heads/main",
    ref_protected: "true",
    email_verified: true,
    run: 42,
    ratio: 1.5,
    nothing: null,
    groups: ["ops", "training", 7],
    "kubernetes.io": { namespace: "training", pods: [{ name: "a" }, { name: "b" }] },
    "https://sts.amazonaws.com/": { aws_account: "123456789012" },
    "a~b/c": "tilde",
    "": { "": "empty" },
  };
  const { sub } = claims;
  const matches = (wanted: Binding["claims"], match: Binding["match"] = "exact"): boolean =>
    bindingMatches(binding({ sub, ...wanted }, match), claims);

  test.each([
    ["the sub alone", {}, true],
    ["another claim as well", { ref_protected: "true" }, true],
    ["one claim of several wrong", { ref_protected: "true", run: "43" }, false],
    ["a claim that is not there", { missing: "x" }, false],
    ["any of a list of texts", { ref_protected: ["false", "true"] }, true],
    ["none of a list of texts", { ref_protected: ["false", "no"] }, false],
    ["a boolean, as it is written", { email_verified: "true" }, true],
    ["a whole number, as it is written", { run: "42" }, true],
    ["a fraction never", { ratio: "1.5" }, false],
    ["null never", { nothing: "null" }, false],
    ["an object never", { "kubernetes.io": "[object Object]" }, false],
    ["one of a list in the token", { groups: "training" }, true],
    ["a number of a list in the token", { groups: "7" }, true],
    ["a list as a whole never", { groups: "ops,training,7" }, false],
    ["by JSON Pointer", { "/kubernetes.io/namespace": "training" }, true],
    ["by JSON Pointer, the wrong text", { "/kubernetes.io/namespace": "default" }, false],
    ["by JSON Pointer through a list", { "/kubernetes.io/pods/1/name": "b" }, true],
    ["by JSON Pointer, a list's end never", { "/kubernetes.io/pods/-/name": "b" }, false],
    [
      "by JSON Pointer, an index with a nought before it never",
      { "/kubernetes.io/pods/01/name": "b" },
      false,
    ],
    ["by JSON Pointer with ~1", { "/https:~1~1sts.amazonaws.com~1/aws_account": "123456789012" }, true],
    ["by JSON Pointer with ~0 and ~1", { "/a~0b~1c": "tilde" }, true],
    ["by JSON Pointer with empty names", { "//": "empty" }, true],
    ["a length is nobody's claim", { "/groups/length": "3" }, false],
    ["a text has no members", { "/ref_protected/0": "t" }, false],
  ])("%s: %j is %s", (_name, wanted, expected) => {
    expect(matches(wanted)).toBe(expected);
  });

  test.each([
    "constructor",
    "__proto__",
    "toString",
    "/constructor/name",
    "/__proto__/x",
    "/groups/constructor/name",
  ])("no name reaches a prototype: %s", (name) => {
    const wanted = Object.fromEntries([[name, ["Object", "Array", "x", "function"]]]);
    expect(matches(wanted)).toBe(false);
  });

  test("a star is a star only where the binding says glob", () => {
    expect(bindingMatches(binding({ sub: "repo:acme/*:ref:refs/heads/main" }), claims)).toBe(false);
    expect(bindingMatches(binding({ sub: "repo:acme/*:ref:refs/heads/main" }, "glob"), claims)).toBe(true);
    expect(bindingMatches(binding({ sub: "a*" }), { sub: "a*" })).toBe(true);
    expect(matches({ groups: "train*" }, "glob")).toBe(true);
    expect(matches({ "/https:~1~1sts.amazonaws.com~1/aws_account": "1234*" }, "glob")).toBe(true);
  });

  test("only with a sub, in the binding and in the token, that is a string", () => {
    expect(bindingMatches(binding({ run: "42" }), claims)).toBe(false);
    expect(bindingMatches(binding({}), claims)).toBe(false);
    for (const other of [42, true, null, ["x"], { x: 1 }, undefined])
      expect(bindingMatches(binding({ sub: ["42", "true", "x"] }), { sub: other })).toBe(false);
    expect(bindingMatches(binding({ sub: "x" }), Object.create({ sub: "x" }))).toBe(false);
  });

  test("look-alikes are others: nothing is normalized or folded", () => {
    const acme = binding({ sub: "repo:acme" });
    for (const other of ["repo:аcme", "repo:ACME", "repo:acme ", "repo:acme\u200b", "ｒepo:acme"])
      expect(bindingMatches(acme, { sub: other })).toBe(false);
    expect(bindingMatches(binding({ sub: "é" }), { sub: "e\u0301" })).toBe(false);
  });

  test("by glob, a text beyond 512 characters never", () => {
    expect(bindingMatches(binding({ sub: "a*" }, "glob"), { sub: "a".repeat(512) })).toBe(true);
    expect(bindingMatches(binding({ sub: "a*" }, "glob"), { sub: "a".repeat(513) })).toBe(false);
  });

  test("exactly when every claim of it does, whatever they are", () => {
    const name = fc.constantFrom("sub", "a", "b", "c");
    const value = fc.constantFrom("x", "y", "z");
    const given = fc.dictionary(name, value);
    const wanted = fc.dictionary(name, fc.oneof(value, fc.array(value, { maxLength: 3 })));
    fc.assert(
      fc.property(given, wanted, (has, wants) => {
        const all = Object.keys(wants).every((key) =>
          [wants[key] ?? []].flat().some((each) => each === has[key]),
        );
        expect(bindingMatches(binding(wants), has)).toBe("sub" in has && "sub" in wants && all);
      }),
      { numRuns: 3_000 },
    );
  });
});

describe("a binding that is kept", () => {
  test.each<readonly [string, Partial<Binding>]>([
    ["has a sub", { claims: { ref: "main" } }],
    [
      "has a sub of its own, not of a prototype",
      { claims: Object.create({ sub: "x" }) as Binding["claims"] },
    ],
    ["has claims at all", { claims: {} }],
    ["has a sub that is not empty", { claims: { sub: "" } }],
    ["has no empty list", { claims: { sub: [] } }],
    ["has no empty text in a list", { claims: { sub: ["x", ""] } }],
    ["has no empty text in another claim", { claims: { sub: "x", ref: "" } }],
    ["has no text beyond 512 characters", { claims: { sub: "x".repeat(513) } }],
    ["has no list beyond 32 texts", { claims: { sub: Array.from({ length: 33 }, String) } }],
    [
      "has no more than 16 claims",
      { claims: Object.fromEntries([["sub", "x"], ...Array.from({ length: 16 }, (_, n) => [`c${n}`, "x"])]) },
    ],
    ["has no half of a surrogate pair", { claims: { sub: "a\ud83d" } }],
    ["names no empty claim", { claims: { sub: "x", "": "y" } }],
    ["has no pointer with a bad escape", { claims: { sub: "x", "/a~2": "y" } }],
    ["has no pointer that ends in an escape", { claims: { sub: "x", "/a~": "y" } }],
    ["has no pointer deeper than 8", { claims: { sub: "x", "/a/a/a/a/a/a/a/a/a": "y" } }],
    ["has a sub that is more than a star", { claims: { sub: "*" }, match: "glob" }],
    ["has a sub that is more than stars and separators", { claims: { sub: "*:*/**" }, match: "glob" }],
    ["has no star among several subs", { claims: { sub: ["repo:acme", "*"] }, match: "glob" }],
    ["has a service account's id", { service_account_id: "trainer" }],
    ["has scopes that can be read", { scopes: ["read:everything"] }],
  ])("%s", (_name, wrong) => {
    expect(problemOf({ ...binding({ sub: "x" }), ...wrong })).toMatchObject({ code: "invalid_value" });
  });

  test("is told by its place in the list", () => {
    expect(problemOf(binding({}))?.pointer).toBe("/bindings/3");
  });

  test.each<readonly [string, Partial<Binding>]>([
    ["a literal star", { claims: { sub: "*" } }],
    ["a glob that says something", { claims: { sub: "repo:acme/*" }, match: "glob" }],
    ["a star elsewhere than in sub", { claims: { sub: "x", ref: "*" }, match: "glob" }],
    ["a pointer eight deep", { claims: { sub: "x", "/a/a/a/a/a/a/a/a": "y" } }],
    ["a tilde outside a pointer", { claims: { sub: "x", "a~b": "y" } }],
    ["several subs", { claims: { sub: ["x", "y"] } }],
    ["scopes", { scopes: [`decrypt:project/${PROJECT}/connect/S3`] }],
  ])("may have %s", (_name, right) => {
    expect(problemOf({ ...binding({ sub: "x" }), ...right })).toBeNull();
  });
});
