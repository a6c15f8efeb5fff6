// What was made of rows as they were read last, kept so that a hit moves no rows. Nothing here is ever believed by
// itself: the statement that records a read finds whether anything that its answer rests on was written since, or names
// the rows' versions, as of its own snapshot; or it answers rows whose text is the very same. Ciphertext alone is kept,
// no decision, and all of it within a bound.
import type { Subject } from "../domain/audit.ts";
import type { Admission, PrincipalRecord, SettingPage, TokenRecord } from "../domain/ports.ts";
import { createRecent } from "../domain/recent.ts";
import type { Written } from "./columns.ts";
import type { Seen } from "./recent-writes.ts";

/** Keys of what was read once lately. */
const GLIMPSES_MAX = 16_384;

/** About how many bytes it takes. */
type Kept = { readonly weight: number };

/** An event that names them already, of the same tenant, and the transaction that wrote it as it will always be. */
export type NamedIn = { readonly event_id: string; readonly placed_by: string };
export type KnownPage = Kept & {
  readonly seen: Seen;
  /** By `performance.now()`. */
  readonly since: number;
  readonly page: SettingPage;
  /** Of what its rows were made of: the tenant, and their text as the database gave it. */
  readonly digest: string;
  /** What an event that shows all of it names. */
  readonly subjects: readonly Subject[];
  /** The same for the database. */
  readonly named: Written | NamedIn;
  /** When the first of its values expires. */
  readonly openUntil: Date | null;
};
/** `stamp`: which versions of their rows, as the database names them. */
export type KnownWho = Kept & {
  readonly stamp: string;
  readonly token: TokenRecord | null;
  readonly principal: PrincipalRecord;
};
/** Who stands where: facts of rows, by which an action was allowed at all that the ceilings cover. */
export type KnownStanding = Kept & {
  readonly seen: Seen;
  /** By `performance.now()`. */
  readonly since: number;
  readonly who: KnownWho;
  readonly standing: NonNullable<Admission["standing"]>;
};

/** As measured once it was shown: its JSON and 2,560 bytes a row, and a kilobyte. */
export const weightOf = (jsonLength: number, rows: number): number => jsonLength + 2_560 * rows + 1_024;

/** Of a token and its principal. */
export const whoWeightOf = (jsonLength: number): number => 2 * jsonLength + 1_024;

/** @param weightMax bytes of memory that all of it may take, by and large */
export function createKept<Known extends Kept>(weightMax: number) {
  const all = createRecent<Known>(weightMax, ({ weight }) => weight);
  // Once there is no more room, what is read once is not worth any: it is kept from its second reading on.
  let [glimpsed, glimpsedBefore] = [new Set<string>(), new Set<string>()];

  /** Whether it is worth keeping, as far as is known; asking is a reading. @param weight about what it would weigh */
  function isWanted(key: string, weight: number): boolean {
    if (all.hasRoomFor(weight) || all.get(key) !== undefined) return true;
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
