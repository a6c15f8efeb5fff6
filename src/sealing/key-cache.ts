// Keys in memory, bounded in number, age and uses: what is over a bound is dropped and has to be unwrapped anew, so
// that a key that is gone from the database goes out of use here as well, within the age bound.
// Holds KeyObjects alone, never raw bytes. Nothing here waits; a miss is the caller's to mend.
import { type KeyObject, randomBytes } from "node:crypto";
import type { Clock } from "../domain/ports.ts";
import { createRecent } from "../domain/recent.ts";
import { KEY_BYTES, takeKey } from "./envelope.ts";

export type KeyCacheBounds = {
  readonly countMax: number;
  readonly ageMaxSeconds: number;
  readonly usesMax: number;
};

/** A key in memory. */
export type HeldKey = {
  readonly key: KeyObject;
  /**
   * One more, for what is sealed to stay in memory: random, made when it is asked for first, gone with the key and at
   * rest nowhere. It is good for as many sealings as the key for uses, far fewer than 2^32 (NIST SP 800-38D, section 8.3).
   */
  pageKey(): KeyObject;
};

type KeyCache = {
  /** The key, counting one use; null when it is not here, or over a bound. */
  take(name: string): HeldKey | null;
  /** A mark to take before a key is loaded: should anything be forgotten after it, the key is not kept. */
  asOf(): number;
  /** Keeps a key; one that was not used lately goes when there are too many. `subjects`: whose it is. */
  put(name: string, key: KeyObject, subjects: readonly string[], asOf: number): void;
  /** Drops all that is a subject's. */
  forget(subject: string): void;
};

type Entry = {
  readonly held: HeldKey;
  readonly subjects: readonly string[];
  readonly since: number;
  uses: number;
};

function heldOf(key: KeyObject): HeldKey {
  let pageKey: KeyObject | null = null;
  return { key, pageKey: () => (pageKey ??= takeKey(randomBytes(KEY_BYTES))) };
}

/** @param onTake told of each key looked for, whether it was here */
export function createKeyCache(
  clock: Clock,
  bounds: KeyCacheBounds,
  onTake: (found: boolean) => void = () => undefined,
): KeyCache {
  const entries = createRecent<Entry>(bounds.countMax);
  const ageMax = bounds.ageMaxSeconds * 1_000;
  let sweptAt = 0;
  let forgotten = 0;

  // A clock that was set back must not lengthen a life.
  const isOver = ({ since, uses }: Entry, now: number): boolean =>
    now - since >= ageMax || now < since || uses >= bounds.usesMax;

  /** Old keys that nobody asks for any more would otherwise stay until they are crowded out. */
  function sweep(now: number): void {
    if (Math.abs(now - sweptAt) < ageMax / 2) return;
    sweptAt = now;
    entries.dropWhere((entry) => isOver(entry, now));
  }

  return {
    take(name) {
      const entry = entries.get(name);
      const found = entry !== undefined && !isOver(entry, clock.now().getTime());
      onTake(found);
      if (!found) {
        entries.drop(name);
        return null;
      }
      entry.uses += 1;
      return entry.held;
    },
    asOf: () => forgotten,
    put(name, key, subjects, asOf) {
      // A load that began before its owner was forgotten must not bring the key back.
      if (asOf !== forgotten) return;
      const now = clock.now().getTime();
      sweep(now);
      entries.put(name, { held: heldOf(key), subjects, since: now, uses: 0 });
    },
    forget(subject) {
      forgotten += 1;
      entries.dropWhere(({ subjects }) => subjects.includes(subject));
    },
  };
}
