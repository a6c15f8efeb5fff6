// Moving an owner's values to where its new ones go: in the background, by whichever replica has the lease, one setting
// after the other. A setting's versions are copied first and switched over in one transaction, numbers kept, so that
// readers see either place; what they left behind is settled after. A move that is cut off goes on where it was.
import { type SettingPath, formatRef } from "./address.ts";
import { BrokerError, unavailable } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { Lease, ManagedSecrets } from "./managed-secrets.ts";
import type { LeaseTerm, MoveRecord } from "./manager-store-ports.ts";
import type { Location, Placement, SettingRecord, VersionRecord } from "./setting.ts";
import { assertGenuine } from "./opening.ts";
import { lockPath } from "./path-lock.ts";
import type { Clock, NewId, OwnerKey, Transaction } from "./ports.ts";
import type { Opened, Permit, Vault } from "./sealing-ports.ts";

const LEASE_SECONDS = 60;
const PAGE = 50;
/** Versions of one setting that are copied at once. */
const CHUNK = 50;
/** More failures than these are counted, and not listed. */
const FAILED_MAX = 1_000;
/** How often a manager that is away is waited for before the setting is passed over. */
const TRIES_MAX = 10;
const TRY_PAUSE_SECONDS = 2;
const LATER = Symbol("later");

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
type Beat = () => Promise<void>;
/** What of a version's row becomes another. */
type Rest = Pick<VersionRecord, "data_key_id" | "sealed" | "location">;

export type Moves = ReturnType<typeof createMoves>;
export type MovesDeps = {
  readonly gate: Gate;
  readonly vault: Vault;
  readonly managed: ManagedSecrets;
  readonly clock: Clock;
  readonly newId: NewId;
  readonly onBackgroundError: (error: unknown) => void;
};

export function createMoves({ gate, vault, managed, clock, newId, onBackgroundError }: MovesDeps) {
  let underWay: Promise<void> | null = null;
  const stopping = new AbortController();
  /** By setting: how often it could not be moved for now. */
  const tries = new Map<string, number>();

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
    const setting = await tx.settingById(tenant_id, found.id);
    if (setting === null) return null;
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
    const again = isNewest ? null : await tx.version(setting, setting.current_version);
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
          if (lease !== null) await managed.release(tx, lease);
        },
      });
      if (done === null || (left > 0 && done.result === null)) break;
    }
    await managed.settleSoon({ tenant_id: found.tenant_id, setting_id: found.id });
    return left > 0 ? "too_many_versions" : null;
  }

  /** What could not be moved, null, or that it is worth another try later: others' moves have their turn till then. */
  async function moveOrTell(
    found: SettingRecord,
    target: Placement,
    beat: Beat,
  ): Promise<string | null | typeof LATER> {
    try {
      const code = await moveSetting(found, target, beat);
      tries.delete(found.id);
      return code;
    } catch (error) {
      const code = error instanceof BrokerError ? error.code : "internal";
      const count = (tries.get(found.id) ?? 0) + 1;
      tries.set(found.id, count);
      if (stopping.signal.aborted || (code === "unavailable" && count < TRIES_MAX)) return LATER;
      tries.delete(found.id);
      onBackgroundError(error);
      return code;
    }
  }

  /** Works on one move until it has ended, or somebody else has it. False when there was none. */
  async function runOne(): Promise<boolean> {
    const term: LeaseTerm = { lease_id: newId(), seconds: LEASE_SECONDS };
    let move: MoveRecord | null = null;
    await gate.housekeep("claimMove", async (tx) => {
      move = await tx.claimMove(term);
      return null;
    });
    if (move === null) return false;
    for (let row: MoveRecord = move; !stopping.signal.aborted; ) {
      const { next, goesOn } = await step(row, term);
      if (!goesOn) return true;
      row = next;
    }
    return true;
  }

  /** The next settings of a move, each noted when it is done. */
  async function step(row: MoveRecord, term: LeaseTerm): Promise<{ next: MoveRecord; goesOn: boolean }> {
    let page: readonly SettingRecord[] = [];
    await gate.housekeep("readMove", async (tx) => {
      page = await tx.settingsToMove(row, row.cursor, PAGE);
      return null;
    });
    const progress: { -readonly [Field in keyof MoveRecord]: MoveRecord[Field] } = { ...row };
    const beat: Beat = async () => {
      if (stopping.signal.aborted || !(await noted(progress, term, null)))
        throw unavailable("Another goes on with the move.");
    };
    let failures = row.failed.length;
    for (const setting of page) {
      const code = await moveOrTell(setting, row, beat);
      // Whoever has the move next begins with this setting.
      if (code === LATER) {
        await noted(progress, { ...term, seconds: TRY_PAUSE_SECONDS }, null);
        return { next: progress, goesOn: false };
      }
      const { owner_type, owner_id, path } = setting;
      if (code === null) progress.done += 1;
      else if ((failures += 1) <= FAILED_MAX)
        progress.failed = [...progress.failed, { owner_type, owner_id, path, code }];
      progress.total = Math.max(progress.total, progress.done + progress.failed.length);
      progress.cursor = formatRef(setting, path);
      if (!(await noted(progress, term, null))) return { next: progress, goesOn: false };
    }
    if (page.length > 0) return { next: progress, goesOn: true };
    const state = progress.failed.length === 0 ? "done" : "failed";
    const ended = { ...progress, state, finished_at: clock.now() } as const;
    await noted(ended, term, {
      change: "migration_ended",
      done: String(ended.done),
      failed: String(ended.failed.length),
    });
    return { next: ended, goesOn: false };
  }

  async function noted(
    row: MoveRecord,
    term: LeaseTerm,
    details: Readonly<Record<string, string>> | null,
  ): Promise<boolean> {
    let isOurs = false;
    await gate.housekeep("moveSettings", async (tx) => {
      isOurs = await tx.updateMove(row, term);
      return isOurs && details !== null ? { result: null, key: row, details } : null;
    });
    return isOurs;
  }

  return {
    /** Works on moves until there are none that nobody works on. One at a time in this process. */
    run(): Promise<void> {
      underWay ??= (async () => {
        while (!stopping.signal.aborted && (await runOne())) {
          // The next one.
        }
      })().finally(() => {
        underWay = null;
      });
      return underWay;
    },
    soon(): void {
      void this.run().catch(onBackgroundError);
    },
    /** Ends after the setting under way. */
    async stop(): Promise<void> {
      stopping.abort();
      await underWay?.catch(onBackgroundError);
    },
  };
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
