// When values were last disclosed (and to whom) and tokens last used. Noted in memory, written soon after in one statement a table,
// never waited for by an answer, and lost in a crash; until written, this replica's reads show it all the same.
// Times only move forward. Rows that a writer has locked are passed over and taken the next time.
import { ACCESS_NOTED_SECONDS, type TokenRecord } from "../domain/ports.ts";
import type { SettingRow, VersionRecord } from "../domain/setting.ts";
import type { Db, Param, Statement } from "./db.ts";
import { asBrokerError } from "./failures.ts";

const notesMax = 50_000;
/** So many that wait are written at once, and not when the interval is over. */
const hurryAt = 5_000;
/** A note whose row cannot be had this often is given up. */
const triesMax = 5;
const writeIntervalMs = 1_000;
const tokenIntervalMs = 60_000;
/** A row that is read all the time is not written each second: an update of a row costs as much as reading it. */
const rowIntervalMs = ACCESS_NOTED_SECONDS * 1_000;

// Locking in the order of the key, and never waiting for a lock, rules out deadlocks with writers. What is held carries
// its time along: joined with what was noted once more, thousands of notes were compared each with each, for seconds.
const settingStatement: Statement = {
  name: "note_settings",
  text: `WITH noted AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS n (tenant_id, id, at)),
    held AS (SELECT s.tenant_id, s.id, n.at FROM settings s JOIN noted n ON s.tenant_id = n.tenant_id AND s.id = n.id
      ORDER BY s.tenant_id, s.id FOR NO KEY UPDATE OF s SKIP LOCKED)
    UPDATE settings s SET last_accessed_at = greatest(s.last_accessed_at, h.at) FROM held h
    WHERE s.tenant_id = h.tenant_id AND s.id = h.id RETURNING s.id AS key`,
};
const versionStatement: Statement = {
  name: "note_versions",
  text: `WITH noted AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[]) AS n (tenant_id, id, version, at)),
    held AS (SELECT v.tenant_id, v.setting_id, v.version, n.at FROM setting_versions v
      JOIN noted n ON v.tenant_id = n.tenant_id AND v.setting_id = n.id AND v.version = n.version
      ORDER BY v.tenant_id, v.setting_id, v.version FOR NO KEY UPDATE OF v SKIP LOCKED)
    UPDATE setting_versions v SET last_accessed_at = greatest(v.last_accessed_at, h.at) FROM held h
    WHERE v.tenant_id = h.tenant_id AND v.setting_id = h.setting_id AND v.version = h.version
    RETURNING v.setting_id || '.' || v.version AS key`,
};
const tokenStatement: Statement = {
  name: "note_tokens",
  text: `WITH noted AS (SELECT * FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, at)),
    held AS (SELECT t.id, n.at FROM tokens t JOIN noted n ON t.id = n.id ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED)
    UPDATE tokens t SET last_used_at = greatest(t.last_used_at, h.at) FROM held h WHERE t.id = h.id RETURNING t.id AS key`,
};

// One row for each who and which: who is still with an old version, and since when nobody is.
const readerStatement: Statement = {
  name: "note_readers",
  text: `INSERT INTO setting_readers AS r (tenant_id, setting_id, version, principal_id, last_read_at)
    SELECT n.tenant_id, n.id, n.version, n.principal_id, n.at
    FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::timestamptz[])
      AS n (tenant_id, id, version, principal_id, at)
    JOIN setting_versions v ON v.tenant_id = n.tenant_id AND v.setting_id = n.id AND v.version = n.version
    ORDER BY n.tenant_id, n.id, n.version, n.principal_id
    ON CONFLICT (tenant_id, setting_id, version, principal_id)
      DO UPDATE SET last_read_at = greatest(r.last_read_at, EXCLUDED.last_read_at)
    RETURNING setting_id || '.' || version || '.' || principal_id AS key`,
};

/** `written`: the time that the database has, as far as this replica knows. */
type Note = {
  at: Date;
  written: Date | null;
  tries: number;
  readonly tenant_id: string;
  readonly id: string;
  readonly version: number;
  /** Who read; of notes about readers alone. */
  readonly principal_id: string | null;
};
type Notes = Map<string, Note>;

const isDue = ({ at, written }: Note): boolean => written === null || at > written;
const later = (one: Date | null, other: Date | undefined): Date | null =>
  other !== undefined && (one === null || other > one) ? other : one;

const dueOf = (notes: Notes): [string, Note][] => [...notes].filter(([, note]) => isDue(note));
const isOldEnough = ({ at, written }: Note, intervalMs: number): boolean =>
  written === null || at.getTime() - written.getTime() >= intervalMs;
const timesOf = (notes: readonly Note[]): string[] => notes.map(({ at }) => at.toISOString());
const idsOf = (notes: readonly Note[]): string[] => notes.map(({ id }) => id);
const tenantsOf = (notes: readonly Note[]): string[] => notes.map(({ tenant_id }) => tenant_id);

export type AccessNotes = ReturnType<typeof createAccessNotes>;

export function createAccessNotes(db: Db, onBackgroundError: (error: unknown) => void) {
  const settings: Notes = new Map();
  const versions: Notes = new Map();
  const tokens: Notes = new Map();
  const readers: Notes = new Map();
  let unwritten = 0;
  let writing: Promise<void> | null = null;
  let timer: NodeJS.Timeout | null = null;
  let lastWriteMs = Number.NEGATIVE_INFINITY;
  let closed = false;

  function note(
    notes: Notes,
    key: string,
    at: Date,
    row: Pick<Note, "tenant_id" | "id" | "version" | "principal_id">,
  ): void {
    unwritten += 1;
    const known = notes.get(key);
    if (known !== undefined) {
      if (at > known.at) known.at = at;
      return;
    }
    // Room is made after each write: when there is none, the database is far behind, and the note is not kept.
    if (notes.size < notesMax) notes.set(key, { at, written: null, tries: 0, ...row });
  }

  /** One write at a time. */
  function start(all = false): Promise<void> {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    unwritten = 0;
    const before = writing;
    const mine = (async () => {
      await before;
      await write(all);
    })().finally(() => {
      if (writing === mine) writing = null;
      lastWriteMs = performance.now();
      if (isAnyDue()) schedule();
    });
    writing = mine;
    return mine;
  }

  const isAnyDue = (): boolean =>
    [settings, versions, readers].some((notes) => [...notes.values()].some(isDue));

  /** At once when the last write is long enough ago, or very much waits; else when it will be. */
  function schedule(): void {
    if (closed || writing !== null) return;
    const delayMs = unwritten >= hurryAt ? 0 : lastWriteMs + writeIntervalMs - performance.now();
    if (delayMs <= 0) void start();
    else timer ??= setTimeout(() => void start(), delayMs).unref();
  }

  async function put(
    notes: Notes,
    due: readonly [string, Note][],
    statement: Statement,
    columns: (each: readonly Note[]) => Param[],
  ) {
    if (due.length === 0) return;
    const sent = due.map(([key, each]) => ({ key, each, at: each.at }));
    const rows = await db.query<{ key: string }>(statement, columns(due.map(([, each]) => each)));
    const done = new Set(rows.map(({ key }) => key));
    for (const { key, each, at } of sent) {
      if (done.has(key)) {
        each.written = at;
        each.tries = 0;
      } else if (++each.tries >= triesMax) notes.delete(key);
    }
  }

  /** @param all also what was written a moment ago, with an earlier time; so it is where room is to be made */
  async function write(all: boolean): Promise<void> {
    const due = (notes: Notes, intervalMs: number) =>
      dueOf(notes).filter(([, each]) => all || notes.size > notesMax / 2 || isOldEnough(each, intervalMs));
    try {
      await put(settings, due(settings, rowIntervalMs), settingStatement, (all) => [
        tenantsOf(all),
        idsOf(all),
        timesOf(all),
      ]);
      await put(versions, due(versions, rowIntervalMs), versionStatement, (all) => [
        tenantsOf(all),
        idsOf(all),
        all.map(({ version }) => String(version)),
        timesOf(all),
      ]);
      await put(readers, due(readers, rowIntervalMs), readerStatement, (all) => [
        tenantsOf(all),
        idsOf(all),
        all.map(({ version }) => String(version)),
        all.map(({ principal_id }) => principal_id),
        timesOf(all),
      ]);
      await put(tokens, due(tokens, tokenIntervalMs), tokenStatement, (all) => [idsOf(all), timesOf(all)]);
    } catch (error) {
      onBackgroundError(asBrokerError(error));
    }
    for (const notes of [settings, versions, tokens, readers]) makeRoom(notes);
  }

  /** Written notes stay while there is room: a row that was fetched before the write may yet be shown. */
  function makeRoom(notes: Notes): void {
    for (const [key, each] of notes) {
      if (notes.size <= notesMax / 2) return;
      if (!isDue(each)) notes.delete(key);
    }
  }

  function overlayVersion(version: VersionRecord): VersionRecord {
    const at = versions.get(`${version.setting_id}.${version.version}`)?.at;
    return at === undefined ? version : { ...version, last_accessed_at: later(version.last_accessed_at, at) };
  }

  return {
    noteAccess(rows: readonly SettingRow[], at: Date, principalId: string): void {
      for (const { setting, version } of rows) {
        const { tenant_id, id } = setting;
        const of = { tenant_id, id, version: version.version, principal_id: null };
        note(settings, id, at, { ...of, version: 0 });
        note(versions, `${id}.${version.version}`, at, of);
        const reader = { ...of, principal_id: principalId };
        note(readers, `${id}.${version.version}.${principalId}`, at, reader);
      }
      if (rows.length > 0) schedule();
    },

    noteTokenUse(id: string, at: Date): void {
      note(tokens, id, at, { tenant_id: id, id, version: 0, principal_id: null });
      const known = tokens.get(id);
      const since = known?.written ?? null;
      if (known !== undefined && (since === null || at.getTime() - since.getTime() >= tokenIntervalMs))
        schedule();
    },

    overlay({ setting, version }: SettingRow): SettingRow {
      const at = settings.get(setting.id)?.at;
      const seen =
        at === undefined ? setting : { ...setting, last_accessed_at: later(setting.last_accessed_at, at) };
      return { setting: seen, version: overlayVersion(version) };
    },
    overlayVersion,
    overlayToken(token: TokenRecord): TokenRecord {
      const at = tokens.get(token.id)?.at;
      return at === undefined ? token : { ...token, last_used_at: later(token.last_used_at, at) };
    },

    /** Writes what is noted so far, for whoever is about to count on it. */
    async flush(): Promise<void> {
      if (writing !== null || isAnyDue()) await start(true);
    },

    /** Writes what is noted, and takes no more. */
    async close(): Promise<void> {
      closed = true;
      if (timer !== null) clearTimeout(timer);
      await writing;
      await write(true);
    },
  };
}
