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
import type { Clock, NewId, OwnerKey, Transaction } from "./ports.ts";
import { createQueues } from "./queues.ts";
import type { Permit, Vault } from "./sealing-ports.ts";
import type { Preparing, Writing } from "./setting-change.ts";
import type { Location, VersionRecord } from "./setting.ts";

/** Longer than a write may take: 4 seconds in the manager, and what the database may need before and after. */
const LEASE_MS = 15_000;
const WAIT_MS_MAX = 8_000;
const WAIT_STEP_MS = 100;
const BACKOFF_MS_MAX = 6 * 3_600_000;

/** A value that a manager has taken, and that no row points at yet. */
export type Deposit = {
  readonly manager: CloudName;
  readonly tenant_id: string;
  readonly secret_id: string;
  readonly setting_id: string;
  readonly lease_id: string;
  readonly location: Location;
  readonly plaintext: Plaintext;
};
/** What is to be deposited, found out under the path's lock. */
export type Deposition = {
  readonly setting_id: string;
  readonly manager: CloudName;
  readonly plaintext: Plaintext;
};
/** A secret that nobody else writes to for now, with the ids of the versions that rows point at. */
export type Lease = Omit<Deposit, "location" | "plaintext"> & {
  readonly address: SecretAddress;
  readonly kept: readonly string[];
  readonly ending: readonly string[];
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
  readonly clock: Clock;
  readonly newId: NewId;
  /** Told of what fails where nobody waits. */
  readonly onBackgroundError: (error: unknown) => void;
};

export function createManagedSecrets({ gate, vault, clock, newId, onBackgroundError }: ManagedSecretsDeps) {
  const queues = createQueues();
  const underWay = new Set<Promise<void>>();
  const { clouds } = vault;
  const newTerm = (now: Date): LeaseTerm => ({
    lease_id: newId(),
    until: new Date(now.getTime() + LEASE_MS),
  });

  /** Under the path's lock; "busy" while somebody else writes to a secret of the path. */
  async function lease(
    tx: Transaction,
    { key, path }: { readonly key: OwnerKey; readonly path: SettingPath },
    now: Date,
    { setting_id, manager }: Pick<Deposition, "setting_id" | "manager">,
  ): Promise<Lease | "busy"> {
    if (await tx.isSecretLeased(key, path, now)) return "busy";
    const { tenant_id } = key;
    const known = await tx.settingSecret(tenant_id, setting_id, manager);
    const secret_id = known?.id ?? newId();
    const address = known?.address ?? clouds.addressOf(manager, secret_id);
    if (known === null)
      await tx.insertSettingSecret({ key, path }, { id: secret_id, manager, address, setting_id }, now);
    const { lease_id, until } = newTerm(now);
    if (!(await tx.leaseSecret(tenant_id, secret_id, now, { lease_id, until }))) return "busy";
    const versions = await tx.versionsAt({ tenant_id, id: setting_id }, address);
    const ending = versions.filter(({ state }) => state === "destroying").map(versionIdOf);
    const kept = enabledIds(versions);
    return { manager, tenant_id, secret_id, setting_id, lease_id, address, kept, ending };
  }

  /** For whoever has more to write than a lease lasts. @throws BrokerError `unavailable` when the lease was lost */
  async function renew({ tenant_id, secret_id, lease_id }: Lease): Promise<void> {
    await gate.housekeep("renewLease", async (tx, now) => {
      const until = new Date(now.getTime() + LEASE_MS);
      if (!(await tx.renewLease(tenant_id, secret_id, { lease_id, until })))
        throw unavailable("The lease of the setting's secret was lost.");
      return null;
    });
  }

  /** Undoes what a write began and did not end; should this fail, the sweeper does it when the lease has run out. */
  async function abandon({ tenant_id, secret_id, setting_id, lease_id }: Lease): Promise<void> {
    try {
      await gate.housekeep("abandonDeposit", async (tx, now) => {
        await tx.expireLease(tenant_id, secret_id, lease_id, now);
        return null;
      });
      await settle({ tenant_id, setting_id });
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
        const before = leases.at(-1);
        if (before !== undefined) await abandon(before);
        const deadline = clock.now().getTime() + WAIT_MS_MAX;
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
            return { ...held, plaintext, location: await write(at.permit, at, held, plaintext) };
          }
          if (clock.now().getTime() > deadline) throw unavailable("Others keep writing here; try again.");
          await pause(WAIT_STEP_MS);
        }
      },
    };
    try {
      const result = await work(session);
      leases.pop();
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
      async claim(tx, now) {
        const term = newTerm(now);
        const secret = await tx.claimUnsettled(setting, now, term);
        return secret === null ? null : { secret, term, ...(await wantedOf(tx, secret)) };
      },
      work: ({ secret, keep, current, destroying }, permit) =>
        clouds.reconcile(permit, secret.manager, secret.address, keep, current, destroying.map(versionIdOf)),
      async finish(tx, now, { secret, term, keep, setting: owner, destroying }, confirmed) {
        const left = destroying.filter((version) => !confirmed.includes(versionIdOf(version)));
        const ended = destroying.filter((version) => !left.includes(version));
        if (owner !== null && ended.length > 0) await endDestruction(tx, vault, owner, ended);
        const outcome: SettleOutcome =
          left.length > 0
            ? { kind: "later", at: laterOf(now, secret.attempts) }
            : keep.length === 0
              ? { kind: "gone" }
              : { kind: "settled" };
        await tx.settled(secret, term, outcome);
        // What is only asked again is nothing new.
        if (outcome.kind === "later" && left.length === destroying.length) return null;
        const { tenant_id } = secret;
        const key = secret.owner === null ? null : { ...secret.owner, tenant_id };
        const details = { change: "settled", manager: secret.manager };
        return { result: null, key, target_id: secret.setting_id ?? secret.id, details };
      },
      async giveUp(tx, now, { secret, term }) {
        await tx.settled(secret, term, { kind: "later", at: laterOf(now, secret.attempts) });
      },
    });
  }

  /** What the manager is to hold of a secret, by the database. */
  async function wantedOf(tx: Transaction, secret: ManagedSecret) {
    const nothing = { keep: [] as string[], current: null, destroying: [] as VersionRecord[], setting: null };
    if (secret.setting_id === null) {
      const inUse = secret.version_id !== null && (await tx.isKeyInUse(secret));
      return inUse && secret.version_id !== null
        ? { ...nothing, keep: [secret.version_id], current: secret.version_id }
        : nothing;
    }
    const setting = await tx.settingById(secret.tenant_id, secret.setting_id);
    if (setting === null) return nothing;
    const versions = await tx.versionsAt(setting, secret.address);
    const keep = enabledIds(versions);
    const now = versions.find(
      ({ version, state }) => version === setting.current_version && state === "enabled",
    );
    const current = now === undefined ? (keep.at(-1) ?? null) : versionIdOf(now);
    return { keep, current, destroying: versions.filter(({ state }) => state === "destroying"), setting };
  }

  return {
    during,
    lease,
    renew,
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

function enabledIds(versions: readonly VersionRecord[]): string[] {
  return versions.filter(({ state }) => state === "enabled").map(versionIdOf);
}

function versionIdOf({ location }: VersionRecord): string {
  if (location === null) throw new BrokerError("internal", "A version in a manager has no location.");
  return location.version_id;
}

function laterOf(now: Date, attempts: number): Date {
  return new Date(now.getTime() + Math.min(BACKOFF_MS_MAX, 2_000 * 2 ** Math.min(attempts, 20)));
}

/** What people see in the cloud's console: whose it is, and which. */
function tagsOf(key: OwnerKey, path: string, settingId: string): SecretTags {
  return { owner_type: key.owner_type, owner_id: key.owner_id, path, setting_id: settingId };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
