// What an import brings: its items, checked, with all that is wrong told at once, by where it stands in what was sent.
import { type Owner, type SettingPath, parseSettingPath, typeOfPath } from "./address.ts";
import type { Grant } from "./admission.ts";
import { parseDotenv } from "./dotenv.ts";
import { BrokerError, type InputProblem, badInput } from "./errors.ts";
import { type Plaintext, checkValue } from "./plaintext.ts";
import type { SettingRow } from "./setting.ts";
import { BLANK, type Metadata, assertLasts, isOver, withMetadata } from "./setting-metadata.ts";

const SETTINGS_MAX = 500;
/** Where a .env file stands in what was sent. */
const DOTENV = "/dotenv";
export const CONFLICT_POLICIES = ["fail", "skip", "overwrite"] as const;
export type ConflictPolicy = (typeof CONFLICT_POLICIES)[number];

export type ImportItem = { readonly path: string; readonly value: unknown; readonly metadata: Metadata };
export type ImportInput = {
  readonly owner: Owner;
  readonly conflict: ConflictPolicy;
  readonly dry_run: boolean;
  /** `dotenv`: the text of a .env file, each of whose names becomes a setting under `under`. */
  readonly source:
    | { readonly kind: "settings"; readonly settings: readonly ImportItem[] }
    | { readonly kind: "dotenv"; readonly text: string; readonly under: string };
};
/** `pointer`: where it stands in what was sent. */
export type Checked = {
  readonly path: SettingPath;
  readonly plaintext: Plaintext;
  readonly metadata: Metadata;
  readonly pointer: string;
};

/** Sorted by path. @throws BrokerError `invalid_value` with all that is wrong */
export function checkedItems(input: ImportInput, grant: Grant): readonly Checked[] {
  const given = itemsOf(input);
  if (given.length === 0 || given.length > SETTINGS_MAX)
    throw badInput("invalid_value", "body", "/settings", `An import has 1 to ${SETTINGS_MAX} settings.`);
  const errors: InputProblem[] = [];
  const checked = new Map<string, Checked>();
  for (const [index, item] of given.entries()) {
    const pointer = input.source.kind === "settings" ? `/settings/${index}` : DOTENV;
    collect(errors, pointer, () => {
      const path = parseSettingPath(item.path);
      const plaintext = checkValue(typeOfPath(path), item.value);
      assertLasts(item.metadata.expires_at, grant.at);
      if (checked.has(path)) throw badInput("invalid_value", "body", "/path", "The path is named twice.");
      checked.set(path, { path, plaintext, metadata: item.metadata, pointer });
    });
  }
  assertNone(errors);
  return [...checked.values()].toSorted(({ path: one }, { path: other }) => (one < other ? -1 : 1));
}

function itemsOf({ source }: ImportInput): readonly ImportItem[] {
  if (source.kind === "settings") return source.settings;
  return parseDotenv(source.text, DOTENV).map(({ name, value }) => ({
    path: `${source.under.replace(/\/$/, "")}/${name}`,
    value,
    // A rendered name is in capitals unless a label says otherwise.
    metadata: name === name.toUpperCase() ? {} : { labels: { env_name: name } },
  }));
}

/** What a setting's metadata becomes. @throws BrokerError `invalid_value` where nobody could read what is written */
export function metadataAfter({ path, metadata }: Checked, found: SettingRow | null, now: Date) {
  const was = found === null || found.setting.deleted_at !== null ? BLANK : found.setting;
  const next = withMetadata(was, metadata, "replace");
  // Its path too: of a .env file it is not what was sent that ends.
  if (isOver(next.expires_at, now))
    throw badInput("invalid_value", "body", "/expires_at", `expires_at of ${path} would be in the past.`);
  return next;
}

/** What `work` finds wrong is noted with the others, at its place; null then. */
export function collect<Made>(errors: InputProblem[], pointer: string, work: () => Made): Made | null {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof BrokerError) || error.code === "internal") throw error;
    const told = error.fields.errors ?? [{ in: "body" as const, pointer: "", detail: error.message }];
    // A .env file is one text: nothing stands below it.
    const at = (below: string): string => (pointer === DOTENV ? DOTENV : pointer + below);
    errors.push(...told.map((each) => ({ ...each, in: "body" as const, pointer: at(each.pointer) })));
    return null;
  }
}

/** @throws BrokerError `invalid_value` with all that is wrong */
export function assertNone(errors: readonly InputProblem[]): void {
  if (errors.length > 0)
    throw new BrokerError("invalid_value", "Some settings are not valid. Nothing was written.", { errors });
}
