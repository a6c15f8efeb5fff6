// A foreign token, read strictly and before any key is touched: what it claims, and whether it could be good at all.
// Nothing here believes it. Nothing here throws, logs, or keeps a piece of it.
import type { Claims } from "../domain/binding.ts";
import { ALGORITHMS } from "./public-keys.ts";
import { parseStrictObject } from "./strict-json.ts";

export type ForeignToken = {
  readonly alg: string;
  readonly kid: string | null;
  readonly claims: Claims;
};

/** What a token has to say to be looked at: who, until when. */
export type Standing = { readonly subject: string; readonly expiresAt: Date };

const TOKEN_LENGTH_MAX = 16_384;
const SUBJECT_LENGTH_MAX = 512;
/** By how much the clocks of a provider and ours may differ, where it says when a token begins. */
const LEEWAY_SECONDS = 60;
/** The longest that Kubernetes gives is a year; what is beyond is no time that anybody meant. */
const LIFETIME_SECONDS_MAX = 400 * 86_400;

const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
/** Identity and access tokens; not those of a logout, a proof of possession or an event. */
const TYPES = new Set(["jwt", "at+jwt"]);
/** Header members that bring a key along, or change what is signed or how: no token of ours to trust has them. */
const REFUSED = ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"];

/** The token's parts (RFC 7519, RFC 7515 compact); null when it is of another form or wants to be verified oddly. */
export function readForeignToken(text: string): ForeignToken | null {
  if (text.length > TOKEN_LENGTH_MAX || !COMPACT.test(text)) return null;
  const [header, claims, signature] = text.split(".").map(decode);
  if (header === undefined || claims === undefined || signature === undefined) return null;
  if (header === null || claims === null || signature === null) return null;
  const head = parseStrictObject(header);
  const body = parseStrictObject(claims);
  if (head === null || body === null || REFUSED.some((name) => Object.hasOwn(head, name))) return null;
  const { alg, kid, typ } = head;
  if (typeof alg !== "string" || !ALGORITHMS.has(alg)) return null;
  if (kid !== undefined && typeof kid !== "string") return null;
  if (typ !== undefined && (typeof typ !== "string" || !TYPES.has(mediaTypeOf(typ)))) return null;
  return { alg, kid: kid ?? null, claims: body };
}

/** Bytes have one base64url text each (RFC 4648, no padding, unused bits nought); null for another. */
function decode(segment: string): Buffer | null {
  const bytes = Buffer.from(segment, "base64url");
  return bytes.toString("base64url") === segment ? bytes : null;
}

const mediaTypeOf = (typ: string): string => typ.toLowerCase().replace(/^application\//, "");

/** Whether the token says it is of this issuer and for this audience: code point by code point. */
export function isMeantFor({ claims }: ForeignToken, issuer: string, audience: string): boolean {
  const aud = own(claims, "aud");
  const audiences: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  return (
    own(claims, "iss") === issuer &&
    audiences.every((each) => typeof each === "string") &&
    audiences.includes(audience)
  );
}

/** Its subject and end; null when it has none, has ended, or has not begun. Its end gets no leeway. */
export function standingOf({ claims }: ForeignToken, now: Date): Standing | null {
  const seconds = now.getTime() / 1_000;
  const subject = own(claims, "sub");
  const exp = own(claims, "exp");
  if (typeof subject !== "string" || !isSubject(subject)) return null;
  if (!isTime(exp) || exp <= seconds || exp - seconds > LIFETIME_SECONDS_MAX) return null;
  const begins = [own(claims, "nbf"), own(claims, "iat")].filter((time) => time !== undefined);
  if (!begins.every((time) => isTime(time) && time <= seconds + LEEWAY_SECONDS)) return null;
  return { subject, expiresAt: new Date(exp * 1_000) };
}

const own = (claims: Claims, name: string): unknown =>
  Object.hasOwn(claims, name) ? claims[name] : undefined;
const isTime = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

function isSubject(text: string): boolean {
  return text !== "" && text.length <= SUBJECT_LENGTH_MAX && !/\p{Cc}/u.test(text) && text.isWellFormed();
}
