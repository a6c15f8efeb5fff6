// What was made of rows as they were read last, kept so that a hit moves no rows. Nothing here is ever believed by
// itself: the statement that admits and records names the rows' versions as of its own snapshot, and only what was made
// of those very versions is used. Ciphertext alone is kept, no role and no decision, and all of it within a bound.
import type { Subject } from "../domain/audit.ts";
import type { PrincipalRecord, SettingPage, TokenRecord } from "../domain/ports.ts";
import { createRecent } from "../domain/recent.ts";
import type { Written } from "./columns.ts";

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
  readonly subjectsWritten: Written | null;
};
export type KnownWho = Kept & { readonly token: TokenRecord | null; readonly principal: PrincipalRecord };

/** As measured once it was shown: its JSON and 1,200 bytes a row, and a kilobyte. */
export const weightOf = (jsonLength: number, rows: number): number => jsonLength + 1_200 * rows + 1_024;

/** @param weightMax bytes of memory that all of it may take, by and large */
export function createKept<Known extends Kept>(weightMax: number) {
  const all = createRecent<Known>(weightMax, ({ weight }) => weight);
  // What is read once is not worth the room: it is kept from its second reading on.
  let [glimpsed, glimpsedBefore] = [new Set<string>(), new Set<string>()];

  /** Whether it is worth keeping, as far as is known; asking is a reading. */
  function isWanted(key: string): boolean {
    if (glimpsed.has(key) || glimpsedBefore.has(key)) return true;
    if (glimpsed.size >= GLIMPSES_MAX) [glimpsed, glimpsedBefore] = [new Set(), glimpsed];
    glimpsed.add(key);
    return false;
  }

  return {
    isWanted,
    get: (key: string): Known | null => all.get(key) ?? null,
    put: all.put,
    drop: all.drop,
  };
}
