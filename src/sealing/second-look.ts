// What did not open is looked at again before anybody is told: its value may have been moved since its row was read, or
// removed together with its key. Neither is damage.
import { isDeepStrictEqual } from "node:util";
import { type BrokerError, unavailable } from "../domain/errors.ts";
import type { Opened } from "../domain/sealing-ports.ts";
import type { SettingRow, VersionRecord } from "../domain/setting.ts";

/** `suspected`: what it is a sign of, if the row is still as it was. */
export type Attempt<Suspicion> = Opened & { readonly suspected?: Suspicion };

/** A row's version as it is now; null when it is no more. */
export type VersionNow = (row: SettingRow) => Promise<VersionRecord | null>;

type Looking<Suspicion> = {
  readonly versionNow: VersionNow;
  readonly open: (rows: readonly SettingRow[]) => Promise<readonly Attempt<Suspicion>[]>;
  readonly onSuspicion: (suspicion: Suspicion, row: SettingRow) => void;
};

/** @throws BrokerError `unavailable` when the rows cannot be read again */
export async function openedInTheEnd<Suspicion>(
  rows: readonly SettingRow[],
  attempts: readonly Attempt<Suspicion>[],
  { versionNow, open, onSuspicion }: Looking<Suspicion>,
): Promise<readonly Opened[]> {
  const results: Opened[] = [...attempts];
  const settle = (index: number, attempt: Attempt<Suspicion>, row: SettingRow): void => {
    results[index] = attempt;
    if (attempt.suspected !== undefined) onSuspicion(attempt.suspected, row);
  };
  const looked = rows.map(async (row, index) => {
    const attempt = attempts[index];
    if (attempt === undefined) throw new Error("an attempt is a row's");
    if (attempt.kind === "opened") return [];
    const version = await versionNow(row);
    const isRemoved = version === null ? attempt.suspected !== undefined : isEnded(version, row.version);
    if (isRemoved) settle(index, { kind: "failed", error: removed() }, row);
    // One that is gone and that nobody suspects of anything has its reason already.
    else if (version === null || isSamePlace(version, row.version)) settle(index, attempt, row);
    else return [{ index, row: { setting: row.setting, version } }];
    return [];
  });
  const moved = (await Promise.all(looked)).flat();
  const again = moved.length === 0 ? [] : await open(moved.map(({ row }) => row));
  for (const [which, { index, row }] of moved.entries()) {
    const attempt = again[which];
    if (attempt === undefined) throw new Error("an opened row has a result");
    settle(index, attempt, row);
  }
  return results;
}

const removed = (): BrokerError => unavailable("It was removed while it was read; try again.");

/** Whether the value was destroyed since. Whoever asks again is told so; of a page it is one among others. */
function isEnded(now: VersionRecord, was: VersionRecord): boolean {
  return was.state === "enabled" && now.state !== "enabled";
}

function isSamePlace(one: VersionRecord, other: VersionRecord): boolean {
  return (
    one.storage === other.storage &&
    one.manager === other.manager &&
    one.data_key_id === other.data_key_id &&
    isDeepStrictEqual(one.location, other.location)
  );
}
