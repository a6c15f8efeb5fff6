// Taking settings away and back: soft delete, restore, purge, and destroying one version. A soft delete never
// touches a value; a purge or a destruction is for ever, and leaves the path's last number behind.
import type { SettingPath } from "./address.ts";
import type { Caller } from "./admission.ts";
import { conflict, notFound } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { ManagedSecrets } from "./managed-secrets.ts";
import type { Vault } from "./sealing-ports.ts";
import { assertPreconditions } from "./preconditions.ts";
import type { Setting, VersionRecord } from "./setting.ts";
import { type AddressInput, type SettingChange, shown, touched } from "./setting-change.ts";
import { assertGenuine, atVersion, subjectOf } from "./opening.ts";
import { later } from "./overlap.ts";
import { nothing } from "./steps.ts";

const DAY_MS = 86_400_000;
/** When a purge that was put off, because a row was altered outside the broker, is tried again. */
const RETRY_ALTERED_SECONDS = 86_400;

/** `recoveryDays`: how long a soft-deleted setting can be restored. */
export function createSettingsRemove(
  gate: Gate,
  change: SettingChange,
  vault: Vault,
  managed: Pick<ManagedSecrets, "settleSoon">,
  recoveryDays: number,
) {
  const { changeAt, saved, current } = change;

  return {
    /** Soft: gone from lists, recoverable until `purge_at`. The value stays where it is. */
    softDelete(caller: Caller, input: AddressInput): Promise<void> {
      return changeAt(caller, "write", input, nothing, async (writing) => {
        const live = await current(writing, input);
        const { grant, tx } = writing;
        const purge_at = new Date(grant.at.getTime() + recoveryDays * DAY_MS);
        await saved(tx, live, touched(live.setting, grant, { deleted_at: grant.at, purge_at }));
        return { result: undefined, subjects: [subjectOf(live)], details: { change: "deleted" } };
      });
    },

    /** Destroys every value at once. Owner, path and last number stay, so that no number is given twice. */
    async purge(caller: Caller, input: AddressInput): Promise<void> {
      const gone = await changeAt(caller, "destroy", input, nothing, async ({ tx, key, path }) => {
        const found = await tx.setting(key, path);
        const live = found === null || found.setting.deleted_at !== null ? null : found.setting;
        assertPreconditions(input, live);
        if (found === null) throw notFound();
        await tx.purgeSetting(found.setting);
        const { id, tenant_id } = found.setting;
        const subjects = [{ id, path, version: null }];
        return { result: { tenant_id, setting_id: id }, subjects, details: { change: "purged" } };
      });
      await managed.settleSoon(gone);
    },

    restore(caller: Caller, input: AddressInput): Promise<Setting> {
      return changeAt(caller, "write", input, nothing, async ({ tx, grant, key, path }) => {
        const found = await tx.setting(key, path);
        const live = found === null || found.setting.deleted_at !== null ? null : found.setting;
        assertPreconditions(input, live);
        if (found === null) throw notFound();
        if (live !== null) throw conflict("The setting is not deleted.");
        assertGenuine(vault, found);
        // Its time is over, and the sweeper has not come by yet.
        const { purge_at } = found.setting;
        if (purge_at !== null && purge_at <= grant.at) throw notFound();
        const row = await saved(
          tx,
          found,
          touched(found.setting, grant, { deleted_at: null, purge_at: null }),
        );
        return { result: shown(row), subjects: [subjectOf(row)], details: { change: "restored" } };
      });
    },

    /** Destroys one version's value for ever; reads of it stop at once. Doing it again changes nothing. */
    async destroyVersion(caller: Caller, input: AddressInput & { readonly version: number }): Promise<void> {
      const setting = await changeAt(caller, "destroy", input, nothing, async (writing) => {
        const live = await current(writing, input);
        const { tx, grant, path, key } = writing;
        const version = await tx.version(live.setting, input.version);
        if (version === null) {
          await atVersion(tx, vault, key, live, input.version);
          throw notFound();
        }
        const { id, tenant_id } = live.setting;
        if (version.state === "enabled") {
          // One that says falsely where its value is would be signed as destroyed, with the value still there.
          assertGenuine(vault, { setting: live.setting, version });
          await tx.updateVersion(vault.signVersion(live.setting, ended(version)));
          if (version.storage === "manager") await tx.unsettle(tenant_id, id);
          await saved(tx, live, touched(live.setting, grant, {}));
        }
        const subject = { id, path, version: input.version };
        const result = { tenant_id, setting_id: id };
        return { result, subjects: [subject], details: { change: "version_destroyed" } };
      });
      await managed.settleSoon(setting);
    },

    /**
     * Looks at up to `limit` settings that were soft-deleted long enough ago, and purges them; answers how many. Any
     * number of replicas share the work.
     */
    async purgeDue(limit: number): Promise<number> {
      let purged = 0;
      for (let seen = 0; seen < limit; seen++) {
        const one = await gate.housekeep(
          "purgeDueSettings",
          async (tx, now) => {
            vault.assertInForce(await tx.keyCheckNow());
            const [due] = await tx.lockDuePurges(now, 1);
            if (due === undefined) return null;
            const { owner_type, owner_id, tenant_id, id, path } = due;
            const key = { owner_type, owner_id, tenant_id };
            const row = await tx.setting(key, path as SettingPath);
            // Nobody else's word ends a value: an UPDATE that went wrong would end all of them.
            const isOurs = row?.setting.id === id && row.setting.deleted_at !== null && vault.isGenuine(row);
            if (isOurs) await tx.purgeSetting(due);
            else await tx.postponePurge(due, later(now, RETRY_ALTERED_SECONDS));
            const subjects = [{ id, path, version: null }];
            const change = isOurs ? "purged" : "purge_postponed";
            return { result: isOurs ? 1 : 0, key, subjects, details: { change } };
          },
          (now) => ({ kind: "purge", now }),
        );
        if (one === null) break;
        purged += one;
      }
      return purged;
    },
  };
}

/** A version whose value is to be gone. A manager has to confirm it: until then the row says where, for the sweeper alone. */
export function ended(version: VersionRecord): Omit<VersionRecord, "mac"> {
  if (version.storage === "manager") return { ...version, state: "destroying" };
  return { ...version, state: "destroyed", data_key_id: null, sealed: null, location: null };
}
