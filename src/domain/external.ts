// External secrets: ones in a cloud's manager that the broker did not make. Which of them an organization may point at
// is an allow-list of the operator's, asked at every read; what one holds becomes a value by the same rules as any
// other. Pure.
import type { SettingType } from "./address.ts";
import { type BrokerError, badInput } from "./errors.ts";
import type { SecretAddress } from "./manager-ports.ts";
import { type Plaintext, checkValue } from "./plaintext.ts";

/** Patterns by organization: canonical resources in which `*` stands for any characters. */
export type ExternalAllow = ReadonlyMap<string, readonly string[]>;

const ARN = /^arn:[a-z0-9-]+:secretsmanager:[a-z0-9-]+:\d{12}:secret:[^*]+$/;
const ARN_SUFFIX = /-[A-Za-z0-9]{6}$/;
const RESOURCE = /^projects\/[^/*]+(?:\/locations\/[^/*]+)?\/secrets\/[^/]+$/;
const PATTERN = /^arn:[a-z0-9*-]+:secretsmanager:[a-z0-9*-]+:[\d*]+:secret:.+$/;

/** Whether text is a pattern that could ever match: of a full ARN, or of a full resource name. */
export function isExternalPattern(text: string): boolean {
  return PATTERN.test(text) || RESOURCE.test(text);
}

/**
 * Whether an organization may point at a secret, by its canonical name: a full ARN (with AWS's six characters at its
 * end or without), a full resource name.
 */
export function isExternalAllowed(allow: ExternalAllow, tenantId: string, address: SecretAddress): boolean {
  const names = canonicalNames(address);
  return (allow.get(tenantId) ?? []).some((pattern) => names.some((name) => matches(pattern, name)));
}

/**
 * Whether a secret with this name could be allowed once its account is known: so that nothing is asked of a manager
 * about a secret that no pattern could match.
 */
export function mayBeAllowed(allow: ExternalAllow, tenantId: string, address: SecretAddress): boolean {
  if ("resource" in address || address.secret_id.startsWith("arn:"))
    return isExternalAllowed(allow, tenantId, address);
  return (allow.get(tenantId) ?? []).some((pattern) => {
    const [, , , region = "", , , ...name] = pattern.split(":");
    return (
      matches(region, address.region) && matches(name.join(":").replace(/-\?{6}$/, ""), address.secret_id)
    );
  });
}

function canonicalNames(address: SecretAddress): readonly string[] {
  if ("resource" in address) return RESOURCE.test(address.resource) ? [address.resource] : [];
  if (!ARN.test(address.secret_id)) return [];
  return [address.secret_id, address.secret_id.replace(ARN_SUFFIX, "")];
}

/** Whole text, `*` for any characters; linear in both, without backtracking beyond the last star. */
function matches(pattern: string, text: string): boolean {
  let [at, from, star, mark] = [0, 0, -1, 0];
  while (at < text.length) {
    if (from < pattern.length && pattern[from] === "*") {
      star = from;
      mark = at;
      from += 1;
    } else if (from < pattern.length && pattern[from] === text[at]) {
      from += 1;
      at += 1;
    } else if (star >= 0) {
      from = star + 1;
      mark += 1;
      at = mark;
    } else return false;
  }
  while (pattern[from] === "*") from += 1;
  return from === pattern.length;
}

/**
 * The value in a secret's text: the text itself, or a field of the JSON object that it is.
 * @throws BrokerError `invalid_value` or `too_large`, saying which rule and nothing of the text
 */
export function plaintextFrom(type: SettingType, text: string, jsonField: string | null): Plaintext {
  if (jsonField === null) return checkValue(type, type === "custom" ? text : objectIn(text));
  const field = new Map(Object.entries(objectIn(text))).get(jsonField);
  if (field === undefined) throw misfit("The secret's JSON has no such field.");
  if (type === "custom" || typeof field !== "string") return checkValue(type, field);
  return checkValue(type, objectIn(field));
}

function objectIn(text: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // Not the parser's own error, which quotes the text.
    throw misfit("The secret's text is no JSON.");
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw misfit("The secret's text is no JSON object.");
  return parsed as Record<string, unknown>;
}

function misfit(detail: string): BrokerError {
  return badInput("invalid_value", "body", "/external", detail);
}

/** One answer for a secret that is not there, not allowed, ours, or not to be read by us: none of it is told apart. */
export function notPointable(): BrokerError {
  return misfit(
    "It cannot be read: there is no such secret, or it is not allowed here, or the broker may not read it.",
  );
}
