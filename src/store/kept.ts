// What was made of rows as they were read last, kept so that a hit moves no rows. Nothing here is ever believed by
// itself: the statement that admits and records names the rows' versions as of its own snapshot, and only what was made
// of those very versions is used. Ciphertext alone is kept, no right is, and all of it within a bound.
import type { Subject } from "../domain/audit.ts";
import type { PrincipalRecord, SettingPage, TokenRecord } from "../domain/ports.ts";

/** Keys of what was read once lately. */
const GLIMPSES_MAX = 8_192;

type Kept = {
  /** Which versions of which rows it is made of, as the database names them. */
  readonly stamp: string;
  /** About how many bytes it takes. */
  readonly weight: number;
};

export type KnownPage = Kept & {
  readonly page: SettingPage;
  /** What an event that shows all of it names. */
  readonly subjects: readonly Subject[];
  readonly subjectsJson: string;
};
export type KnownWho = Kept & { readonly token: TokenRecord | null; readonly principal: PrincipalRecord };

/** As objects rows take some twice their JSON, and 1.5 KB each whatever is in them. */
export const weightOf = (jsonLength: number, rows: number): number => 2 * jsonLength + 1_536 * rows;

/** @param weightMax bytes of memory that all of it may take, by and large */
export function createKept<Known extends Kept>(weightMax: number) {
  // Two generations: what is used moves to the newer one; when that has half of the room, the older one goes.
  let [newer, older] = [new Map<string, Known>(), new Map<string, Known>()];
  let weight = 0;
  // What is read once is not worth the room: it is kept from its second reading on.
  let [glimpsed, glimpsedBefore] = [new Set<string>(), new Set<string>()];

  /** Whether it is worth keeping, as far as is known; asking is a reading. */
  function isWanted(key: string): boolean {
    if (glimpsed.has(key) || glimpsedBefore.has(key)) return true;
    if (glimpsed.size >= GLIMPSES_MAX) [glimpsed, glimpsedBefore] = [new Set(), glimpsed];
    glimpsed.add(key);
    return false;
  }

  function put(key: string, known: Known): void {
    weight += known.weight - (newer.get(key)?.weight ?? 0);
    newer.set(key, known);
    older.delete(key);
    if (weight <= weightMax / 2) return;
    [newer, older] = [new Map(), newer];
    weight = 0;
  }

  return {
    isWanted,
    get(key: string): Known | null {
      const known = newer.get(key);
      if (known !== undefined) return known;
      const used = older.get(key);
      if (used === undefined) return null;
      put(key, used);
      return used;
    },
    put,
    drop(key: string): void {
      weight -= newer.get(key)?.weight ?? 0;
      newer.delete(key);
      older.delete(key);
    },
  };
}
