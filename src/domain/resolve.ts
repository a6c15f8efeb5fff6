// Resolving many references at once. Each has an outcome of its own, as the strict read would give it; what cannot be
// had is an error for that item, never a missing value, and the reference is never handed back as one. References to
// one owner are decided together and share an event; a value that several of them name is opened once.
import {
  type Owner,
  type SettingPath,
  commonPlace,
  formatRef,
  parseSettingPath,
  typeOfPath,
} from "./address.ts";
import { type Caller, type Grant, type Need, forbidden } from "./admission.ts";
import { type CometTarget, isComet, parseComet, targetOf } from "./comet.ts";
import { BrokerError } from "./errors.ts";
import type { Gate, Read } from "./gate.ts";
import { placesFor } from "./noted-places.ts";
import type { Found, Undisclosed, Withholding } from "./steps.ts";
import { assertOpenable, subjectOf } from "./opening.ts";
import type { SettingValue } from "./plaintext.ts";
import type { Store } from "./ports.ts";
import type { Plan, ReadingReader } from "./read-ahead.ts";
import type { Permit, Vault } from "./sealing-ports.ts";
import { type Reference, parseReference } from "./reference.ts";
import { type Item, createLookUp } from "./referenced-rows.ts";
import type { SettingRow } from "./setting.ts";
import { assertFieldFits, fieldOf, hasField } from "./value-read.ts";

/** What became of one reference. With `explain` there is no value, and `setting_id` says whose it would be. */
export type Outcome =
  | {
      readonly kind: "resolved";
      readonly setting_id: string;
      readonly version: number;
      readonly value?: SettingValue | boolean;
    }
  | { readonly kind: "failed"; readonly error: BrokerError };
export type Resolved = { readonly ref: string; readonly outcome: Outcome };

type NotedItem = { readonly at: number; readonly note: CometTarget };
/** A value, and the references that name it or a field of it. */
type Target = { readonly row: SettingRow; readonly items: readonly Item[] };
/** One request's work: where each outcome goes, and which values were opened for them. */
type Job = {
  readonly caller: Caller;
  /** None of the answer is given unless all of it is. */
  readonly read: Read;
  readonly explain: boolean;
  readonly outcomes: Map<number, Outcome>;
  readonly shown: { readonly rows: readonly SettingRow[]; readonly at: Date; readonly by: string }[];
  opened: number;
};

export function createResolve(gate: Gate, vault: Vault, store: Pick<Store, "noteAccess">) {
  const lookUp = createLookUp();

  /** What one owner's references are about; whatever is not to be opened has its outcome by then. */
  async function locate(
    job: Job,
    grant: Grant,
    reader: ReadingReader,
    all: readonly Item[],
  ): Promise<Found<Target[]>> {
    const targets: Target[] = [];
    const withheld: Withholding[] = [];
    const action = job.explain ? "list" : "decrypt";
    const fail = (items: readonly Item[], path: SettingPath, error: BrokerError): void => {
      tell(job, items, error);
      withheld.push({ outcome: "failed", action, reason: error.code, path, subjects: [] });
    };
    for (const [items, row] of await lookUp(all, grant, reader, vault)) {
      const { path } = items[0].reference;
      if ("verdict" in row) {
        tell(job, items, forbidden({ decision: row, required: "decrypt" }));
        // Who may list there and asks what would be is told, and has asked for no value.
        if (job.explain && grant.decide("list", path).verdict === "allow") continue;
        // Versions of one path are denied alike, and once.
        if (!withheld.some((each) => each.outcome === "denied" && each.path === path))
          withheld.push({ outcome: "denied", action, reason: row.reason, path, subjects: [] });
        continue;
      }
      if (row instanceof BrokerError) {
        fail(items, path, row);
        continue;
      }
      const fitting = items.filter((item) => {
        const misfit = misfitOf(row, item.reference, job.explain, vault);
        if (misfit !== null) fail([item], path, misfit);
        return misfit === null;
      });
      if (fitting.length > 0) targets.push({ row, items: fitting });
    }
    const subjects = targets.map(({ row }) => subjectOf(row));
    return { found: targets, subjects, withheld, action: targets.length === 0 ? "list" : action };
  }

  /** Opens each value and hands it to its references; answers what was not disclosed after all. */
  async function open(
    job: Job,
    targets: readonly Target[],
    permit: Permit,
    { at, principal }: Grant,
  ): Promise<Undisclosed[]> {
    const rows = targets.map(({ row }) => row);
    const results = await vault.open(permit, rows);
    const failures: { readonly reason: string; readonly row: SettingRow }[] = [];
    const shown: SettingRow[] = [];
    for (const [index, { row, items }] of targets.entries()) {
      const result = results[index];
      if (result?.kind !== "opened") {
        const error = result?.error ?? new BrokerError("internal", "A value was not answered.");
        tell(job, items, error);
        failures.push({ reason: error.code, row });
        continue;
      }
      job.opened += 1;
      const value = result.plaintext.reveal();
      const outcomes = items.map((item) => valueOf(item, row, value));
      for (const [which, { at: place }] of items.entries())
        job.outcomes.set(place, outcomes[which] ?? lost());
      const [failed] = outcomes.every(({ kind }) => kind === "failed") ? outcomes : [];
      if (failed?.kind === "failed") failures.push({ reason: failed.error.code, row });
      else shown.push(row);
    }
    job.shown.push({ rows: shown, at, by: principal.id });
    return [...Map.groupBy(failures, ({ reason }) => reason)].map(([reason, each]) => ({
      reason,
      subjects: each.map(({ row }) => subjectOf(row)),
    }));
  }

  async function resolveAt(job: Job, owner: Owner, items: readonly Item[]): Promise<void> {
    const paths = [...new Set(items.map(({ reference }) => reference.path))];
    const need: Need = {
      ask: {
        action: job.explain ? "list" : "decrypt",
        path: commonPlace(paths),
        breadth: paths.length === 1 ? "whole" : "some",
      },
      place: { kind: "owner", owner },
      asked: { paths },
    };
    const read = job.read(
      job.caller,
      need,
      (grant, reader) => locate(job, grant, reader, items),
      async (targets, permit, grant) => {
        if (!job.explain) return { undisclosed: await open(job, targets, permit, grant) };
        for (const { row, items: each } of targets)
          for (const { at } of each) job.outcomes.set(at, { kind: "resolved", ...identityOf(row) });
        return { undisclosed: [] };
      },
      job.explain ? null : planOf(items, paths),
    );
    await unlessForbidden(job, items, read);
  }

  /**
   * A Comet API Key Secret resolves only where a live setting that the caller may decrypt holds that very secret: to the
   * first that gives its value, among those where the caller's roles let them. False where none is found to.
   */
  async function resolveNote(job: Job, note: CometTarget, all: readonly NotedItem[]): Promise<boolean> {
    const places = await gate.locate(job.caller, (reader, caller) => placesFor(reader, caller, note));
    let failure: Outcome | null = null;
    for (const { key, path } of places) {
      const owner = { owner_type: key.owner_type, owner_id: key.owner_id };
      const reference = { owner, path: parseSettingPath(path), version: null, field: null };
      const items = all.map(({ at }) => ({ at, reference, note }));
      await resolveAt(job, owner, items);
      const [outcome] = items.map((item) => job.outcomes.get(item.at));
      if (outcome?.kind === "resolved") return true;
      if (outcome !== undefined && outcome.kind === "failed" && outcome.error.code !== "forbidden")
        failure ??= outcome;
    }
    if (failure !== null) for (const { at } of all) job.outcomes.set(at, failure);
    return failure !== null;
  }

  /** There is no place where the caller could have a right: denied, on record. */
  async function refuse(job: Job, items: readonly Pick<Item, "at">[]): Promise<void> {
    const action = job.explain ? "list" : "decrypt";
    const need: Need = { ask: { action, path: null, breadth: "some" }, place: { kind: "self" } };
    const read = job.read(
      job.caller,
      need,
      async () => ({ found: null }),
      async () => ({}),
    );
    await unlessForbidden(job, items, read);
  }

  async function resolveAll(job: Job, refs: readonly string[]): Promise<void> {
    const items: Item[] = [];
    const notes: NotedItem[] = [];
    for (const [at, ref] of refs.entries()) {
      try {
        if (isComet(ref)) notes.push({ at, note: targetOf(parseComet(ref)) });
        else items.push({ at, reference: parseReference(ref) });
      } catch (error) {
        tell(job, [{ at }], asBrokerError(error));
      }
    }
    // A token that is no good is told even where nothing is a reference.
    if (items.length === 0 && notes.length === 0) await gate.identify(job.caller);
    for (const [first, ...rest] of Map.groupBy(items, ({ reference }) =>
      formatRef(reference.owner, ""),
    ).values())
      if (first !== undefined) await resolveAt(job, first.reference.owner, [first, ...rest]);
    const nowhere: { readonly at: number }[] = [];
    for (const same of Map.groupBy(notes, ({ note }) => JSON.stringify(note)).values())
      for (const { note } of same.slice(0, 1))
        if (!(await resolveNote(job, note, same))) nowhere.push(...same);
    if (nowhere.length > 0) await refuse(job, nowhere);
  }

  return {
    /** Outcomes in the order of `refs`. `opened` says how many values they cost. */
    async resolve(
      caller: Caller,
      refs: readonly string[],
      explain: boolean,
    ): Promise<{ readonly results: readonly Resolved[]; readonly opened: number }> {
      const job = await gate.whole(caller, async (read) => {
        const one: Job = { caller, read, explain, outcomes: new Map(), shown: [], opened: 0 };
        await resolveAll(one, refs);
        return one;
      });
      for (const { rows, at, by } of job.shown) store.noteAccess(rows, at, by);
      const results = refs.map((ref, at) => ({ ref, outcome: job.outcomes.get(at) ?? lost() }));
      return { results, opened: job.opened };
    },
  };
}

/** Values as they are now, of which it is known beforehand that each reference fits. Others are asked for step by step. */
function planOf(items: readonly Item[], paths: readonly SettingPath[]): Plan | null {
  const isPlain = ({ note, reference: { path, version, field } }: Item): boolean =>
    note === undefined && version === null && (field === null || hasField(typeOfPath(path), field));
  if (!items.every(isPlain)) return null;
  return { select: { kind: "each", paths }, action: "decrypt", strict: true, limit: paths.length };
}

function tell(job: Job, items: readonly Pick<Item, "at">[], error: BrokerError): void {
  for (const { at } of items) job.outcomes.set(at, { kind: "failed", error });
}

/** No right at all: each reference says so. Any other failure is the whole request's. */
async function unlessForbidden(
  job: Job,
  items: readonly Pick<Item, "at">[],
  read: Promise<unknown>,
): Promise<void> {
  try {
    await read;
  } catch (error) {
    const known = asBrokerError(error);
    if (known.code !== "forbidden") throw known;
    tell(job, items, known);
  }
}

function asBrokerError(error: unknown): BrokerError {
  if (error instanceof BrokerError) return error;
  throw error;
}

/** Why a reference does not fit the setting that it names; null when it does. */
function misfitOf(
  row: SettingRow,
  { field, path }: Reference,
  explain: boolean,
  vault: Vault,
): BrokerError | null {
  try {
    // By the path, as the plan does: a row that says otherwise was altered, which is found when it is opened.
    if (field !== null) assertFieldFits(typeOfPath(path), { field, as: "json" });
    // What would be opened is checked then; nothing is opened to explain it.
    if (explain) assertOpenable(vault, row);
    return null;
  } catch (error) {
    return asBrokerError(error);
  }
}

const identityOf = ({ setting, version }: SettingRow) => ({
  setting_id: setting.id,
  version: version.version,
});

function valueOf({ reference }: Item, row: SettingRow, value: SettingValue): Outcome {
  try {
    return { kind: "resolved", ...identityOf(row), value: fieldOf(value, reference.field ?? undefined) };
  } catch (error) {
    return { kind: "failed", error: asBrokerError(error) };
  }
}

function lost(): never {
  throw new Error("a reference has no outcome");
}
