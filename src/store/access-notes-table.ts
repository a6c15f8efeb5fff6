// What is noted of uses, in memory: which rows were of use when, and which of that the database does not have yet.
import { ACCESS_NOTED_SECONDS } from "../domain/ports.ts";
import { KeptRow } from "../domain/kept-row.ts";
import type { SettingRow, VersionRecord } from "../domain/setting.ts";

/** Rows that are noted at once; where there are none left to forget, a new one is not kept. */
const ROWS_MAX = 200_000;
/** So many that were never written are written at once, and not when the interval is over. */
const hurryAt = 5_000;
/** More are several writes: making one is done in one go, which everybody else waits for. */
const settingsAWrite = 250;
/**
 * And so many rows, of those that were written before. After a busy minute thousands are due once more at the same time,
 * and are in no hurry: one write behind the other, they were in the way of everything else for a second or two. All that
 * are remembered (ROWS_MAX) take 667 writes: at ten a second, less what each takes, little more than a minute.
 */
const rowsAgainAWrite = 300;
/** A row that is read all the time is not written each second: an update of a row costs as much as reading it. */
const rewriteMs = ACCESS_NOTED_SECONDS * 1_000;

/**
 * When a row was last of use. `written`: what the database has of it, as far as this replica knows; 0 for nothing.
 * `missedAt`: since when the row cannot be had.
 */
export type Seen = { at: number; written: number; missedAt: number | null };
type Readers = Map<string, Seen>;
type VersionNote = Seen & { readonly version: number; readonly readers: Readers };
/**
 * A setting or a token, with all that is noted of it: written together. `fresh`: some of it was never written. `isMissed`:
 * some of it could not be written the last time. `isDirty`: it is among those of which something is to be written.
 * `isGone`: it was given up.
 */
export type Note = Seen & {
  readonly tenant_id: string;
  readonly id: string;
  readonly isToken: boolean;
  readonly versions: VersionNote[];
  fresh: boolean;
  isMissed: boolean;
  isDirty: boolean;
  isGone: boolean;
};

const firstSeen = (at: number): Seen => ({ at, written: 0, missedAt: null });
export const isUnwritten = ({ at, written }: Seen): boolean => at > written;
const dueAt = ({ fresh, isMissed, written }: Note): number => (fresh || isMissed ? 0 : written + rewriteMs);

const partsOf = (note: Note): readonly Seen[] => [
  note,
  ...note.versions.flatMap((version) => [version, ...version.readers.values()]),
];

export function createNotesTable(rowsMax = ROWS_MAX) {
  const notes = new Map<string, Note>();
  /** Those of which something is to be written, now or when the last time is old enough. */
  const dirty = new Set<Note>();
  /** None of them is due before. */
  let dueFrom = Number.POSITIVE_INFINITY;
  let rows = 0;
  let freshRows = 0;

  /** Of a setting. A row that stays in memory has it at hand: there is a look-up a row otherwise. */
  function lookedUp(row: SettingRow): Note | undefined {
    // No other store has ever seen this object.
    const atHand = KeptRow.noteOf(row) as Note | null;
    if (atHand !== null && !atHand.isGone) return atHand;
    const note = notes.get(row.setting.id);
    if (note !== undefined) KeptRow.keepNote(row, note);
    return note;
  }

  /** Null where there is no room: the database is far behind then. */
  function noted(
    known: Note | undefined,
    at: number,
    { tenant_id, id }: Pick<Note, "tenant_id" | "id">,
    isToken: boolean,
  ): Note | null {
    if (known !== undefined) {
      if (at > known.at) known.at = at;
      toBeWritten(known);
      return known;
    }
    if (rows >= rowsMax) return null;
    const flags = { fresh: true, isMissed: false, isDirty: false, isGone: false };
    const note: Note = { ...firstSeen(at), tenant_id, id, isToken, versions: [], ...flags };
    notes.set(id, note);
    toBeWritten(note);
    added(note);
    return note;
  }

  /** Asked of each row of each read: the flag costs less than a look into the Set. */
  function toBeWritten(note: Note): void {
    if (note.isDirty) return;
    note.isDirty = true;
    dirty.add(note);
    dueFrom = Math.min(dueFrom, dueAt(note));
  }

  /** There is one row more that was never written. */
  function added(note: Note): void {
    note.fresh = true;
    dueFrom = 0;
    rows += 1;
    freshRows += 1;
  }

  function noteReader(note: Note, number: number, principalId: string, at: number): void {
    let version = note.versions.find((each) => each.version === number);
    if (version === undefined) {
      version = { ...firstSeen(at), version: number, readers: new Map() };
      note.versions.push(version);
      added(note);
    } else if (at > version.at) version.at = at;
    const reader = version.readers.get(principalId);
    if (reader !== undefined) {
      if (at > reader.at) reader.at = at;
    } else if (rows < rowsMax) {
      version.readers.set(principalId, firstSeen(at));
      added(note);
    }
  }

  /** Written notes stay while there is room: a row that was fetched before the write may yet be shown. */
  function makeRoom(): void {
    for (const [id, note] of notes) {
      if (rows <= rowsMax / 2) return;
      if (note.isDirty) continue;
      notes.delete(id);
      note.isGone = true;
      rows -= partsOf(note).length;
    }
  }

  return {
    noteDisclosure(row: SettingRow, principalId: string, at: number): void {
      const note = noted(lookedUp(row), at, row.setting, false);
      if (note !== null) noteReader(note, row.version.version, principalId, at);
    },
    noteTokenUse(id: string, at: number): void {
      noted(notes.get(id), at, { tenant_id: id, id }, true);
    },

    /** When it was last of use; undefined: nothing is noted. */
    settingAt: (row: SettingRow): number | undefined => lookedUp(row)?.at,
    versionAt: ({ setting_id, version }: VersionRecord): number | undefined =>
      notes.get(setting_id)?.versions.find((each) => each.version === version)?.at,
    tokenAt: (id: string): number | undefined => notes.get(id)?.at,

    isAllWritten: (): boolean => dirty.size === 0,
    /** Whether so much was never written that it should be at once. */
    isUrgent: (): boolean => freshRows >= hurryAt,
    /** How many writes all that is noted by now takes. */
    writesToCome: (): number => Math.ceil(dirty.size / settingsAWrite),

    /** What the next write is of. @param all also what was written lately, with an earlier time */
    takeDue(all: boolean): readonly Note[] {
      const now = Date.now();
      if (!all && now < dueFrom) return [];
      const due: Note[] = [];
      dueFrom = Number.POSITIVE_INFINITY;
      let rowsAgain = 0;
      let isFreshLeft = false;
      for (const note of dirty) {
        const from = dueAt(note);
        // One that is missed for long is given up: it is tried as often as can be until then.
        const isSoon = all || note.fresh || note.isMissed;
        const hasRoom = due.length < settingsAWrite && (isSoon || rowsAgain < rowsAgainAWrite);
        if (hasRoom && (all || from <= now)) {
          due.push(note);
          if (!isSoon) rowsAgain += partsOf(note).length;
          continue;
        }
        dueFrom = Math.min(dueFrom, from);
        isFreshLeft = note.fresh;
        if (isFreshLeft) break;
      }
      // What was never written is not kept waiting.
      freshRows = isFreshLeft ? hurryAt : 0;
      return due;
    },
    /** To be called once a write of them has ended, however it did. */
    putBack(due: readonly Note[], hasFailed: boolean): void {
      // No hurry then.
      if (hasFailed) freshRows = 0;
      for (const note of due) {
        // Noted once more while it was written: due when that is old enough, and not at once.
        note.fresh = partsOf(note).some(({ written }) => written === 0);
        note.isMissed = partsOf(note).some(
          (part) => isUnwritten(part) && (hasFailed || part.missedAt !== null),
        );
        dirty.delete(note);
        note.isDirty = false;
        // Behind those that were not written yet.
        if (partsOf(note).some(isUnwritten)) toBeWritten(note);
      }
      makeRoom();
    },
  };
}
