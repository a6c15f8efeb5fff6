// Values that were read from a manager, kept for some seconds at most where the operator says so. Keyed by the version's
// own location: another version is another value. Who may read is decided anew before anybody looks here, so nothing
// kept outlives a right; what follows the newest in its manager is never kept.
import type { Clock } from "../domain/ports.ts";
import type { Plaintext } from "../domain/plaintext.ts";
import { type SettingRow, followsLatest } from "../domain/setting.ts";

const BYTES_MAX = 16_777_216;

export type ValueCache = {
  take(row: SettingRow): Plaintext | null;
  put(row: SettingRow, plaintext: Plaintext): void;
};

type Entry = { readonly plaintext: Plaintext; readonly since: number };

/** @param seconds 0: nothing is kept */
export function createValueCache(clock: Clock, seconds: number): ValueCache {
  // A Map keeps its order: the first was put there longest ago.
  const entries = new Map<string, Entry>();
  let bytes = 0;
  let timer: NodeJS.Timeout | null = null;

  function drop(name: string): void {
    bytes -= entries.get(name)?.plaintext.byteLength ?? 0;
    entries.delete(name);
  }

  // A clock that was set back must not lengthen a life.
  const isOver = ({ since }: Entry, now: number): boolean => now < since || now - since >= seconds * 1_000;

  /** Also where nobody reads any more. */
  function look(): void {
    timer = null;
    const now = clock.now().getTime();
    let oldest = now;
    for (const [name, entry] of entries)
      if (isOver(entry, now)) drop(name);
      else oldest = Math.min(oldest, entry.since);
    lookAgainIn(oldest + seconds * 1_000 - now);
  }

  function lookAgainIn(ms: number): void {
    if (entries.size > 0) timer ??= setTimeout(look, ms).unref();
  }

  return {
    take(row) {
      if (entries.size === 0) return null;
      const name = nameOf(row);
      const entry = entries.get(name);
      if (entry === undefined) return null;
      if (!isOver(entry, clock.now().getTime())) return entry.plaintext;
      drop(name);
      return null;
    },
    put(row, plaintext) {
      if (seconds === 0 || row.version.storage !== "manager" || followsLatest(row.version)) return;
      const name = nameOf(row);
      drop(name);
      entries.set(name, { plaintext, since: clock.now().getTime() });
      bytes += plaintext.byteLength;
      for (const oldest of entries.keys()) {
        if (bytes <= BYTES_MAX) break;
        drop(oldest);
      }
      lookAgainIn(seconds * 1_000);
    },
  };
}

/** A value that was moved has another location, and a purged setting's successor another id. */
function nameOf({ setting, version }: SettingRow): string {
  return `${setting.id}.${version.version}.${version.location?.version_id ?? ""}`;
}
