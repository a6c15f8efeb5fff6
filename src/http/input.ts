// From validated input to what the broker takes: owners, ids, pages, preconditions. Syntax alone was checked by
// the schemas; whatever else is wrong here is told by pointer, never by content.
import type { PageInput } from "../domain/paging.ts";
import type { Preconditions } from "../domain/preconditions.ts";
import type { Metadata } from "../domain/setting-metadata.ts";
import { badInput } from "../domain/errors.ts";
import { LATEST } from "../domain/manager-ports.ts";
import type { Pointer } from "../domain/sealing-ports.ts";
import type { PutInput } from "../domain/settings-write.ts";
import { entityTags, timeOf } from "./parsing.ts";
import { LIMIT_DEFAULT } from "./schemas/common.ts";

type Given<Fields> = { [Key in keyof Fields as undefined extends Fields[Key] ? never : Key]: Fields[Key] } & {
  [Key in keyof Fields as undefined extends Fields[Key] ? Key : never]?: Exclude<Fields[Key], undefined>;
};

/** The same fields without those that are undefined: for the broker, absent and undefined are not the same. */
export function given<const Fields extends object>(fields: Fields): Given<Fields> {
  const kept: object = {};
  for (const name in fields)
    if (fields[name] !== undefined) (kept as Record<string, unknown>)[name] = fields[name];
  return kept as Given<Fields>;
}

/** A UUID as the store has it. */
export function idOf(text: string): string {
  return text.toLowerCase();
}

export function pageOf(query: { readonly limit?: number; readonly cursor?: string }): PageInput {
  return given({ limit: query.limit ?? LIMIT_DEFAULT, cursor: query.cursor });
}

export function preconditionsOf(headers: {
  readonly "if-match"?: string | undefined;
  readonly "if-none-match"?: string | undefined;
}): Preconditions {
  return { if_match: entityTags(headers["if-match"]), if_none_match: entityTags(headers["if-none-match"]) };
}

type MetadataBody = Omit<Metadata, "expires_at"> & { readonly expires_at?: string | null };

export function metadataOf({ description, labels, expires_at, rotate_after_days }: MetadataBody): Metadata {
  const expires =
    expires_at === undefined || expires_at === null ? expires_at : timeOf(expires_at, "body", "/expires_at");
  return given({ description, labels, expires_at: expires, rotate_after_days });
}

/** A label as the query gives it, `k:v`: split at the first colon, which the schema has seen. */
export function labelOf(text: string): { readonly key: string; readonly value: string } {
  const colon = text.indexOf(":");
  return { key: text.slice(0, colon), value: text.slice(colon + 1) };
}

export type ExternalBody = {
  readonly secret_id?: string;
  readonly resource?: string;
  readonly region?: string;
  readonly version?: string | number;
  readonly json_field?: string;
};

/** A value, or a pointer to somebody else's secret: one of the two. @throws BrokerError `invalid_value` */
export function contentOf(body: {
  readonly value?: unknown;
  readonly external?: ExternalBody;
}): PutInput["content"] {
  if (body.external === undefined) return { value: body.value };
  if (body.value !== undefined)
    throw badInput("invalid_value", "body", "/external", "Give a value or an external secret, not both.");
  return { external: pointerOf(body.external) };
}

/** AWS's word for the newest is understood too. */
const NEWEST = new Set([LATEST, "AWSCURRENT"]);

function pointerOf({ secret_id, resource, region, version, json_field }: ExternalBody): Pointer {
  const rest = {
    version_id: version === undefined || NEWEST.has(String(version)) ? LATEST : String(version),
    json_field: json_field ?? null,
  };
  if (secret_id !== undefined && resource === undefined)
    return { manager: "aws", address: { secret_id, region: region ?? null }, ...rest };
  if (resource !== undefined && secret_id === undefined && region === undefined)
    return { manager: "gcp", address: { resource }, ...rest };
  throw badInput(
    "invalid_value",
    "body",
    "/external",
    "Give secret_id (and region) for AWS, or resource for GCP.",
  );
}
