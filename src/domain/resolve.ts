// Resolving many references at once. Each has an outcome of its own, as the strict read would give it; what cannot be
// had is an error for that item, never a missing value, and the reference is never handed back as one. References to
// one owner share a decision's facts and an event.
import type { Owner } from "./address.ts";
import { type Caller, type Grant, type Need, keyOf } from "./admission.ts";
import type { Subject } from "./audit.ts";
import { BrokerError } from "./errors.ts";
import type { Found, Gate } from "./gate.ts";
import { subjectOf } from "./opening.ts";
import type { SettingValue } from "./plaintext.ts";
import type { Permit, Reader, Store, Vault } from "./ports.ts";
import { COMET_PREFIX, type Reference, parseReference } from "./reference.ts";
import type { SettingRow } from "./setting.ts";
import { assertFieldFits, fieldOf, strictRow } from "./value-read.ts";

/** One reference's outcome. With `explain` there is no value, and `setting_id` says what it would be. */
export type Resolved = {
  readonly ref: string;
  readonly version?: number;
  readonly setting_id?: string;
  readonly value?: SettingValue | boolean;
  readonly error?: BrokerError;
};

type Item = { readonly at: number; readonly ref: string; readonly reference: Reference };
type Located = { readonly item: Item; readonly row: SettingRow };
type Outcomes = Map<number, Omit<Resolved, "ref">>;

export function createResolve(gate: Gate, vault: Vault, store: Pick<Store, "noteAccess">) {
  /** Rights and rows of one owner's references; what is not to be opened has its outcome by then. */
  async function locate(grant: Grant, reader: Reader, items: readonly Item[], outcomes: Outcomes) {
    const located: Located[] = [];
    const denied = new Map<string, Subject[]>();
    for (const item of items) {
      const { path, version, field } = item.reference;
      const decision = grant.decide("decrypt", path);
      try {
        if (decision.verdict === "deny") {
          // To whom may not list there either, it is as if it did not exist.
          const found = decision.visible ? await reader.setting(keyOf(grant), path) : null;
          if (found !== null)
            denied.set(decision.reason, [...(denied.get(decision.reason) ?? []), subjectOf(found)]);
          const fields = decision.visible ? { reason: decision.reason, required: "decrypt" } : {};
          throw new BrokerError("forbidden", "You may not do this, or there is no such thing.", fields);
        }
        const row = await strictRow(reader, vault, keyOf(grant), path, version, grant.at);
        if (field !== null) assertFieldFits(row.setting.type, { field, as: "json" });
        located.push({ item, row });
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        outcomes.set(item.at, { error });
      }
    }
    return { located, denied };
  }

  async function open(
    located: readonly Located[],
    permit: Permit,
    outcomes: Outcomes,
    at: Date,
  ): Promise<SettingRow[]> {
    const rows = located.map(({ row }) => row);
    const results = await vault.open(permit, rows);
    const failed: SettingRow[] = [];
    const shown: SettingRow[] = [];
    for (const [index, { item, row }] of located.entries()) {
      const result = results[index];
      if (result?.kind !== "opened") {
        failed.push(row);
        outcomes.set(item.at, {
          error: result?.error ?? new BrokerError("internal", "A value was not answered."),
        });
        continue;
      }
      shown.push(row);
      outcomes.set(item.at, valueOf(item, row, result.plaintext.reveal()));
    }
    store.noteAccess(shown, at);
    return failed;
  }

  async function resolveAt(
    caller: Caller,
    owner: Owner,
    items: readonly Item[],
    explain: boolean,
    outcomes: Outcomes,
  ) {
    const need: Need = {
      ask: { action: explain ? "list" : "decrypt", path: null, breadth: "some" },
      place: { kind: "owner", owner },
    };
    try {
      await gate.read(
        caller,
        need,
        async (grant, reader): Promise<Found<readonly Located[]>> => {
          const { located, denied } = await locate(grant, reader, items, outcomes);
          return { found: located, subjects: located.map(({ row }) => subjectOf(row)), withheld: denied };
        },
        async (located, permit, grant): Promise<{ readonly undisclosed: readonly Subject[] }> => {
          if (!explain)
            return { undisclosed: (await open(located, permit, outcomes, grant.at)).map(subjectOf) };
          for (const { item, row } of located) outcomes.set(item.at, identityOf(row));
          return { undisclosed: [] };
        },
      );
    } catch (error) {
      // No right at the owner at all: each of its references says so. Anything else is the whole request's.
      if (!(error instanceof BrokerError) || error.code !== "forbidden") throw error;
      for (const { at } of items) outcomes.set(at, { error });
    }
  }

  return {
    /** Outcomes in the order of `refs`. `opened` says how many values they cost. */
    async resolve(
      caller: Caller,
      refs: readonly string[],
      explain: boolean,
    ): Promise<{ readonly results: readonly Resolved[]; readonly opened: number }> {
      const outcomes: Outcomes = new Map();
      const groups = new Map<string, Item[]>();
      for (const [at, ref] of refs.entries()) {
        try {
          const reference = parse(ref);
          const { owner_type, owner_id } = reference.owner;
          const name = `${owner_type}/${owner_id}`;
          groups.set(name, [...(groups.get(name) ?? []), { at, ref, reference }]);
        } catch (error) {
          if (!(error instanceof BrokerError)) throw error;
          outcomes.set(at, { error });
        }
      }
      // A token that is no good is told even where no reference is one.
      if (groups.size === 0) await gate.identify(caller);
      for (const [first, ...rest] of groups.values())
        if (first !== undefined)
          await resolveAt(caller, first.reference.owner, [first, ...rest], explain, outcomes);
      const results = refs.map((ref, at) => ({ ref, ...(outcomes.get(at) ?? lost()) }));
      return { results, opened: results.filter(({ value }) => value !== undefined).length };
    },
  };
}

/**
 * A Comet API Key Secret resolves only where a live setting holds that very secret in that cloud's manager; while no
 * such manager guards anything here, none does.
 */
function parse(ref: string): Reference {
  if (ref.startsWith(COMET_PREFIX))
    throw new BrokerError("forbidden", "You may not do this, or there is no such thing.");
  return parseReference(ref);
}

const identityOf = ({ setting, version }: SettingRow) => ({
  setting_id: setting.id,
  version: version.version,
});

function valueOf({ reference }: Item, row: SettingRow, value: SettingValue): Omit<Resolved, "ref"> {
  try {
    return { ...identityOf(row), value: fieldOf(value, reference.field ?? undefined) };
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error;
    return { error };
  }
}

function lost(): never {
  throw new Error("a reference has no outcome");
}
