// Masking bytes: the same whatever the chunks, no value left whole, nothing else touched, nothing held that need not be.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Mask, needlesOf } from "../../src/client/mask.ts";

const masked = (values: readonly string[], ...chunks: readonly (string | Buffer)[]): string =>
  maskedBytes(
    needlesOf(values),
    chunks.map((each) => Buffer.from(each)),
  ).toString();

function maskedBytes(needles: readonly Buffer[], chunks: readonly Buffer[]): Buffer {
  const mask = new Mask(needles);
  return Buffer.concat([...chunks.map((chunk) => mask.push(chunk)), mask.end()]);
}

/** What a mask is to do, said as simply as can be: stars in place of each run of bytes that values cover. */
function plainly(needles: readonly Buffer[], text: Buffer): Buffer {
  const parts: Buffer[] = [];
  let coveredTo = 0;
  for (let at = 0; at < text.length; at += 1) {
    const ends = needles
      .filter((each) => text.subarray(at, at + each.length).equals(each))
      .map((each) => at + each.length);
    if (ends.length > 0 && at >= coveredTo) parts.push(Buffer.from("***"));
    coveredTo = Math.max(coveredTo, ...ends);
    if (at >= coveredTo) parts.push(text.subarray(at, at + 1));
  }
  return Buffer.concat(parts);
}

describe("mask", () => {
  test.each([
    ["in the midst", ["hunter2"], ["it is hunter2."], "it is ***."],
    ["twice in a row", ["hunter2"], ["hunter2hunter2"], "******"],
    ["cut in two", ["hunter2"], ["it is hun", "ter2."], "it is ***."],
    ["cut in every byte", ["hunter2"], "a hunter2 b".split(""), "a *** b"],
    ["begun anew in its own beginning", ["aab"], ["aa", "aab"], "aa***"],
    ["two that overlap", ["abcd", "cdef"], ["xabcd", "efx"], "x***x"],
    ["one within another", ["abcdef", "cd"], ["abcd", "ef cd ab"], "*** *** ab"],
    ["a beginning that comes to nothing", ["hunter2"], ["hun", "gry"], "hungry"],
    ["a beginning at the end", ["hunter2"], ["hunt"], "hunt"],
    ["each line of several", ["first\nsecond\r\nthird\n"], ["second; third\n"], "***; ***\n"],
    ["no short line of several", ["{\n  secret\n}\n"], ["{ }"], "{ }"],
    ["several lines as a whole, short ones too", ["a\nb\nc"], ["a\nb\nc"], "***"],
    ["as JSON writes it", ['a"b\\c'], [JSON.stringify({ key: 'a"b\\c' })], '{"key":"***"}'],
    ["nothing, for no value", [], ["text"], "text"],
  ])("%s", (_what, values, chunks, wanted) => {
    expect(masked(values, ...chunks)).toBe(wanted);
  });

  test("the parts of a composite value, and all of it", () => {
    const needles = needlesOf([
      { access_key_id: "AKID", secret_access_key: "wJalr", force_path_style: true },
    ]);
    const text =
      'AKID wJalr true {"access_key_id":"AKID","secret_access_key":"wJalr","force_path_style":true}';
    expect(maskedBytes(needles, [Buffer.from(text)]).toString()).toBe("*** *** true ***");
  });

  test("a prompt is not held back, and no more than a beginning is", () => {
    const mask = new Mask(needlesOf(["s3cret"]));
    expect(mask.push(Buffer.from("Password: ")).toString()).toBe("Password: ");
    expect(mask.push(Buffer.from("yes s3c")).toString()).toBe("yes ");
    expect(mask.push(Buffer.from("ond")).toString()).toBe("s3cond");
  });

  test("a large value, in a large output, in pieces", () => {
    const value = [...Array(10_000).keys()].join();
    const text = `${"x".repeat(200_000)}${value}${value.slice(0, -1)}!`;
    const chunks = text.match(/.{1,4000}/gs) ?? [];
    expect(masked([value], ...chunks) === `${"x".repeat(200_000)}***${value.slice(0, -1)}!`).toBe(true);
  });

  test("does what it says, whatever the bytes and the chunks", () => {
    const bytes = (minLength: number, maxLength: number) =>
      fc
        .array(fc.constantFrom(0, 0x61, 0x62, 0xff), { minLength, maxLength })
        .map((each) => Buffer.from(each));
    const letters = bytes(0, 60);
    const needle = bytes(1, 6);
    fc.assert(
      fc.property(
        fc.array(needle, { maxLength: 4 }),
        letters,
        fc.array(fc.nat(60)),
        (needles, text, cuts) => {
          const at = [
            0,
            ...cuts.map((cut) => Math.min(cut, text.length)).toSorted((a, b) => a - b),
            text.length,
          ];
          const chunks = at.slice(1).map((to, index) => text.subarray(at[index], to));
          expect(maskedBytes(needles, chunks)).toEqual(plainly(needles, text));
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
