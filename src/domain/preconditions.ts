// If-Match and If-None-Match (RFC 9110, section 13). Judged before all else a write checks of its content, and
// under the path's lock, so that of N racing writers with one If-Match exactly one wins. Pure.
import { BrokerError } from "./errors.ts";
import { type SettingRecord, namesThisState } from "./setting.ts";

/** Entity tags as sent, quotes and all, or `*`; empty where the header is absent. */
export type Preconditions = {
  readonly if_match: readonly string[];
  readonly if_none_match: readonly string[];
};

/**
 * @param live the setting as it stands, or null when there is none or it is soft-deleted
 * @throws BrokerError `precondition_failed`
 */
export function assertPreconditions(given: Preconditions, live: SettingRecord | null): void {
  const names = (tag: string): boolean => live !== null && (tag === "*" || namesThisState(tag, live));
  const { if_match, if_none_match } = given;
  if (if_match.length > 0 && !if_match.some(names))
    throw new BrokerError("precondition_failed", "If-Match names a state that is not the current one.");
  if (if_none_match.some((tag) => names(tag.replace(/^W\//, ""))))
    throw new BrokerError(
      "precondition_failed",
      "If-None-Match: the setting exists, or is in a state that is named there.",
    );
}
