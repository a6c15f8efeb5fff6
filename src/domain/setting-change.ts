// What every write of a setting shares: one change at one path, under that path's lock. Keys are fetched before the
// transaction; what is decided (version number, precondition, whether the record is ours) is decided under the lock.
import type { OwnerAction } from "./access.ts";
import { type Owner, type SettingPath, parseSettingPath } from "./address.ts";
import { type Caller, type Grant, type Need, keyOf } from "./admission.ts";
import { BrokerError, notFound } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { Deposit } from "./managed-secrets.ts";
import type { CloudName } from "./manager-ports.ts";
import { Stale, type Done } from "./steps.ts";
import { assertGenuine } from "./opening.ts";
import { lockPath } from "./path-lock.ts";
import type { Plaintext } from "./plaintext.ts";
import type { OwnerKey, Reader, Transaction } from "./ports.ts";
import type { Permit, Sealer, Vault } from "./sealing-ports.ts";
import { type Quotas, assertRoom } from "./quotas.ts";
import { type Preconditions, assertPreconditions } from "./preconditions.ts";
import {
  type Location,
  type ManagerName,
  type Setting,
  type SettingRecord,
  type SettingRow,
  type VersionRecord,
  addressIn,
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

/** Ahead of a change: nothing is locked yet, so a network call may be made. */
export type Preparing = Pick<Writing, "grant" | "key" | "path"> & {
  readonly reader: Reader;
  readonly permit: Permit;
  /** A transaction of its own under the path's lock, where the right is decided as well. */
  readonly stage: <Staged>(work: (writing: Writing) => Promise<Staged>) => Promise<Staged>;
};

/** What a new version holds, ready to be written in a transaction. */
export type Content =
  | {
      readonly storage: "envelope";
      readonly manager: ManagerName;
      readonly sealer: Sealer;
      readonly plaintext: Plaintext;
    }
  | { readonly storage: "manager"; readonly manager: CloudName; readonly deposit: Deposit }
  | { readonly storage: "external"; readonly manager: CloudName; readonly location: Location };

export type SettingChange = ReturnType<typeof createSettingChange>;

export function createSettingChange(gate: Gate, vault: Vault, quotas: Quotas) {
  /** One change at one path, under its lock. */
  function changeAt<Prepared, Result>(
    caller: Caller,
    action: OwnerAction,
    input: { readonly owner: Owner; readonly path: string },
    prepare: (at: Preparing) => Promise<Prepared>,
    apply: (writing: Writing, prepared: Prepared) => Promise<Done<Result>>,
    atOnce?: (grant: Grant, permit: Permit) => Prepared,
  ): Promise<Result> {
    const path = parseSettingPath(input.path);
    const need: Need = {
      ask: { action, path, breadth: "whole" },
      place: { kind: "owner", owner: input.owner },
    };
    const writingOf = (tx: Transaction, grant: Grant, last: number): Writing => {
      return { tx, grant, key: keyOf(grant), path, last };
    };
    /** That nothing is there is told to who may list there, which a scope may keep from who may write. */
    async function told<Made>(grant: Grant, work: Promise<Made>): Promise<Made> {
      try {
        return await work;
      } catch (error) {
        if (error instanceof BrokerError && error.code === "not_found") grant.require("list", path);
        throw error;
      }
    }
    // Whoever destroys writes to more than the setting.
    const sharing = action === "write" ? { at: { owner: input.owner, path, by: caller.credential } } : {};
    return gate.change<Prepared, number, Result>(caller, need, {
      ...sharing,
      atOnce,
      prepare: (grant, reader, permit, stage) =>
        prepare({
          key: keyOf(grant),
          path,
          grant,
          reader,
          permit,
          stage: (work) => stage((tx, now, last) => told(now, work(writingOf(tx, now, last)))),
        }),
      lock: (tx, grant) => lockPath(tx, vault, keyOf(grant), path),
      apply: (tx, grant, prepared, last) => told(grant, apply(writingOf(tx, grant, last), prepared)),
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

  /**
   * The path's next version, signed; what it holds is taken over.
   * @throws BrokerError `conflict` when the owner's quota is used up; `manager_failed` when a version that has to make
   * room was altered outside the broker
   * @throws Stale when the value that lies in a manager is no longer this write's to point at, or the data key was
   * rotated away since it was fetched
   */
  async function nextVersion(
    { tx, key, last, grant }: Writing,
    content: Content,
    setting: Omit<SettingRecord, "mac" | "current_version" | "current_since">,
    isNew: boolean,
  ): Promise<VersionRecord> {
    await assertRoom(tx, key, quotas, isNew);
    const number = last + 1;
    const { id: setting_id, type, owner_type, owner_id } = setting;
    const place = { owner_type, owner_id, setting_id, version: number, type };
    const { storage, manager } = content;
    if (content.storage === "manager") await takeOver(tx, setting, content.deposit);
    if (content.storage === "envelope" && !(await tx.holdDataKey(key.tenant_id, content.sealer.data_key_id)))
      throw new Stale();
    return vault.signVersion(setting, {
      tenant_id: key.tenant_id,
      setting_id,
      version: number,
      state: "enabled",
      storage,
      manager,
      data_key_id: null,
      sealed: null,
      location: locationOf(content),
      ...(content.storage === "envelope" ? content.sealer.seal(place, content.plaintext) : {}),
      created_at: grant.at,
      created_by: grant.principal.id,
      last_accessed_at: null,
    });
  }

  /** A new version and what it makes of the setting, to be written. @throws Stale as nextVersion does */
  async function withVersion(
    writing: Writing,
    content: Content,
    setting: Omit<SettingRecord, "mac" | "current_version" | "current_since">,
    isNew: boolean,
  ): Promise<SettingRow> {
    const version = await nextVersion(writing, content, setting, isNew);
    const current = { current_version: version.version, current_since: writing.grant.at };
    return { setting: vault.signSetting({ ...setting, ...current }), version };
  }

  /** Writes a new version and what it makes of the setting. @throws Stale as nextVersion does */
  async function addVersion(...given: Parameters<typeof withVersion>): Promise<SettingRow> {
    const [{ tx, key, path }, , , isNew] = given;
    const row = await withVersion(...given);
    await (isNew ? tx.insertSetting(row.setting) : tx.updateSetting(row.setting));
    await tx.insertVersion(row.version);
    await tx.setLastVersion(key, path, row.version.version);
    return row;
  }

  /** Writes a new version beside the current one, which stays current: only who names its number reads it. */
  async function addPending(
    writing: Writing,
    content: Content,
    setting: SettingRecord,
  ): Promise<VersionRecord> {
    const { tx, key, path } = writing;
    const version = await nextVersion(writing, content, setting, false);
    await tx.insertVersion(version);
    await tx.setLastVersion(key, path, version.version);
    // The manager, too, is to call the other one current.
    if (version.storage === "manager") await tx.unsettle(key.tenant_id, setting.id);
    return version;
  }

  /** The row is about to point at what the manager has taken; where that took another version's place, that one ends. */
  async function takeOver(
    tx: Transaction,
    setting: Pick<SettingRecord, "tenant_id" | "id" | "owner_type" | "owner_id" | "type">,
    { manager, tenant_id, secret_id, setting_id, lease_id, location, takenOver }: Deposit,
  ): Promise<void> {
    if (setting_id !== setting.id || !(await tx.endLease(tenant_id, secret_id, lease_id))) throw new Stale();
    takenOver();
    const kept = (await tx.versionsAt(setting, addressIn(location))).filter(
      ({ state }) => state === "enabled",
    );
    const displaced = kept.slice(0, Math.max(0, kept.length + 1 - vault.clouds.versionsMax(manager)));
    for (const version of displaced) {
      const whole = await tx.settingById(tenant_id, setting.id);
      if (whole === null) throw new Stale();
      // Signed where it was not a broker's own, a place that somebody else wrote there would be destroyed next.
      assertGenuine(vault, { setting: whole, version });
      await tx.updateVersion(vault.signVersion(setting, { ...version, state: "destroying" }));
    }
    if (displaced.length > 0) await tx.unsettle(tenant_id, setting_id);
  }

  return { changeAt, saved, current, withVersion, addVersion, addPending };
}

export const shown = (row: SettingRow): Setting =>
  toSetting({ row, disclosure: { kind: "metadata" }, accessed: row.setting.last_accessed_at });

/** The record one revision on. */
export function touched(setting: SettingRecord, grant: Grant, change: Partial<SettingRecord>): SettingRecord {
  const stamp = { updated_at: grant.at, updated_by: grant.principal.id, revision: setting.revision + 1 };
  return { ...setting, ...change, ...stamp };
}

function locationOf(content: Content): Location | null {
  switch (content.storage) {
    case "envelope":
      return null;
    case "manager":
      return content.deposit.location;
    case "external":
      return content.location;
  }
}
