// Bindings: which claims of a foreign identity stand for which service account. Pure, and strict on purpose: every
// claim must match, `sub` must be among them, and text is literal unless the binding says glob.
import { SCOPE_FORM, scopeOf } from "./access.ts";
import { isUuid } from "./address.ts";
import { type BrokerError, badInput } from "./errors.ts";

/** A claim's wanted text, or any of several. */
export type Wanted = string | readonly string[];

export type Binding = {
  readonly claims: Readonly<Record<string, Wanted>>;
  readonly match: "exact" | "glob";
  readonly service_account_id: string;
  /** The ceiling of what is obtained through it; null: the service account's own. */
  readonly scopes: readonly string[] | null;
};

/** A verified token's claims: JSON, of whatever shape its issuer gives them. */
export type Claims = Readonly<Record<string, unknown>>;

const TEXT_LENGTH_MAX = 512;
const WANTED_MAX = 32;
const CLAIMS_MAX = 16;
const POINTER_DEPTH_MAX = 8;

/**
 * A claim by its name or, where the name starts with `/`, by JSON Pointer (RFC 6901); undefined where there is none.
 * Only a claim's own members count, so that no name reaches a prototype.
 */
function claimAt(claims: Claims, name: string): unknown {
  if (!name.startsWith("/")) return Object.hasOwn(claims, name) ? claims[name] : undefined;
  let found: unknown = claims;
  for (const part of name.slice(1).split("/")) {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) return undefined;
    if (Array.isArray(found) && !/^(0|[1-9]\d*)$/.test(key)) return undefined;
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}

/** A part of a pattern between two separators, against the text's part: `*` is any run of characters. */
function partFits(text: string, pattern: string): boolean {
  const [head = "", ...rest] = pattern.split("*");
  const tail = rest.pop();
  if (tail === undefined) return text === head;
  if (!text.startsWith(head)) return false;
  let at = head.length;
  // The earliest place for each piece leaves the most room for those after it: no backtracking, so none is slow.
  for (const piece of rest) {
    const found = text.indexOf(piece, at);
    if (found === -1) return false;
    at = found + piece.length;
  }
  return text.length - at >= tail.length && text.endsWith(tail);
}

const partsOf = (text: string): readonly string[] => text.split(/([:/])/);

/** No star crosses a separator, so those of the text are those of the pattern, one by one (the odd places). */
const partsFit = (parts: readonly string[], patterns: readonly string[]): boolean =>
  parts.length === patterns.length && patterns.every((each, at) => partFits(parts[at] ?? "", each));

/** Whether a text fits a pattern whose `*` stands for any run of characters, none included, but `:` and `/`. */
export const fitsGlob = (text: string, pattern: string): boolean => partsFit(partsOf(text), partsOf(pattern));

const textsOf = (wanted: Wanted): readonly string[] => (typeof wanted === "string" ? [wanted] : wanted);

/** A claim that is a list matches when one of its texts does, as a GitLab or Kubernetes group list would want. */
function claimMatches(found: unknown, wanted: Wanted, match: Binding["match"]): boolean {
  const wantedTexts = textsOf(wanted);
  const texts = (Array.isArray(found) ? found : [found]).map(asText).filter((text) => text !== null);
  if (match === "exact") return texts.some((text) => wantedTexts.includes(text));
  const patterns = wantedTexts.map(partsOf);
  // What is longer than any pattern may be is no name that a pattern was meant for; and the work stays small.
  const short = texts.filter(({ length }) => length <= TEXT_LENGTH_MAX).map(partsOf);
  return short.some((parts) => patterns.some((pattern) => partsFit(parts, pattern)));
}

/** Booleans and whole numbers are compared as they are written; nothing else is text. */
function asText(found: unknown): string | null {
  if (typeof found === "string") return found;
  return typeof found === "boolean" || Number.isSafeInteger(found) ? String(found) : null;
}

/** Whether verified claims satisfy a binding: each of its claims, `sub` by a string and nothing else. */
export function bindingMatches(binding: Binding, claims: Claims): boolean {
  if (typeof claims["sub"] !== "string" || !Object.hasOwn(binding.claims, "sub")) return false;
  return Object.entries(binding.claims).every(([name, wanted]) =>
    claimMatches(claimAt(claims, name), wanted, binding.match),
  );
}

/** @throws BrokerError `invalid_value` for a binding that is too wide or cannot be read */
export function assertBinding(binding: Binding, index: number): void {
  const at = `/bindings/${index}`;
  const bad = (detail: string): BrokerError => badInput("invalid_value", "body", at, detail);
  const sub = Object.hasOwn(binding.claims, "sub") ? binding.claims["sub"] : undefined;
  if (sub === undefined) throw bad("A binding names the claim sub, so that it is about somebody.");
  if (Object.keys(binding.claims).length > CLAIMS_MAX)
    throw bad(`A binding names at most ${CLAIMS_MAX} claims.`);
  for (const [name, wanted] of Object.entries(binding.claims)) {
    const isPointer = name.startsWith("/");
    if (
      name === "" ||
      (isPointer && (/~(?![01])/.test(name) || name.split("/").length - 1 > POINTER_DEPTH_MAX))
    )
      throw bad("A claim's name is not empty; one that starts with / is a JSON Pointer.");
    const texts = textsOf(wanted);
    if (texts.length === 0 || texts.length > WANTED_MAX || !texts.every(isWantedText))
      throw bad(`A claim has 1 to ${WANTED_MAX} texts of 1 to ${TEXT_LENGTH_MAX} characters.`);
  }
  // A glob of nothing but stars would be anybody.
  if (binding.match === "glob" && textsOf(sub).some((each) => /^[*:/]*$/.test(each)))
    throw bad("A binding's sub says more than *.");
  if (!isUuid(binding.service_account_id)) throw bad("service_account_id is a UUID.");
  if (binding.scopes?.some((text) => scopeOf(text) === null) === true)
    throw badInput("invalid_value", "body", `${at}/scopes`, SCOPE_FORM);
}

/** Half a surrogate pair is no character: no star and no claim could be told from a part of one. */
function isWantedText(text: string): boolean {
  return text !== "" && text.length <= TEXT_LENGTH_MAX && text.isWellFormed();
}
