// Finding and opening one setting's or many settings' values, for the two kinds of read.
import { BrokerError, conflict, notFound } from "./errors.ts";
import type { SettingPath } from "./address.ts";
import type { Subject } from "./audit.ts";
import type { Plaintext } from "./plaintext.ts";
import type { OwnerKey, Reader } from "./ports.ts";
import type { Permit, Vault } from "./sealing-ports.ts";
import { type SettingRow, VERSION_FLOOR_STEP, followsLatest } from "./setting.ts";

/** What of the vault tells a broker's rows from anybody else's. */
type Genuine = Pick<Vault, "isGenuine">;

export const subjectOf = ({ setting, version }: SettingRow): Subject => ({
  id: setting.id,
  path: setting.path,
  version: version.version,
});

/** The value of each row, in order; null where it could not be had, which is then among `failed`. */
export type Openings = {
  readonly opened: readonly (Plaintext | null)[];
  readonly failed: readonly SettingRow[];
};

/** @throws BrokerError 502 or 503, naming the paths, when a value that may be shown cannot be had */
export async function openAll(
  vault: Vault,
  permit: Permit,
  rows: readonly SettingRow[],
  onError: "fail" | "withhold",
): Promise<Openings> {
  const results = await vault.open(permit, rows);
  const failures: Failure[] = [];
  const opened = rows.map((row, index) => {
    const result = results[index];
    if (result?.kind === "opened") return result.plaintext;
    failures.push({
      row,
      error: result?.error ?? new BrokerError("internal", "A value was not answered."),
    });
    return null;
  });
  if (failures.length > 0 && onError === "fail") throw failureOf(failures);
  return { opened, failed: failures.map(({ row }) => row) };
}

/** The value of one row. @throws BrokerError as openAll */
export async function openOne(vault: Vault, permit: Permit, row: SettingRow): Promise<Plaintext> {
  const [plaintext] = (await openAll(vault, permit, [row], "fail")).opened;
  if (plaintext === undefined || plaintext === null) throw new Error("an opened row has a value");
  return plaintext;
}

/**
 * What a row says of itself (deleted, expired, destroyed) is passed on only where a broker wrote it: some clients
 * delete live copies on a 404.
 * @throws BrokerError `manager_failed`, naming the path
 */
export function assertGenuine(vault: Genuine, row: SettingRow): void {
  if (!vault.isGenuine(row)) throw altered(row.setting.path);
}

/** Of an external setting whose secret was taken off what its organization may read. */
export const WITHDRAWN = "This external secret is not allowed to its organization any more.";

/**
 * What a read would find out before it asks any key or manager, for whoever tells of a value and does not open it.
 * @throws BrokerError `manager_failed`, naming the path
 */
export function assertOpenable(vault: Pick<Vault, "isGenuine" | "isAllowed">, row: SettingRow): void {
  assertGenuine(vault, row);
  if (!vault.isAllowed(row))
    throw new BrokerError("manager_failed", WITHDRAWN, { paths: [row.setting.path] });
}

export function altered(path: string): BrokerError {
  return new BrokerError("manager_failed", "The stored record was altered outside the broker.", {
    paths: [path],
  });
}

/** @throws BrokerError `not_found` */
export async function liveRow(
  reader: Pick<Reader, "setting">,
  vault: Genuine,
  key: OwnerKey,
  path: SettingPath,
): Promise<SettingRow> {
  const row = await reader.setting(key, path);
  if (row === null) throw notFound();
  if (row.setting.deleted_at === null) return row;
  assertGenuine(vault, row);
  throw notFound();
}

/** Whether numbering went on at a higher round number between two versions, as it does after a restore. */
function isLeftOut(before: number, after: number): boolean {
  return Math.floor((after - 1) / VERSION_FLOOR_STEP) > Math.floor(before / VERSION_FLOOR_STEP);
}

/**
 * A setting with the version asked for.
 * @throws BrokerError `destroyed` for one that is no more (also one of a purged predecessor), `not_found` for one
 * that never was
 */
export async function atVersion(
  reader: Pick<Reader, "version" | "versions" | "lastVersion">,
  vault: Genuine,
  key: OwnerKey,
  row: SettingRow,
  version: number,
): Promise<SettingRow> {
  const found = version === row.version.version ? row.version : await reader.version(row.setting, version);
  if (found === null) {
    const last = await reader.lastVersion(key, row.setting.path as SettingPath);
    if (version > last) throw notFound("There is no such version.");
    const versions = await reader.versions(row.setting);
    // It was made just now.
    if (versions.some((each) => each.version === version)) return atVersion(reader, vault, key, row, version);
    const before = versions.findLast((each) => each.version < version);
    const after = versions.find((each) => each.version > version);
    // Numbers before the setting's first are a purged predecessor's, those that a restore left out are nobody's; another
    // gap is nothing that a broker makes.
    const isHole = before !== undefined && !isLeftOut(before.version, after?.version ?? last + 1);
    if (versions.length === 0 || isHole) throw altered(row.setting.path);
    throw destroyed();
  }
  // The very row, where it is that: what was found out of one that stays in memory is known of that alone.
  const versioned = found === row.version ? row : { setting: row.setting, version: found };
  if (found.state === "enabled") return versioned;
  assertGenuine(vault, versioned);
  throw destroyed();
}

/**
 * That a version asked for by number is one that stays what it is.
 * @throws BrokerError `conflict` for one that follows whatever its manager has newest
 */
export function assertPinned({ version }: SettingRow): void {
  if (followsLatest(version))
    throw conflict("This version follows the newest in its manager: ask without a version.");
}

const destroyed = (): BrokerError => new BrokerError("destroyed", "This version's value is destroyed.");

/**
 * RFC 9110 section 13.1.2: weak comparison. `*` matches nothing here: a 304 is given only where the client is known
 * to hold the very body.
 */
export function matchesAny(etag: string, tags: readonly string[]): boolean {
  return tags.some((tag) => tag.replace(/^W\//, "") === etag);
}

type Failure = { readonly row: SettingRow; readonly error: BrokerError };

/** One error for all rows that failed, naming them: the one that trying again cannot mend, if there is one. */
export function failureOf(failures: readonly Failure[]): BrokerError {
  const worst = failures.find(({ error }) => error.code !== "unavailable") ?? failures[0];
  const paths = failures.map(({ row }) => row.setting.path);
  if (worst === undefined) return new BrokerError("internal", "No failure to tell.");
  return new BrokerError(
    worst.error.code,
    worst.error.message,
    { ...worst.error.fields, paths },
    worst.error.cause,
  );
}
