// The lock that every writer of a path takes, and with it the master key that it signs under: whoever has the lock
// signs under the key that the database names, and nobody changes that before the lock is let go.
import type { SettingPath } from "./address.ts";
import type { OwnerKey, Transaction } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";

/**
 * Queues behind every other writer of the path. @returns the last number that the path ever had
 * @throws BrokerError `unavailable` when the master key in force was not given to this process
 */
export async function lockPath(
  tx: Transaction,
  vault: Pick<Vault, "signUnder">,
  key: OwnerKey,
  path: SettingPath,
): Promise<number> {
  const last = await tx.lockPath(key, path);
  vault.signUnder(await tx.heldKeyCheck());
  return last;
}

/** The same of many paths at once. @throws BrokerError as lockPath does */
export async function lockPaths(
  tx: Transaction,
  vault: Pick<Vault, "signUnder">,
  key: OwnerKey,
  paths: readonly SettingPath[],
): Promise<ReadonlyMap<string, number>> {
  const last = await tx.lockPaths(key, paths);
  vault.signUnder(await tx.heldKeyCheck());
  return last;
}
