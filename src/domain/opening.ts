// Finding and opening one setting's or many settings' values, for the two kinds of read.
import { BrokerError, notFound } from "./errors.ts";
import type { SettingPath } from "./address.ts";
import type { Subject } from "./audit.ts";
import type { Plaintext } from "./plaintext.ts";
import type { OwnerKey, Permit, Reader, Vault } from "./ports.ts";
import type { SettingRow } from "./setting.ts";

export const subjectOf = ({ setting, version }: SettingRow): Subject => ({
  id: setting.id,
  path: setting.path,
  version: version.version,
});

export type Openings = {
  readonly opened: ReadonlyMap<SettingRow, Plaintext>;
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
  const opened = new Map<SettingRow, Plaintext>();
  const failures: { readonly row: SettingRow; readonly error: BrokerError }[] = [];
  for (const [index, row] of rows.entries()) {
    const result = results[index];
    if (result?.kind === "opened") opened.set(row, result.plaintext);
    else
      failures.push({
        row,
        error: result?.error ?? new BrokerError("internal", "A value was not answered."),
      });
  }
  if (failures.length > 0 && onError === "fail") throw asOne(failures);
  return { opened, failed: failures.map(({ row }) => row) };
}

/** @throws BrokerError `not_found` */
export async function liveRow(
  reader: Pick<Reader, "setting">,
  key: OwnerKey,
  path: SettingPath,
): Promise<SettingRow> {
  const row = await reader.setting(key, path);
  if (row === null || row.setting.deleted_at !== null) throw notFound();
  return row;
}

/**
 * A setting with the version asked for.
 * @throws BrokerError `destroyed` for one that is no more (also one of a purged predecessor), `not_found` for one
 * that never was
 */
export async function atVersion(
  reader: Pick<Reader, "version" | "lastVersion">,
  key: OwnerKey,
  row: SettingRow,
  version: number,
): Promise<SettingRow> {
  const found = version === row.version.version ? row.version : await reader.version(row.setting, version);
  if (found !== null && found.state === "enabled") return { setting: row.setting, version: found };
  const last = found === null ? await reader.lastVersion(key, row.setting.path as SettingPath) : version;
  if (version <= last) throw new BrokerError("destroyed", "This version's value is destroyed.");
  throw notFound("There is no such version.");
}

/**
 * RFC 9110 section 13.1.2: weak comparison. `*` matches nothing here: a 304 is given only where the client is known
 * to hold the very body.
 */
export function matchesAny(etag: string, tags: readonly string[]): boolean {
  return tags.some((tag) => tag.replace(/^W\//, "") === etag);
}

/** One error for all rows that failed: the one that trying again cannot mend, if there is one. */
function asOne(failures: readonly { readonly row: SettingRow; readonly error: BrokerError }[]): BrokerError {
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
