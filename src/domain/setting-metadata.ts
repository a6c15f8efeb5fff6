// A setting's metadata as writes change it: what is left out stays, null clears. Pure.
import { badInput } from "./errors.ts";
import type { Labels, SettingRecord } from "./setting.ts";

const LABELS_MAX = 64;

/** Undefined keeps what was, null clears. */
export type Metadata = {
  readonly description?: string | null;
  readonly labels?: Readonly<Record<string, string | null>> | null;
  readonly expires_at?: Date | null;
  readonly rotate_after_days?: number | null;
};

export type MetadataFields = Pick<
  SettingRecord,
  "description" | "labels" | "expires_at" | "rotate_after_days"
>;
export const BLANK: MetadataFields = {
  description: null,
  labels: {},
  expires_at: null,
  rotate_after_days: null,
};

/** `replace`: given labels are all there are (PUT). `merge`: they are laid over, null removes one (RFC 7396). */
export function withMetadata(
  was: MetadataFields,
  given: Metadata,
  labels: "replace" | "merge",
): MetadataFields {
  return {
    description: given.description === undefined ? was.description : given.description,
    labels:
      given.labels === undefined
        ? was.labels
        : mergedLabels(labels === "merge" ? was.labels : {}, given.labels),
    expires_at: given.expires_at === undefined ? was.expires_at : given.expires_at,
    rotate_after_days:
      given.rotate_after_days === undefined ? was.rotate_after_days : given.rotate_after_days,
  };
}

/** Whether an expiry has come; there may be none. */
export const isOver = (expires_at: Date | null | undefined, now: Date): boolean =>
  expires_at !== null && expires_at !== undefined && expires_at.getTime() <= now.getTime();

/** @throws BrokerError `invalid_value` for an expiry that is over: nobody would read what is written */
export function assertLasts(expires_at: Date | null | undefined, now: Date): void {
  if (isOver(expires_at, now))
    throw badInput("invalid_value", "body", "/expires_at", "expires_at would be in the past.");
}

function mergedLabels(was: Labels, given: Readonly<Record<string, string | null>> | null): Labels {
  const merged = new Map<string, string>(given === null ? [] : Object.entries(was));
  for (const [name, label] of Object.entries(given ?? {})) {
    if (label === null) merged.delete(name);
    else merged.set(name, label);
  }
  if (merged.size > LABELS_MAX)
    throw badInput("invalid_value", "body", "/labels", `A setting has at most ${LABELS_MAX} labels.`);
  return Object.fromEntries([...merged].toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

export function isChanged(was: MetadataFields, is: MetadataFields): boolean {
  const plain = (fields: MetadataFields): string =>
    JSON.stringify([
      fields.description,
      Object.entries(fields.labels).toSorted(([one], [other]) => (one < other ? -1 : 1)),
      fields.expires_at,
      fields.rotate_after_days,
    ]);
  return plain(was) !== plain(is);
}
