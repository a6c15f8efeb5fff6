// Comet API Key Secrets: notes of where a cloud's secret manager holds a secret, as Comet's SDK writes and reads them:
// `_SECRET_-` and the standard base64 of ASCII JSON `{type, details, comet_ml_version}`. Signed by nobody: to have one is
// to have no right. Pure.
import { BrokerError } from "./errors.ts";
import { type CloudName, LATEST } from "./manager-ports.ts";
import type { Location, VersionRecord } from "./setting.ts";

const PREFIX = "_SECRET_-";
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
/** In place of the version of Comet's SDK that made a note. */
const MADE_BY = "coffer";

type Fields = Readonly<Record<string, unknown>>;

/** What a note says, with whatever else was in it: written again, it is what it was, but for `profile_name`. */
export type CometNote = {
  readonly type: "AWS" | "GCP";
  readonly details: Fields;
  readonly rest: Fields;
};

/** Where a note points: `secret` is AWS's name of it, or GCP's resource; `version_id` `latest` for the newest. */
export type CometTarget = {
  readonly manager: CloudName;
  readonly secret: string;
  readonly region: string | null;
  readonly version_id: string;
};

const NEEDED: ReadonlyMap<unknown, readonly string[]> = new Map([
  ["AWS", ["secret_name", "region_name"]],
  ["GCP", ["project_id", "secret_id", "secret_version"]],
]);

export function isComet(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** @throws BrokerError `invalid_reference` for what begins as a note and is none */
export function parseComet(text: string): CometNote {
  const read = jsonOf(text.slice(PREFIX.length));
  const { type, details, ...rest } = isFields(read) ? read : {};
  if (!isFields(details) || typeof rest["comet_ml_version"] !== "string")
    throw invalid("This is no Comet API Key Secret.");
  const needed = NEEDED.get(type);
  if (needed === undefined || (type !== "AWS" && type !== "GCP"))
    throw invalid(
      `A Comet API Key Secret of an unknown type; the known ones are AWS and GCP. ${sdkHint(rest["comet_ml_version"])}`,
    );
  if (!needed.every((name) => typeof details[name] === "string" && details[name] !== ""))
    throw invalid(`This Comet API Key Secret needs ${needed.join(", ")}.`);
  if (!["string", "undefined"].includes(typeof (details["secret_version"] ?? undefined)))
    throw invalid("The secret_version of a Comet API Key Secret is text.");
  return { type, details, rest };
}

/** Which SDK made it, where that is plainly a version and nothing else. */
function sdkHint(madeBy: string): string {
  const version = /^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$/.test(madeBy) ? ` (${madeBy})` : "";
  return `A newer Comet SDK${version} may have made it.`;
}

/** The note's text. `profile_name` says something of one machine only: it is never written. */
export function formatComet({ type, details, rest }: CometNote): string {
  const { profile_name: _, ...written } = details;
  return PREFIX + Buffer.from(asciiJson({ type, details: written, ...rest }), "latin1").toString("base64");
}

export function targetOf({ type, details }: CometNote): CometTarget {
  const text = (name: string): string => String(details[name]);
  const given = details["secret_version"];
  const version_id = typeof given === "string" && given !== "" ? given : LATEST;
  if (type === "GCP")
    return {
      manager: "gcp",
      secret: `projects/${text("project_id")}/secrets/${text("secret_id")}`,
      region: null,
      version_id,
    };
  return { manager: "aws", secret: awsName(text("secret_name")), region: text("region_name"), version_id };
}

const ARN = /^arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:(.*)-[A-Za-z0-9]{6}$/;

function awsName(secretId: string): string {
  return ARN.exec(secretId)?.[1] ?? secretId;
}

/** Whether a value lies in the very secret that a note points at, whichever version. */
export function isIn({ manager, location }: VersionRecord, target: CometTarget): boolean {
  if (location === null || manager !== target.manager) return false;
  if ("resource" in location) return location.resource === target.secret;
  return awsName(location.secret_id) === target.secret && location.region === target.region;
}

/**
 * The note of where a value lies; `pinned`: of that version for ever, else of the newest.
 * @returns null for a place that Comet has no words for
 */
export function noteOf(location: Location, pinned: boolean): CometNote | null {
  const rest = { comet_ml_version: MADE_BY };
  const version = pinned ? location.version_id : LATEST;
  if ("resource" in location) {
    const [, project_id, secret_id] = /^projects\/([^/]+)\/secrets\/([^/]+)$/.exec(location.resource) ?? [];
    if (project_id === undefined || secret_id === undefined) return null;
    return { type: "GCP", details: { project_id, secret_id, secret_version: version }, rest };
  }
  const place = { secret_name: awsName(location.secret_id), region_name: location.region };
  // Of AWS the newest is what no version at all means.
  return { type: "AWS", details: version === LATEST ? place : { ...place, secret_version: version }, rest };
}

/** What standard base64 of ASCII JSON holds; undefined for anything else. */
function jsonOf(base64: string): unknown {
  if (!BASE64.test(base64)) return undefined;
  const text = Buffer.from(base64, "base64").toString("latin1");
  if (/[\x80-\xff]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** As Python's json.dumps has it: whatever is not ASCII is escaped. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function isFields(candidate: unknown): candidate is Fields {
  return typeof candidate === "object" && candidate !== null && !Array.isArray(candidate);
}

function invalid(detail: string): BrokerError {
  return new BrokerError("invalid_reference", detail);
}
