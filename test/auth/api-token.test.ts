import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseApiToken, tokenMaker } from "../../src/auth/api-token.ts";

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SCANNER = /\bcf[re]_[0-9A-Za-z]{49}\b/;
const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();

/** The documented checksum, written down a second time: six base62 digits of the CRC-32 of all before them. */
function checksumOf(text: string): string {
  let rest = crc32(text);
  let digits = "";
  for (; digits.length < 6; rest = Math.floor(rest / 62)) digits = `${DIGITS[rest % 62]}${digits}`;
  return digits;
}

describe("an API token", () => {
  test("has the form that scanners look for, the documented checksum, and is known by its SHA-256", () => {
    for (let count = 0; count < 500; count++) {
      const { token, hash } = tokenMaker.newToken();
      expect(token).toMatch(/^cfr_[0-9A-Za-z]{49}$/);
      expect(`TOKEN="${token}";`).toMatch(SCANNER);
      expect(token.slice(-6)).toBe(checksumOf(token.slice(0, -6)));
      expect(hash.equals(sha256(token))).toBe(true);
      expect(parseApiToken(token)?.equals(hash)).toBe(true);
    }
  });

  test("is never the same twice, and uses all its digits", () => {
    const made = Array.from({ length: 2_000 }, () => tokenMaker.newToken().token);
    expect(new Set(made).size).toBe(made.length);
    expect(new Set(made.join("").replaceAll("_", "")).size).toBe(62);
  });

  test("with any one character changed is none", () => {
    const { token } = tokenMaker.newToken();
    fc.assert(
      fc.property(
        fc.nat(token.length - 1),
        fc.constantFrom(...DIGITS.split(""), "_", "-", " ", "é"),
        (index, character) => {
          fc.pre(token[index] !== character);
          expect(parseApiToken(`${token.slice(0, index)}${character}${token.slice(index + 1)}`)).toBeNull();
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("is nothing else: no other text is taken for one", () => {
    const { token } = tokenMaker.newToken();
    const { code } = tokenMaker.newEnrolmentCode();
    const others = [
      "",
      "cfr_",
      token.slice(1),
      ` ${token}`,
      `${token} `,
      `${token}\n`,
      token.toUpperCase(),
      `${token}${token}`,
      code,
      "x".repeat(1_000_000),
    ];
    for (const other of others) expect(parseApiToken(other)).toBeNull();
    fc.assert(fc.property(fc.string(), (text) => parseApiToken(text) === null));
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...DIGITS.split("")), { minLength: 49, maxLength: 49 }),
        (body) => {
          const text = `cfr_${body.join("")}`;
          expect(parseApiToken(text) !== null).toBe(checksumOf(text.slice(0, -6)) === text.slice(-6));
        },
      ),
    );
  });
});

describe("an enrolment code", () => {
  test("has the same form under its own prefix, and is no token", () => {
    const { code, hash } = tokenMaker.newEnrolmentCode();
    expect(code).toMatch(/^cfe_[0-9A-Za-z]{49}$/);
    expect(code).toMatch(SCANNER);
    expect(tokenMaker.hashEnrolmentCode(code)?.equals(hash)).toBe(true);
    expect(parseApiToken(code)).toBeNull();
    expect(tokenMaker.hashEnrolmentCode(tokenMaker.newToken().token)).toBeNull();
    expect(tokenMaker.hashEnrolmentCode(`${code.slice(0, -1)}${code.endsWith("0") ? "1" : "0"}`)).toBeNull();
  });
});
