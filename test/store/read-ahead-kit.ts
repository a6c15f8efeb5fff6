// What the tests of reads ahead share: settings at some paths, ways to ask for them, and one such question.
import { type Owner, type PathQuery, commonPlace } from "../../src/domain/address.ts";
import type { PresentedToken } from "../../src/domain/ports.ts";
import type { Ahead } from "../../src/domain/read-ahead.ts";
import { event, newId, path, prefix } from "./fixture.ts";

/** Under one of them are so many that they are not moved for each who may read them. */
export const PATHS = ["a", "b", "b/c", "d", "e", "f"]
  .map((name) => `connect/S3/${name}`)
  .concat("connect/S3-old/a");
export const SELECTS: readonly PathQuery[] = [
  { kind: "at", path: path("connect/S3/a"), match: "auto" },
  { kind: "at", path: path("connect/S3/b"), match: "exact" },
  { kind: "at", path: path("connect/S3/none"), match: "exact" },
  { kind: "under", prefix: prefix("connect/S3") },
  { kind: "under", prefix: prefix("connect/S3/b") },
];

export function placeOf(select: Ahead["select"]): string {
  if (select.kind === "each") return commonPlace(select.paths) ?? "";
  return select.kind === "at" ? select.path : select.kind === "under" ? select.prefix : "";
}

export function aheadOf(
  presented: PresentedToken,
  owner: Owner,
  select: Ahead["select"],
  action: Ahead["action"],
): Ahead {
  const worded = event(null, { action, path: placeOf(select), request_id: newId() });
  return {
    presented,
    owner,
    select,
    action,
    strict: select.kind === "each" || (select.kind === "at" && select.match === "exact"),
    limit: 1000,
    event: { ...worded, ...owner },
  };
}
