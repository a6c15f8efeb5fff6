// The settings that references to one owner name. Those that several name are looked up once, and all at once: a job
// has its references resolved as it starts, and would wait for one round trip after the other.
import { type Denial, type Grant, keyOf } from "./admission.ts";
import type { CometTarget } from "./comet.ts";
import { BrokerError, unavailable } from "./errors.ts";
import { TURN_MS, createLimiter } from "./limiter.ts";
import { notedRow } from "./noted-row.ts";
import type { Reader } from "./ports.ts";
import type { ReadingReader } from "./read-ahead.ts";
import type { Vault } from "./sealing-ports.ts";
import type { Reference } from "./reference.ts";
import type { SettingRow } from "./setting.ts";
import { strictRow } from "./value-read.ts";

/** `note`: what was given is a note of a cloud's secret, and the reference one to a setting that may hold it. */
export type Item = { readonly at: number; readonly reference: Reference; readonly note?: CometTarget };
type Some<Each> = readonly [Each, ...Each[]];
/** References to one value, and its row, or why it is not to be had. */
export type Looked = readonly [items: Some<Item>, row: SettingRow | BrokerError | Denial];

/** One request's: a version that is not the current one takes a statement of its own. */
const AT_ONCE_MAX = 32;

/** Of requests that name more than that, at one owner, so many are looked up at once: a hundred values may be 6 MB. */
const WIDE_MAX = 4;
/** Those of a tenant in line: together with its pages' line (250) they leave others room among 500 requests. */
const LINE_MAX = 100;

/**
 * Makes the function that looks rows up, in the order in which they were first named. Nothing is looked up of what the
 * caller may not decrypt. Those of many references take turns, as pages do (store/page-turns.ts), unless all of them were
 * read ahead. Throws `unavailable` when the database is away or the turn does not come: the whole request's failure.
 */
export function createLookUp() {
  const limiter = createLimiter(WIDE_MAX, { laneMax: WIDE_MAX - 1, lineMax: LINE_MAX });
  return async (
    items: readonly Item[],
    grant: Grant,
    reader: ReadingReader,
    vault: Vault,
  ): Promise<readonly Looked[]> => {
    const all = byValue(items);
    const each = (one: Some<Item>): Promise<Looked> => lookUpOne(one, grant, reader, vault);
    if (reader.isReadAhead === true || all.length <= AT_ONCE_MAX)
      return byRow(await Promise.all(all.map(each)));
    const lane = keyOf(grant).tenant_id;
    if (!(await limiter.take(TURN_MS, lane)))
      throw unavailable("Too many references are waiting to be looked up.");
    try {
      const looked: Looked[] = [];
      for (let start = 0; start < all.length; start += AT_ONCE_MAX)
        looked.push(...(await Promise.all(all.slice(start, start + AT_ONCE_MAX).map(each))));
      return byRow(looked);
    } finally {
      // What becomes of the rows goes first.
      setImmediate(() => limiter.give(lane));
    }
  };
}

async function lookUpOne(items: Some<Item>, grant: Grant, reader: Reader, vault: Vault): Promise<Looked> {
  const { reference, note } = items[0];
  const { path, version } = reference;
  const decision = grant.decide("decrypt", path);
  if (decision.verdict === "deny") return [items, decision];
  const key = keyOf(grant);
  try {
    const row =
      note === undefined
        ? await strictRow(reader, vault, key, path, version, grant.at)
        : await notedRow(reader, vault, key, path, note, grant.at);
    return [items, row];
  } catch (error) {
    if (!(error instanceof BrokerError) || error.code === "unavailable") throw error;
    return [items, error];
  }
}

/**
 * A version that one names by its number and another as the current one is one value. Were it two, one reference that
 * does not fit would have it on record that the value was not disclosed, which the other had.
 */
function byRow(looked: readonly Looked[]): readonly Looked[] {
  if (looked.every(([[{ reference }]]) => reference.version === null)) return looked;
  const groups = Map.groupBy(looked, ([, row], n) =>
    "setting" in row ? `${row.setting.id}?${row.version.version}` : n,
  );
  return [...groups.values()].flatMap(([first, ...rest]) =>
    first === undefined ? [] : [[[...first[0], ...rest.flatMap(([items]) => items)], first[1]] as const],
  );
}

/** References by the value that they name. */
function byValue(items: readonly Item[]): readonly Some<Item>[] {
  const groups = Map.groupBy(items, ({ reference: { path, version } }) => `${path}?${version ?? ""}`);
  return [...groups.values()].flatMap(([first, ...rest]) =>
    first === undefined ? [] : [[first, ...rest] as const],
  );
}
