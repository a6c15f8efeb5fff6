// Pages of rows as they were read last, so that a hit moves no rows. Nothing here is ever believed by itself: the
// statement that admits and records names the rows' versions as of its own snapshot, and only a page of those very
// versions is used. Ciphertext alone is kept, within a bound.
import type { Subject } from "../domain/audit.ts";
import type { SettingPage } from "../domain/ports.ts";

/** What is kept in all, as its rows' JSON counts it; as objects they take some twice as much. */
const WEIGHT_MAX = 25_165_824;
/** Keys of pages that were read once lately. */
const GLIMPSES_MAX = 8_192;

export type KnownPage = {
  /** Which versions of which rows it is made of, as the database names them. */
  readonly stamp: string;
  readonly page: SettingPage;
  /** What an event that shows all of it names. */
  readonly subjects: readonly Subject[];
  readonly weight: number;
};

export function createPageCache() {
  // A Map keeps its order: the least recently used page is the first.
  const pages = new Map<string, KnownPage>();
  let weight = 0;
  // What is read once is not worth the room: a page is kept from its second reading on.
  let [glimpsed, glimpsedBefore] = [new Set<string>(), new Set<string>()];

  function isGlimpsed(key: string): boolean {
    if (glimpsed.has(key) || glimpsedBefore.has(key)) return true;
    if (glimpsed.size >= GLIMPSES_MAX) [glimpsed, glimpsedBefore] = [new Set(), glimpsed];
    glimpsed.add(key);
    return false;
  }

  function drop(key: string): void {
    weight -= pages.get(key)?.weight ?? 0;
    pages.delete(key);
  }

  return {
    get(key: string): KnownPage | null {
      const known = pages.get(key);
      if (known === undefined) return null;
      pages.delete(key);
      pages.set(key, known);
      return known;
    },
    put(key: string, known: KnownPage): void {
      if (!isGlimpsed(key)) return;
      drop(key);
      pages.set(key, known);
      weight += known.weight;
      for (const [oldest] of pages) {
        if (weight <= WEIGHT_MAX) break;
        drop(oldest);
      }
    },
    drop,
  };
}
