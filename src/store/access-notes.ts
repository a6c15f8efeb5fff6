// When values were last disclosed (and to whom) and tokens last used. Noted in memory, written soon after in one
// statement a table, never waited for by an answer, and lost in a crash; until written, this replica's reads show it
// all the same. Times only move forward. Rows that a writer has locked are passed over and taken the next time.
import { ACCESS_NOTED_SECONDS, type TokenRecord } from "../domain/ports.ts";
import type { SettingRecord, SettingRow, VersionRecord } from "../domain/setting.ts";
import { readerStatement, settingStatement, tokenStatement, versionStatement } from "./access-notes-sql.ts";
import type { Db, Param, Statement } from "./db.ts";
import { asBrokerError } from "./failures.ts";

/** Rows that are noted at once; where there are none left to forget, a new one is not kept. */
const rowsMax = 100_000;
/** So many that were never written are written at once, and not when the interval is over. */
const hurryAt = 5_000;
/** More are several writes: making one is done in one go, which everybody else waits for. */
const settingsAWrite = 250;
/** A note whose row could not be had for so long is given up. */
const patienceMs = 5_000;
/** Often, so that each write is small: a second's notes at once are in the way of everything else. */
const writeIntervalMs = 100;
const pauseAfterErrorMs = 1_000;
/** A row that is read all the time is not written each second: an update of a row costs as much as reading it. */
const rewriteMs = ACCESS_NOTED_SECONDS * 1_000;

/**
 * When a row was last of use. `written`: what the database has of it, as far as this replica knows; 0 for nothing.
 * `missedAt`: since when the row cannot be had.
 */
type Seen = { at: number; written: number; missedAt: number | null };
type Readers = Map<string, Seen>;
type VersionNote = Seen & { readonly version: number; readonly readers: Readers };
/** A setting or a token, with all that is noted of it: written together. `fresh`: some of it was never written. */
type Note = Seen & {
  readonly tenant_id: string;
  readonly id: string;
  readonly isToken: boolean;
  readonly versions: VersionNote[];
  fresh: boolean;
};
/** One row on its way to the database. */
type Sent = {
  readonly seen: Seen;
  readonly at: number;
  readonly of: Note;
  readonly version: number;
  readonly principal_id: string;
};

const firstSeen = (at: number): Seen => ({ at, written: 0, missedAt: null });
const later = (one: Date | null, other: number | undefined): Date | null =>
  other !== undefined && (one === null || other > one.getTime()) ? new Date(other) : one;
const isDirty = ({ at, written }: Seen): boolean => at > written;

const partsOf = (note: Note): readonly Seen[] => [
  note,
  ...note.versions.flatMap((version) => [version, ...version.readers.values()]),
];
export type AccessNotes = ReturnType<typeof createAccessNotes>;

export function createAccessNotes(db: Db, onBackgroundError: (error: unknown) => void) {
  const notes = new Map<string, Note>();
  /** Those of which something is to be written, now or when the last time is old enough. */
  const dirty = new Set<Note>();
  let rows = 0;
  let freshRows = 0;
  let writing: Promise<void> | null = null;
  let timer: NodeJS.Timeout | null = null;
  let lastWriteMs = Number.NEGATIVE_INFINITY;
  let pauseMs = writeIntervalMs;
  let closed = false;

  /** Null where there is no room: the database is far behind then. */
  function noteOf(tenant_id: string, id: string, at: number, isToken: boolean): Note | null {
    const known = notes.get(id);
    if (known !== undefined) {
      if (at > known.at) known.at = at;
      dirty.add(known);
      return known;
    }
    if (rows >= rowsMax) return null;
    const note: Note = { ...firstSeen(at), tenant_id, id, isToken, versions: [], fresh: true };
    notes.set(id, note);
    dirty.add(note);
    added();
    return note;
  }

  function added(): void {
    rows += 1;
    freshRows += 1;
  }

  function noteReader(note: Note, number: number, principalId: string, at: number): void {
    let version = note.versions.find((each) => each.version === number);
    if (version === undefined) {
      version = { ...firstSeen(at), version: number, readers: new Map() };
      note.versions.push(version);
      note.fresh = true;
      added();
    } else if (at > version.at) version.at = at;
    const reader = version.readers.get(principalId);
    if (reader !== undefined) {
      if (at > reader.at) reader.at = at;
    } else if (rows < rowsMax) {
      version.readers.set(principalId, firstSeen(at));
      note.fresh = true;
      added();
    }
  }

  /** One write at a time. @param all also what was written lately, with an earlier time */
  function start(all = false): Promise<void> {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    const before = writing;
    const mine = (async () => {
      await before?.catch(() => undefined);
      await write(all);
    })().finally(() => {
      if (writing === mine) writing = null;
      lastWriteMs = performance.now();
      if (dirty.size > 0) schedule();
    });
    writing = mine;
    return mine;
  }

  /** At once when the last write is long enough ago, or very much waits; else when it will be. */
  function schedule(): void {
    if (closed || writing !== null) return;
    const delayMs = freshRows >= hurryAt ? 0 : lastWriteMs + pauseMs - performance.now();
    if (delayMs <= 0) begin();
    else timer ??= setTimeout(begin, delayMs).unref();
  }

  /** Its failure was told, and it is tried again. */
  function begin(): void {
    start().catch(() => undefined);
  }

  /** All that is noted by now. @throws what a write threw */
  async function writeAll(write: () => Promise<void>): Promise<void> {
    for (let rounds = Math.ceil(dirty.size / settingsAWrite); rounds > 0; rounds--) await write();
  }

  async function put(sent: readonly Sent[], statement: Statement, ...more: ((each: Sent) => string)[]) {
    if (sent.length === 0) return;
    const params: Param[] = [
      sent.map(({ of }) => of.tenant_id),
      sent.map(({ of }) => of.id),
      sent.map(({ at }) => new Date(at).toISOString()),
      ...more.map((column) => sent.map(column)),
    ];
    const done = new Set((await db.query<{ n: number }>(statement, params)).map(({ n }) => n));
    const now = performance.now();
    for (const [index, { seen, at }] of sent.entries()) {
      if (done.has(index + 1)) seen.missedAt = null;
      else seen.missedAt ??= now;
      if (seen.missedAt === null || now - seen.missedAt >= patienceMs) seen.written = at;
    }
  }

  async function write(all: boolean): Promise<void> {
    const oldest = Date.now() - rewriteMs;
    const due: Note[] = [];
    for (const note of dirty) {
      if (all || note.fresh || note.written <= oldest) due.push(note);
      if (due.length === settingsAWrite) break;
    }
    // Where that was not all, the rest is not kept waiting.
    freshRows = due.length === settingsAWrite ? hurryAt : 0;
    const [ofTokens, ofSettings, ofVersions, ofReaders]: [Sent[], Sent[], Sent[], Sent[]] = [[], [], [], []];
    for (const of of due) {
      const sent = (seen: Seen, version = 0, principal_id = ""): Sent[] =>
        isDirty(seen) ? [{ seen, at: seen.at, of, version, principal_id }] : [];
      (of.isToken ? ofTokens : ofSettings).push(...sent(of));
      for (const each of of.versions) {
        ofVersions.push(...sent(each, each.version));
        for (const [principal, reader] of each.readers)
          ofReaders.push(...sent(reader, each.version, principal));
      }
    }
    const version = (each: Sent): string => String(each.version);
    let failure: Error | null = null;
    try {
      await put(ofSettings, settingStatement);
      await put(ofVersions, versionStatement, version);
      await put(ofReaders, readerStatement, version, ({ principal_id }) => principal_id);
      await put(ofTokens, tokenStatement);
      pauseMs = writeIntervalMs;
    } catch (error) {
      // No hurry then.
      freshRows = 0;
      pauseMs = pauseAfterErrorMs;
      failure = asBrokerError(error);
      onBackgroundError(failure);
    }
    for (const note of due) {
      // Noted once more while it was written: due when that is old enough, and not at once.
      note.fresh = partsOf(note).some(({ written }) => written === 0);
      dirty.delete(note);
      // Behind those that were not written yet.
      if (partsOf(note).some(isDirty)) dirty.add(note);
    }
    makeRoom();
    if (failure !== null) throw failure;
  }

  /** Written notes stay while there is room: a row that was fetched before the write may yet be shown. */
  function makeRoom(): void {
    for (const [id, note] of notes) {
      if (rows <= rowsMax / 2) return;
      if (dirty.has(note)) continue;
      notes.delete(id);
      rows -= partsOf(note).length;
    }
  }

  function overlayVersion(version: VersionRecord): VersionRecord {
    const note = notes.get(version.setting_id);
    const at = note?.versions.find((each) => each.version === version.version)?.at;
    return at === undefined ? version : { ...version, last_accessed_at: later(version.last_accessed_at, at) };
  }
  const lastAccess = ({ id, last_accessed_at }: SettingRecord): Date | null =>
    later(last_accessed_at, notes.get(id)?.at);

  return {
    noteAccess(disclosed: readonly SettingRow[], time: Date, principalId: string): void {
      const at = time.getTime();
      for (const { setting, version } of disclosed) {
        const note = noteOf(setting.tenant_id, setting.id, at, false);
        if (note !== null) noteReader(note, version.version, principalId, at);
      }
      if (disclosed.length > 0 && timer === null) schedule();
    },

    noteTokenUse(id: string, at: Date): void {
      noteOf(id, id, at.getTime(), true);
      if (timer === null) schedule();
    },

    /** When a setting's value was last disclosed, as far as its row or this replica knows. */
    lastAccess,
    overlay({ setting, version }: SettingRow): SettingRow {
      const seen = { ...setting, last_accessed_at: lastAccess(setting) };
      return { setting: seen, version: overlayVersion(version) };
    },
    overlayVersion,
    overlayToken(token: TokenRecord): TokenRecord {
      const at = notes.get(token.id)?.at;
      return at === undefined ? token : { ...token, last_used_at: later(token.last_used_at, at) };
    },

    /** Writes what is noted so far, for whoever is about to count on it. @throws BrokerError where it cannot be written */
    async flush(): Promise<void> {
      await writing?.catch(() => undefined);
      await writeAll(() => start(true));
    },

    /** Writes what is noted, and takes no more. */
    async close(): Promise<void> {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      await writing?.catch(() => undefined);
      await writeAll(() => write(true)).catch(() => undefined);
    },
  };
}
