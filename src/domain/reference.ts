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

export const REFERENCE_LENGTH_MAX = 1024;
/** A Comet API Key Secret: base64 of a note of where a cloud's secret manager holds it. */
export const COMET_PREFIX = "_SECRET_-";

const FORM =
  /^(?:coffer:\/\/)?([a-z]+)\/([0-9A-Fa-f-]{36})\/([^?#]+)(?:\?version=([1-9]\d{0,8}))?(?:#([A-Za-z0-9_]{1,64}))?$/;

/** @throws BrokerError `invalid_reference` */
export function parseReference(text: string): Reference {
  const [, ownerType = "", ownerId = "", path = "", version, field] =
    (text.length <= REFERENCE_LENGTH_MAX ? FORM.exec(text) : null) ?? [];
  if (!isUuid(ownerId)) throw noReference();
  try {
    return {
      owner: parseOwner(ownerType, ownerId),
      path: parseSettingPath(path),
      version: version === undefined ? null : Number(version),
      field: field ?? null,
    };
  } catch (error) {
    throw error instanceof BrokerError ? noReference() : error;
  }
}

function noReference(): BrokerError {
  return new BrokerError(
    "invalid_reference",
    "A reference is [coffer://]<owner_type>/<owner_id>/<path>[?version=N][#field].",
  );
}
