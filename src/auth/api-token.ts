// API tokens and enrolment codes: random, told apart by their prefix, and checksummed, so that secret scanners find
// them without false alarms and a typing error is told from a stranger's token without asking the database.
// Only the SHA-256 is ever stored or looked up; 256 random bits need no salt and no slow hash.
// Nothing here may log, return in an error, or keep a token.
//
// Form: `cfr_` (token) or `cfe_` (code), 43 base62 digits of 32 random bytes, 6 base62 digits of the CRC-32 of all
// before them. For scanners: \bcf[re]_[0-9A-Za-z]{49}\b
import { hash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import type { TokenMaker } from "../domain/tokens.ts";

/** Whether a text from outside, which is to be kept, may hold a token or a code of ours, or a compact JWT. */
export const mayHoldToken = (text: string): boolean => /cf[re]_|eyJ[\w-]+\.eyJ/.test(text);

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_BYTES = 32;
/** 62^43 > 2^256 */
const BODY_DIGITS = 43;
/** 62^6 > 2^32 */
const CHECKSUM_DIGITS = 6;
const PREFIX_LENGTH = 4;
const LENGTH = PREFIX_LENGTH + BODY_DIGITS + CHECKSUM_DIGITS;
const BODY = /^[0-9A-Za-z]{49}$/;

type Prefix = "cfr_" | "cfe_";

function base62(number: bigint, digits: number): string {
  let text = "";
  for (let rest = number; text.length < digits; rest /= 62n) text = `${DIGITS[Number(rest % 62n)]}${text}`;
  return text;
}

/** The CRC-32 fits a number: no BigInt for what every request asks. */
function checksumOf(text: string): string {
  let rest = crc32(text);
  let digits = "";
  for (let count = 0; count < CHECKSUM_DIGITS; count++) {
    digits = `${DIGITS[rest % 62]}${digits}`;
    rest = Math.floor(rest / 62);
  }
  return digits;
}
// By way of text: a digest that comes as bytes costs several times as much.
const hashOf = (text: string): Buffer => Buffer.from(hash("sha256", text, "binary"), "binary");

function make(prefix: Prefix): { readonly text: string; readonly hash: Buffer } {
  const random = randomBytes(RANDOM_BYTES);
  const body = `${prefix}${base62(BigInt(`0x${random.toString("hex")}`), BODY_DIGITS)}`;
  random.fill(0);
  const text = `${body}${checksumOf(body)}`;
  return { text, hash: hashOf(text) };
}

/** The length comes first, so that a long header costs no more than a short one. The checksum is no secret. */
function parse(prefix: Prefix, text: string): Buffer | null {
  if (text.length !== LENGTH || !text.startsWith(prefix) || !BODY.test(text.slice(PREFIX_LENGTH)))
    return null;
  const checksumStart = LENGTH - CHECKSUM_DIGITS;
  return checksumOf(text.slice(0, checksumStart)) === text.slice(checksumStart) ? hashOf(text) : null;
}

/** The SHA-256, 32 bytes, of a whole API token; null when it has not the form, or its checksum is wrong. */
export function parseApiToken(text: string): Buffer | null {
  return parse("cfr_", text);
}

export const tokenMaker: TokenMaker = {
  hashToken: parseApiToken,
  newToken: () => {
    const { text: token, hash } = make("cfr_");
    return { token, hash };
  },
  newEnrolmentCode: () => {
    const { text: code, hash } = make("cfe_");
    return { code, hash };
  },
  hashEnrolmentCode: (code) => parse("cfe_", code),
};
