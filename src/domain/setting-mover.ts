// Moving one setting to another place: its versions are copied first and switched over in one transaction, numbers kept,
// so that readers see either place; what they left behind is settled after.
import type { SettingPath } from "./address.ts";
import { BrokerError, unavailable } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { Lease, ManagedSecrets } from "./managed-secrets.ts";
import { altered, assertGenuine } from "./opening.ts";
import { lockPath } from "./path-lock.ts";
import type { OwnerKey, Transaction } from "./ports.ts";
import type { Opened, Permit, Vault } from "./sealing-ports.ts";
import type { Location, Placement, SettingRecord, VersionRecord } from "./setting.ts";

/** Versions of one setting that are copied at once. */
const CHUNK = 50;

type Claimed = {
  readonly key: OwnerKey;
  readonly setting: SettingRecord;
  readonly versions: readonly VersionRecord[];
  readonly target: Placement;
  readonly lease: Lease | null;
  /** Versions that the manager has no room for. */
  readonly left: number;
};
/** Says that this process is still at it. @throws BrokerError `unavailable` when another has taken over, or it is to stop */
export type Beat = () => Promise<void>;
/** What of a version's row becomes another. */
type Rest = Pick<VersionRecord, "data_key_id" | "sealed" | "location">;

export type SettingMoverDeps = {
  readonly gate: Gate;
  readonly vault: Vault;
  readonly managed: ManagedSecrets;
};

export function createSettingMover({ gate, vault, managed }: SettingMoverDeps) {
  /**
   * What of a setting is to be moved next, under its path's lock; null: nothing. The current version goes first, by
   * itself: from then on what is written to the setting goes to the new place.
   */
  async function claim(
    tx: Transaction,
    now: Date,
    target: Placement,
    found: SettingRecord,
  ): Promise<Claimed | null> {
    const { tenant_id, owner_type, owner_id } = found;
    const key = { tenant_id, owner_type, owner_id };
    const path = found.path as SettingPath;
    await lockPath(tx, vault, key, path);
    const row = await tx.setting(key, path);
    if (row === null && (await tx.settingById(tenant_id, found.id)) !== null) throw altered(path);
    if (row?.setting.id !== found.id) return null;
    // What is not ours is not moved, and nothing of the setting without it: it is what everybody reads.
    assertGenuine(vault, row);
    const { setting } = row;
    const { versions: newest, count } = await tx.versionsElsewhere(setting, target, CHUNK);
    if (count === 0) return null;
    const current = newest.find(({ version }) => version === setting.current_version);
    const chunk = current === undefined ? newest.toReversed() : [current];
    const { storage, manager } = target;
    if (storage !== "manager" || manager === "local")
      return { key, setting, versions: genuine(setting, chunk), target, lease: null, left: 0 };
    const lease = await managed.lease(tx, { key, path }, now, { setting_id: setting.id, manager });
    if (lease === "busy") throw unavailable("Somebody is writing to the setting.");
    const room = Math.max(0, vault.clouds.versionsMax(manager) - lease.kept.length);
    const fitting = chunk.slice(Math.max(0, chunk.length - room));
    // Where what is added last is the newest, the current version is added once more, after the older ones.
    const isNewest = current !== undefined || !vault.clouds.newestIsLast(manager);
    const again = isNewest ? null : row.version;
    const isThere = again?.state === "enabled" && again.storage === storage && again.manager === manager;
    const versions = again !== null && isThere && fitting.length > 0 ? [...fitting, again] : fitting;
    const left = room >= count ? 0 : count - fitting.length;
    return { key, setting, versions: genuine(setting, versions), target, lease, left };
  }

  function genuine(setting: SettingRecord, versions: readonly VersionRecord[]): readonly VersionRecord[] {
    for (const version of versions) assertGenuine(vault, { setting, version });
    return versions;
  }

  /** The values in their new place; the old one is as it was. */
  async function copy(
    { key, setting, versions, target, lease }: Claimed,
    permit: Permit,
    beat: Beat,
  ): Promise<readonly Rest[]> {
    const opened = await vault.open(
      permit,
      versions.map((version) => ({ setting, version })),
    );
    const plaintexts = versions.map((_, index) => plaintextOf(opened[index]));
    if (lease === null) {
      const sealer = await vault.sealer(permit, key, target.manager);
      const { owner_type, owner_id, id: setting_id, type } = setting;
      return versions.map(({ version }, index) => {
        const place = { owner_type, owner_id, setting_id, version, type };
        return { ...sealer.seal(place, at(plaintexts, index)), location: null };
      });
    }
    const locations: Location[] = [];
    for (const [index] of versions.entries()) {
      await beat();
      const held = await managed.renew(lease);
      const kept = [...lease.kept, ...locations.map(({ version_id }) => version_id)];
      const place = { key, path: setting.path };
      locations.push(await managed.write(permit, place, { ...held, kept }, at(plaintexts, index)));
    }
    return locations.map((location) => ({ data_key_id: null, sealed: null, location }));
  }

  async function switchOver(tx: Transaction, now: Date, claimed: Claimed, rests: readonly Rest[]) {
    const { key, setting: was, versions, target, lease } = claimed;
    await lockPath(tx, vault, key, was.path as SettingPath);
    const setting = await tx.settingById(was.tenant_id, was.id);
    if (lease !== null && !(await tx.endLease(key.tenant_id, lease.secret_id, lease.lease_id)))
      throw unavailable("The lease of the setting's secret was lost.");
    for (const id of new Set(rests.flatMap(({ data_key_id }) => data_key_id ?? [])))
      if (!(await tx.holdDataKey(key.tenant_id, id))) throw unavailable("The owner's data key was rotated.");
    let moved = 0;
    for (const [index, before] of versions.entries()) {
      const version = setting === null ? null : await tx.version(setting, before.version);
      if (setting === null || version === null || !isUntouched(version, before)) continue;
      // Signed anew is only what was signed before, where it was then.
      assertGenuine(vault, { setting, version });
      if (!isSameSetting(setting, was)) throw unavailable("The setting is another by now.");
      const { storage, manager } = target;
      await tx.updateVersion(
        vault.signVersion(setting, { ...version, storage, manager, ...at(rests, index) }),
      );
      moved += 1;
    }
    await tx.unsettle(key.tenant_id, was.id);
    if (setting === null || moved === 0) return null;
    await tx.updateSetting(
      vault.signSetting({ ...setting, updated_at: now, revision: setting.revision + 1 }),
    );
    const subjects = [{ id: setting.id, path: setting.path, version: null }];
    const { storage, manager } = target;
    return { result: moved, key, subjects, details: { change: "moved", storage, manager } };
  }

  /** Moves one setting, chunk by chunk. @returns what could not be moved, or null */
  async function moveSetting(found: SettingRecord, target: Placement, beat: Beat): Promise<string | null> {
    let left = 0;
    for (;;) {
      await beat();
      const done = await gate.background("moveSetting", {
        claim: (tx, now) => claim(tx, now, target, found),
        work: async (claimed, permit) => {
          left = claimed.left;
          return copy(claimed, permit, beat);
        },
        finish: switchOver,
        giveUp: async (tx, _now, { lease }) => {
          if (lease !== null) await managed.release(tx, lease, true);
        },
      });
      if (done === null || (left > 0 && done.result === null)) break;
    }
    await managed.settleSoon({ tenant_id: found.tenant_id, setting_id: found.id });
    return left > 0 ? "too_many_versions" : null;
  }

  return { moveSetting };
}

function plaintextOf(opened: Opened | undefined) {
  if (opened?.kind === "opened") return opened.plaintext;
  throw opened?.error ?? new BrokerError("internal", "A value was not answered.");
}

/** Whether the row still says what was copied. */
function isUntouched(now: VersionRecord, before: VersionRecord): boolean {
  return now.state === "enabled" && Buffer.from(now.mac).equals(Buffer.from(before.mac));
}

function isSameSetting(now: SettingRecord, before: SettingRecord): boolean {
  const fields = ["tenant_id", "owner_type", "owner_id", "path", "type"] as const;
  return fields.every((field) => now[field] === before[field]);
}

function at<Each>(list: readonly Each[], index: number): Each {
  const found = list[index];
  if (found === undefined) throw new Error("one for each version");
  return found;
}
