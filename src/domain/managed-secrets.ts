// Secrets in a cloud's manager that hold settings' values: written under a lease, and settled afterwards, so that
// whatever crashes in between, the manager ends with what the database points at and nothing else. A lease is a row
// that commits before the manager is called; whoever finds it run out makes the manager agree with the database.
import { endDestruction } from "./destruction.ts";
import { BrokerError, unavailable } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { SettingPath } from "./address.ts";
import type { CloudName, ManagedSecret, SecretAddress, SecretTags } from "./manager-ports.ts";
import type { LeaseTerm, SettleOutcome } from "./manager-store-ports.ts";
import type { Plaintext } from "./plaintext.ts";
import type { NewId, OwnerKey, Transaction } from "./ports.ts";
import { createQueues } from "./queues.ts";
import type { Permit, Vault } from "./sealing-ports.ts";
import type { Preparing, Writing } from "./setting-change.ts";
import type { Location, VersionRecord } from "./setting.ts";

/** Longer than a write may take: 4 seconds in the manager, and what the database may need before and after. */
const LEASE_SECONDS = 15;
/** The most that one use of a manager takes, and then some: with less of a lease left none is begun. */
const USE_MS = 6_000;
const WAIT_MS_MAX = 8_000;
const WAIT_STEP_MS = 100;
/** Of versions that are being destroyed so many are asked about at once, the oldest first. */
const CONFIRMED_MAX = 10;
const BACKOFF_SECONDS_MAX = 3_600;

/** A value that a manager has taken, and that no row points at yet. */
export type Deposit = {
  readonly manager: CloudName;
  readonly tenant_id: string;
  readonly secret_id: string;
  readonly setting_id: string;
  readonly lease_id: string;
  readonly location: Location;
  readonly plaintext: Plaintext;
  /** Said in the transaction that points at it: should that not commit, the deposit is undone all the same. */
  readonly takenOver: () => void;
};
/** What is to be deposited, found out under the path's lock. */
export type Deposition = {
  readonly setting_id: string;
  readonly manager: CloudName;
  readonly plaintext: Plaintext;
};
/** A secret that nobody else writes to for now, with the ids of the versions that rows point at. */
export type Lease = Omit<Deposit, "location" | "plaintext" | "takenOver"> & {
  readonly address: SecretAddress;
  readonly kept: readonly string[];
  readonly ending: readonly string[];
  /** By `ticks`: from then on no use of the manager is begun, lest it outlive the lease. */
  readonly safeUntil: number;
};
type Place = { readonly key: OwnerKey; readonly path: string };

/** One write's dealings with managers; see `during`. */
export type Session = {
  /** Waits for this process's other writers of the path; once is enough. @throws BrokerError `unavailable` */
  enter(at: Pick<Preparing, "key" | "path">): Promise<true>;
  /**
   * Leases the setting's secret and writes a new version to it. `intend` runs under the path's lock, before anything
   * is written; null: nothing is to be.
   * @throws BrokerError as CloudManager.write, and `unavailable` when others keep writing there
   */
  deposit(at: Preparing, intend: (writing: Writing) => Promise<Deposition | null>): Promise<Deposit | null>;
};

export type ManagedSecrets = ReturnType<typeof createManagedSecrets>;

export type ManagedSecretsDeps = {
  readonly gate: Gate;
  readonly vault: Vault;
  /** Milliseconds of a clock that only goes forward. */
  readonly ticks: () => number;
  readonly newId: NewId;
  /** Told of what fails where nobody waits. */
  readonly onBackgroundError: (error: unknown) => void;
};

export function createManagedSecrets({ gate, vault, ticks, newId, onBackgroundError }: ManagedSecretsDeps) {
  const queues = createQueues();
  const underWay = new Set<Promise<void>>();
  const { clouds } = vault;
  const newTerm = (): LeaseTerm => ({ lease_id: newId(), seconds: LEASE_SECONDS });
  /** Taken before the lease is, by whatever clock: it has begun by then at the earliest. */
  const safeFrom = (): number => ticks() + LEASE_SECONDS * 1_000 - USE_MS;

  function assertSafe({ safeUntil }: { readonly safeUntil: number }): void {
    if (ticks() > safeUntil) throw unavailable("It took too long to get this far; try again.");
  }

  /** Under the path's lock; "busy" while somebody else writes to a secret of the path. */
  async function lease(
    tx: Transaction,
    { key, path }: { readonly key: OwnerKey; readonly path: SettingPath },
    now: Date,
    { setting_id, manager }: Pick<Deposition, "setting_id" | "manager">,
  ): Promise<Lease | "busy"> {
    if (await tx.isSecretLeased(key, path)) return "busy";
    const { tenant_id } = key;
    const known = await tx.settingSecret(tenant_id, setting_id, manager);
    if (known !== null && !vault.isGenuineSecret(known)) throw altered();
    const secret_id = known?.id ?? newId();
    const address = known?.address ?? clouds.addressOf(manager, secret_id);
    if (known === null) {
      const owner = { owner_type: key.owner_type, owner_id: key.owner_id };
      const secret = { tenant_id, id: secret_id, purpose: "setting" as const, manager, address };
      const mac = vault.signSecret({ ...secret, version_id: null, setting_id, owner, path });
      await tx.insertSettingSecret({ key, path }, { ...secret, setting_id, mac }, now);
    }
    const safeUntil = safeFrom();
    const term = newTerm();
    if (!(await tx.leaseSecret(tenant_id, secret_id, term))) return "busy";
    const versions = await tx.versionsAt({ tenant_id, id: setting_id }, address);
    const ending = versions.filter(({ state }) => state === "destroying").map(versionIdOf);
    const kept = enabledIds(versions);
    const { lease_id } = term;
    return { manager, tenant_id, secret_id, setting_id, lease_id, address, kept, ending, safeUntil };
  }

  /** For whoever has more to write than a lease lasts. @throws BrokerError `unavailable` when the lease was lost */
  async function renew(held: Lease): Promise<Lease> {
    const { tenant_id, secret_id, lease_id } = held;
    const safeUntil = safeFrom();
    await gate.housekeep("renewLease", async (tx) => {
      if (!(await tx.renewLease(tenant_id, secret_id, { lease_id, seconds: LEASE_SECONDS })))
        throw unavailable("The lease of the setting's secret was lost.");
      return null;
    });
    return { ...held, safeUntil };
  }

  /** Ends a lease whose holder may have left something behind: the sweeper is to look, whoever has the secret by now. */
  async function release(
    tx: Transaction,
    { tenant_id, secret_id, setting_id, lease_id }: Lease,
  ): Promise<void> {
    if (!(await tx.expireLease(tenant_id, secret_id, lease_id))) await tx.unsettle(tenant_id, setting_id);
  }

  /** Undoes what a write began and did not end; should this fail, the sweeper does it when the lease has run out. */
  async function abandon(held: Lease): Promise<void> {
    try {
      await gate.housekeep("abandonDeposit", async (tx) => {
        await release(tx, held);
        return null;
      });
      await settle(held);
    } catch (error) {
      onBackgroundError(error);
    }
  }

  function inBackground(work: Promise<void>): void {
    underWay.add(work);
    void work.finally(() => underWay.delete(work));
  }

  /** Runs one write. Whatever it deposited and did not take over is undone, soon after. */
  async function during<Result>(work: (session: Session) => Promise<Result>): Promise<Result> {
    const leases: Lease[] = [];
    const taken = new Set<Lease>();
    const turns: (() => void)[] = [];
    const session: Session = {
      async enter({ key, path }) {
        const { tenant_id, owner_type, owner_id } = key;
        if (turns.length === 0)
          turns.push(await queues.turn(`${tenant_id}/${owner_type}/${owner_id}/${path}`, WAIT_MS_MAX));
        return true;
      },
      async deposit(at, intend) {
        // Rivals of this process wait for each other here, and do not ask the database whether they may.
        await session.enter(at);
        for (const before of leases.splice(0)) await abandon(before);
        const deadline = ticks() + WAIT_MS_MAX;
        for (;;) {
          const made = await at.stage(async (writing) => {
            const deposition = await intend(writing);
            if (deposition === null) return null;
            return { deposition, held: await lease(writing.tx, writing, writing.grant.at, deposition) };
          });
          if (made === null) return null;
          const { deposition, held } = made;
          if (held !== "busy") {
            leases.push(held);
            const { plaintext } = deposition;
            const location = await write(at.permit, at, held, plaintext);
            return { ...held, plaintext, location, takenOver: () => taken.add(held) };
          }
          if (ticks() > deadline) throw unavailable("Others keep writing here; try again.");
          await pause(WAIT_STEP_MS);
        }
      },
    };
    try {
      const result = await work(session);
      leases.splice(0, leases.length, ...leases.filter((each) => !taken.has(each)));
      return result;
    } finally {
      for (const end of turns) end();
      for (const each of leases) inBackground(abandon(each));
    }
  }

  async function write(
    permit: Permit,
    { key, path }: Place,
    to: Lease,
    plaintext: Plaintext,
  ): Promise<Location> {
    assertSafe(to);
    const tags = tagsOf(key, path, to.setting_id);
    const { manager, address, kept, ending } = to;
    return clouds.write(permit, manager, { address, token: newId(), plaintext, tags, kept, ending });
  }

  /**
   * Makes managers agree with the database about secrets of one setting, or about up to `limit` of those that are due.
   * Any number of replicas share the work. @returns how many it saw to
   */
  async function settle(setting: Parameters<Transaction["claimUnsettled"]>[0], limit = 100): Promise<number> {
    for (let seen = 0; seen < limit; seen++) {
      const done = await settleOne(setting).catch((error: unknown) => {
        // Put off by now; the next one may be another manager's.
        onBackgroundError(error);
        return { result: null };
      });
      if (done === null) return seen;
    }
    return limit;
  }

  function settleOne(setting: Parameters<Transaction["claimUnsettled"]>[0]) {
    return gate.background("settleManagedSecret", {
      async claim(tx) {
        const [term, safeUntil] = [newTerm(), safeFrom()];
        const secret = await tx.claimUnsettled(setting, term);
        return secret === null ? null : { secret, term, safeUntil, ...(await wantedOf(tx, secret)) };
      },
      async work({ secret, safeUntil, isGenuine, keep, current, destroying }, permit) {
        // Somebody else's word takes nothing out of a manager.
        if (!isGenuine) throw altered();
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
    const setting = await tx.settingById(secret.tenant_id, secret.setting_id);
    if (setting === null) return nothing;
    const versions = await tx.versionsAt(setting, secret.address);
    const keep = enabledIds(versions);
    const isCurrent = ({ version, state }: VersionRecord): boolean =>
      version === setting.current_version && state === "enabled";
    const newest = versions.find(isCurrent);
    const current = newest === undefined ? (keep.at(-1) ?? null) : versionIdOf(newest);
    const destroying = versions.filter(({ state }) => state === "destroying");
    return { isGenuine, keep, current, destroying, setting };
  }

  return {
    during,
    lease,
    renew,
    release,
    write,
    settle,
    /** Once what made it necessary has committed: tried at once, and left to the sweeper where that fails. */
    async settleSoon(setting: { readonly tenant_id: string; readonly setting_id: string }): Promise<void> {
      await settle(setting, 3).catch(onBackgroundError);
    },
    /** Resolves when nothing is being undone any more. */
    async drain(): Promise<void> {
      await Promise.all(underWay);
    },
  };
}

function altered(): BrokerError {
  return new BrokerError(
    "manager_failed",
    "The record of a secret in a manager was altered outside the broker.",
  );
}

function enabledIds(versions: readonly VersionRecord[]): string[] {
  return versions.filter(({ state }) => state === "enabled").map(versionIdOf);
}

function versionIdOf({ location }: VersionRecord): string {
  if (location === null) throw new BrokerError("internal", "A version in a manager has no location.");
  return location.version_id;
}

function pauseAfter(attempts: number): number {
  return Math.min(BACKOFF_SECONDS_MAX, 2 ** Math.min(attempts + 1, 20));
}

/** What people see in the cloud's console: whose it is, and which. */
function tagsOf(key: OwnerKey, path: string, settingId: string): SecretTags {
  return { owner_type: key.owner_type, owner_id: key.owner_id, path, setting_id: settingId };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
