// What the core needs of the store for values that lie in managers: which secrets are ours, who is writing to one,
// where an owner's new values go, and how far a move is. Parts of Reader and Transaction (ports.ts).
import type { Owner, SettingPath } from "./address.ts";
import type { CloudName, ManagedSecret, SecretAddress } from "./manager-ports.ts";
import type { OwnerKey } from "./ports.ts";
import type { ManagerName, Placement, SettingRecord, Storage, VersionRecord } from "./setting.ts";

/** A call that nobody waits for any more has arrived in the manager by then, or never will. */
export const IN_FLIGHT_SECONDS = 60;

/** Where an owner's new settings go: what is said of the owner itself, and of its organization. */
export type OwnerManagers = { readonly own: Placement | null; readonly organization: Placement | null };

/** A place that a setting is at, or was. */
export type SettingPlace = { readonly key: OwnerKey; readonly path: string };

/** What could not be moved. */
export type MoveFailure = Owner & { readonly path: string; readonly code: string };

/** The moving of an owner's values to where its new ones go. */
export type MoveRecord = OwnerKey & {
  /** Where to: what the owner's new settings had when it began. */
  readonly storage: Storage;
  readonly manager: ManagerName;
  readonly id: string;
  readonly state: "running" | "done" | "failed";
  /** Settings, external ones not counted. */
  readonly total: number;
  readonly done: number;
  readonly failed: readonly MoveFailure[];
  /** The last setting looked at; null before the first. */
  readonly cursor: string | null;
  readonly started_at: Date;
  readonly started_by: string;
  readonly finished_at: Date | null;
};

export type ManagerReads = {
  /** Null where nothing is said. A user's own scope follows the instance. */
  ownerManagers(key: OwnerKey): Promise<OwnerManagers>;
  /** The setting with this id, deleted or not. */
  settingById(tenantId: string, id: string): Promise<SettingRecord | null>;
  /**
   * Where live settings have their current value in a secret, of those whose values the principal's roles may open:
   * `secret` is AWS's name of it, or GCP's resource.
   */
  placesHolding(principalId: string, manager: CloudName, secret: string): Promise<readonly SettingPlace[]>;
  /** Whether a secret of ours has this id, whatever its name begins with. */
  isOurSecret(id: string): Promise<boolean>;
  /** The last move of the owner's values; null when there never was one. */
  move(key: OwnerKey): Promise<MoveRecord | null>;
};

/** Who holds a lease, and for how long from now by the database's clock, which is the same for all replicas. */
export type LeaseTerm = { readonly lease_id: string; readonly seconds: number };

export type ManagerWrites = {
  putOwnerManager(key: OwnerKey, placement: Placement, by: string, at: Date): Promise<void>;
  removeOwnerManager(key: OwnerKey): Promise<void>;

  /** Whether somebody is writing to a secret of ours that is for the path. */
  isSecretLeased(key: OwnerKey, path: SettingPath): Promise<boolean>;
  /** The secret of ours that holds a setting's values in a manager. */
  settingSecret(tenantId: string, settingId: string, manager: CloudName): Promise<ManagedSecret | null>;
  insertSettingSecret(
    place: SettingPlace,
    secret: Pick<ManagedSecret, "id" | "manager" | "address" | "mac"> & { readonly setting_id: string },
    at: Date,
  ): Promise<void>;
  /** False when somebody else has it. What a lease that ran out left behind is for the sweeper. */
  leaseSecret(tenantId: string, id: string, term: LeaseTerm): Promise<boolean>;
  /** Prolongs a lease that its holder still has; false when the holder lost it. */
  renewLease(tenantId: string, id: string, term: LeaseTerm): Promise<boolean>;
  /** Ends a lease that its holder still has; false when the holder lost it. */
  endLease(tenantId: string, id: string, leaseId: string): Promise<boolean>;
  /** Ends a lease that its holder still has, and has the sweeper see to the secret; false when the holder lost it. */
  giveUpLease(tenantId: string, id: string, leaseId: string): Promise<boolean>;
  /** Says that a call that nobody waits for any more may arrive in the manager yet. */
  noteInFlight(tenantId: string, id: string): Promise<void>;
  /** Says that the manager may hold something else than the database points at. */
  unsettle(tenantId: string, settingId: string): Promise<void>;
  /**
   * Leases a secret that is to be settled: one of the setting's, or the one longest due of any. Others' are passed
   * over. `in_flight`: what is found now may not be all.
   */
  claimUnsettled(
    setting: { readonly tenant_id: string; readonly setting_id: string } | null,
    term: LeaseTerm,
  ): Promise<(ManagedSecret & { readonly in_flight: boolean }) | null>;
  /** Forgets a key whose making was never confirmed: nothing can have been wrapped under it. */
  undoKey(secret: ManagedSecret): Promise<void>;
  /** Ends the lease. `settled`: nothing is left to do, unless somebody unsettled it since it was claimed. */
  settled(claimed: ManagedSecret, leaseId: string, outcome: SettleOutcome): Promise<void>;
  /** The versions of a setting whose values lie at the address, oldest first. */
  versionsAt(
    setting: Pick<SettingRecord, "tenant_id" | "id">,
    address: SecretAddress,
  ): Promise<readonly VersionRecord[]>;
  /** Whether a key of ours is still what a row points at, or a data key is wrapped under it. */
  isKeyInUse(secret: ManagedSecret): Promise<boolean>;

  putMove(row: MoveRecord): Promise<void>;
  /** Leases a running move: the owner's own, or any. Others' are passed over. */
  claimMove(term: LeaseTerm): Promise<MoveRecord | null>;
  /** Notes progress under a lease, and lets that go when it has finished. False when the lease was lost. */
  updateMove(row: MoveRecord, term: LeaseTerm): Promise<boolean>;
  /** Enabled versions of a setting that are neither at a place nor external, newest first, and how many there are. */
  versionsElsewhere(
    setting: Pick<SettingRecord, "tenant_id" | "id">,
    place: Placement,
    limit: number,
  ): Promise<{ readonly versions: readonly VersionRecord[]; readonly count: number }>;
  /** The next settings of a move, in order: the owner's and, of an organization, those of projects that inherit. */
  settingsToMove(key: OwnerKey, after: string | null, limit: number): Promise<readonly SettingRecord[]>;
  countSettingsToMove(key: OwnerKey): Promise<number>;
};

/** `gone`: the manager has nothing of it any more, so the row goes too. */
export type SettleOutcome =
  | { readonly kind: "gone" }
  | { readonly kind: "settled" }
  | { readonly kind: "later"; readonly seconds: number };
