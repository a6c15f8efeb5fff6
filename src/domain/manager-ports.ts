// What the core needs of a cloud's secret manager, in its own words. A manager holds *secrets*, each with *versions* of
// text; the broker's own have opaque names. Every call here is a network call: never inside a database transaction.
// Each keeps within a budget of 4 seconds in all, retries included, and fails as a BrokerError that quotes nothing of
// the manager's words: `unavailable` where trying again can help, else `manager_failed`, `conflict`, `too_large`.
import type { Owner } from "./address.ts";
import type { BrokerError } from "./errors.ts";

export const CLOUDS = ["aws", "gcp"] as const;
export type CloudName = (typeof CLOUDS)[number];

/** Where a secret lies: all it takes to find it again, whatever the configuration says by then. */
export type SecretAddress =
  /** `secret_id`: a name or an ARN. */
  | { readonly secret_id: string; readonly region: string }
  /** `projects/P/secrets/S`, or `projects/P/locations/L/secrets/S` for a regional one. */
  | { readonly resource: string };

/** The version id of whatever is newest. */
export const LATEST = "latest";

/** A secret, and the manager's own id of one version of it: a UUID (AWS), a number (GCP), or `latest`. */
export type Located = SecretAddress & { readonly version_id: string };

/** What people see of a secret of ours in the cloud's console. `purpose` says what it is when it is no setting. */
export type SecretTags = Readonly<Record<string, string>>;

export type NewVersion = {
  readonly address: SecretAddress;
  /** A UUID chosen before the call and kept in the database: what makes a repeated call the same call. */
  readonly token: string;
  /** 1 byte to 64 KiB of UTF-8. */
  readonly text: string;
  readonly tags: SecretTags;
  /** The ids of the versions that the database points at, oldest first; empty for a secret that is new. */
  readonly kept: readonly string[];
  /** The ids of versions that are being destroyed: none of them is ever taken for this one. */
  readonly ending?: readonly string[];
};

/** What one version holds, or why it cannot be had. */
export type Read =
  | { readonly kind: "text"; readonly text: string; readonly version_id: string }
  /** `absent`: the manager knows no such secret or version, or no longer gives it out. */
  | { readonly kind: "failed"; readonly absent: boolean; readonly error: BrokerError };

/** One cloud's secret manager; src/sealing/aws.ts and gcp.ts. */
export type CloudManager = {
  readonly name: CloudName;
  /** How many versions of one secret can be enabled at once. */
  readonly versionsMax: number;
  /** True where the newest version is the one that was added last, and no word can make it another. */
  readonly newestIsLast: boolean;
  /**
   * Sees that the manager can be reached and takes our credentials. Reads no value.
   * @throws BrokerError `manager_failed` with a detail for operators (credentials, permission, region), `unavailable`
   */
  check(): Promise<void>;
  /** The address that a secret of ours with this id (a UUID) gets, by the configuration of now. */
  addressOf(id: string): SecretAddress;
  /** True for an address that a secret of ours could have: an external one never may. */
  isOwn(address: SecretAddress): boolean;
  /**
   * Makes sure that a secret is there; answers the text of its first version, whoever of several racers wrote it.
   * For keys: such a secret has one version for ever. `id` is the one that `address` was made of.
   */
  ensure(id: string, address: SecretAddress, text: string, tags: SecretTags): Promise<Read>;
  /**
   * Adds a version, and makes the secret where there is none; answers the version's id. Nobody else writes to this
   * secret meanwhile. Called again with the same token it adds nothing.
   * Where `kept` has `versionsMax` ids already, all of them stay until `reconcile` is told which is not kept any more.
   */
  write(version: NewVersion): Promise<{ readonly version_id: string }>;
  /**
   * One result for each, in order. Concurrent and batched where the manager can, bounded; a failure is that one's alone.
   * @param lane whose reads they are: a tenant, which never takes all the turns; absent for what everybody needs
   */
  read(wanted: readonly Located[], lane?: string): Promise<readonly Read[]>;
  /**
   * Makes the secret hold what the database points at: `keep` (oldest first; `current` is one of them) and nothing
   * else; without any, the secret goes. Doing it again changes nothing; a secret that is not there is as it should be.
   * @returns those of `gone`, oldest first, that the manager has confirmed to be unreadable
   */
  reconcile(
    address: SecretAddress,
    keep: readonly string[],
    current: string | null,
    gone: readonly string[],
  ): Promise<readonly string[]>;
  /**
   * The one name of a secret that somebody else made: a full ARN, a full resource name. No value is read.
   * @throws BrokerError `not_found` when there is none or it may not be described
   */
  canonical(address: SecretAddress): Promise<SecretAddress>;
  close(): Promise<void>;
};

/**
 * A secret in a manager that the broker made, or is about to make. The row is there before the manager is called, and
 * until the manager has nothing of it any more: so no crash leaves anything behind that nobody knows of.
 */
export type ManagedSecret = {
  readonly tenant_id: string;
  /** Its name in the manager, after the prefix. */
  readonly id: string;
  readonly purpose: "setting" | "key_encryption_key" | "master_key";
  readonly manager: CloudName;
  readonly address: SecretAddress;
  /** A key's one version, once it is there. */
  readonly version_id: string | null;
  /** All null for a key. */
  readonly setting_id: string | null;
  readonly owner: Owner | null;
  readonly path: string | null;
  readonly unsettled_at: Date | null;
  readonly attempts: number;
  /** Over all that says which secret it is and whose; null for the master key, which no key of ours vouches for. */
  readonly mac: Uint8Array | null;
};

/** What a secret's MAC covers. */
export type SecretIdentity = Omit<ManagedSecret, "unsettled_at" | "attempts" | "mac">;
