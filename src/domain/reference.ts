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
