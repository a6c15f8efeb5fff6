import { createSecretKey, randomBytes } from "node:crypto";
import { inspect } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Field, encodeFields } from "../../src/sealing/encoding.ts";
import {
  EnvelopeError,
  OVERHEAD_BYTES,
  associatedData,
  openBytes,
  sealBytes,
  takeKey,
} from "../../src/sealing/envelope.ts";

const CANARY = "canary-7f3a-hunter2";
const key = createSecretKey(randomBytes(32));
const place = ["project", "0198", 3];
const associated = associatedData("coffer value v1", place);
const field = fc.oneof(fc.string({ unit: "grapheme" }), fc.integer(), fc.constant(null));
const bytes = fc.uint8Array({ maxLength: 300 });

function failureOf(work: () => unknown): Error {
  try {
    work();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("it did not fail");
}

test("what is sealed opens to the same bytes, 29 bytes longer at rest", () => {
  fc.assert(
    fc.property(bytes, (plaintext) => {
      const sealed = sealBytes(key, associated, plaintext);
      expect(sealed).toHaveLength(plaintext.length + OVERHEAD_BYTES);
      expect(sealed[0]).toBe(1);
      expect(openBytes(key, associated, sealed).equals(plaintext)).toBe(true);
    }),
  );
});

test("the same plaintext never rests as the same bytes twice", () => {
  const made = Array.from({ length: 500 }, () =>
    sealBytes(key, associatedData("coffer value v1", []), Buffer.from(CANARY)),
  );
  expect(new Set(made.map((sealed) => sealed.subarray(1, 13).toString("hex"))).size).toBe(made.length);
});

test("no flipped bit goes unnoticed", () => {
  const sealed = sealBytes(key, associated, Buffer.from(CANARY));
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const altered = Buffer.from(sealed);
    altered.writeUInt8(altered.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    expect(() => openBytes(key, associated, altered)).toThrow(EnvelopeError);
  }
});

test("nothing cut off or appended opens", () => {
  const sealed = sealBytes(key, associated, Buffer.from(CANARY));
  for (let length = 0; length < sealed.length; length++)
    expect(() => openBytes(key, associated, sealed.subarray(0, length))).toThrow(EnvelopeError);
  const longer = Buffer.concat([sealed, Buffer.alloc(1)]);
  expect(() => openBytes(key, associated, longer)).toThrow(EnvelopeError);
});

test("sealed bytes open under no other key, purpose or associated fields", () => {
  const sealed = sealBytes(key, associated, Buffer.from(CANARY));
  const other = createSecretKey(randomBytes(32));
  expect(() => openBytes(other, associated, sealed)).toThrow("not authentic");
  expect(() => openBytes(key, associatedData("coffer kek v1", place), sealed)).toThrow("not authentic");
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), fc.integer()), { maxLength: 5 }), (fields) => {
      fc.pre(JSON.stringify(fields) !== JSON.stringify(place));
      expect(() => openBytes(key, associatedData("coffer value v1", fields), sealed)).toThrow(
        "not authentic",
      );
    }),
  );
});

test("a failure has one of three fixed texts, no cause, and nothing of the content", () => {
  const sealed = sealBytes(key, associated, Buffer.from(CANARY));
  const unknown = Buffer.from(sealed);
  unknown[0] = 2;
  const cases: [Uint8Array, string][] = [
    [sealed.subarray(0, OVERHEAD_BYTES - 1), "sealed bytes are too short"],
    [new Uint8Array(), "sealed bytes are too short"],
    [unknown, "unknown sealing version"],
    [Buffer.concat([sealed, sealed]), "sealed bytes are not authentic"],
  ];
  for (const [candidate, text] of cases) {
    const error = failureOf(() => openBytes(key, associatedData("coffer value v1", [CANARY]), candidate));
    expect(error.message).toBe(text);
    expect(error.cause).toBeUndefined();
    expect(inspect(error, { depth: null, showHidden: true })).not.toContain(CANARY);
  }
});

test("two lists of fields encode alike only when they are the same list", () => {
  const lists = fc.array(field, { maxLength: 6 });
  fc.assert(
    fc.property(lists, lists, (one, other) => {
      const same = encodeFields("coffer value v1", one).equals(encodeFields("coffer value v1", other));
      expect(same).toBe(one.length === other.length && one.every((each, index) => each === other[index]));
    }),
    { numRuns: 1_000 },
  );
});

test("no text can pass for the end of its field, another kind, or another purpose", () => {
  const pairs: [Field[], Field[]][] = [
    [
      ["ab", "c"],
      ["a", "bc"],
    ],
    [["a,s1:b"], ["a", "b"]],
    [["1"], [1]],
    [[""], [null]],
    [["null"], [null]],
    [[], [null]],
    [["a", ""], ["a"]],
  ];
  for (const [one, other] of pairs)
    expect(encodeFields("coffer value v1", one).equals(encodeFields("coffer value v1", other))).toBe(false);
  expect(encodeFields("coffer value v1", []).equals(encodeFields("coffer kek v1", []))).toBe(false);
});

test("the encoding is what rows were authenticated with: it does not change", () => {
  expect(encodeFields("coffer value v1", ["é", 12, null]).toString()).toBe(
    "s15:coffer value v1,s2:é,n2:12,z0:,",
  );
});

test("bytes that became a key are zeroed, also when they are no key", () => {
  const raw = Buffer.alloc(32, 7);
  expect(takeKey(raw).export().equals(Buffer.alloc(32, 7))).toBe(true);
  const short = Buffer.alloc(31, 7);
  expect(() => takeKey(short)).toThrow(RangeError);
  expect(Buffer.concat([raw, short]).every((byte) => byte === 0)).toBe(true);
});
