// Many settings at once: all of them or none, in one transaction, under the locks of all their paths. What is wrong is
// told all at once, by pointer; a dry run says what would happen and changes nothing.
import { type Caller, type Grant, type Need, keyOf } from "./admission.ts";
import type { Happening } from "./change-events.ts";
import { BrokerError, type InputProblem, conflict } from "./errors.ts";
import type { Gate } from "./gate.ts";
import {
  type Checked,
  type ConflictPolicy,
  type ImportInput,
  assertNone,
  checkedItems,
  collect,
  metadataAfter,
} from "./import-items.ts";
import { assertGenuine, subjectOf } from "./opening.ts";
import type { SettingWrite } from "./lifecycle-ports.ts";
import type { NewId, Reader, Transaction } from "./ports.ts";
import type { Permit, Sealer, Vault } from "./sealing-ports.ts";
import { lockPaths } from "./path-lock.ts";
import { usualPlacement } from "./placement.ts";
import type { ManagerName, Placement, SettingRow } from "./setting.ts";
import type { Content, SettingChange, Writing } from "./setting-change.ts";
import { fresh } from "./settings-write.ts";
import { Stale } from "./steps.ts";

export type ImportOutcome = "created" | "overwritten" | "unchanged" | "skipped" | "conflict";
export type ImportResult = {
  readonly path: string;
  readonly outcome: ImportOutcome;
  readonly version: number;
};
export type ImportAnswer = { readonly dry_run: boolean; readonly results: readonly ImportResult[] };

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

  async function toWrite(
    writing: Writing,
    metadata: ReturnType<typeof metadataAfter>,
    found: SettingRow | null,
    content: Content,
  ): Promise<SettingWrite> {
    const { grant, key, path } = writing;
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
        for (const { path } of items)
          for (const action of ["list", "write"] as const) grant.require(action, path);
        const rows = await rowsAt(reader, grant, items);
        const usual = await usualPlacement(reader, vault, keyOf(grant));
        for (const row of rows) managerFor(row, usual);
        const subjects = rows.flatMap((row) => (row === null ? [] : [subjectOf(row)]));
        const details = { change: "none", dry_run: "true" };
        return { found: { items, rows }, action: "list", subjects, details };
      },
      async ({ items, rows }, permit, grant) => {
        for (const row of rows) if (row !== null) assertGenuine(vault, row);
        await loadKeys(vault, permit, rows);
        const errors: InputProblem[] = [];
        const results = items.map((item, index): ImportResult => {
          const row = rows[index] ?? null;
          const outcome = outcomeOf(row, input.conflict, sameAs(item, grant, permit));
          if (isWritten(outcome)) collect(errors, item.pointer, () => metadataAfter(item, row, grant.at));
          return { path: item.path, outcome, version: row?.setting.current_version ?? 0 };
        });
        assertNone(errors);
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
          const errors: InputProblem[] = [];
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
            if (!isWritten(outcome)) {
              results.push({ path, outcome, version: found?.setting.current_version ?? 0 });
              continue;
            }
            const metadata = collect(errors, item.pointer, () => metadataAfter(item, found, grant.at));
            if (metadata === null) continue;
            const writing = { tx: once, grant, key, path, last: last.get(path) ?? 0 };
            const manager = managerFor(found, usual);
            const sealer = sealers.get(manager);
            if (sealer === undefined) throw new Stale();
            const content = { storage: "envelope" as const, manager, sealer, plaintext: item.plaintext };
            const write = await toWrite(writing, metadata, found, content);
            writes.push(write);
            results.push({ path, outcome, version: write.version.version });
            const kind = outcome === "created" ? "setting.created" : "setting.version_added";
            happenings.push({ kind, ...subjectOf(write) });
          }
          assertNone(errors);
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

const isWritten = (outcome: ImportOutcome): boolean => outcome === "created" || outcome === "overwritten";

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
