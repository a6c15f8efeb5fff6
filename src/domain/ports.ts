// What the core needs of the world, in its own words. store/, sealing/ and auth/ implement these; nothing in
// domain/ knows how. A Transaction is had from the gate alone: to hold one is to have been let in.
import type { MakeSeal } from "./audit-chain.ts";
import type { PrincipalKind, Role, StandingFacts } from "./access.ts";
import type { Owner, PathQuery, SettingPath, SettingType } from "./address.ts";
import type { AuditEvent, Outcome } from "./audit.ts";
import type {
  AccessClaims,
  FederationReads,
  IdentityProviderRecord,
  SigningKeyRecord,
} from "./federation-ports.ts";
import type { KeyReads, KeyWrites } from "./key-ports.ts";
import type { ManagerReads, ManagerWrites } from "./manager-store-ports.ts";
import type { LifecycleReads, LifecycleWrites } from "./lifecycle-ports.ts";
import type { ResealStore } from "./reseal.ts";
import type { Ahead, FoundAhead } from "./read-ahead.ts";
import type { SettingRecord, SettingRow, VersionRecord } from "./setting.ts";
import type { WritePlace } from "./steps.ts";

/** How far a row's time of its last disclosure may be behind one that was noted after it. */
export const ACCESS_NOTED_SECONDS = 300;

export type Clock = { readonly now: () => Date };
/** A fresh UUIDv7, in lower case (RFC 9562). */
export type NewId = () => string;

/** A tenant and, in it, an owner: how every tenant row is found. */
export type OwnerKey = Owner & { readonly tenant_id: string };

/** What was presented. `absent` and `malformed` are refused without asking the database. */
export type Credential = { readonly kind: "absent" } | { readonly kind: "malformed" } | PresentedToken;

/** A token of the right form; whether it is any good, the database says. */
export type PresentedToken =
  /** The SHA-256 of an API token, 32 bytes. */
  | { readonly kind: "api"; readonly hash: Buffer }
  /** What an access token of ours says, its signature found good. */
  | { readonly kind: "access"; readonly claims: AccessClaims };

export type TokenRecord = {
  readonly id: string;
  readonly principal_id: string;
  readonly name: string;
  readonly parent_id: string | null;
  readonly made_with: string | null;
  /** Empty: no ceiling. */
  readonly scopes: readonly string[];
  readonly max_uses: number | null;
  readonly uses: number;
  readonly allowed_cidrs: readonly string[];
  readonly expires_at: Date | null;
  readonly last_used_at: Date | null;
  readonly revoked_at: Date | null;
  readonly created_at: Date;
  readonly created_by: string | null;
};

export type PrincipalRecord = {
  readonly id: string;
  readonly kind: PrincipalKind;
  readonly name: string;
  readonly email: string | null;
  readonly admin: boolean;
  readonly organization_id: string | null;
  readonly scopes: readonly string[];
  readonly disabled_at: Date | null;
  readonly created_at: Date;
  readonly created_by: string | null;
};

/** A presented token as the database knows it now, and where its principal stands at the place asked about. */
export type Admission = {
  /** Null for an access token that no API token stands behind. */
  readonly token: TokenRecord | null;
  readonly principal: PrincipalRecord;
  readonly standing: StandingFacts | null;
  readonly owns_an_organization: boolean;
};

export type OrganizationRecord = {
  readonly id: string;
  readonly name: string;
  readonly created_at: Date;
  readonly created_by: string | null;
};
export type ProjectRecord = OrganizationRecord & { readonly organization_id: string };

export type MemberRecord = Owner & {
  readonly tenant_id: string;
  readonly principal_id: string;
  readonly role: Role;
  readonly created_at: Date;
  readonly created_by: string | null;
};
export type MemberView = MemberRecord & { readonly kind: PrincipalKind; readonly name: string };

/** Keyset paging: `after` is the last key seen; one row more than `limit` is never returned. */
export type PageQuery = { readonly after: string | null; readonly limit: number };
export type Page<Row> = { readonly rows: readonly Row[]; readonly more: boolean };

export type SettingQuery = PageQuery & {
  readonly key: OwnerKey;
  readonly select: PathQuery;
  readonly include_deleted: boolean;
  readonly type: SettingType | null;
  readonly label: { readonly key: string; readonly value: string } | null;
  /** Fetch ciphertext too; a page then ends early once this many bytes of it are passed. */
  readonly sealed_bytes_max: number | null;
  /** When the request was let in: ten seconds later its pages go on only where a place is free. */
  readonly asked_at: Date;
};
export type SettingPage = Page<SettingRow> & {
  /** A live setting stands at exactly the path asked for: a full path. */
  readonly exact: boolean;
};

export type AuditQuery = {
  readonly place: OwnerKey | "instance";
  readonly since: Date | null;
  readonly until: Date | null;
  readonly action: string | null;
  readonly principal_id: string | null;
  readonly outcome: Outcome | null;
  readonly path: string | null;
  readonly request_id: string | null;
  readonly order: "asc" | "desc";
  /** An event's id under `desc`, a position under `asc`. */
  readonly after: string | null;
  readonly limit: number;
};
export type AuditPage = { readonly events: readonly AuditEvent[]; readonly next: string | null };

/** Reads. Each sees what is committed when it is called. */
export type Reader = ManagerReads &
  LifecycleReads &
  FederationReads &
  KeyReads & {
    settings(query: SettingQuery): Promise<SettingPage>;
    /** The setting at a path, deleted or not, with its current version. */
    setting(key: OwnerKey, path: SettingPath): Promise<SettingRow | null>;
    version(setting: SettingRecord, version: number): Promise<VersionRecord | null>;
    versions(setting: SettingRecord): Promise<readonly VersionRecord[]>;
    /** The last version number that the path ever had; 0 when it never had one. */
    lastVersion(key: OwnerKey, path: SettingPath): Promise<number>;

    ownerKey(owner: Owner): Promise<OwnerKey | null>;
    organization(id: string): Promise<OrganizationRecord | null>;
    organizationsOf(principalId: string, page: PageQuery): Promise<Page<OrganizationRecord>>;
    project(id: string): Promise<ProjectRecord | null>;
    /** The projects of an organization; only those where `visibleTo` has a role, unless that is null. */
    projectsOf(
      organizationId: string,
      visibleTo: string | null,
      page: PageQuery,
    ): Promise<Page<ProjectRecord>>;

    principal(id: string): Promise<PrincipalRecord | null>;
    userByEmail(email: string): Promise<PrincipalRecord | null>;
    users(page: PageQuery): Promise<Page<PrincipalRecord>>;
    serviceAccountsOf(organizationId: string, page: PageQuery): Promise<Page<PrincipalRecord>>;
    standing(principalId: string, owner: Owner): Promise<StandingFacts | null>;
    rolesOf(principalId: string): Promise<readonly (Owner & { readonly role: Role })[]>;

    member(owner: Owner, principalId: string): Promise<MemberView | null>;
    members(owner: Owner, page: PageQuery): Promise<Page<MemberView>>;

    token(id: string): Promise<TokenRecord | null>;
    tokensOf(principalId: string, page: PageQuery): Promise<Page<TokenRecord>>;

    audit(query: AuditQuery): Promise<AuditPage>;
  };

export type NewToken = TokenRecord & { readonly hash: Buffer };

/** What may be purged together: a setting's address, for the audit. */
export type PurgedSetting = { readonly id: string; readonly path: string };

/** Reads and writes that commit together, with their audit event, or not at all. */
export type Transaction = Reader &
  ManagerWrites &
  ResealStore &
  LifecycleWrites &
  KeyWrites & {
    /** Queues behind every other writer of the path, until this transaction ends; answers `lastVersion`. */
    lockPath(key: OwnerKey, path: SettingPath): Promise<number>;
    setLastVersion(key: OwnerKey, path: SettingPath, version: number): Promise<void>;
    insertSetting(setting: SettingRecord): Promise<void>;
    updateSetting(setting: SettingRecord): Promise<void>;
    insertVersion(version: VersionRecord): Promise<void>;
    updateVersion(version: VersionRecord): Promise<void>;
    /** Removes the rows of a setting and its versions; the path's last number stays. */
    purgeSetting(setting: SettingRecord): Promise<void>;
    /** Up to `limit` soft-deleted settings whose time is over, locked; others' locked rows are passed over. */
    lockDuePurges(now: Date, limit: number): Promise<readonly SettingRecord[]>;
    /** Touches nothing else of a row that is not a broker's, but for the revision, since it shows. */
    postponePurge(setting: Pick<SettingRecord, "tenant_id" | "id">, until: Date): Promise<void>;
    /** Whether an owner (an organization: it or a project of it) still has settings, soft-deleted ones too. */
    hasSettings(owner: Owner): Promise<boolean>;
    /** How many an owner has, counted up to `most`: settings, deleted ones too; or versions that hold a value. */
    countKept(key: OwnerKey, what: "settings" | "versions", most: number): Promise<number>;

    insertOrganization(row: OrganizationRecord): Promise<void>;
    renameOrganization(id: string, name: string): Promise<void>;
    insertProject(row: ProjectRecord): Promise<void>;
    renameProject(id: string, name: string): Promise<void>;
    /** Removes an organization with all in it, or a project, or a user with their own scope; answers what was purged. */
    removeOwner(owner: Owner): Promise<readonly PurgedSetting[]>;
    organizationByName(name: string): Promise<OrganizationRecord | null>;
    projectByName(organizationId: string, name: string): Promise<ProjectRecord | null>;
    /** Locks the owner's row, so that checks on its members hold until the end; false when it is gone. */
    lockOwner(owner: Owner): Promise<boolean>;
    /** Locks the instance's row, so that checks on its admins hold until the end. */
    lockInstance(): Promise<void>;
    /** Principals who own the organization and are not disabled, other than `except`. */
    otherOwners(organizationId: string, except: string): Promise<number>;
    /** Organizations whose only enabled owner is this principal. */
    organizationsOnlyOwnedBy(principalId: string): Promise<readonly string[]>;
    /** Instance admins who are not disabled, other than `except`. */
    otherAdmins(except: string): Promise<number>;

    insertPrincipal(row: PrincipalRecord): Promise<void>;
    updatePrincipal(row: PrincipalRecord): Promise<void>;
    serviceAccountByName(organizationId: string, name: string): Promise<PrincipalRecord | null>;
    /** Removes a service account with its tokens and memberships. */
    removeServiceAccount(id: string): Promise<void>;
    insertEnrolment(codeHash: Buffer, principalId: string, expiresAt: Date): Promise<void>;
    /** Takes an unexpired enrolment code out of the world; null when there is none. */
    takeEnrolment(codeHash: Buffer, now: Date): Promise<string | null>;

    /** The user whom an identity provider of the instance knows by this subject. */
    userByIdentity(issuer: string, subject: string): Promise<PrincipalRecord | null>;
    insertPerson(row: PrincipalRecord, issuer: string, subject: string): Promise<void>;
    putIdentityProvider(row: IdentityProviderRecord): Promise<void>;
    removeIdentityProvider(organizationId: string, id: string): Promise<void>;
    /** Oldest first. */
    signingKeys(): Promise<readonly SigningKeyRecord[]>;
    insertSigningKey(row: SigningKeyRecord): Promise<void>;
    retireSigningKey(id: string, at: Date): Promise<void>;
    removeSigningKey(id: string): Promise<void>;

    putMember(row: MemberRecord): Promise<void>;
    removeMember(owner: Owner, principalId: string): Promise<void>;

    insertToken(row: NewToken): Promise<void>;
    /** Revokes a token with all its children; `made`: also those it made for others, and theirs. Answers how many. */
    revokeToken(id: string, made: boolean, now: Date): Promise<number>;

    /**
     * Drops the months of the audit log that end before a time, with the seal that says so; answers their names.
     * @throws BrokerError `forbidden` when this role does not own them
     */
    dropAuditMonths(before: Date, make: MakeSeal): Promise<readonly string[]>;

    /** As Store.admit, within the transaction. */
    admit: Store["admit"];
    record(event: AuditEvent): Promise<void>;
  };

export type Store = {
  readonly reader: Reader;
  /**
   * The token behind a credential, its principal, and that principal's standing at the owner; null: no such token, or
   * the identity provider that vouched for it is not as it was.
   */
  admit(presented: PresentedToken, owner: Owner | null, lookup: boolean): Promise<Admission | null>;
  /**
   * Admits, finds and puts on record in one round trip, together with others that wait; what is on record is durable.
   * Null: the store would rather not, and has done nothing. @throws BrokerError `unavailable`
   */
  readAhead(ahead: Ahead): Promise<FoundAhead | null>;
  /** Takes one use of a token with `max_uses`, exactly, over all replicas; false when there is none left. */
  takeUse(tokenId: string): Promise<boolean>;
  /** Gives one back. */
  returnUse(tokenId: string): Promise<void>;
  /**
   * Runs `work` in one transaction. A BrokerError from `work` rolls back and comes out as it is. Where `place` is all
   * that it locks and changes, it may share the commit with others; then, too, it may be run more than once. `tenant`:
   * whose turn it is where many wait, or a principal's where no tenant is; the broker's own work has none.
   * @throws BrokerError `unavailable` when the database cannot be had, `conflict` for a name taken in a race
   * @throws Stale where it may only share, and cannot
   */
  transact<Result>(
    work: (tx: Transaction) => Promise<Result>,
    options?: { readonly place?: WritePlace | undefined; readonly tenant?: string | null },
  ): Promise<Result>;
  /** Resolves when the event is durable. Calls under way together share a write. */
  record(event: AuditEvent): Promise<void>;
  /**
   * Adds one to the count of refused credentials of its address, reason and minute; durable when it resolves. It fails with
   * the write before it, where it waits for that.
   */
  countRefusal(event: AuditEvent): Promise<void>;
  /** Notes that values were disclosed (to whom), or a token used. Written soon, not before the answer; lost in a crash. */
  noteAccess(rows: readonly SettingRow[], at: Date, principalId: string): void;
  noteTokenUse(tokenId: string, at: Date): void;
  /** When a value of the setting was last disclosed, as far as its row or this replica knows. */
  lastAccess(row: SettingRow): Date | null;
};
