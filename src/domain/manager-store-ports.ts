// What the core needs of the store for values that lie in managers: which secrets are ours, who is writing to one,
// where an owner's new values go, and how far a move is. Parts of Reader and Transaction (ports.ts).
import type { Owner, SettingPath } from "./address.ts";
import type { CloudName, ManagedSecret, SecretAddress } from "./manager-ports.ts";
import type { OwnerKey } from "./ports.ts";
import type { Placement, SettingRecord, VersionRecord } from "./setting.ts";

/** Where an owner's new settings go: what is said of the owner itself, and of its organization. */
export type OwnerManagers = { readonly own: Placement | null; readonly organization: Placement | null };

/** A place that a setting is at, or was. */
export type SettingPlace = { readonly key: OwnerKey; readonly path: string };

/** The moving of an owner's values to where its new ones go. */
export type MoveRecord = OwnerKey & {
  readonly id: string;
  readonly state: "running" | "done" | "failed";
  /** Settings, external ones not counted. */
  readonly total: number;
  readonly done: number;
  readonly failed: readonly { readonly path: string; readonly code: string }[];
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
  /** Where live settings have their current value in a secret: `secret` is AWS's name of it, or GCP's resource. */
  placesHolding(manager: CloudName, secret: string): Promise<readonly SettingPlace[]>;
  /** The last move of the owner's values; null when there never was one. */
  move(key: OwnerKey): Promise<MoveRecord | null>;
};

/** For how long, and as whom, somebody writes to a secret. */
export type LeaseTerm = { readonly lease_id: string; readonly until: Date };

export type ManagerWrites = {
  putOwnerManager(key: OwnerKey, placement: Placement, by: string, at: Date): Promise<void>;
  removeOwnerManager(key: OwnerKey): Promise<void>;

  /** Whether somebody is writing to a secret of ours that is for the path. */
  isSecretLeased(key: OwnerKey, path: SettingPath, now: Date): Promise<boolean>;
  /** The secret of ours that holds a setting's values in a manager. */
  settingSecret(tenantId: string, settingId: string, manager: CloudName): Promise<ManagedSecret | null>;
  insertSettingSecret(
    place: SettingPlace,
    secret: Pick<ManagedSecret, "id" | "manager" | "address"> & { readonly setting_id: string },
    at: Date,
  ): Promise<void>;
  /** False when somebody else has it. What a lease that ran out left behind is for the sweeper. */
  leaseSecret(tenantId: string, id: string, now: Date, term: LeaseTerm): Promise<boolean>;
  /** Prolongs a lease that its holder still has; false when the holder lost it. */
  renewLease(tenantId: string, id: string, term: LeaseTerm): Promise<boolean>;
  /** Ends a lease that its holder still has; false when the holder lost it. */
  endLease(tenantId: string, id: string, leaseId: string): Promise<boolean>;
  /** Lets a lease run out now, if its holder still has it: the sweeper sees to the secret next. */
  expireLease(tenantId: string, id: string, leaseId: string, now: Date): Promise<void>;
  /** Says that the manager may hold something else than the database points at. */
  unsettle(tenantId: string, settingId: string): Promise<void>;
  /**
   * Leases a secret that is to be settled: one of the setting's, or the one longest due of any. Others' are passed
   * over. A key whose making was not confirmed is undone by this.
   */
  claimUnsettled(
    setting: { readonly tenant_id: string; readonly setting_id: string } | null,
    now: Date,
    term: LeaseTerm,
  ): Promise<(ManagedSecret & { readonly owner: Owner | null }) | null>;
  /** Ends the lease. `settled`: nothing is left to do, unless somebody unsettled it since it was claimed. */
  settled(claimed: ManagedSecret, term: LeaseTerm, outcome: SettleOutcome): Promise<void>;
  /** The versions of a setting whose values lie at the address, oldest first. */
  versionsAt(
    setting: Pick<SettingRecord, "tenant_id" | "id">,
    address: SecretAddress,
  ): Promise<readonly VersionRecord[]>;
  /** Whether a key of ours is still what a row points at. */
  isKeyInUse(secret: ManagedSecret): Promise<boolean>;

  putMove(row: MoveRecord): Promise<void>;
  /** Leases a running move: the owner's own, or any. Others' are passed over. */
  claimMove(now: Date, term: LeaseTerm): Promise<MoveRecord | null>;
  /** Notes progress under a lease, and lets that go when it has finished. False when the lease was lost. */
  updateMove(row: MoveRecord, term: LeaseTerm): Promise<boolean>;
  /** All versions of a setting with what is sealed of them, oldest first. */
  versionsWithValues(setting: Pick<SettingRecord, "tenant_id" | "id">): Promise<readonly VersionRecord[]>;
  /** The next settings of a move, in order: the owner's and, of an organization, those of projects that inherit. */
  settingsToMove(key: OwnerKey, after: string | null, limit: number): Promise<readonly SettingRecord[]>;
  countSettingsToMove(key: OwnerKey): Promise<number>;
};

/** `gone`: the manager has nothing of it any more, so the row goes too. */
export type SettleOutcome =
  | { readonly kind: "gone" }
  | { readonly kind: "settled" }
  | { readonly kind: "later"; readonly at: Date };
