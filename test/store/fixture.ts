// A store on a database of its own, and rows to put into it. What a test does not care about gets a plain default.
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { onTestFinished } from "vitest";
import { v7 } from "uuid";
import type { PathPrefix, SettingPath } from "../../src/domain/address.ts";
import type { AuditEvent } from "../../src/domain/audit.ts";
import type {
  AuditPage,
  AuditQuery,
  MemberRecord,
  NewToken,
  OwnerKey,
  PrincipalRecord,
  SettingQuery,
  Transaction,
} from "../../src/domain/ports.ts";
import type { SettingRecord, VersionRecord } from "../../src/domain/setting.ts";
import { createEventHashes } from "../../src/domain/event-hashes.ts";
import { hashEvent } from "../../src/sealing/audit-seal.ts";
import { createStore } from "../../src/store/store.ts";
import { createDatabase } from "../harness/postgres.ts";

export const newId = (): string => v7();
export const path = (text: string): SettingPath => text as SettingPath;
export const prefix = (text: string): PathPrefix => text as PathPrefix;

export type Fixture = Awaited<ReturnType<typeof openFixture>>;

/** Closed and dropped when the test ends. */
export async function openFixture() {
  const database = await createDatabase();
  const time = { now: new Date("2026-03-04T05:06:07.089Z") };
  const backgroundErrors: unknown[] = [];
  const open = (poolSize = 10) => {
    const hashes = createEventHashes(hashEvent);
    const opened = createStore({
      databaseUrl: database.url,
      poolSize,
      clock: { now: () => time.now },
      onBackgroundError: (error) => backgroundErrors.push(error),
      observer: { recorded: (event) => hashes.remember(event) },
    });
    return { ...opened, hashes };
  };
  const opened = open();
  const driver = new pg.Pool({ connectionString: database.url, max: 4 });
  driver.on("error", () => undefined);
  onTestFinished(async () => {
    await opened.close();
    await driver.end();
    await database.drop();
  });
  const { store } = opened;
  const transact = <Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result> =>
    store.transact(work);

  /** Resolves when `promise` has settled, or some session of this database waits for a lock. */
  async function stuckOrDone(promise: Promise<unknown>): Promise<void> {
    let isDone = false;
    const settle = (): void => {
      isDone = true;
    };
    promise.then(settle, settle);
    for (;;) {
      const { rowCount } = await driver.query(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
      );
      if (isDone || (rowCount ?? 0) > 0) return;
      await pause(2);
    }
  }

  /** An organization with a project in it. */
  async function organization() {
    const [org, project] = [newId(), newId()];
    const stamp = { created_at: time.now, created_by: null };
    await transact(async (tx) => {
      await tx.insertOrganization({ id: org, name: `org ${org}`, ...stamp });
      await tx.insertProject({ id: project, organization_id: org, name: "p", ...stamp });
    });
    const orgKey: OwnerKey = { owner_type: "organization", owner_id: org, tenant_id: org };
    const key: OwnerKey = { owner_type: "project", owner_id: project, tenant_id: org };
    return { org, project, orgKey, key };
  }

  async function principal(over: Partial<PrincipalRecord> = {}): Promise<PrincipalRecord> {
    const id = newId();
    const blank = {
      email: null,
      admin: false,
      organization_id: null,
      scopes: [],
      disabled_at: null,
      created_by: null,
    };
    const row = { id, kind: "user" as const, name: `n ${id}`, created_at: time.now, ...blank, ...over };
    await transact((tx) => tx.insertPrincipal(row));
    return row;
  }

  async function member(owner: OwnerKey, principal_id: string, role: MemberRecord["role"] = "owner") {
    await transact((tx) =>
      tx.putMember({ ...owner, principal_id, role, created_at: time.now, created_by: null }),
    );
  }

  async function token(principal_id: string, over: Partial<NewToken> = {}): Promise<NewToken> {
    const row = tokenRow(principal_id, time.now, over);
    await transact((tx) => tx.insertToken(row));
    return row;
  }

  async function setting(
    key: OwnerKey,
    at: string,
    over: Partial<SettingRecord> & { sealed?: Uint8Array } = {},
  ) {
    return transact((tx) => putSetting(tx, key, at, time.now, over));
  }

  return {
    ...opened,
    ...database,
    time,
    open,
    driver,
    backgroundErrors,
    organization,
    principal,
    member,
    token,
    setting,
    transact,
    stuckOrDone,
  };
}

export function tokenRow(principal_id: string, now: Date, over: Partial<NewToken> = {}): NewToken {
  const none = { parent_id: null, made_with: null, scopes: [], max_uses: null, uses: 0, allowed_cidrs: [] };
  const times = { expires_at: null, last_used_at: null, revoked_at: null, created_at: now, created_by: null };
  return { id: newId(), hash: randomBytes(32), principal_id, name: "t", ...none, ...times, ...over };
}

/** What a PUT does, without keys and rules: the next version at a path. */
export async function putSetting(
  tx: Transaction,
  key: OwnerKey,
  at: string,
  now: Date,
  { sealed = Buffer.from("sealed"), ...over }: Partial<SettingRecord> & { sealed?: Uint8Array } = {},
): Promise<SettingRecord> {
  const number = (await tx.lockPath(key, path(at))) + 1;
  const found = await tx.setting(key, path(at));
  const blank = {
    description: null,
    labels: {},
    expires_at: null,
    rotate_after_days: null,
    last_accessed_at: null,
  };
  const stamp = {
    created_at: now,
    created_by: newId(),
    updated_at: now,
    updated_by: newId(),
    deleted_at: null,
    purge_at: null,
  };
  const setting: SettingRecord = {
    ...key,
    id: found?.setting.id ?? newId(),
    path: at,
    type: "s3",
    ...blank,
    ...stamp,
    revision: number,
    current_version: number,
    current_since: now,
    mac: Buffer.from("mac"),
    ...over,
  };
  await (found === null ? tx.insertSetting(setting) : tx.updateSetting(setting));
  await tx.insertVersion(versionRow(setting, number, sealed));
  await tx.setLastVersion(key, path(at), number);
  return setting;
}

function versionRow(setting: SettingRecord, version: number, sealed: Uint8Array): VersionRecord {
  const { tenant_id, id, created_at, created_by } = setting;
  const rest = { created_at, created_by, last_accessed_at: null, mac: Buffer.from("version mac") };
  const where = { state: "enabled" as const, storage: "envelope" as const, manager: "local" as const };
  return {
    tenant_id,
    setting_id: id,
    version,
    ...where,
    data_key_id: newId(),
    sealed,
    location: null,
    ...rest,
  };
}

export function event(key: OwnerKey | null, over: Partial<AuditEvent> = {}): AuditEvent {
  const owner = key === null ? ({ owner_type: "instance", owner_id: null } as const) : key;
  return {
    id: newId(),
    at: new Date("2026-03-04T05:06:07.089Z"),
    tenant_id: key?.tenant_id ?? "00000000-0000-0000-0000-000000000000",
    principal_id: null,
    token_id: null,
    action: "list",
    operation: "listSettings",
    outcome: "allowed",
    owner_type: owner.owner_type,
    owner_id: owner.owner_id,
    path: null,
    settings: [],
    target_id: null,
    details: {},
    request_id: "r",
    follows: null,
    ip: "192.0.2.1",
    user_agent: "test",
    reason: null,
    count: 1,
    ...over,
  };
}

export function auditQuery(place: AuditQuery["place"], over: Partial<AuditQuery> = {}): AuditQuery {
  const none = {
    since: null,
    until: null,
    action: null,
    principal_id: null,
    outcome: null,
    path: null,
    request_id: null,
  };
  return { place, ...none, order: "desc", after: null, limit: 100, ...over };
}

export const idsOf = ({ events }: AuditPage): string[] => events.map(({ id }) => id);

export function settingQuery(
  key: OwnerKey,
  select: SettingQuery["select"],
  over: Partial<SettingQuery> = {},
): SettingQuery {
  const none = { include_deleted: false, type: null, label: null, after: null, sealed_bytes_max: null };
  return { key, select, ...none, asked_at: new Date(), limit: 1000, ...over };
}

export const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();
