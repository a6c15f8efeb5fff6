// Secrets in a cloud's manager that hold settings' values: written under a lease, and settled afterwards, so that
// whatever crashes in between, the manager ends with what the database points at and nothing else. A lease is a row
// that commits before the manager is called; whoever finds it run out makes the manager agree with the database.
import type { SettingPath } from "./address.ts";
import { unavailable } from "./errors.ts";
import type { CloudName, SecretAddress, SecretTags } from "./manager-ports.ts";
import type { Plaintext } from "./plaintext.ts";
import type { OwnerKey, Transaction } from "./ports.ts";
import { createQueues } from "./queues.ts";
import type { Permit } from "./sealing-ports.ts";
import type { Preparing, Writing } from "./setting-change.ts";
import type { Location } from "./setting.ts";
import {
  LEASE_SECONDS,
  type SettlingDeps,
  altered,
  createLeaseTerms,
  createSettling,
  enabledIds,
  versionIdOf,
} from "./settling.ts";

const WAIT_MS_MAX = 8_000;
const WAIT_STEP_MS = 100;

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
/** A secret that nobody else writes to until the lease ends, with the ids of the versions that rows point at. */
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

export function createManagedSecrets({ gate, vault, ticks, newId, onBackgroundError }: SettlingDeps) {
  const queues = createQueues();
  const underWay = new Set<Promise<void>>();
  const { clouds } = vault;
  const { newTerm, safeFrom, assertSafe } = createLeaseTerms(ticks, newId);
  const { settle } = createSettling({ gate, vault, ticks, newId, onBackgroundError });

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

  /**
   * Ends a lease whose holder may have left something behind: the sweeper is to look, whoever has the secret by now.
   * @param isInFlight whether a call failed, and may arrive in the manager yet
   */
  async function release(
    tx: Transaction,
    { tenant_id, secret_id, setting_id, lease_id }: Lease,
    isInFlight: boolean,
  ): Promise<void> {
    if (isInFlight) await tx.noteInFlight(tenant_id, secret_id);
    if (!(await tx.giveUpLease(tenant_id, secret_id, lease_id))) await tx.unsettle(tenant_id, setting_id);
  }

  /** Undoes what a write began and did not end; should this fail, the sweeper does it when the lease has run out. */
  async function abandon(held: Lease, isInFlight: boolean): Promise<void> {
    try {
      await gate.housekeep("abandonDeposit", async (tx) => {
        await release(tx, held, isInFlight);
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
    const unsure = new Set<Lease>();
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
        for (const before of leases.splice(0)) await abandon(before, unsure.has(before));
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
            unsure.add(held);
            const location = await write(at.permit, at, held, plaintext);
            unsure.delete(held);
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
      for (const each of leases) inBackground(abandon(each, unsure.has(each)));
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

/** What people see in the cloud's console: whose it is, and which. */
function tagsOf(key: OwnerKey, path: string, settingId: string): SecretTags {
  return { owner_type: key.owner_type, owner_id: key.owner_id, path, setting_id: settingId };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
