// Moving what rests under old keys: values from old data keys to their owner's current one, rows' MACs from a master
// key that is being replaced to the one in force. A setting is done under its path's lock, some versions a transaction,
// and nothing is noted of how far it is: what is left says so itself. So it may be killed anywhere, and any number of
// processes may do it. Nothing is sealed or signed anew that was not found true, and no client can tell.
import type { SettingPath } from "./address.ts";
import { formatRef } from "./address.ts";
import { BrokerError, type ErrorCode, unavailable } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { KeyReads } from "./key-ports.ts";
import { lockPath } from "./path-lock.ts";
import type { NewId, OwnerKey, Reader, Transaction } from "./ports.ts";
import type { Opened, Permit, Sealer, Vault } from "./sealing-ports.ts";
import type { ManagerName, SettingRecord, SettingRow, VersionRecord } from "./setting.ts";

const SETTINGS_PAGE = 100;
/** Versions that one transaction does: 3 MiB at most, well within its time. */
const VERSIONS_PAGE = 50;
/** How often a setting is looked at again, when others write to it or a manager is away. */
const TRIES_MAX = 5;
const TRY_PAUSE_MS = 1_000;

/** `damaged`: a row that no broker wrote, or a value that no key opens; that is left as it is. */
export type Unmoved = { readonly ref: string; readonly code: ErrorCode | "damaged" };
export type SettingsProgress = { readonly kind: "settings"; readonly done: number; readonly total: number };

type Newest = Awaited<ReturnType<KeyReads["newestDataKeys"]>>;
type Left = { readonly version: VersionRecord; readonly isToSeal: boolean };
type Claimed = { readonly setting: SettingRecord; readonly left: readonly Left[] };
type Worked = {
  readonly sealers: ReadonlyMap<ManagerName, Sealer>;
  readonly opened: ReadonlyMap<VersionRecord, Opened>;
};
/** A page of a setting's versions, as it is found out. */
type Page = { last: number | null; isDamaged: boolean };

export type RewrapDeps = {
  readonly gate: Gate;
  readonly reader: Reader;
  readonly vault: Vault;
  readonly newId: NewId;
};

export function createRewrap({ gate, reader, vault, newId }: RewrapDeps) {
  /** What is to be done with a version; null: nothing. `setting` is signed with any of its versions. */
  function leftOf(row: SettingRow, newest: Newest, page: Page): Left | null {
    const { version } = row;
    const marks = vault.marks(row);
    if (marks.setting === "false" || marks.version === "false") {
      // Raises the alert.
      page.isDamaged = !vault.isGenuine(row) || page.isDamaged;
      return null;
    }
    const isToSeal = version.state === "enabled" && version.storage === "envelope" && isOld(version, newest);
    const isToSign = marks.setting === "earlier" || marks.version === "earlier";
    return isToSeal || isToSign ? { version, isToSeal } : null;
  }

  async function claim(
    tx: Transaction,
    found: SettingRecord,
    after: number,
    page: Page,
  ): Promise<Claimed | null> {
    vault.signUnder(await tx.heldKeyCheck());
    const setting = await tx.settingById(found.tenant_id, found.id);
    const versions = setting === null ? [] : await tx.versionsAfter(setting, after, VERSIONS_PAGE);
    page.last = versions.at(-1)?.version ?? null;
    if (setting === null) return null;
    const newest = await tx.newestDataKeys(keyOf(setting));
    const left = versions.flatMap((version) => leftOf({ setting, version }, newest, page) ?? []);
    return left.length === 0 ? null : { setting, left };
  }

  /** Keys and values, had from wherever they are. */
  async function work({ setting, left }: Claimed, permit: Permit): Promise<Worked> {
    const versions = left.filter(({ isToSeal }) => isToSeal).map(({ version }) => version);
    const sealers = new Map<ManagerName, Sealer>();
    for (const manager of new Set(versions.map((version) => version.manager)))
      sealers.set(manager, await vault.sealer(permit, keyOf(setting), manager));
    const results = await vault.open(
      permit,
      versions.map((version) => ({ setting, version })),
    );
    const opened = new Map(versions.flatMap((version, index) => pair(version, results[index])));
    for (const result of opened.values())
      if (result.kind === "failed" && result.error.code === "unavailable") throw result.error;
    return { sealers, opened };
  }

  /** The version as it is to be, of one that is still as it was found. */
  function done(setting: SettingRecord, now: VersionRecord, was: Left, { sealers, opened }: Worked) {
    const value = opened.get(was.version);
    if (!was.isToSeal || value?.kind !== "opened") return now;
    const { owner_type, owner_id, id: setting_id, type } = setting;
    const sealer = sealers.get(now.manager);
    if (sealer === undefined) throw new Error("a value that was opened has a key to go under");
    const place = { owner_type, owner_id, setting_id, version: now.version, type };
    return { ...now, ...sealer.seal(place, value.plaintext) };
  }

  async function finish(tx: Transaction, { setting: found, left }: Claimed, worked: Worked, page: Page) {
    const key = keyOf(found);
    await lockPath(tx, vault, key, found.path as SettingPath);
    const setting = await tx.settingById(found.tenant_id, found.id);
    if (setting === null) return null;
    const newest = await tx.newestDataKeys(key);
    for (const [manager, { data_key_id }] of worked.sealers) {
      const isNewest = newest.some((each) => each.manager === manager && each.id === data_key_id);
      if (!isNewest || !(await tx.holdDataKey(key.tenant_id, data_key_id)))
        throw unavailable("The owner's data key was rotated.");
    }
    let count = 0;
    let isToSign = false;
    for (const each of left) {
      const version = await tx.version(setting, each.version.version);
      if (version === null || !isSame(version.mac, each.version.mac)) continue;
      const marks = vault.marks({ setting, version });
      if (marks.setting === "false" || marks.version === "false") continue;
      isToSign ||= marks.setting === "earlier";
      const next = done(setting, version, each, worked);
      // A value that no key opens stays as it is.
      if (each.isToSeal && next === version) page.isDamaged = true;
      if (next === version && marks.version === "current") continue;
      await tx.updateVersion(vault.signVersion(setting, next));
      count += 1;
    }
    if (isToSign) await tx.updateSetting(vault.signSetting(setting));
    if (count === 0 && !isToSign) return null;
    const subjects = [{ id: setting.id, path: setting.path, version: null }];
    return { result: count, key, subjects, details: { change: "rewrapped", versions: String(count) } };
  }

  /** @returns whether all of it is whole @throws BrokerError what kept a part of it from being done */
  async function rewrapSetting(found: SettingRecord): Promise<boolean> {
    let isWhole = true;
    for (let after = 0; ; ) {
      const page: Page = { last: null, isDamaged: false };
      for (let tries = 1; ; tries++) {
        const step = await gate.background("rewrapSetting", {
          claim: (tx) => claim(tx, found, after, page),
          work,
          finish: (tx, _now, claimed, worked) => finish(tx, claimed, worked, page),
          giveUp: async () => undefined,
        });
        // A value that cannot be opened is left under its key for ever.
        if (step === null || page.isDamaged) break;
        if (tries === TRIES_MAX) throw unavailable("Others keep writing to the setting.");
      }
      isWhole &&= !page.isDamaged;
      if (page.last === null) return isWhole;
      after = page.last;
    }
  }

  async function rewrapOrTell(found: SettingRecord): Promise<Unmoved["code"] | null> {
    for (let tries = 1; ; tries++) {
      try {
        return (await rewrapSetting(found)) ? null : "damaged";
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        if (error.code !== "unavailable" || tries === TRIES_MAX) return error.code;
        await new Promise((resolve) => setTimeout(resolve, TRY_PAUSE_MS));
      }
    }
  }

  /** Looks at all settings, or at those with a value under an old data key. @returns what could not be done */
  return async function rewrapSettings(
    all: boolean,
    onProgress: (progress: SettingsProgress) => void,
  ): Promise<readonly Unmoved[]> {
    const unmoved: Unmoved[] = [];
    let total = await reader.countSettingsToRewrap(all);
    let done = 0;
    for (let after: SettingRecord | null = null; ; ) {
      const page: readonly SettingRecord[] = await reader.settingsToRewrap(all, after, SETTINGS_PAGE);
      after = page.at(-1) ?? null;
      if (after === null) return unmoved;
      for (const setting of turned(page, newId())) {
        const code = await rewrapOrTell(setting);
        if (code !== null) unmoved.push({ ref: formatRef(setting, setting.path), code });
        done += 1;
      }
      total = Math.max(total, done);
      onProgress({ kind: "settings", done, total });
    }
  };
}

const keyOf = ({ tenant_id, owner_type, owner_id }: SettingRecord): OwnerKey => ({
  tenant_id,
  owner_type,
  owner_id,
});

function isOld({ manager, data_key_id }: VersionRecord, newest: Newest): boolean {
  const current = newest.find((each) => each.manager === manager);
  return current === undefined || current.isOld || current.id !== data_key_id;
}

function pair(version: VersionRecord, result: Opened | undefined): [VersionRecord, Opened][] {
  return result === undefined ? [] : [[version, result]];
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/** The page, begun somewhere by the id's last digits: processes that work at once then seldom meet at a setting. */
function turned<Each>(page: readonly Each[], id: string): readonly Each[] {
  const start = Number.parseInt(id.slice(-6), 16) % page.length;
  return [...page.slice(start), ...page.slice(0, start)];
}
