// Many settings at once: all of them or none, in one transaction, under the locks of all their paths. What is wrong is
// told all at once, by pointer; a dry run says what would happen and changes nothing.
import { type Owner, type SettingPath, parseSettingPath, typeOfPath } from "./address.ts";
import { type Caller, type Grant, type Need, keyOf } from "./admission.ts";
import type { Happening } from "./change-events.ts";
import { parseDotenv } from "./dotenv.ts";
import { BrokerError, type InputProblem, badInput, conflict } from "./errors.ts";
import type { Gate } from "./gate.ts";
import { assertGenuine, subjectOf } from "./opening.ts";
import { type Plaintext, checkValue } from "./plaintext.ts";
import type { SettingWrite } from "./lifecycle-ports.ts";
import type { NewId, Reader, Transaction } from "./ports.ts";
import type { Permit, Sealer, Vault } from "./sealing-ports.ts";
import { lockPaths } from "./path-lock.ts";
import { usualPlacement } from "./placement.ts";
import type { ManagerName, Placement, SettingRow } from "./setting.ts";
import type { Content, SettingChange, Writing } from "./setting-change.ts";
import { BLANK, type Metadata, assertLasts, withMetadata } from "./setting-metadata.ts";
import { fresh } from "./settings-write.ts";
import { Stale } from "./steps.ts";

const SETTINGS_MAX = 500;
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
export type ImportOutcome = "created" | "overwritten" | "unchanged" | "skipped" | "conflict";
export type ImportResult = {
  readonly path: string;
  readonly outcome: ImportOutcome;
  readonly version: number;
};
export type ImportAnswer = { readonly dry_run: boolean; readonly results: readonly ImportResult[] };

type Checked = { readonly path: SettingPath; readonly plaintext: Plaintext; readonly metadata: Metadata };

export function createImport(gate: Gate, change: SettingChange, vault: Vault, newId: NewId) {
  /** What is at a path, what is to become of it, and whether its value is the same. */
  function outcomeOf(
    found: SettingRow | null,
    policy: ConflictPolicy,
    isSame: (row: SettingRow) => boolean,
  ): ImportOutcome {
    if (found === null || found.setting.deleted_at !== null) return "created";
    if (policy === "skip") return "skipped";
    if (isSame(found)) return "unchanged";
    return policy === "overwrite" ? "overwritten" : "conflict";
  }

  /** Only for a caller who may see it. */
  function sameAs(item: Checked, grant: Grant, permit: Permit) {
    return (row: SettingRow): boolean => {
      const { setting, version } = row;
      if (version.state !== "enabled" || version.storage !== "envelope") return false;
      if (grant.decide("decrypt", setting.path).verdict === "deny") return false;
      const opened = vault.openInMemory(permit, row);
      if (opened === null) throw new Stale();
      const same = opened.kind === "opened" && opened.plaintext.equals(item.plaintext);
      return same && Object.keys(item.metadata).length === 0;
    };
  }

  async function written(
    writing: Writing,
    item: Checked,
    found: SettingRow | null,
    content: Content,
  ): Promise<SettingWrite> {
    const { grant, key, path } = writing;
    const live = found === null || found.setting.deleted_at !== null ? null : found;
    const metadata = withMetadata(live?.setting ?? BLANK, item.metadata, "replace");
    const next = {
      ...(found?.setting ?? fresh(key, path, newId(), grant)),
      ...metadata,
      updated_at: grant.at,
      updated_by: grant.principal.id,
      revision: (found?.setting.revision ?? 0) + 1,
      deleted_at: null,
      purge_at: null,
    };
    const isNew = found === null;
    return { ...(await change.withVersion(writing, content, next, isNew)), path, isNew };
  }

  /**
   * Where a value goes: into an envelope, which is written in one transaction with all the others. What is there stays
   * where it is, one that comes back from a soft delete like any other: moving is not a writer's to do.
   */
  function managerFor(found: SettingRow | null, usual: Placement): ManagerName {
    const { storage, manager } = found?.version ?? usual;
    if (storage === "envelope" && vault.isEnabled(manager)) return manager;
    throw conflict("An import goes into envelopes; what goes to a cloud's manager is put one by one.");
  }

  function dryRun(caller: Caller, need: Need, input: ImportInput): Promise<ImportAnswer> {
    return gate.read(
      caller,
      need,
      async (grant, reader) => {
        const items = checkedItems(input, grant);
        for (const { path } of items) grant.require("list", path);
        const rows = await rowsAt(reader, grant, items);
        const subjects = rows.flatMap((row) => (row === null ? [] : [subjectOf(row)]));
        const details = { change: "none", dry_run: "true" };
        return { found: { items, rows }, action: "list", subjects, details };
      },
      async ({ items, rows }, permit, grant) => {
        await loadKeys(vault, permit, rows);
        const results = items.map((item, index): ImportResult => {
          const row = rows[index] ?? null;
          const outcome = outcomeOf(row, input.conflict, sameAs(item, grant, permit));
          return { path: item.path, outcome, version: row?.setting.current_version ?? 0 };
        });
        return { dry_run: true, results };
      },
    );
  }

  return {
    async importSettings(caller: Caller, input: ImportInput): Promise<ImportAnswer> {
      const need: Need = {
        ask: { action: "write", path: null, breadth: "some" },
        place: { kind: "owner", owner: input.owner },
      };
      if (input.dry_run) return dryRun(caller, need, input);
      return gate.change(caller, need, {
        prepare: async (grant, reader, permit) => {
          const items = checkedItems(input, grant);
          for (const { path } of items) grant.require("write", path);
          // Loads the keys that comparing needs, so that the transaction makes no network call.
          const rows = await rowsAt(reader, grant, items);
          await loadKeys(vault, permit, rows);
          const sealers = new Map<ManagerName, Sealer>();
          const usual = await usualPlacement(reader, vault, keyOf(grant));
          for (const manager of new Set(rows.map((row) => managerFor(row, usual))))
            sealers.set(manager, await vault.sealer(permit, keyOf(grant), manager));
          return { items, permit, sealers };
        },
        lock: (tx, grant) =>
          lockPaths(
            tx,
            vault,
            keyOf(grant),
            checkedItems(input, grant).map(({ path }) => path),
          ),
        apply: async (tx, grant, { items, permit, sealers }, last) => {
          const key = keyOf(grant);
          const results: ImportResult[] = [];
          const happenings: Happening[] = [];
          const writes: SettingWrite[] = [];
          const once = askedOnce(tx, writes);
          const present = await rowsAt(tx, grant, items);
          const usual = await usualPlacement(tx, vault, key);
          for (const [index, item] of items.entries()) {
            const { path } = item;
            grant.require("write", path);
            const found = present[index] ?? null;
            if (found !== null) assertGenuine(vault, found);
            const outcome = outcomeOf(found, input.conflict, sameAs(item, grant, permit));
            if (outcome !== "created" && outcome !== "overwritten") {
              results.push({ path, outcome, version: found?.setting.current_version ?? 0 });
              continue;
            }
            const writing = { tx: once, grant, key, path, last: last.get(path) ?? 0 };
            const manager = managerFor(found, usual);
            const sealer = sealers.get(manager);
            if (sealer === undefined) throw new Stale();
            const content = { storage: "envelope" as const, manager, sealer, plaintext: item.plaintext };
            const row = await written(writing, item, found, content);
            writes.push(row);
            results.push({ path, outcome, version: row.version.version });
            const kind = outcome === "created" ? "setting.created" : "setting.version_added";
            happenings.push({ kind, ...subjectOf(row) });
          }
          assertNoConflict(results, grant);
          await tx.writeSettings(key, writes);
          const details = { change: "imported", written: String(writes.length) };
          const result = { dry_run: false, results };
          return { result, subjects: writes.map(subjectOf), details, happenings };
        },
      });
    },
  };
}

/** Told only of what the caller may list. @throws BrokerError `conflict`, naming the paths */
function assertNoConflict(results: readonly ImportResult[], grant: Grant): void {
  const taken = results.filter(({ outcome }) => outcome === "conflict");
  if (taken.length === 0) return;
  for (const { path } of taken) grant.require("list", path);
  const detail = "Some of these settings exist already; paths says which. Nothing was written.";
  throw new BrokerError("conflict", detail, { paths: taken.map(({ path }) => path) }, conflict(detail));
}

/** Sorted by path. @throws BrokerError `invalid_value` with all that is wrong */
function checkedItems(input: ImportInput, grant: Grant): readonly Checked[] {
  const given = itemsOf(input);
  if (given.length === 0 || given.length > SETTINGS_MAX)
    throw badInput("invalid_value", "body", "/settings", `An import has 1 to ${SETTINGS_MAX} settings.`);
  const errors: InputProblem[] = [];
  const checked = new Map<string, Checked>();
  for (const [index, item] of given.entries()) {
    const pointer = input.source.kind === "settings" ? `/settings/${index}` : "/dotenv";
    try {
      const path = parseSettingPath(item.path);
      const plaintext = checkValue(typeOfPath(path), item.value);
      assertLasts(item.metadata.expires_at, grant.at);
      if (checked.has(path)) throw badInput("invalid_value", "body", "/path", "The path is named twice.");
      checked.set(path, { path, plaintext, metadata: item.metadata });
    } catch (error) {
      if (!(error instanceof BrokerError) || error.code === "internal") throw error;
      const told = error.fields.errors ?? [{ in: "body" as const, pointer: "", detail: error.message }];
      errors.push(...told.map((each) => ({ ...each, in: "body" as const, pointer: pointer + each.pointer })));
    }
  }
  if (errors.length > 0)
    throw new BrokerError("invalid_value", "Some settings are not valid. Nothing was written.", { errors });
  return [...checked.values()].toSorted(({ path: one }, { path: other }) => (one < other ? -1 : 1));
}

function itemsOf({ source }: ImportInput): readonly ImportItem[] {
  if (source.kind === "settings") return source.settings;
  return parseDotenv(source.text, "/dotenv").map(({ name, value }) => ({
    path: `${source.under.replace(/\/$/, "")}/${name}`,
    value,
    // A rendered name is in capitals unless a label says otherwise.
    metadata: name === name.toUpperCase() ? {} : { labels: { env_name: name } },
  }));
}

/** What is at the items' paths, in their order. */
async function rowsAt(
  reader: Pick<Reader, "settingsAt">,
  grant: Grant,
  items: readonly Checked[],
): Promise<readonly (SettingRow | null)[]> {
  const found = await reader.settingsAt(
    keyOf(grant),
    items.map(({ path }) => path),
  );
  return items.map(({ path }) => found.get(path) ?? null);
}

/**
 * A transaction that is asked once what holds to its end, or changes only by what is about to be written: a statement
 * for each setting would take seconds for hundreds.
 */
function askedOnce(tx: Transaction, writes: readonly SettingWrite[]): Transaction {
  const kept = new Map<string, Promise<number>>();
  const held = new Map<string, Promise<boolean>>();
  const once: Pick<Transaction, "countKept" | "holdDataKey"> = {
    async countKept(key, what, most) {
      const before = kept.get(what) ?? tx.countKept(key, what, most);
      kept.set(what, before);
      return (await before) + (what === "settings" ? writes.filter(({ isNew }) => isNew) : writes).length;
    },
    holdDataKey(tenantId, id) {
      const isHeld = held.get(id) ?? tx.holdDataKey(tenantId, id);
      held.set(id, isHeld);
      return isHeld;
    },
  };
  return { ...tx, ...once };
}

async function loadKeys(vault: Vault, permit: Permit, rows: readonly (SettingRow | null)[]): Promise<void> {
  const live = rows.filter(
    (row) => row !== null && row.version.state === "enabled" && row.version.storage === "envelope",
  );
  await vault.open(permit, live as SettingRow[]);
}
