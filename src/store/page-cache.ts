// Pages of rows as they were read last, so that a hit moves no rows. Nothing here is ever believed by itself: the
// statement that admits and records names the rows' versions as of its own snapshot, and only a page of those very
// versions is used. Ciphertext alone is kept, within a bound.
import type { Subject } from "../domain/audit.ts";
import type { SettingPage } from "../domain/ports.ts";

/** Bytes of memory that all pages may take, by and large. */
const WEIGHT_MAX = 67_108_864;
/** Keys of pages that were read once lately. */
const GLIMPSES_MAX = 8_192;

export type KnownPage = {
  /** Which versions of which rows it is made of, as the database names them. */
  readonly stamp: string;
  readonly page: SettingPage;
  /** What an event that shows all of it names. */
  readonly subjects: readonly Subject[];
  /** About how many bytes it takes. */
  readonly weight: number;
};

/** As objects rows take some twice their JSON, and 1.5 KB each whatever is in them. */
export const weightOf = (jsonLength: number, rows: number): number => 2 * jsonLength + 1_536 * rows;

export function createPageCache() {
  // A Map keeps its order: the least recently used page is the first.
  const pages = new Map<string, KnownPage>();
  let weight = 0;
  // What is read once is not worth the room: a page is kept from its second reading on.
  let [glimpsed, glimpsedBefore] = [new Set<string>(), new Set<string>()];

  /** Whether the page is worth keeping, as far as is known; asking is a reading. */
  function isWanted(key: string): boolean {
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
    isWanted,
    get(key: string): KnownPage | null {
      const known = pages.get(key);
      if (known === undefined) return null;
      pages.delete(key);
      pages.set(key, known);
      return known;
    },
    put(key: string, known: KnownPage): void {
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
