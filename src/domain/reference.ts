// References: text that names a setting, and that jobs pass round in place of a value (contract section 5).
// Pure. What is no reference is refused without being repeated: somebody may have put a value there.
import { type Owner, type SettingPath, isUuid, parseOwner, parseSettingPath } from "./address.ts";
import { BrokerError } from "./errors.ts";

export type Reference = {
  readonly owner: Owner;
  readonly path: SettingPath;
  /** Null: the current one. */
  readonly version: number | null;
  /** Null: the whole value. */
  readonly field: string | null;
};

const REFERENCE_LENGTH_MAX = 1024;
const VERSION_MAX = 2_147_483_647;
const SEGMENTS_MIN = 3;

const FORM =
  /^(?:coffer:\/\/)?([a-z]+)\/([0-9A-Fa-f-]{36})\/([^?#]+)(?:\?version=([1-9]\d{0,9}))?(?:#([A-Za-z0-9_]{1,64}))?$/;

/**
 * Reads `[coffer://]<owner_type>/<owner_id>/<path>[?version=N][#field]`.
 * @throws BrokerError `invalid_reference`, or `invalid_value` for a path whose prefix is not known
 */
export function parseReference(text: string): Reference {
  const [, ownerType = "", ownerId = "", path = "", version, field] =
    (text.length <= REFERENCE_LENGTH_MAX ? FORM.exec(text) : null) ?? [];
  const isPath = path.split("/").length >= SEGMENTS_MIN;
  if (!isUuid(ownerId) || !isPath || Number(version ?? 1) > VERSION_MAX) throw noReference();
  try {
    return {
      owner: parseOwner(ownerType, ownerId),
      path: parseSettingPath(path),
      version: version === undefined ? null : Number(version),
      field: field ?? null,
    };
  } catch (error) {
    throw error instanceof BrokerError && error.code === "invalid_request" ? noReference() : error;
  }
}

function noReference(): BrokerError {
  return new BrokerError(
    "invalid_reference",
    "A reference is [coffer://]<owner_type>/<owner_id>/<path>[?version=N][#field].",
  );
}

const COMET_PREFIX = "_SECRET_-";
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
/** What says where in each cloud a secret lies, by the type that Comet gives it. */
const COMET_DETAILS: ReadonlyMap<unknown, readonly string[]> = new Map([
  ["AWS", ["secret_name", "region_name"]],
  ["GCP", ["project_id", "secret_id", "secret_version"]],
]);

/**
 * Whether text is a Comet API Key Secret: a note of where a cloud's secret manager holds one. It is signed by nobody,
 * so that to have one is to have no right.
 * @throws BrokerError `invalid_reference` for what begins as one and is none
 */
export function isCometSecret(text: string): boolean {
  if (!text.startsWith(COMET_PREFIX)) return false;
  const note = jsonOf(text.slice(COMET_PREFIX.length));
  const { type, details, comet_ml_version: madeBy } = isFields(note) ? note : {};
  if (!isFields(details) || typeof madeBy !== "string")
    throw new BrokerError("invalid_reference", "This is no Comet API Key Secret.");
  const needed = COMET_DETAILS.get(type);
  if (needed === undefined)
    throw new BrokerError(
      "invalid_reference",
      "A Comet API Key Secret of an unknown type; the known ones are AWS and GCP. A newer Comet SDK may have made it.",
    );
  if (!needed.every((name) => typeof details[name] === "string"))
    throw new BrokerError("invalid_reference", `This Comet API Key Secret needs ${needed.join(", ")}.`);
  return true;
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

function isFields(candidate: unknown): candidate is Readonly<Record<string, unknown>> {
  return typeof candidate === "object" && candidate !== null && !Array.isArray(candidate);
}
