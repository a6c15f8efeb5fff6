// When values were last disclosed (and to whom) and tokens last used. Noted in memory, written soon after in one
// statement a table, never waited for by an answer, and lost in a crash; until written, this replica's reads show it
// all the same. Times only move forward. Rows that a writer has locked are passed over and taken the next time.
import type { TokenRecord } from "../domain/ports.ts";
import type { SettingRow, VersionRecord } from "../domain/setting.ts";
import { readerStatement, settingStatement, tokenStatement, versionStatement } from "./access-notes-sql.ts";
import { type Note, type Seen, createNotesTable, isUnwritten } from "./access-notes-table.ts";
import type { Db, Param, Statement } from "./db.ts";
import { asBrokerError } from "./failures.ts";

/** A note whose row could not be had for so long is given up. */
const patienceMs = 5_000;
/** Often, so that each write is small: a second's notes at once are in the way of everything else. */
const writeIntervalMs = 100;
const pauseAfterErrorMs = 1_000;

/** One row on its way to the database. */
type Sent = {
  readonly seen: Seen;
  readonly at: number;
  readonly of: Note;
  readonly version: number;
  readonly principal_id: string;
};

const later = (one: Date | null, other: number | undefined): Date | null =>
  other !== undefined && (one === null || other > one.getTime()) ? new Date(other) : one;

export type AccessNotes = ReturnType<typeof createAccessNotes>;

export function createAccessNotes(db: Db, onBackgroundError: (error: unknown) => void) {
  const table = createNotesTable();
  let writing: Promise<void> | null = null;
  let timer: NodeJS.Timeout | null = null;
  let lastWriteMs = Number.NEGATIVE_INFINITY;
  let pauseMs = writeIntervalMs;
  let closed = false;

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
      if (!table.isAllWritten()) schedule();
    });
    writing = mine;
    return mine;
  }

  /** At once when the last write is long enough ago, or very much waits; else when it will be. */
  function schedule(): void {
    if (closed || writing !== null) return;
    const delayMs = table.isUrgent() ? 0 : lastWriteMs + pauseMs - performance.now();
    if (delayMs <= 0) begin();
    else timer ??= setTimeout(begin, delayMs).unref();
  }

  /** Its failure was told, and it is tried again. */
  function begin(): void {
    start().catch(() => undefined);
  }

  /** All that is noted by now. @throws what a write threw */
  async function writeAll(write: () => Promise<void>): Promise<void> {
    for (let rounds = table.writesToCome(); rounds > 0; rounds--) await write();
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
      if (seen.missedAt !== null && now - seen.missedAt < patienceMs) continue;
      seen.written = at;
      seen.missedAt = null;
    }
  }

  async function write(all: boolean): Promise<void> {
    const due = table.takeDue(all);
    const [ofTokens, ofSettings, ofVersions, ofReaders]: [Sent[], Sent[], Sent[], Sent[]] = [[], [], [], []];
    for (const of of due) {
      const sent = (seen: Seen, version = 0, principal_id = ""): Sent[] =>
        isUnwritten(seen) ? [{ seen, at: seen.at, of, version, principal_id }] : [];
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
      pauseMs = pauseAfterErrorMs;
      failure = asBrokerError(error);
      onBackgroundError(failure);
    }
    table.putBack(due, failure !== null);
    if (failure !== null) throw failure;
  }

  function overlayVersion(version: VersionRecord): VersionRecord {
    const at = table.versionAt(version);
    return at === undefined ? version : { ...version, last_accessed_at: later(version.last_accessed_at, at) };
  }
  const lastAccess = (row: SettingRow): Date | null =>
    later(row.setting.last_accessed_at, table.settingAt(row));

  return {
    noteAccess(disclosed: readonly SettingRow[], time: Date, principalId: string): void {
      for (const row of disclosed) table.noteDisclosure(row, principalId, time.getTime());
      if (disclosed.length > 0 && timer === null) schedule();
    },

    noteTokenUse(id: string, at: Date): void {
      table.noteTokenUse(id, at.getTime());
      if (timer === null) schedule();
    },

    /** When a setting's value was last disclosed, as far as its row or this replica knows. */
    lastAccess,
    overlay(row: SettingRow): SettingRow {
      const setting = { ...row.setting, last_accessed_at: lastAccess(row) };
      return { setting, version: overlayVersion(row.version) };
    },
    overlayVersion,
    overlayToken(token: TokenRecord): TokenRecord {
      const at = table.tokenAt(token.id);
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
