// What a Comet API Key Secret gets to see of a setting: nothing but the very secret that it points at.
import type { SettingPath } from "./address.ts";
import { type CometTarget, isIn } from "./comet.ts";
import { forbidden } from "./admission.ts";
import { LATEST } from "./manager-ports.ts";
import type { OwnerKey, Reader } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import type { SettingRow, VersionRecord } from "./setting.ts";
import { strictRow } from "./value-read.ts";

/**
 * The row that holds what a note points at: what the setting gives, its pin and all, or the version that the note names.
 * @throws BrokerError `forbidden` where the setting holds something else, and as strictRow does
 */
export async function notedRow(
  reader: Reader,
  vault: Vault,
  key: OwnerKey,
  path: SettingPath,
  note: CometTarget,
  now: Date,
): Promise<SettingRow> {
  const row = await strictRow(reader, vault, key, path, null, now);
  const holds = (version: VersionRecord): boolean =>
    isIn(version, note) && (note.version_id === LATEST || version.location?.version_id === note.version_id);
  if (holds(row.version)) return row;
  const versions = row.version.storage === "manager" ? await reader.versions(row.setting) : [];
  const named = versions.find(
    (each) => each.state === "enabled" && each.storage === "manager" && holds(each),
  );
  if (named !== undefined && note.version_id !== LATEST)
    return strictRow(reader, vault, key, path, named.version, now);
  throw forbidden({
    decision: { verdict: "deny", reason: "insufficient_role", visible: false },
    required: "decrypt",
  });
}
