// How much one owner may keep, where the operator says so: settings (deleted ones too, until they are purged), and
// versions that still hold a value. Asked under the path's lock; writers of other paths of the same owner are not
// waited for, so an owner may pass a quota by as many as write at once.
import { conflict } from "./errors.ts";
import type { OwnerKey, Transaction } from "./ports.ts";

/** 0: any number. */
export type Quotas = { readonly settings: number; readonly versions: number };
export const NO_QUOTAS: Quotas = { settings: 0, versions: 0 };

/** @throws BrokerError `conflict` when there is no room for one more version, or for one more setting to hold it */
export async function assertRoom(
  tx: Pick<Transaction, "countKept">,
  key: OwnerKey,
  quotas: Quotas,
  isNew: boolean,
): Promise<void> {
  const isFull = async (what: keyof Quotas): Promise<boolean> =>
    quotas[what] > 0 && (await tx.countKept(key, what, quotas[what])) >= quotas[what];
  if (isNew && (await isFull("settings")))
    throw conflict(`This owner has its ${quotas.settings} settings; purge one to make room.`);
  if (await isFull("versions"))
    throw conflict(
      `This owner's settings have their ${quotas.versions} versions; destroy some to make room.`,
    );
}
