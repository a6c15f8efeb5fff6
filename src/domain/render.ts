// Rendering: the matching settings in their consumer's form. A decrypting read in all but the shape of its answer,
// and strict: what may not be decrypted refuses the whole, since a file with a hole in it would be believed.
import type { Owner, PathQuery, SettingType } from "./address.ts";
import { parsePathQuery } from "./address.ts";
import type { Caller, Grant, Need } from "./admission.ts";
import { BrokerError } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { Found } from "./steps.ts";
import { assertOpenable, openAll, subjectOf } from "./opening.ts";
import { type SettingValue, VALUE_BYTES_MAX } from "./plaintext.ts";
import type { Reader, Store } from "./ports.ts";
import { type RenderFormat, renderAs, renderComet } from "./render-formats.ts";
import type { Permit, Vault } from "./sealing-ports.ts";
import { type SettingRecord, type SettingRow, followsLatest, valueBytes } from "./setting.ts";
import {
  type Choice,
  type RowsInput,
  assertFits,
  breadthOf,
  chooseRows,
  placeOf,
  planOf,
} from "./settings-read.ts";

const RENDER_BYTES_MAX = 1_048_576;
const SETTINGS_MAX = 1000;
/**
 * Twice what a render may have: sealing adds some bytes to each value, and some fields are not rendered. What follows its
 * manager may be longer by now, which is seen when it is opened.
 */
const SEALED_BYTES_MAX = 2 * RENDER_BYTES_MAX;

export type RenderInput = {
  readonly owner: Owner;
  readonly path?: string;
  readonly match?: "auto" | "exact" | "under";
  readonly version?: number;
  readonly type?: SettingType;
  readonly label?: { readonly key: string; readonly value: string };
  readonly format: RenderFormat;
  /** Goes before each name. */
  readonly prefix: string;
};

/** `note`: all that there is to show of rows of which none is to be opened. */
type ToRender = { readonly rows: readonly SettingRow[]; readonly note: string | null };

export function createRender(gate: Gate, vault: Vault, store: Pick<Store, "noteAccess">) {
  /** Every matching row, over as many pages as it takes: a scope may hide most of each. */
  async function chooseAll(
    input: Omit<RenderInput, "format" | "prefix">,
    select: PathQuery,
    grant: Grant,
    reader: Reader,
  ): Promise<readonly Choice[]> {
    const query = queryOf(input);
    const all: Choice[] = [];
    let bytes = 0;
    for (let from: { readonly cursor?: string } = {}; ; ) {
      const { choices, next } = await chooseRows({ ...query, ...from }, select, grant, reader, vault);
      all.push(...choices);
      for (const { row } of choices) bytes += valueBytes(row.version);
      if (all.length > SETTINGS_MAX || bytes > SEALED_BYTES_MAX) throw tooLarge();
      if (next === null) return all;
      from = { cursor: next };
    }
  }

  /** Each value, with whose it is. @throws BrokerError as openAll, and `too_large` */
  async function openedOf(rows: readonly SettingRow[], permit: Permit) {
    const items: { readonly setting: SettingRecord; readonly value: SettingValue }[] = [];
    let bytes = 0;
    for (const portion of portionsOf(rows)) {
      const { opened } = await openAll(vault, permit, portion, "fail");
      for (const [index, { setting }] of portion.entries()) {
        const plaintext = opened[index];
        if (!plaintext) throw new Error("an opened row has a value");
        items.push({ setting, value: plaintext.reveal() });
        bytes += plaintext.byteLength;
      }
      if (bytes > SEALED_BYTES_MAX) throw tooLarge();
    }
    return items;
  }

  /** It opens nothing, so what the rows say of themselves is checked here. */
  function cometOf(rows: readonly SettingRow[], pinned: boolean): string {
    for (const row of rows) assertOpenable(vault, row);
    return renderComet(rows, pinned);
  }

  return {
    /** @throws BrokerError as a decrypting read, and `invalid_value`, `conflict` or `too_large` for what does not fit */
    async render(caller: Caller, input: RenderInput): Promise<{ text: string; opened: number }> {
      const select = parsePathQuery(input.path, input.match);
      assertFits(input, select);
      const place = placeOf(select);
      const need: Need = {
        ask: { action: "decrypt", path: place, breadth: breadthOf(select) },
        place: { kind: "owner", owner: input.owner },
      };
      const { format, prefix } = input;
      return gate.read(
        caller,
        need,
        async (grant, reader): Promise<Found<ToRender>> => {
          const choices = await chooseAll(input, select, grant, reader);
          assertNoneWithheld(choices, grant);
          const rows = choices.map(({ row }) => row);
          const note = format === "comet" ? cometOf(rows, input.version !== undefined) : null;
          return { found: { rows, note }, subjects: rows.map(subjectOf) };
        },
        async ({ rows, note }, permit, grant) => {
          if (note !== null) return { text: note, opened: 0 };
          if (format === "comet") throw new Error("a note is all that this format gives");
          const text = renderAs(format, await openedOf(rows, permit), { prefix, place });
          if (Buffer.byteLength(text) > RENDER_BYTES_MAX) throw tooLarge();
          store.noteAccess(rows, grant.at, grant.principal.id);
          return { text, opened: rows.length };
        },
        // A note is made before it is on record, and may not fit.
        format === "comet" ? null : planOf(queryOf(input), select),
      );
    },
  };
}

const queryOf = (input: Omit<RenderInput, "format" | "prefix">): RowsInput => ({
  ...input,
  decrypt: true,
  include_deleted: false,
  limit: SETTINGS_MAX,
});

/** What is opened at once: as many as cannot have more bytes together, however long those are by now that follow. */
function portionsOf(rows: readonly SettingRow[]): readonly (readonly SettingRow[])[] {
  let portion: SettingRow[] = [];
  const portions = [portion];
  let bytes = 0;
  for (const row of rows) {
    const most = followsLatest(row.version) ? VALUE_BYTES_MAX : valueBytes(row.version);
    bytes += most;
    if (bytes > SEALED_BYTES_MAX) {
      portion = [];
      portions.push(portion);
      bytes = most;
    }
    portion.push(row);
  }
  return portions;
}

/** Whether the caller may comes first; then whether there is still a value. */
function assertNoneWithheld(choices: readonly Choice[], grant: Grant): void {
  for (const { row, withhold } of choices)
    if (withhold === "insufficient_role" || withhold === "token_scope")
      grant.require("decrypt", row.setting.path);
  const gone = choices.filter(({ withhold }) => withhold !== null);
  const [first] = gone;
  if (first === undefined) return;
  const paths = gone.map(({ row }) => row.setting.path);
  throw first.withhold === "expired"
    ? new BrokerError("expired", "A setting has expired; paths says which.", { paths })
    : new BrokerError("destroyed", "The value of a setting is destroyed; paths says which.", { paths });
}

function tooLarge(): BrokerError {
  const most = `at most 1 MiB and ${SETTINGS_MAX} settings`;
  return new BrokerError("too_large", `A render holds ${most}; narrow the path, the type or the label.`);
}
