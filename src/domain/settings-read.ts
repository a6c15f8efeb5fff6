// Reading settings as a list, and a setting's versions. Rights are decided per row, since a scope may end
// inside a page. `find` words the event from what will be shown; only then is anything opened.
import type { Breadth } from "./access.ts";
import {
  type Owner,
  type PathPrefix,
  type PathQuery,
  type SettingType,
  parsePathQuery,
  parseSettingPath,
} from "./address.ts";
import { type Caller, type Grant, keyOf } from "./admission.ts";
import type { Subject } from "./audit.ts";
import { badInput, notFound } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { Found } from "./steps.ts";
import { assertPinned, atVersion, liveRow, matchesAny, openAll, subjectOf } from "./opening.ts";
import { decodePathCursor, encodeCursor } from "./paging.ts";
import type { Plaintext } from "./plaintext.ts";
import type { Reader, Store } from "./ports.ts";
import type { Plan } from "./read-ahead.ts";
import type { Vault } from "./sealing-ports.ts";
import {
  type Disclosure,
  type SettingRow,
  type ShownRow,
  type Version,
  type Withheld,
  etagOf,
  etagOfShown,
  followsLatest,
  isExpired,
  toVersion,
} from "./setting.ts";
import { visiblePage } from "./visible-page.ts";

/** A page of values ends early past this many bytes. */
const PAGE_VALUE_BYTES_MAX = 1_048_576;

export type ListInput = {
  readonly owner: Owner;
  readonly path?: string | undefined;
  readonly match?: "auto" | "exact" | "under" | undefined;
  readonly decrypt: boolean;
  readonly version?: number | undefined;
  readonly type?: SettingType | undefined;
  readonly label?: { readonly key: string; readonly value: string } | undefined;
  readonly include_deleted: boolean;
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly on_error: "fail" | "withhold";
  /** The entity tags of If-None-Match; empty when there is none. */
  readonly if_none_match: readonly string[];
};

/** What chooses the rows of a read. */
export type RowsInput = Omit<ListInput, "on_error" | "if_none_match">;

/** `etag` only for a full path. `opened` says how many values the answer cost. */
export type ListAnswer =
  | { readonly status: "not_modified"; readonly etag: string }
  | {
      readonly status: "ok";
      readonly settings: readonly ShownRow[];
      readonly next_cursor: string | null;
      readonly etag: string | null;
      readonly opened: number;
    };

/** A row that the caller may know of, and why its value is not to be had; null: it is to be opened. */
export type Choice = { readonly row: SettingRow; readonly withhold: Withheld | null };
type Chosen = {
  readonly rows: readonly SettingRow[];
  /** Of each of them. */
  readonly choices: readonly Choice[];
  readonly exact: boolean;
  readonly next: string | null;
};

const METADATA: Disclosure = { kind: "metadata" };

export function createSettingsRead(
  gate: Gate,
  vault: Vault,
  store: Pick<Store, "noteAccess" | "lastAccess">,
) {
  /** @param opened the values of those that are not withheld, in order; null: it could not be had */
  function shownRows(
    choices: readonly Choice[],
    opened: readonly (Plaintext | null)[],
    decrypt: boolean,
  ): readonly ShownRow[] {
    let next = 0;
    return choices.map(({ row, withhold }) => {
      const accessed = store.lastAccess(row);
      if (!decrypt) return { row, disclosure: METADATA, accessed };
      const plaintext = withhold === null ? opened[next++] : null;
      if (!plaintext)
        return { row, disclosure: { kind: "withheld", why: withhold ?? "manager_failed" }, accessed };
      const tag = followsLatest(row.version) ? vault.tagOf(row, plaintext.json()) : null;
      return { row, disclosure: { kind: "opened", plaintext, tag }, accessed };
    });
  }

  return {
    async list(caller: Caller, input: ListInput): Promise<ListAnswer> {
      const select = parsePathQuery(input.path, input.match);
      assertFits(input, select);
      const need = {
        ask: { action: "list" as const, path: placeOf(select), breadth: breadthOf(select) },
        place: { kind: "owner" as const, owner: input.owner },
      };
      return gate.read(
        caller,
        need,
        async (grant, reader): Promise<Found<Chosen>> => {
          const chosen = await chooseRows(input, select, grant, reader, vault);
          return { found: chosen, ...wordEvent(chosen.choices, input.decrypt) };
        },
        async ({ rows, choices, exact, next }, permit, grant) => {
          const [first] = choices;
          const open = input.decrypt ? choices.filter(({ withhold }) => withhold === null) : [];
          // All of a page as the page that it is, for whoever keeps how it opens.
          const wanted = open.length === rows.length ? rows : open.map(({ row }) => row);
          if (exact && first !== undefined && input.if_none_match.length > 0) {
            const etag = etagOf(first.row, !input.decrypt ? "metadata" : (first.withhold ?? "opened"));
            const isKnown = matchesAny(etag, input.if_none_match) && !followsLatest(first.row.version);
            if (isKnown && wanted.every((row) => vault.isGenuine(row) && vault.isAllowed(row))) {
              store.noteAccess(wanted, grant.at, grant.principal.id);
              return { status: "not_modified" as const, etag };
            }
          }
          const { opened, failed } = await openAll(vault, permit, wanted, input.on_error);
          const settings = shownRows(choices, opened, input.decrypt);
          const disclosed = failed.length === 0 ? wanted : wanted.filter((row) => !failed.includes(row));
          store.noteAccess(disclosed, grant.at, grant.principal.id);
          return {
            status: "ok" as const,
            settings,
            next_cursor: next,
            etag: exact && settings[0] !== undefined ? etagOfShown(settings[0]) : null,
            opened: disclosed.length,
            undisclosed:
              failed.length === 0 ? [] : [{ reason: "manager_failed", subjects: failed.map(subjectOf) }],
          };
        },
        planOf(input, select),
      );
    },

    async versions(
      caller: Caller,
      owner: Owner,
      pathText: string,
    ): Promise<{ versions: readonly Version[] }> {
      const path = parseSettingPath(pathText);
      const need = {
        ask: { action: "list" as const, path, breadth: "whole" as const },
        place: { kind: "owner" as const, owner },
      };
      return gate.read(
        caller,
        need,
        async (grant, reader) => {
          const { setting } = await liveRow(reader, vault, keyOf(grant), path);
          const subjects = [{ id: setting.id, path: setting.path, version: null }];
          return { found: await reader.versions(setting), subjects };
        },
        async (found) => ({ versions: found.map(toVersion) }),
      );
    },
  };
}

/** What is read all day: live settings at or under a path, as they are. Anything else is asked for step by step. */
export function planOf(input: RowsInput, select: PathQuery): Plan | null {
  const { decrypt, version, cursor, type, label, include_deleted, limit } = input;
  const isPlain = version === undefined && cursor === undefined && type === undefined && label === undefined;
  if (!isPlain || include_deleted || select.kind === "all") return null;
  const strict = select.kind === "at" && select.match === "exact";
  return { select, action: decrypt ? "decrypt" : "list", strict, limit };
}

/** Whether a path query is about one setting, or about whatever the caller may know of at a place. */
export function breadthOf(select: PathQuery): Breadth {
  return select.kind === "at" && select.match === "exact" ? "whole" : "some";
}

/** The place that a path query is about; null for the owner as a whole. */
export function placeOf(select: PathQuery): string | null {
  switch (select.kind) {
    case "all":
      return null;
    case "under":
      return select.prefix;
    case "at":
      return select.path;
  }
}

/** @throws BrokerError `invalid_request` for a version of what is no full path, or of a page; for a page of one setting */
export function assertFits(input: Pick<RowsInput, "version" | "cursor">, select: PathQuery): void {
  const { version, cursor } = input;
  if (cursor !== undefined && select.kind === "at" && select.match === "exact")
    throw badInput("invalid_request", "query", "/cursor", "match=exact and cursor do not go together.");
  if (version === undefined) return;
  if (select.kind !== "at")
    throw badInput("invalid_request", "query", "/version", "version needs a full path.");
  if (cursor !== undefined)
    throw badInput("invalid_request", "query", "/cursor", "version and cursor do not go together.");
}

/** The rows that the caller may know of, each with what is to become of its value. */
export async function chooseRows(
  input: RowsInput,
  asked: PathQuery,
  grant: Grant,
  reader: Reader,
  vault: Vault,
): Promise<Chosen> {
  const key = keyOf(grant);
  const select = narrowed(asked, grant, input.version);
  const page = await visiblePage(grant, reader, {
    key,
    select,
    include_deleted: input.include_deleted,
    type: input.type ?? null,
    label: input.label ?? null,
    after: input.cursor === undefined ? null : decodePathCursor(input.cursor),
    limit: input.version === undefined ? input.limit : 1,
    sealed_bytes_max: input.decrypt ? PAGE_VALUE_BYTES_MAX : null,
    asked_at: grant.at,
  });
  if (select.kind === "at" && select.match === "exact" && (page.rows.length === 0 || !page.exact)) {
    await liveRow(reader, vault, key, select.path);
    throw notFound();
  }
  const { version } = input;
  const rows =
    version === undefined
      ? page.rows
      : await Promise.all(page.rows.map(async (row) => atVersion(reader, vault, key, row, version)));
  if (version !== undefined) rows.forEach(assertPinned);
  const choices = rows.map((row) => ({
    row,
    withhold: input.decrypt ? whyWithheld(grant, row, vault) : null,
  }));
  const last = page.rows.at(-1);
  const next = page.more && last !== undefined && !page.exact ? encodeCursor(last.setting.path) : null;
  return { rows, choices, exact: page.exact, next };
}

/**
 * Who may know of what lies under a path alone is not told either whether a setting stands at it. A version is one of the
 * setting at the path.
 */
function narrowed(select: PathQuery, grant: Grant, version: number | undefined): PathQuery {
  if (select.kind !== "at") return select;
  if (version !== undefined) {
    grant.require("list", select.path);
    return { ...select, match: "exact" };
  }
  if (grant.decide("list", select.path).verdict === "allow") return select;
  return { kind: "under", prefix: select.path as string as PathPrefix };
}

/**
 * Null for a value that is to be opened. So is one whose row no broker wrote, whatever the row says: it fails there,
 * for all to see.
 */
function whyWithheld(grant: Grant, row: SettingRow, vault: Vault): Withheld | null {
  const { setting, version } = row;
  const decision = grant.decide("decrypt", setting.path);
  if (decision.verdict === "deny") return decision.reason;
  const isLive = setting.deleted_at === null && version.state === "enabled" && !isExpired(setting, grant.at);
  if (isLive || !vault.isGenuine(row)) return null;
  if (setting.deleted_at !== null) return "deleted";
  return version.state === "enabled" ? "expired" : "destroyed";
}

/** A value that was asked for and shown is a decrypt; one that was asked for and withheld is a denied one. */
function wordEvent(choices: readonly Choice[], decrypt: boolean): Omit<Found<unknown>, "found"> {
  if (!decrypt) return { subjects: choices.map(({ row }) => subjectOf(row)) };
  const subjects = (each: readonly Choice[]): Subject[] => each.map(({ row }) => subjectOf(row));
  if (choices.every(({ withhold }) => withhold === null))
    return { action: "decrypt", subjects: subjects(choices), withheld: [] };
  const byReason = Map.groupBy(choices, ({ withhold }) => withhold);
  const shown = byReason.get(null) ?? [];
  const withheld = [...byReason].flatMap(([reason, each]) =>
    reason === null
      ? []
      : [{ outcome: "denied" as const, action: "decrypt" as const, reason, subjects: subjects(each) }],
  );
  if (shown.length === 0 && withheld.length > 0)
    return { action: "list", subjects: subjects(choices), withheld };
  return { action: "decrypt", subjects: subjects(shown), withheld };
}
