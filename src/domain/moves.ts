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
import { usualPlacement } from "./placement.ts";
import type { Clock, NewId, OwnerKey, Transaction } from "./ports.ts";
import type { Opened, Permit, Vault } from "./sealing-ports.ts";

const LEASE_MS = 60_000;
const PAGE = 50;
/** How often a manager that is away is waited for before the setting is passed over. */
const TRIES_MAX = 10;
const TRY_PAUSE_MS = 1_000;
/** A setting that is written to while it moves is looked at again. */
const ROUNDS_MAX = 5;

type Claimed = {
  readonly key: OwnerKey;
  readonly setting: SettingRecord;
  readonly versions: readonly VersionRecord[];
  readonly target: Placement;
  readonly lease: Lease | null;
  /** Versions that the manager has no room for. */
  readonly left: number;
};
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

  /** What of a setting is to be moved, under its path's lock; null: nothing. */
  async function claim(
    tx: Transaction,
    now: Date,
    key: OwnerKey,
    found: SettingRecord,
  ): Promise<Claimed | null> {
    await lockPath(tx, vault, key, found.path as SettingPath);
    const target = await usualPlacement(tx, vault, key);
    const setting = await tx.settingById(found.tenant_id, found.id);
    const all = setting === null ? [] : await tx.versionsWithValues(setting);
    const enabled = all.filter(({ state, storage }) => state === "enabled" && storage !== "external");
    const elsewhere = enabled.filter(
      ({ storage, manager }) => storage !== target.storage || manager !== target.manager,
    );
    if (setting === null || elsewhere.length === 0) return null;
    for (const version of elsewhere) assertGenuine(vault, { setting, version });
    const { storage, manager } = target;
    if (storage !== "manager" || manager === "local")
      return { key, setting, versions: elsewhere, target, lease: null, left: 0 };
    const lease = await managed.lease(tx, { key, path: found.path as SettingPath }, now, {
      setting_id: setting.id,
      manager,
    });
    if (lease === "busy") throw unavailable("Somebody is writing to the setting.");
    const room = Math.max(0, vault.clouds.versionsMax(manager) - lease.kept.length);
    // Where what is added last is the newest, those that are there already are added once more, after the older ones.
    const isAgain = lease.kept.length > 0 && vault.clouds.newestIsLast(manager);
    const wanted = isAgain ? enabled : elsewhere;
    const versions = isAgain ? wanted : wanted.slice(Math.max(0, wanted.length - room));
    if (isAgain) for (const version of wanted) assertGenuine(vault, { setting, version });
    return { key, setting, versions, target, lease, left: wanted.length - versions.length };
  }

  /** The values in their new place; the old one is as it was. */
  async function copy(
    { key, setting, versions, target, lease }: Claimed,
    permit: Permit,
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
        const sealed = sealer.seal(
          { owner_type, owner_id, setting_id, version, type },
          at(plaintexts, index),
        );
        return { ...sealed, location: null };
      });
    }
    const locations: Location[] = [];
    for (const [index] of versions.entries()) {
      const kept = [...lease.kept, ...locations.map(({ version_id }) => version_id)];
      // Each write is within a lease's length; all of them need not be.
      await managed.renew(lease);
      locations.push(
        await managed.write(permit, { key, path: setting.path }, { ...lease, kept }, at(plaintexts, index)),
      );
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

  /** Moves one setting. @returns what could not be moved, or null */
  async function moveSetting(found: SettingRecord): Promise<string | null> {
    const { tenant_id, owner_type, owner_id } = found;
    const key = { tenant_id, owner_type, owner_id };
    let left = 0;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const done = await gate.background("moveSetting", {
        claim: (tx, now) => claim(tx, now, key, found),
        work: async (claimed, permit) => {
          left = claimed.left;
          return copy(claimed, permit);
        },
        finish: switchOver,
        giveUp: async (tx, now, { lease }) => {
          if (lease !== null) await tx.expireLease(tenant_id, lease.secret_id, lease.lease_id, now);
        },
      });
      if (done === null || left > 0) break;
    }
    await managed.settleSoon({ tenant_id, setting_id: found.id });
    return left > 0 ? "too_many_versions" : null;
  }

  async function moveOrTell(found: SettingRecord): Promise<string | null> {
    for (let tries = 1; ; tries++) {
      try {
        return await moveSetting(found);
      } catch (error) {
        if (!(error instanceof BrokerError)) onBackgroundError(error);
        const code = error instanceof BrokerError ? error.code : "internal";
        if (code !== "unavailable" || tries === TRIES_MAX || stopping.signal.aborted) return code;
        await new Promise((resolve) => setTimeout(resolve, TRY_PAUSE_MS));
      }
    }
  }

  /** Works on one move until it has ended, or somebody else has it. False when there was none. */
  async function runOne(): Promise<boolean> {
    const lease_id = newId();
    const term = (): LeaseTerm => ({ lease_id, until: new Date(clock.now().getTime() + LEASE_MS) });
    let move: MoveRecord | null = null;
    await gate.housekeep("claimMove", async (tx, now) => {
      move = await tx.claimMove(now, term());
      return null;
    });
    if (move === null) return false;
    for (let row: MoveRecord = move; !stopping.signal.aborted; ) {
      const { next, goesOn } = await step(row, term());
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
    const now: { -readonly [Field in keyof MoveRecord]: MoveRecord[Field] } = { ...row };
    for (const setting of page) {
      const code = await moveOrTell(setting);
      if (stopping.signal.aborted && code === "unavailable") return { next: now, goesOn: false };
      if (code === null) now.done += 1;
      else now.failed = [...now.failed, { path: setting.path, code }];
      now.total = Math.max(now.total, now.done + now.failed.length);
      now.cursor = formatRef(setting, setting.path);
      if (!(await noted(now, term, null))) return { next: now, goesOn: false };
    }
    if (page.length > 0) return { next: now, goesOn: true };
    const state = now.failed.length === 0 ? "done" : "failed";
    const ended = { ...now, state, total: now.done + now.failed.length, finished_at: clock.now() } as const;
    await noted(ended, term, {
      change: "migration_ended",
      done: String(now.done),
      failed: String(now.failed.length),
    });
    return { next: ended, goesOn: false };
  }

  async function noted(
    row: MoveRecord,
    term: LeaseTerm,
    details: Readonly<Record<string, string>> | null,
  ): Promise<boolean> {
    let isOurs = false;
    await gate.housekeep("moveSettings", async (tx, now) => {
      isOurs = await tx.updateMove(row, { ...term, until: new Date(now.getTime() + LEASE_MS) });
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

function at<Each>(list: readonly Each[], index: number): Each {
  const found = list[index];
  if (found === undefined) throw new Error("one for each version");
  return found;
}
