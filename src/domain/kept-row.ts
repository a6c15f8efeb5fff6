// What is kept with a row that stays in memory.
import type { SettingRecord, SettingRow, VersionRecord } from "./setting.ts";

/** What a row's text consists of around what may be another at the next reading, by what becomes of its value. */
type Texts = { [Kind in "metadata" | "opened"]: readonly string[] | null };

/** What is kept of a page as a whole. */
type KeptPage = {
  readonly rows: readonly SettingRow[];
  /** For whoever opens values: how these are opened together; null: not yet. */
  opened: object | null;
};

/**
 * A row that stays in memory for many reads, with what is a pure function of it and need be found out once only, and
 * where its uses are noted. That is private to the very object: a copy has nothing of it. WeakMaps would do; but the
 * collector goes through all entries of all of them while everything waits, which took longer than the rest of its work.
 */
export class KeptRow implements SettingRow {
  readonly setting: SettingRecord;
  readonly version: VersionRecord;
  #isGenuine = false;
  #constant: object | null = null;
  readonly #texts: Texts = { metadata: null, opened: null };
  #bound: string | null = null;
  #note: object | null = null;
  #page: KeptPage | null = null;

  constructor({ setting, version }: SettingRow) {
    this.setting = setting;
    this.version = version;
  }

  /** Rows that stay in memory, as one page. */
  static pageOfRows(rows: readonly SettingRow[]): readonly KeptRow[] {
    const kept = rows.map((row) => new KeptRow(row));
    const page: KeptPage = { rows: kept, opened: null };
    for (const row of kept) row.#page = page;
    return kept;
  }

  /** The page that these very rows are, all of them and in its order; null: they are none. */
  static pageOf(rows: readonly SettingRow[]): KeptPage | null {
    const [first] = rows;
    if (first === undefined || !(#page in first)) return null;
    const page = first.#page;
    const isWhole = page?.rows.length === rows.length && page.rows.every((row, index) => row === rows[index]);
    return isWhole ? page : null;
  }

  /** Whether the row's MACs were found true before. */
  static isKnownGenuine(row: SettingRow): boolean {
    return #isGenuine in row && row.#isGenuine;
  }

  /** To be called once they were. */
  static noteGenuine(row: SettingRow): void {
    if (#isGenuine in row) row.#isGenuine = true;
  }

  /** What the row is shown as whatever becomes of its value: `make` is always the same. */
  static constantOf<Constant extends object>(row: SettingRow, make: (row: SettingRow) => Constant): Constant {
    if (!(#constant in row)) return make(row);
    row.#constant ??= make(row);
    return row.#constant as Constant;
  }

  /** What its value is bound to, as whoever seals makes it of the row: `make` is always the same. */
  static boundTo<Bound extends string>(row: SettingRow, make: (row: SettingRow) => Bound): Bound {
    if (!(#bound in row)) return make(row);
    row.#bound ??= make(row);
    return row.#bound as Bound;
  }

  /** What was noted of its uses, by whoever notes them; null: it is to be looked up. */
  static noteOf(row: SettingRow): object | null {
    return #note in row ? row.#note : null;
  }

  /** To be called once it was. */
  static keepNote(row: SettingRow, note: object): void {
    if (#note in row) row.#note = note;
  }

  /** Where its text in an answer is kept, for whoever writes answers; null: it does not stay. */
  static textsOf(row: SettingRow): Texts | null {
    return #texts in row ? row.#texts : null;
  }
}
