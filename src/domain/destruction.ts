// The end of a value in a cloud's manager: its manager has confirmed that it is gone, and the row no longer says where it
// was. Under the path's lock like all that is signed, and only what is a broker's own row is signed anew.
import type { SettingPath } from "./address.ts";
import { lockPath } from "./path-lock.ts";
import type { Transaction } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import type { SettingRecord, VersionRecord } from "./setting.ts";

/** @param versions as they were when the manager was asked; those that have changed since are left alone */
export async function endDestruction(
  tx: Transaction,
  vault: Vault,
  { tenant_id, id, owner_type, owner_id, path }: SettingRecord,
  versions: readonly VersionRecord[],
): Promise<void> {
  await lockPath(tx, vault, { tenant_id, owner_type, owner_id }, path as SettingPath);
  const setting = await tx.settingById(tenant_id, id);
  if (setting === null) return;
  for (const { version: number } of versions) {
    const version = await tx.version(setting, number);
    if (version?.state !== "destroying" || !vault.isGenuine({ setting, version })) continue;
    await tx.updateVersion(vault.signVersion(setting, { ...version, state: "destroyed", location: null }));
  }
}
