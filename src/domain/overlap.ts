// The overlap of a rotation: the time in which the old version stays, and for how long nobody may have read it.
import type { RotationRecord } from "./lifecycle-ports.ts";
import { ACCESS_NOTED_SECONDS } from "./ports.ts";
import type { VersionRecord } from "./setting.ts";

/**
 * What other replicas noted of the last reads is in the database by then: one that is due waits for its turn, little more
 * than a minute where all are due at once (store/access-notes-table.ts), and the rest is for a slow database.
 */
const NOTES_SECONDS = ACCESS_NOTED_SECONDS + 120;

export const later = (at: Date, seconds: number): Date => new Date(at.getTime() + seconds * 1_000);

/**
 * For how long the database must have no read of an old version, in seconds, so that there was none for an overlap: a
 * replica tells of it later. Where there is no overlap, reads are of no account.
 */
const quietSeconds = (overlapSeconds: number): number =>
  overlapSeconds === 0 ? 0 : overlapSeconds + NOTES_SECONDS;

/** From when the new version is current: the old one is watched over if it is to go, and else the rotation is over. */
export function afterActivation(
  { destroy_old, overlap_seconds }: Pick<RotationRecord, "destroy_old" | "overlap_seconds">,
  at: Date,
): Pick<RotationRecord, "state" | "next_at" | "activated_at" | "ended_at"> {
  if (!destroy_old) return { state: "done", next_at: null, activated_at: at, ended_at: at };
  const next_at = later(at, quietSeconds(overlap_seconds));
  return { state: "overlap", next_at, activated_at: at, ended_at: null };
}

/** When an overlap without a read of the old version is over, as far as is known now. */
export function quietAt(
  { activated_at, created_at, overlap_seconds }: RotationRecord,
  old: VersionRecord,
): Date {
  const since = activated_at ?? created_at;
  const read = old.last_accessed_at;
  return later(read === null || read <= since ? since : read, quietSeconds(overlap_seconds));
}
