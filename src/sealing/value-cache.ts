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
  // A Map keeps its order: the oldest entry is the first, and all live as long.
  const entries = new Map<string, Entry>();
  let bytes = 0;
  let timer: NodeJS.Timeout | null = null;

  function drop(name: string, { plaintext }: Entry): void {
    entries.delete(name);
    bytes -= plaintext.byteLength;
  }

  // A clock that was set back must not lengthen a life.
  const isOver = ({ since }: Entry, now: number): boolean => now < since || now - since >= seconds * 1_000;

  function dropOld(now: number): void {
    for (const [name, entry] of entries) {
      if (!isOver(entry, now) && bytes <= BYTES_MAX) break;
      drop(name, entry);
    }
    // Also where nobody reads any more.
    if (entries.size > 0) timer ??= setTimeout(look, seconds * 1_000).unref();
  }

  function look(): void {
    timer = null;
    dropOld(clock.now().getTime());
  }

  return {
    take(row) {
      if (seconds === 0 || entries.size === 0) return null;
      dropOld(clock.now().getTime());
      return entries.get(nameOf(row))?.plaintext ?? null;
    },
    put(row, plaintext) {
      if (seconds === 0 || row.version.storage !== "manager" || followsLatest(row.version)) return;
      const name = nameOf(row);
      const known = entries.get(name);
      if (known !== undefined) drop(name, known);
      const now = clock.now().getTime();
      entries.set(name, { plaintext, since: now });
      bytes += plaintext.byteLength;
      dropOld(now);
    },
  };
}

/** A value that was moved has another location, and a purged setting's successor another id. */
function nameOf({ setting, version }: SettingRow): string {
  return `${setting.id}.${version.version}.${version.location?.version_id ?? ""}`;
}
