// From bytes to input: the query string, the JSON body, the form and header of OAuth, entity tags, times, the Accept
// header. Strict everywhere: what is repeated, ambiguous or not what it claims to be is refused. No error here repeats
// what it was given, since any of it may be a piece of a secret.
import type { FastifyRequest } from "fastify";
import { BrokerError, type InputProblem, badInput } from "../domain/errors.ts";
import type { RouteInfo } from "./request-state.ts";

/** Where a query that could not be parsed says so: a symbol, so that no parameter can be taken for it. */
const FAULT = Symbol("fault");
type Query = Record<string, unknown> & { [FAULT]?: string };

/**
 * Makes objects that inherit no name, and that the engine keeps as those of a class: one by `Object.create(null)` is a
 * hash table, and looked up as one by whatever reads the query.
 */
const Bare = (() => {
  const make = function () {};
  make.prototype = Object.create(null);
  return make as unknown as new () => Query;
})();

/** Decodes one name or value of a query; null for what is not percent-encoded UTF-8, or holds a NUL. */
function decode(text: string): string | null {
  if (!text.includes("%") && !text.includes("+")) return text.includes("\0") ? null : text;
  try {
    const decoded = decodeURIComponent(text.replaceAll("+", " "));
    return decoded.includes("\0") ? null : decoded;
  } catch {
    return null;
  }
}

/** A name and its value, of a query or a form. */
function pairOf(part: string): readonly [name: string | null, value: string | null] {
  const equals = part.indexOf("=");
  return equals < 0 ? [decode(part), ""] : [decode(part.slice(0, equals)), decode(part.slice(equals + 1))];
}

/** Parses a query string. It never throws, since nothing catches it there: `assertQuery` tells what was wrong. */
export function parseQuery(text: string): Query {
  const query: Query = new Bare();
  if (text === "") return query;
  for (const part of text.split("&")) {
    if (part === "") continue;
    const [name, value] = pairOf(part);
    if (name === null || value === null) query[FAULT] = "The query is not well-formed percent-encoded UTF-8.";
    else if (name in query) query[FAULT] = "A query parameter is given twice.";
    else query[name] = value;
  }
  return query;
}

const INTEGER = /^(?:0|-?[1-9][0-9]{0,15})$/;
const NUMBER = /^-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,15})?$/;

/**
 * Makes numbers and booleans of a parsed query's text, where the route says so; anything that is not plainly one
 * stays text, for the schema to refuse.
 * @throws BrokerError `invalid_request` when the query could not be parsed
 */
export function assertQuery(query: unknown, { coercions }: RouteInfo): void {
  const parsed = query as Query;
  const fault = parsed[FAULT];
  if (fault !== undefined) throw badInput("invalid_request", "query", "", fault);
  for (const [name, kind] of coercions) {
    const text = parsed[name];
    if (typeof text !== "string") continue;
    if (kind === "boolean") {
      if (text === "true") parsed[name] = true;
      else if (text === "false") parsed[name] = false;
    } else if ((kind === "integer" ? INTEGER : NUMBER).test(text)) parsed[name] = Number(text);
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });
/** Either name, plain or escaped, somewhere in the text: only then is the whole tree walked. */
const SUSPECT =
  /(?:_|\\u005f){2}(?:p|\\u0070)|(?:c|\\u0063)(?:o|\\u006f)(?:n|\\u006e)(?:s|\\u0073)(?:t|\\u0074)/i;

const badBody = (detail: string): BrokerError => badInput("invalid_request", "body", "", detail);

function decodeUtf8(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw badBody("The body is not UTF-8.");
  }
}

/**
 * Parses a JSON body.
 * @throws BrokerError `invalid_request` for what is not UTF-8, not JSON, or would reach for an object's prototype
 */
export function parseJson(bytes: Buffer): unknown {
  const text = decodeUtf8(bytes);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // The parser's own error quotes its input.
    throw badBody("The body is not JSON.");
  }
  if (SUSPECT.test(text) && reachesForPrototype(parsed))
    throw badBody("The body has a field name that is not allowed.");
  if (colonsOf(text) !== fieldsOf(parsed)) throw badBody("The body gives a field twice.");
  return parsed;
}

/** Outside of its texts, JSON has one colon for each field: a field that was given twice leaves one too many. */
function colonsOf(json: string): number {
  return json.replace(/"[^"\\]*(?:\\.[^"\\]*)*"/g, "").split(":").length - 1;
}

function fieldsOf(root: unknown): number {
  let count = 0;
  const queue: unknown[] = [root];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    if (typeof next !== "object" || next === null) continue;
    const inner = Object.values(next);
    if (!Array.isArray(next)) count += inner.length;
    for (const each of inner) if (typeof each === "object" && each !== null) queue.push(each);
  }
  return count;
}

const FORM_BYTES_MAX = 32_768;

/**
 * Parses a form (RFC 6749, appendix B): a parameter without a value is none, one that is given twice is refused.
 * @throws BrokerError `invalid_request`, or `too_large` over 32 KiB
 */
export function parseForm(bytes: Buffer): Readonly<Record<string, string>> {
  if (bytes.length > FORM_BYTES_MAX) throw new BrokerError("too_large", "The form has more than 32 KiB.");
  const form = Object.create(null) as Record<string, string>;
  const seen = new Set<string>();
  for (const part of decodeUtf8(bytes).split("&")) {
    if (part === "") continue;
    const [name, value] = pairOf(part);
    if (name === null || value === null) throw badBody("The form is not well-formed percent-encoded UTF-8.");
    if (seen.has(name)) throw badBody("A parameter of the form is given twice.");
    seen.add(name);
    if (value !== "") form[name] = value;
  }
  return form;
}

const badBasic = (): BrokerError =>
  badInput("invalid_request", "header", "", "Authorization is no well-formed Basic.");
const BASIC = /^basic +([A-Za-z0-9+/]+={0,2}) *$/i;

/**
 * A client's id and secret from HTTP Basic, each form-urlencoded within it (RFC 6749, section 2.3.1).
 * @throws BrokerError `invalid_request` for a header that is nothing of the kind
 */
export function basicOf(header: string): { readonly id: string; readonly secret: string } {
  const [, encoded] = BASIC.exec(header) ?? [];
  if (encoded === undefined) throw badBasic();
  const bytes = Buffer.from(encoded, "base64");
  const text = bytes.toString("latin1");
  const colon = text.indexOf(":");
  // Whatever is not plain ASCII has to come percent-encoded.
  if (colon < 0 || /[^\x20-\x7e]/.test(text)) throw badBasic();
  const id = decode(text.slice(0, colon));
  const secret = decode(text.slice(colon + 1));
  if (id === null || secret === null) throw badBasic();
  return { id, secret };
}

/** Walks without recursion, so that depth costs no stack. */
function reachesForPrototype(root: unknown): boolean {
  const queue: unknown[] = [root];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    if (typeof next !== "object" || next === null) continue;
    if (Object.hasOwn(next, "__proto__")) return true;
    const { constructor: made } = next as { constructor: unknown };
    const own = Object.hasOwn(next, "constructor") && typeof made === "object" && made !== null;
    if (own && Object.hasOwn(made, "prototype")) return true;
    queue.push(...Object.values(next).filter((each) => typeof each === "object" && each !== null));
  }
  return false;
}

const ENTITY_TAG = /^(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/;
const TAGS_MAX = 64;

const badTags = (): BrokerError =>
  badInput("invalid_request", "header", "", "If-Match and If-None-Match take quoted entity tags, or *.");

/**
 * The entity tags of an If-Match or If-None-Match header, quotes and all, or `["*"]`; empty where it is absent.
 * @throws BrokerError `invalid_request` for what RFC 9110, section 8.8.3, does not know
 */
export function entityTags(header: string | undefined): string[] {
  if (header === undefined) return [];
  if (header.trim() === "*") return ["*"];
  // An empty element of a list is nothing (RFC 9110, section 5.6.1.2).
  let rest = header.replace(/^[,\s]+/, "");
  const tags: string[] = [];
  while (rest !== "") {
    const [tag] = ENTITY_TAG.exec(rest) ?? [];
    if (tag === undefined || tags.length === TAGS_MAX) throw badTags();
    tags.push(tag);
    rest = rest.slice(tag.length).trimStart();
    if (rest === "") break;
    if (!rest.startsWith(",")) throw badTags();
    rest = rest.replace(/^[,\s]+/, "");
  }
  if (tags.length === 0) throw badTags();
  return tags;
}

const TIME = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(?:[Zz]|[+-](\d{2}):(\d{2}))$/;

/**
 * A time as RFC 3339 has it, with `Z` or an offset. @throws BrokerError `invalid_request`, also when it is outside of
 * the years 1 to 9999 in UTC: what rests would not come back as it was.
 */
export function timeOf(text: string, at: InputProblem["in"], pointer: string): Date {
  const [matched, year, month, day, hour, minute, second, offsetHour = "0", offsetMinute = "0"] =
    TIME.exec(text) ?? [];
  const daysInMonth = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  const possible =
    matched !== undefined &&
    between(month, 1, 12) &&
    between(day, 1, daysInMonth) &&
    between(hour, 0, 23) &&
    between(minute, 0, 59) &&
    between(second, 0, 59) &&
    between(offsetHour, 0, 23) &&
    between(offsetMinute, 0, 59);
  const time = possible ? new Date(text.toUpperCase()) : null;
  if (time === null || !between(String(time.getUTCFullYear()), 1, 9999)) {
    const rule = "A time is written as RFC 3339 has it, like 2026-01-15T09:30:00Z.";
    throw badInput("invalid_request", at, pointer, rule);
  }
  return time;
}

function between(text: string | undefined, least: number, most: number): boolean {
  const number = Number(text);
  return number >= least && number <= most;
}

type Range = { readonly type: string; readonly quality: number };

function rangesOf(header: string): Range[] {
  return header.split(",").map((part) => {
    const [type = "", ...parameters] = part.split(";").map((each) => each.trim().toLowerCase());
    const weight = parameters.find((each) => each.startsWith("q="));
    const quality = weight === undefined ? 1 : Number(weight.slice(2));
    return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 };
  });
}

/** How much a client wants a media type: what the most specific range that fits says. */
function qualityOf(type: string, ranges: readonly Range[]): number {
  const family = `${type.slice(0, type.indexOf("/"))}/*`;
  const fitting = [type, family, "*/*"].map((wanted) => ranges.find((range) => range.type === wanted));
  return fitting.find((range) => range !== undefined)?.quality ?? 0;
}

/**
 * The offered media type that the Accept header likes best; the first of several, or where there is no header.
 * @throws BrokerError `not_acceptable`
 */
export function negotiate<const Offer extends string>(
  request: FastifyRequest,
  offers: readonly [Offer, ...Offer[]],
): Offer {
  const { accept } = request.headers;
  const [first] = offers;
  if (accept === undefined || accept.trim() === "") return first;
  const ranges = rangesOf(accept);
  let best: { offer: Offer; quality: number } = { offer: first, quality: 0 };
  for (const offer of offers) {
    const quality = qualityOf(offer, ranges);
    if (quality > best.quality) best = { offer, quality };
  }
  if (best.quality === 0)
    throw new BrokerError("not_acceptable", `This is to be had as ${offers.join(" or ")}.`);
  return best.offer;
}
