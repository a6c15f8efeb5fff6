// What every write of a setting shares: one change at one path, under that path's lock. Keys are fetched before the
// transaction; what is decided (version number, precondition, whether the record is ours) is decided under the lock.
import type { OwnerAction } from "./access.ts";
import { type Owner, type SettingPath, parseSettingPath } from "./address.ts";
import { type Caller, type Grant, type Need, keyOf } from "./admission.ts";
import { BrokerError, notFound } from "./errors.ts";
import type { Done, Gate } from "./gate.ts";
import { assertGenuine } from "./opening.ts";
import type { Plaintext } from "./plaintext.ts";
import type { OwnerKey, Reader, Transaction } from "./ports.ts";
import type { Permit, Sealer, Vault } from "./sealing-ports.ts";
import { type Preconditions, assertPreconditions } from "./preconditions.ts";
import {
  type ManagerName,
  type Setting,
  type SettingRecord,
  type SettingRow,
  type Storage,
  toSetting,
} from "./setting.ts";

export type AddressInput = Preconditions & { readonly owner: Owner; readonly path: string };

export type Writing = {
  readonly tx: Transaction;
  readonly grant: Grant;
  readonly key: OwnerKey;
  readonly path: SettingPath;
  /** The last number the path ever had. */
  readonly last: number;
};

export type SettingChange = ReturnType<typeof createSettingChange>;

export function createSettingChange(gate: Gate, vault: Vault) {
  /** One change at one path, under its lock. */
  function changeAt<Prepared, Result>(
    caller: Caller,
    action: OwnerAction,
    input: { readonly owner: Owner; readonly path: string },
    prepare: (
      key: OwnerKey,
      path: SettingPath,
      grant: Grant,
      reader: Reader,
      permit: Permit,
    ) => Promise<Prepared>,
    apply: (writing: Writing, prepared: Prepared) => Promise<Done<Result>>,
  ): Promise<Result> {
    const path = parseSettingPath(input.path);
    const need: Need = {
      ask: { action, path, breadth: "whole" },
      place: { kind: "owner", owner: input.owner },
    };
    return gate.change(caller, need, {
      prepare: (grant, reader, permit) => prepare(keyOf(grant), path, grant, reader, permit),
      lock: (tx, grant) => tx.lockPath(keyOf(grant), path),
      apply: async (tx, grant, prepared, last) => {
        try {
          return await apply({ tx, grant, key: keyOf(grant), path, last }, prepared);
        } catch (error) {
          // That nothing is there is told to who may list there, which a scope may keep from who may write.
          if (error instanceof BrokerError && error.code === "not_found") grant.require("list", path);
          throw error;
        }
      },
    });
  }

  async function saved(
    tx: Transaction,
    row: SettingRow,
    next: Omit<SettingRecord, "mac">,
  ): Promise<SettingRow> {
    const setting = vault.signSetting(next);
    await tx.updateSetting(setting);
    return { setting, version: row.version };
  }

  /** The live setting, with preconditions judged and its MACs found true. */
  async function current({ tx, key, path }: Writing, input: Preconditions): Promise<SettingRow> {
    const found = await tx.setting(key, path);
    const live = found === null || found.setting.deleted_at !== null ? null : found;
    assertPreconditions(input, live?.setting ?? null);
    if (found === null) throw notFound();
    // A broker never signs anew what it did not sign before.
    assertGenuine(vault, found);
    if (live === null) throw notFound();
    return live;
  }

  /** Writes a new version and what it makes of the setting. */
  async function addVersion(
    { tx, key, path, last, grant }: Writing,
    sealer: Sealer,
    plaintext: Plaintext,
    setting: Omit<SettingRecord, "mac" | "current_version" | "current_since">,
    placement: { readonly storage: Storage; readonly manager: ManagerName },
    insert: boolean,
  ): Promise<SettingRow> {
    const number = last + 1;
    const { id: setting_id, type, owner_type, owner_id } = setting;
    const sealed = sealer.seal({ owner_type, owner_id, setting_id, version: number, type }, plaintext);
    const version = vault.signVersion(setting, {
      tenant_id: key.tenant_id,
      setting_id,
      version: number,
      state: "enabled",
      ...placement,
      ...sealed,
      created_at: grant.at,
      created_by: grant.principal.id,
      last_accessed_at: null,
    });
    const signed = vault.signSetting({ ...setting, current_version: number, current_since: grant.at });
    await (insert ? tx.insertSetting(signed) : tx.updateSetting(signed));
    await tx.insertVersion(version);
    await tx.setLastVersion(key, path, number);
    return { setting: signed, version };
  }

  return { changeAt, saved, current, addVersion };
}

export const shown = (row: SettingRow): Setting => toSetting(row, { kind: "metadata" });

/** The record one revision on. */
export function touched(setting: SettingRecord, grant: Grant, change: Partial<SettingRecord>): SettingRecord {
  const stamp = { updated_at: grant.at, updated_by: grant.principal.id, revision: setting.revision + 1 };
  return { ...setting, ...change, ...stamp };
}
