// Settling: making a manager hold what the database points at of a secret, and nothing else. Whatever a crash, a failed
// write or a destruction left is found by its mark or by a lease that ran out, and one idempotent call mends it.
import type { SettingPath } from "./address.ts";
import { endDestruction } from "./destruction.ts";
import { BrokerError, unavailable } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { ManagedSecret } from "./manager-ports.ts";
import { IN_FLIGHT_SECONDS, type LeaseTerm, type SettleOutcome } from "./manager-store-ports.ts";
import type { NewId, Transaction } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import { type VersionRecord, liesAt } from "./setting.ts";

/** Longer than a write may take: 4 seconds in the manager, and what the database may need before and after. */
export const LEASE_SECONDS = 15;
/** The most that one use of a manager takes, and then some: with less of a lease left none is begun. */
const USE_MS = 6_000;
/** Of versions that are being destroyed so many are asked about at once, the oldest first. */
const CONFIRMED_MAX = 10;
const BACKOFF_SECONDS_MAX = 3_600;

/** Of one setting; null: whatever is due. */
type Which = Parameters<Transaction["claimUnsettled"]>[0];

export type SettlingDeps = {
  readonly gate: Gate;
  readonly vault: Vault;
  /** Milliseconds of a clock that only goes forward. */
  readonly ticks: () => number;
  readonly newId: NewId;
  /** Told of what fails where nobody waits. */
  readonly onBackgroundError: (error: unknown) => void;
};

/** Leases by the database's clock, and until when they are safe to use by one's own. */
export function createLeaseTerms(ticks: () => number, newId: NewId) {
  return {
    newTerm: (): LeaseTerm => ({ lease_id: newId(), seconds: LEASE_SECONDS }),
    /** Taken before the lease is, by whatever clock: it has begun by then at the earliest. */
    safeFrom: (): number => ticks() + LEASE_SECONDS * 1_000 - USE_MS,
    /** @throws BrokerError `unavailable` when a use that begins now could outlive the lease */
    assertSafe: ({ safeUntil }: { readonly safeUntil: number }): void => {
      if (ticks() > safeUntil) throw unavailable("It took too long to get this far; try again.");
    },
  };
}

export function createSettling({ gate, vault, ticks, newId, onBackgroundError }: SettlingDeps) {
  const { clouds } = vault;
  const { newTerm, safeFrom, assertSafe } = createLeaseTerms(ticks, newId);

  /**
   * Makes managers agree with the database about secrets of one setting, or about up to `limit` of those that are due.
   * Any number of replicas share the work. @returns how many it saw to
   */
  async function settle(setting: Which, limit = 100): Promise<number> {
    for (let seen = 0; seen < limit; seen++) if (!(await settleOne(setting))) return seen;
    return limit;
  }

  /** False when there was nothing to claim. @throws what failed before it was claimed; what fails later is put off */
  async function settleOne(setting: Which): Promise<boolean> {
    let isClaimed = false;
    const done = gate.background("settleManagedSecret", {
      waiting: setting === null ? { kind: "unsettled_secret" } : undefined,
      async claim(tx) {
        isClaimed = false;
        vault.assertInForce(await tx.keyCheckNow());
        const [term, safeUntil] = [newTerm(), safeFrom()];
        const secret = await tx.claimUnsettled(setting, term);
        if (secret === null) return null;
        const claimed = { secret, term, safeUntil, ...(await wantedOf(tx, secret)) };
        isClaimed = true;
        return claimed;
      },
      async work({ secret, safeUntil, isGenuine, keep, current, destroying, setting: held }, permit) {
        // Somebody else's word takes nothing out of a manager.
        if (!isGenuine) throw altered();
        // Nothing was ever there, as far as one knows, and something may be: whoever writes the setting there next needs the
        // name, which a manager that deleted the secret may not give back at once.
        if (secret.in_flight && keep.length === 0 && destroying.length === 0 && held !== null) return [];
        assertSafe({ safeUntil });
        const gone = destroying.slice(0, CONFIRMED_MAX).map(versionIdOf);
        return clouds.reconcile(permit, secret.manager, secret.address, keep, current, gone);
      },
      async finish(tx, _now, { secret, term, keep, setting: held, destroying }, confirmed) {
        const left = destroying.filter((version) => !confirmed.includes(versionIdOf(version)));
        const ended = destroying.filter((version) => !left.includes(version));
        if (held !== null && ended.length > 0) await endDestruction(tx, vault, held, ended);
        const outcome: SettleOutcome =
          left.length > 0
            ? { kind: "later", seconds: pauseAfter(secret.attempts) }
            : secret.in_flight
              ? { kind: "later", seconds: IN_FLIGHT_SECONDS }
              : keep.length === 0
                ? { kind: "gone" }
                : { kind: "settled" };
        await tx.settled(secret, term.lease_id, outcome);
        // What is only asked again is nothing new.
        if (outcome.kind === "later" && left.length === destroying.length) return null;
        const { tenant_id } = secret;
        const key = secret.owner === null ? null : { ...secret.owner, tenant_id };
        const details = { change: "settled", manager: secret.manager };
        return { result: null, key, target_id: secret.setting_id ?? secret.id, details };
      },
      async giveUp(tx, _now, { secret, term }) {
        await tx.settled(secret, term.lease_id, { kind: "later", seconds: pauseAfter(secret.attempts) });
      },
    });
    try {
      return (await done) !== null;
    } catch (error) {
      if (!isClaimed) throw error;
      // The next one may be another manager's.
      onBackgroundError(error);
      return true;
    }
  }

  /** What the manager is to hold of a secret, by the database. */
  async function wantedOf(tx: Transaction, secret: ManagedSecret) {
    const isGenuine = vault.isGenuineSecret(secret);
    const none = { keep: [] as string[], current: null, destroying: [] as VersionRecord[], setting: null };
    const nothing = { isGenuine, ...none };
    if (!isGenuine) return nothing;
    if (secret.setting_id === null) {
      if (secret.version_id === null) await tx.undoKey(secret);
      const inUse = secret.version_id !== null && (await tx.isKeyInUse(secret));
      return inUse && secret.version_id !== null
        ? { ...nothing, keep: [secret.version_id], current: secret.version_id }
        : nothing;
    }
    const { tenant_id, setting_id: id, address } = secret;
    const found = await tx.settingById(tenant_id, id);
    const row = found === null ? null : await tx.setting(found, found.path as SettingPath);
    const versions = await tx.versionsAt({ tenant_id, id }, address);
    if (row === null) {
      // A broker that removes a setting removes its versions with it.
      const isRemoved = versions.length === 0 && (await tx.settingById(tenant_id, id)) === null;
      return { ...nothing, isGenuine: isRemoved };
    }
    const { setting, version: newest } = row;
    const destroying = versions.filter(({ state }) => state === "destroying");
    // Where the row of the value that everybody reads is not ours, or says where another is, that value is at risk.
    const isOurs =
      setting.id === id &&
      vault.isGenuine(row) &&
      destroying.every((version) => vault.isGenuine({ setting, version }));
    const own = newest.state === "enabled" && liesAt(newest, address) ? versionIdOf(newest) : null;
    const rest = enabledIds(versions);
    // What was found true stays, whatever its row says a statement later.
    const keep = own === null || rest.includes(own) ? rest : [...rest, own];
    return { isGenuine: isOurs, keep, current: own ?? keep.at(-1) ?? null, destroying, setting };
  }

  return { settle };
}

export function altered(): BrokerError {
  return new BrokerError(
    "manager_failed",
    "A record of a secret in a manager was altered outside the broker.",
  );
}

export function enabledIds(versions: readonly VersionRecord[]): string[] {
  return versions.filter(({ state }) => state === "enabled").map(versionIdOf);
}

export function versionIdOf({ location }: VersionRecord): string {
  if (location === null) throw new BrokerError("internal", "A version in a manager has no location.");
  return location.version_id;
}

function pauseAfter(attempts: number): number {
  return Math.min(BACKOFF_SECONDS_MAX, 2 ** Math.min(attempts + 1, 20));
}
