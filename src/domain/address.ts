// The address of a setting: who owns it, and the path under that owner.
// Text from outside becomes an Owner, a SettingPath, a PathPrefix or a Reference here or nowhere; past this
// file the types carry the proof that the grammar was checked. Paths are compared segment by segment:
// `connect/S3` is never a prefix of `connect/S3-old/a`.
import { type BrokerError, badInput } from "./errors.ts";

declare const brand: unique symbol;
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

export const OWNER_TYPES = ["organization", "project", "user"] as const;
export type OwnerType = (typeof OWNER_TYPES)[number];
export type Owner = { readonly owner_type: OwnerType; readonly owner_id: string };

/** A full path: `<category>/<Type>/<name>`, three segments or more, its prefix known. */
export type SettingPath = Branded<string, "SettingPath">;
/** A place that settings lie under: one segment or more, no trailing slash. */
export type PathPrefix = Branded<string, "PathPrefix">;

export const SETTING_TYPES = ["custom", "s3", "container_registry"] as const;
export type SettingType = (typeof SETTING_TYPES)[number];

/** The first two segments fix the type (contract section 3). */
export const TYPE_BY_PREFIX: ReadonlyMap<string, SettingType> = new Map([
  ["secret/Custom", "custom"],
  ["connect/S3", "s3"],
  ["connect/ContainerRegistry", "container_registry"],
]);

export const PATH_LENGTH_MAX = 512;
export const SEGMENT_LENGTH_MAX = 64;
const SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9._@-]*$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** Where a path stood in the request, for whoever is told that it is none. */
type Place = readonly [at: "query" | "body", pointer: string];
const IN_QUERY: Place = ["query", "/path"];

/** Checks the grammar alone; the error says which rule, never the text. */
function segmentsOf(text: string, [at, pointer]: Place): string[] {
  const bad = (detail: string): BrokerError => badInput("invalid_request", at, pointer, detail);
  if (text.length > PATH_LENGTH_MAX) throw bad(`A path has at most ${PATH_LENGTH_MAX} characters.`);
  const segments = text.split("/");
  for (const segment of segments) {
    if (segment === "") throw bad("A path has no empty segment.");
    if (segment.length > SEGMENT_LENGTH_MAX)
      throw bad(`A segment has at most ${SEGMENT_LENGTH_MAX} characters.`);
    if (!SEGMENT.test(segment))
      throw bad(
        "A segment starts with a letter, a digit or _, and holds only letters, digits and the characters . _ @ -",
      );
  }
  return segments;
}

function unknownPrefix([at, pointer] = IN_QUERY): BrokerError {
  const known = [...TYPE_BY_PREFIX.keys()].join(", ");
  return badInput("invalid_value", at, pointer, `The path's prefix is not known. Known prefixes: ${known}.`);
}

/**
 * The full path of one setting.
 * @throws BrokerError `invalid_request` for bad grammar, `invalid_value` for an unknown prefix or a missing name.
 */
export function parseSettingPath(text: string, place = IN_QUERY): SettingPath {
  const segments = segmentsOf(text, place);
  assertKnownPrefix(segments, place);
  if (segments.length < 3)
    throw badInput(
      "invalid_value",
      ...place,
      "A full path is <category>/<Type>/<name>; the name is missing.",
    );
  return text as SettingPath;
}

export function isSettingPath(text: string): text is SettingPath {
  try {
    return parseSettingPath(text) === text;
  } catch {
    return false;
  }
}

function assertKnownPrefix(segments: readonly string[], place: Place): void {
  const head = segments.slice(0, 2).join("/");
  const known = [...TYPE_BY_PREFIX.keys()].some((prefix) =>
    segments.length >= 2 ? prefix === head : prefix.startsWith(`${head}/`),
  );
  if (!known) throw unknownPrefix(place);
}

/** What a read's `path` parameter selects, before the database has a say. */
export type PathQuery =
  | { readonly kind: "all" }
  | { readonly kind: "under"; readonly prefix: PathPrefix }
  /** A path that may be a setting's. */
  | { readonly kind: "at"; readonly path: SettingPath; readonly match: "exact" | "auto" };

/**
 * The `path` and `match` parameters of a read.
 * @throws BrokerError `invalid_request` for bad grammar or parameters that contradict each other, `invalid_value`
 * for an unknown prefix.
 */
export function parsePathQuery(
  text: string | undefined,
  match: "exact" | "under" | "auto" = "auto",
): PathQuery {
  if (text === undefined) {
    if (match === "exact") throw badInput("invalid_request", "query", "/path", "match=exact needs a path.");
    return { kind: "all" };
  }
  const trailing = text.endsWith("/");
  if (trailing && match === "exact")
    throw badInput("invalid_request", "query", "/path", "A path with a trailing slash means match=under.");
  const bare = trailing ? text.slice(0, -1) : text;
  const segments = segmentsOf(bare, IN_QUERY);
  assertKnownPrefix(segments, IN_QUERY);
  // An exact path that is too short to be a setting's is looked for all the same: nothing stands there, and whether
  // that may be told is for the gate to say.
  if (match === "exact" || (segments.length >= 3 && !trailing && match !== "under"))
    return { kind: "at", path: bare as SettingPath, match };
  return { kind: "under", prefix: bare as PathPrefix };
}

export function typeOfPath(path: SettingPath): SettingType {
  const type = TYPE_BY_PREFIX.get(path.split("/", 2).join("/"));
  if (type === undefined) throw unknownPrefix();
  return type;
}

export function nameOfPath(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** True when `path` is `prefix` itself or lies under it, segment by segment. */
export function isAtOrUnder(path: string, prefix: string): boolean {
  return path === prefix || path.startsWith(`${prefix}/`);
}

/** The deepest place that all paths are at or under; null when that is the owner as a whole. */
export function commonPlace(paths: readonly string[]): string | null {
  const [first = [], ...others] = paths.map((path) => path.split("/"));
  const differs = first.findIndex((segment, index) => others.some((other) => other[index] !== segment));
  const common = differs < 0 ? first : first.slice(0, differs);
  return common.length === 0 ? null : common.join("/");
}

/**
 * The half-open range of paths strictly under a prefix, for a `COLLATE "C"` index: from `p/` to `p0`,
 * since `0` is the character that follows `/`.
 */
export function rangeUnder(prefix: string): { readonly from: string; readonly before: string } {
  return { from: `${prefix}/`, before: `${prefix}0` };
}

/** What "Copy ID" gives: `<owner_type>/<owner_id>/<path>`. */
export function formatRef(owner: Owner, path: string): string {
  return `${owner.owner_type}/${owner.owner_id}/${path}`;
}

/** @throws BrokerError `invalid_request` unless it is a known owner type and a UUID; the id comes back in lower case. */
export function parseOwner(ownerType: string, ownerId: string): Owner {
  const known = OWNER_TYPES.find((each) => each === ownerType);
  if (known === undefined)
    throw badInput(
      "invalid_request",
      "query",
      "/owner_type",
      `owner_type is one of ${OWNER_TYPES.join(", ")}.`,
    );
  if (!isUuid(ownerId)) throw badInput("invalid_request", "query", "/owner_id", "owner_id is a UUID.");
  return { owner_type: known, owner_id: ownerId.toLowerCase() };
}
