// What the lifecycle of settings needs of the world: who reads what, webhooks and their outbox, rotations. store/,
// sealing/ and auth/ implement these.
import type { Owner, SettingPath } from "./address.ts";
import type { ChangeEvent, ChangeKind } from "./change-events.ts";
import type { OwnerKey, Page, PageQuery } from "./ports.ts";
import type { SettingRecord, SettingRow } from "./setting.ts";

/** Who last read which version of a setting. */
export type ReaderRecord = {
  readonly principal_id: string;
  readonly version: number;
  readonly last_read_at: Date;
};

export const FINDINGS = [
  "rotation_overdue",
  "expiring",
  "expired",
  "never_read",
  "unread",
  "pinned_readers",
] as const;
export type Finding = (typeof FINDINGS)[number];

/** A setting about which there is something to be done. */
export type ReportRow = Owner & {
  readonly id: string;
  readonly path: string;
  readonly version: number;
  readonly current_since: Date;
  readonly rotate_after_days: number | null;
  readonly expires_at: Date | null;
  readonly last_accessed_at: Date | null;
  readonly findings: readonly Finding[];
  /** Who read an older version since it was replaced, and lately. */
  readonly pinned: readonly ReaderRecord[];
};
export type ReportQuery = {
  readonly key: OwnerKey;
  /** An organization's projects too. */
  readonly with_projects: boolean;
  readonly now: Date;
  /** What expires before this is expiring. */
  readonly expiring_before: Date;
  /** What was last read before this is unread. */
  readonly unread_before: Date;
  readonly after: string | null;
  readonly limit: number;
};
export type ReportTotals = Readonly<Record<Finding | "settings", number>>;
export type ReportToken = {
  readonly id: string;
  readonly principal_id: string;
  readonly name: string;
  readonly created_at: Date;
  readonly expires_at: Date | null;
  readonly last_used_at: Date | null;
};

export type WebhookRecord = Owner & {
  readonly tenant_id: string;
  readonly id: string;
  readonly url: string;
  readonly description: string | null;
  readonly events: readonly ChangeKind[];
  /** The secret that deliveries are signed with, sealed. */
  readonly sealed: Uint8Array;
  readonly disabled_at: Date | null;
  readonly created_at: Date;
  readonly created_by: string;
  readonly updated_at: Date;
};
export type DeliveryState = "pending" | "delivered" | "dead";
export type DeliveryRecord = {
  readonly tenant_id: string;
  readonly id: string;
  readonly webhook_id: string;
  readonly event_id: string;
  readonly kind: ChangeKind;
  readonly state: DeliveryState;
  readonly attempts: number;
  readonly next_attempt_at: Date;
  readonly last_attempt_at: Date | null;
  readonly last_status: number | null;
  readonly last_flaw: string | null;
  readonly created_at: Date;
  readonly ended_at: Date | null;
};

export type RotationState = "pending" | "overlap" | "done" | "fallen_back";
export type RotationRecord = Owner & {
  readonly tenant_id: string;
  readonly id: string;
  readonly path: string;
  readonly setting_id: string;
  readonly old_version: number;
  readonly new_version: number;
  readonly state: RotationState;
  readonly overlap_seconds: number;
  readonly destroy_old: boolean;
  readonly public_part: Uint8Array | null;
  readonly webhook_id: string | null;
  readonly confirm_by: Date | null;
  readonly attempts: number;
  /** When there is something to do for it; null once there is not. */
  readonly next_at: Date | null;
  readonly reason: string | null;
  readonly created_at: Date;
  readonly created_by: string;
  readonly activated_at: Date | null;
  readonly ended_at: Date | null;
};

/** A setting with a new version of its value, which is the current one. */
export type SettingWrite = SettingRow & { readonly path: SettingPath; readonly isNew: boolean };

/** What may be there to do, for whoever comes by now and then. */
export type WaitingWork =
  | { readonly kind: "first_admin" | "first_signing_key" | "unsettled_secret" | "move" }
  | { readonly kind: "rotation"; readonly state: RotationState; readonly now: Date }
  | { readonly kind: "purge"; readonly now: Date }
  | { readonly kind: "notices"; readonly now: Date; readonly expiringBefore: Date };

/** Joins the Reader. */
export type LifecycleReads = {
  /** Whether there is any of it just now; who takes it finds out whether it still is. */
  isWaiting(work: WaitingWork): Promise<boolean>;
  /** What stands at these paths, deleted or not, by path. */
  settingsAt(key: OwnerKey, paths: readonly SettingPath[]): Promise<ReadonlyMap<string, SettingRow>>;
  /** Settings with findings, by owner and path; `after` is a row's `owner_id/path`. The totals are of all, not of the page. */
  report(query: ReportQuery): Promise<{ readonly page: Page<ReportRow>; readonly totals: ReportTotals }>;
  /** Tokens that are not revoked and either about to expire or long unused, of these principals' kind of owner. */
  reportTokens(
    query: ReportQuery,
    whose: { readonly principal_id: string } | "service_accounts",
  ): Promise<readonly ReportToken[]>;
  /** Who read a setting since then; of one version, or of any. */
  readersOf(setting: SettingRecord, since: Date, version: number | null): Promise<readonly ReaderRecord[]>;
  webhook(key: OwnerKey, id: string): Promise<WebhookRecord | null>;
  webhooksOf(key: OwnerKey, page: PageQuery): Promise<Page<WebhookRecord>>;
  deliveriesOf(
    webhook: WebhookRecord,
    state: DeliveryState | null,
    page: PageQuery,
  ): Promise<Page<DeliveryRecord>>;
  /** Owners at whom callers were denied this often since then, and of whom nobody was told since, up to `limit`. */
  deniedBursts(since: Date, least: number, limit: number): Promise<readonly DeniedBurst[]>;
  /** The setting's rotations, newest first. */
  rotationsOf(setting: SettingRecord, limit: number): Promise<readonly RotationRecord[]>;
};

/** Joins the Transaction. */
export type LifecycleWrites = {
  /** As lockPath, for many, in the order of the paths; answers `lastVersion` by path. */
  lockPaths(key: OwnerKey, paths: readonly SettingPath[]): Promise<ReadonlyMap<string, number>>;
  /** As insertSetting or updateSetting, insertVersion and setLastVersion, for many of one owner at once. */
  writeSettings(key: OwnerKey, writes: readonly SettingWrite[]): Promise<void>;
  /** Events, and a delivery for each webhook that asks for them: committed with the change, or not at all. */
  announce(changes: readonly ChangeEvent[]): Promise<void>;
  insertWebhook(row: WebhookRecord): Promise<void>;
  updateWebhook(row: WebhookRecord): Promise<void>;
  removeWebhook(row: WebhookRecord): Promise<void>;
  /** Has a delivery tried again from the beginning, with the same id, where it has ended. */
  replayDelivery(webhook: WebhookRecord, id: string, now: Date): Promise<"replayed" | "pending" | "absent">;
  insertRotation(row: RotationRecord): Promise<void>;
  updateRotation(row: RotationRecord): Promise<void>;
  rotation(tenantId: string, id: string): Promise<RotationRecord | null>;
  /** A rotation whose time has come, its row locked; others' locked rows are passed over. */
  lockDueRotation(state: RotationState, now: Date): Promise<RotationRecord | null>;
  /** Settings of one owner whose rotation is due, or that expire soon, up to `limit`, of which nobody was told yet; marks them. */
  takeDueNotices(now: Date, expiringBefore: Date, limit: number): Promise<readonly DueNotice[]>;
  /** Marks an owner as one of whom is told now; false where somebody else told of it since then. */
  takeDeniedBurst(burst: DeniedBurst, since: Date, now: Date): Promise<boolean>;
};
export type DueNotice = OwnerKey & {
  readonly kind: "setting.rotation_due" | "setting.expiring";
  readonly id: string;
  readonly path: string;
  readonly version: number;
  readonly due_at: Date;
};
export type DeniedBurst = OwnerKey & { readonly denied: number };

/** The order of what was committed; store/change-log.ts. */
export type ChangeLog = {
  /** Gives positions to what is committed and has none; answers the last position given. */
  place(): Promise<bigint>;
  /** Events after a position, in order; of one tenant, or of all. */
  after(
    position: bigint,
    tenantId: string | null,
    limit: number,
  ): Promise<readonly (ChangeEvent & { readonly position: bigint })[]>;
  /** The position before the first event that is still kept. */
  keptSince(): Promise<bigint>;
  /** Removes events and ended deliveries from before then. */
  forget(before: Date): Promise<void>;
};

/** One attempt that is to be made now. */
export type Attempt = {
  readonly tenant_id: string;
  readonly delivery_id: string;
  readonly webhook_id: string;
  readonly message_id: string;
  readonly url: string;
  readonly sealed: Uint8Array;
  readonly body: string;
  /** This one included. */
  readonly attempts: number;
};
export type Settled =
  | { readonly state: "delivered"; readonly status: number }
  | {
      readonly state: "pending" | "dead";
      readonly status: number | null;
      readonly flaw: string;
      readonly next_attempt_at: Date;
    };
/** Deliveries that are due, shared by all replicas; store/webhook-queue.ts. */
export type DeliveryQueue = {
  /**
   * Takes attempts for this replica until `leaseUntil`; when they are not settled by then somebody else makes them.
   * None of a webhook or tenant that is busy, and no more than a few of any one. None at all when the master key in
   * force is none of `keyChecks`: that replica was left behind when the key was replaced, and could not sign.
   */
  claim(take: {
    readonly now: Date;
    readonly leaseUntil: Date;
    readonly limit: number;
    readonly busyWebhooks: readonly string[];
    readonly busyTenants: readonly string[];
    readonly keyChecks: readonly Uint8Array[];
  }): Promise<readonly Attempt[]>;
  settle(attempt: Attempt, outcome: Settled, now: Date): Promise<void>;
};

/** What a receiver said. `status` null: nothing at all, and `flaw` says why. */
export type Reply = { readonly status: number | null; readonly flaw: string | null; readonly body: string };
/** Signs and sends one message; auth/webhook-sender.ts. */
export type WebhookSender = {
  /** @throws BrokerError `invalid_value` for an address that could never be asked */
  assertUsable(url: string): void;
  /** A new secret: as it is shown once, and as it rests. */
  newSecret(webhookId: string): { readonly secret: string; readonly sealed: Uint8Array };
  /** Never throws for what a receiver does or does not do. */
  send(message: {
    readonly id: string;
    readonly url: string;
    readonly webhook_id: string;
    readonly sealed: Uint8Array;
    readonly body: string;
  }): Promise<Reply>;
};

export type Generator =
  | {
      readonly kind: "password";
      readonly length: number;
      readonly classes: readonly ("lower" | "upper" | "digits" | "symbols")[];
    }
  | { readonly kind: "hex" | "base64"; readonly bytes: number }
  | { readonly kind: "uuid" }
  | { readonly kind: "ed25519" }
  | { readonly kind: "ecdsa"; readonly curve: "P-256" | "P-384" | "P-521" }
  | { readonly kind: "rsa"; readonly bits: number };
/** Makes values; auth/generated-values.ts. `public_part`: of a key pair, what may be shown. */
export type ValueGenerator = {
  generate(
    generator: Generator,
    tenantId: string,
  ): Promise<{ readonly value: string; readonly public_part: string | null }>;
  /** As the public part rests: sealed, so that only a broker can have written it. */
  readonly sealPublicPart: (settingId: string, version: number, text: string) => Uint8Array;
  readonly openPublicPart: (settingId: string, version: number, sealed: Uint8Array) => string;
};
