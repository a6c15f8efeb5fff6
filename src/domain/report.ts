// What is due and what is dead: a report on an owner's settings, and who would miss one that is to go. Metadata alone:
// the role `read` suffices. Whose tokens lie idle is told to those who may list them, and of oneself to everybody.
import { type OwnerAction, decide } from "./access.ts";
import { type Owner, isUuid, parseSettingPath } from "./address.ts";
import { type Caller, type Grant, type Need, keyOf } from "./admission.ts";
import { badInput } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type {
  Finding,
  ReaderRecord,
  ReportQuery,
  ReportRow,
  ReportToken,
  ReportTotals,
} from "./lifecycle-ports.ts";
import { atVersion, liveRow } from "./opening.ts";
import { decodeCursor, encodeCursor } from "./paging.ts";
import { type Preconditions, assertPreconditions } from "./preconditions.ts";
import type { Reader } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import { rotationDue } from "./setting.ts";

const DAY_MS = 86_400_000;

export type ReportInput = {
  readonly owner: Owner;
  readonly within_days: number;
  readonly unused_days: number;
  readonly limit: number;
  readonly cursor?: string;
};
type PinnedReader = Omit<ReaderRecord, "last_read_at"> & { readonly last_read_at: string };
export type ReportedSetting = Owner & {
  readonly id: string;
  readonly path: string;
  readonly version: number;
  readonly findings: readonly Finding[];
  readonly rotation_due_at: string | null;
  readonly expires_at: string | null;
  readonly last_accessed_at: string | null;
  readonly pinned_readers: readonly PinnedReader[];
};
export type ReportedToken = {
  readonly id: string;
  readonly principal_id: string;
  readonly name: string;
  readonly findings: readonly ("expiring" | "unused")[];
  readonly expires_at: string | null;
  readonly last_used_at: string | null;
};
export type LifecycleReport = Owner & {
  readonly at: string;
  readonly within_days: number;
  readonly unused_days: number;
  readonly totals: ReportTotals;
  readonly settings: readonly ReportedSetting[];
  readonly tokens: readonly ReportedToken[];
  readonly next_cursor: string | null;
};
/** Who would miss it. */
export type RemovalPreview = {
  readonly path: string;
  readonly version: number | null;
  readonly days: number;
  readonly last_accessed_at: string | null;
  readonly readers: readonly PinnedReader[];
};

const days = (count: number): number => count * DAY_MS;
const timeOrNull = (date: Date | null): string | null => date?.toISOString() ?? null;
const shownReader = ({ principal_id, version, last_read_at }: ReaderRecord): PinnedReader => ({
  principal_id,
  version,
  last_read_at: last_read_at.toISOString(),
});

export function createReport(gate: Gate, vault: Vault) {
  return {
    report(caller: Caller, input: ReportInput): Promise<LifecycleReport> {
      const need: Need = {
        ask: { action: "list", path: null, breadth: "whole" },
        place: { kind: "owner", owner: input.owner },
      };
      return gate.read(
        caller,
        need,
        async (grant, reader) => {
          const query = queryOf(input, grant);
          const [{ page, totals }, tokens] = await Promise.all([
            reader.report(query),
            tokensFor(query, grant, reader),
          ]);
          return { found: { query, page, totals, tokens } };
        },
        async ({ query, page, totals, tokens }, _permit, grant) => {
          const last = page.rows.at(-1);
          const { owner_type, owner_id } = input.owner;
          const { within_days, unused_days } = input;
          return {
            owner_type,
            owner_id,
            at: grant.at.toISOString(),
            within_days,
            unused_days,
            totals,
            settings: page.rows.map(shownRow),
            tokens: tokens.map((each) => shownToken(each, query)),
            next_cursor:
              page.more && last !== undefined ? encodeCursor(`${last.owner_id}/${last.path}`) : null,
          };
        },
      );
    },

    /** Changes nothing. Takes the right that the removal itself would take. */
    previewRemoval(
      caller: Caller,
      input: Preconditions & {
        readonly owner: Owner;
        readonly path: string;
        readonly version?: number;
        readonly days: number;
        readonly action: OwnerAction;
      },
    ): Promise<RemovalPreview> {
      const path = parseSettingPath(input.path);
      const need: Need = {
        ask: { action: input.action, path, breadth: "whole" },
        place: { kind: "owner", owner: input.owner },
      };
      const version = input.version ?? null;
      return gate.read(
        caller,
        need,
        async (grant, reader) => {
          // Who may write and not list is not told what is there, nor who reads it.
          grant.require("list", path);
          const key = keyOf(grant);
          const found = await reader.setting(key, path);
          assertPreconditions(input, found?.setting.deleted_at === null ? found.setting : null);
          // What is deleted already can be purged, and nothing else.
          const isPurge = input.action === "destroy" && version === null;
          const row = isPurge && found !== null ? found : await liveRow(reader, vault, key, path);
          const { setting } = row;
          if (version !== null && (await reader.version(setting, version)) === null)
            await atVersion(reader, vault, key, row, version);
          const since = new Date(grant.at.getTime() - days(input.days));
          const readers = await reader.readersOf(setting, since, version);
          const subjects = [{ id: setting.id, path, version }];
          return { found: { setting, readers }, subjects, action: "list", details: { dry_run: "true" } };
        },
        async ({ setting, readers }) => ({
          path: setting.path,
          version,
          days: input.days,
          last_accessed_at: timeOrNull(setting.last_accessed_at),
          readers: readers.map(shownReader),
        }),
      );
    },
  };
}

/** An organization's owner sees all its projects: with a credential that is not confined to the organization itself. */
function queryOf(input: ReportInput, grant: Grant): ReportQuery {
  const key = keyOf(grant);
  const seesAll = grant.principal.ceilings.length === 0 && grant.decide("manage", null).verdict === "allow";
  const after = input.cursor === undefined ? null : decodeCursor(input.cursor);
  if (after !== null && !isUuid(after.split("/")[0] ?? ""))
    throw badInput("invalid_request", "query", "/cursor", "This is no cursor of ours.");
  return {
    key,
    with_projects: key.owner_type === "organization" && seesAll,
    now: grant.at,
    expiring_before: new Date(grant.at.getTime() + days(input.within_days)),
    unread_before: new Date(grant.at.getTime() - days(input.unused_days)),
    after,
    limit: input.limit,
  };
}

/** Those of the service accounts, for whoever may list them; else the caller's own. */
async function tokensFor(query: ReportQuery, { principal }: Grant, reader: Reader) {
  const { key } = query;
  if (key.owner_type !== "user") {
    const organization: Owner = { owner_type: "organization", owner_id: key.tenant_id };
    const standing = await reader.standing(principal.id, organization);
    if (decide(principal, standing, "manage", null).verdict === "allow")
      return reader.reportTokens(query, "service_accounts");
  }
  return reader.reportTokens(query, { principal_id: principal.id });
}

function shownRow(row: ReportRow): ReportedSetting {
  const { owner_type, owner_id, id, path, version, findings } = row;
  return {
    owner_type,
    owner_id,
    id,
    path,
    version,
    findings,
    rotation_due_at: rotationDue(row),
    expires_at: timeOrNull(row.expires_at),
    last_accessed_at: timeOrNull(row.last_accessed_at),
    pinned_readers: row.pinned.map(shownReader),
  };
}

function shownToken(token: ReportToken, query: ReportQuery): ReportedToken {
  const { id, principal_id, name, created_at, expires_at, last_used_at } = token;
  const findings = [
    ...(expires_at !== null && expires_at <= query.expiring_before ? (["expiring"] as const) : []),
    ...((last_used_at ?? created_at) < query.unread_before ? (["unused"] as const) : []),
  ];
  const times = { expires_at: timeOrNull(expires_at), last_used_at: timeOrNull(last_used_at) };
  return { id, principal_id, name, findings, ...times };
}
