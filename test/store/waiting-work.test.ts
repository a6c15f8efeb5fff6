// Work is looked for before a transaction is begun for it: that has to find it whenever the transaction would, and not
// go on finding what was taken.
import { expect, test } from "vitest";
import type { OwnerKey } from "../../src/domain/ports.ts";
import type { RotationRecord, WaitingWork } from "../../src/domain/lifecycle-ports.ts";
import type { Db } from "../../src/store/db.ts";
import { waitingWork } from "../../src/store/waiting-work.ts";
import { event, newId, openFixture } from "./fixture.ts";

const minutes = (from: Date, count: number): Date => new Date(from.getTime() + count * 60_000);

test("a purge, a notice and a rotation are found when they are due, until they are taken", async () => {
  const { store, time, transact, organization, setting } = await openFixture();
  const { key } = await organization();
  const { now } = time;
  const isWaiting = (work: WaitingWork): Promise<boolean> => store.reader.isWaiting(work);

  const purge = (at: Date): WaitingWork => ({ kind: "purge", now: at });
  await setting(key, "secret/Custom/gone", { deleted_at: now, purge_at: minutes(now, 10) });
  expect(await isWaiting(purge(minutes(now, 9)))).toBe(false);
  expect(await isWaiting(purge(minutes(now, 10)))).toBe(true);
  await transact(async (tx) => {
    const [due] = await tx.lockDuePurges(minutes(now, 10), 1);
    if (due !== undefined) await tx.purgeSetting(due);
  });
  expect(await isWaiting(purge(minutes(now, 10)))).toBe(false);

  const soon = minutes(now, 30 * 24 * 60);
  const notices: WaitingWork = { kind: "notices", now, expiringBefore: soon };
  await setting(key, "secret/Custom/later", { expires_at: minutes(soon, 1) });
  expect(await isWaiting(notices)).toBe(false);
  await setting(key, "secret/Custom/expiring", { expires_at: soon });
  await setting(key, "secret/Custom/due", { rotate_after_days: 1, current_since: minutes(now, -24 * 60) });
  expect(await isWaiting(notices)).toBe(true);
  expect(await transact((tx) => tx.takeDueNotices(now, soon, 100))).toHaveLength(2);
  expect(await isWaiting(notices)).toBe(false);

  const rotated = await setting(key, "secret/Custom/rotated");
  const rotation: RotationRecord = {
    tenant_id: key.tenant_id,
    owner_type: key.owner_type,
    owner_id: key.owner_id,
    id: newId(),
    path: rotated.path,
    setting_id: rotated.id,
    old_version: 1,
    new_version: 2,
    state: "overlap",
    overlap_seconds: 60,
    destroy_old: true,
    public_part: null,
    webhook_id: null,
    confirm_by: null,
    attempts: 0,
    next_at: minutes(now, 1),
    reason: null,
    created_at: now,
    created_by: newId(),
    activated_at: now,
    ended_at: null,
  };
  await transact((tx) => tx.insertRotation(rotation));
  const overlap = (at: Date): WaitingWork => ({ kind: "rotation", state: "overlap", now: at });
  expect(await isWaiting(overlap(now))).toBe(false);
  expect(await isWaiting({ kind: "rotation", state: "pending", now: minutes(now, 1) })).toBe(false);
  expect(await isWaiting(overlap(minutes(now, 1)))).toBe(true);
  await transact((tx) => tx.updateRotation({ ...rotation, state: "done", next_at: null, ended_at: now }));
  expect(await isWaiting(overlap(minutes(now, 1)))).toBe(false);
});

test("a rotation is due by its value's age and its days, however they came to be what they are", async () => {
  const { store, time, driver, organization, setting } = await openFixture();
  const { key } = await organization();
  const { now } = time;
  const isDue = (): Promise<boolean> => store.reader.isWaiting({ kind: "notices", now, expiringBefore: now });
  const { id } = await setting(key, "secret/Custom/aging", { rotate_after_days: 2, current_since: now });
  const set = (text: string): Promise<unknown> =>
    driver.query(`UPDATE settings SET ${text} WHERE id = $1`, [id]);
  expect(await isDue()).toBe(false);
  // What the index is over says when to look, and nothing else.
  await set("rotate_due_at = '2000-01-01'");
  expect(await isDue()).toBe(false);
  await set("current_since = current_since - interval '48 hours'");
  expect(await isDue()).toBe(true);
  await set("rotate_after_days = 3");
  expect(await isDue()).toBe(false);
  await set("rotate_after_days = NULL");
  expect(await isDue()).toBe(false);
  await set("rotate_after_days = 1");
  expect(await isDue()).toBe(true);
});

test("a new version of a setting that is never due writes to no index of the settings", async () => {
  const { driver, organization, setting } = await openFixture();
  const { key } = await organization();
  const ids = [
    await setting(key, "secret/Custom/plain"),
    await setting(key, "secret/Custom/aging", { rotate_after_days: 2 }),
  ];
  for (const [index, { id }] of ids.entries()) {
    const one = await driver.connect();
    try {
      await one.query("BEGIN");
      await one.query("UPDATE settings SET current_since = current_since + interval '1 hour' WHERE id = $1", [
        id,
      ]);
      const count = "SELECT pg_stat_get_xact_tuples_hot_updated('settings'::regclass)::int AS updated";
      expect((await one.query(count)).rows).toEqual([{ updated: index === 0 ? 1 : 0 }]);
      await one.query("ROLLBACK");
    } finally {
      one.release(true);
    }
  }
});

test("a first admin and a first signing key are wanted until there is one", async () => {
  const { store, time, transact, principal, organization } = await openFixture();
  const { org } = await organization();
  await principal({ kind: "service_account", organization_id: org });
  expect(await store.reader.isWaiting({ kind: "first_admin" })).toBe(true);
  await principal({ kind: "user" });
  expect(await store.reader.isWaiting({ kind: "first_admin" })).toBe(false);

  expect(await store.reader.isWaiting({ kind: "first_signing_key" })).toBe(true);
  const sealed = Buffer.from("sealed");
  const public_jwk = { kty: "OKP", crv: "Ed25519", x: "x", kid: "k", alg: "EdDSA", use: "sig" } as const;
  const key = { id: newId(), public_jwk, sealed, created_at: time.now, retired_at: null };
  await transact((tx) => tx.insertSigningKey(key));
  expect(await store.reader.isWaiting({ kind: "first_signing_key" })).toBe(false);
});

test("a manager's secret to be settled is found when nobody has it and its time has come, until it is claimed", async () => {
  const { store, time, transact, organization, setting } = await openFixture();
  const { key } = await organization();
  const { id: setting_id, path } = await setting(key, "secret/Custom/kept");
  const address = { manager: "aws", secret_id: "coffer/one", region: "eu-west-1" } as const;
  const isWaiting = (): Promise<boolean> => store.reader.isWaiting({ kind: "unsettled_secret" });
  const id = newId();
  const secret = { id, manager: "aws", address, setting_id, mac: Buffer.alloc(32) } as const;
  await transact((tx) => tx.insertSettingSecret({ key, path }, secret, time.now));
  expect(await isWaiting()).toBe(false);
  await transact((tx) => tx.unsettle(key.tenant_id, setting_id));
  expect(await isWaiting()).toBe(true);

  const term = { lease_id: newId(), seconds: 60 };
  const claimed = await transact((tx) => tx.claimUnsettled(null, term));
  expect(claimed?.id).toBe(id);
  expect(await isWaiting()).toBe(false);
  if (claimed === null) throw new Error("it was there");
  await transact((tx) => tx.settled(claimed, term.lease_id, { kind: "later", seconds: 60 }));
  expect(await isWaiting()).toBe(false);
  await transact((tx) => tx.unsettle(key.tenant_id, setting_id));
  expect(await isWaiting()).toBe(true);
});

test("a look for a manager's secret keeps nobody from it, and finds it by its index without statistics", async () => {
  const { driver, store } = await openFixture();
  const kept: WaitingWork = { kind: "unsettled_secret" };
  await driver.query(
    `INSERT INTO managed_secrets (tenant_id, id, manager, purpose, address, owner_type, owner_id, path, setting_id, created_at, mac)
     SELECT gen_random_uuid(), gen_random_uuid(), 'aws', 'setting', '{}', 'project', gen_random_uuid(), 'secret/Custom/a',
       gen_random_uuid(), now(), '' FROM generate_series(1, 20000)`,
  );
  let text = "";
  const query: Db["query"] = async (statement) => {
    text = statement.text;
    return [];
  };
  await waitingWork({ query } as Db).isWaiting(kept);
  const { rows } = await driver.query(`EXPLAIN (FORMAT JSON) ${text}`);
  const plan = JSON.stringify(rows);
  expect(plan).toContain("managed_secrets_sweep_idx");
  expect(plan).not.toContain("Seq Scan");

  await driver.query(
    "UPDATE managed_secrets SET unsettled_at = now() WHERE id = (SELECT id FROM managed_secrets LIMIT 1)",
  );
  const other = await driver.connect();
  try {
    await other.query("BEGIN");
    await other.query("SELECT FROM managed_secrets WHERE unsettled_at IS NOT NULL FOR UPDATE");
    // Who would lock what it finds passes over it, or waits.
    expect(await store.reader.isWaiting(kept)).toBe(true);
    await other.query("ROLLBACK");
  } finally {
    other.release(true);
  }
});

test("a move is found while nobody works on it, until it has ended", async () => {
  const { store, time, transact, organization } = await openFixture();
  const { key } = await organization();
  const isWaiting = (): Promise<boolean> => store.reader.isWaiting({ kind: "move" });
  const none = { total: 0, done: 0, failed: [], cursor: null, finished_at: null };
  const to = { storage: "manager", manager: "aws", started_at: time.now, started_by: newId() } as const;
  const move = { ...key, ...to, ...none, id: newId(), state: "running" } as const;
  expect(await isWaiting()).toBe(false);
  await transact((tx) => tx.putMove(move));
  expect(await isWaiting()).toBe(true);
  const term = { lease_id: newId(), seconds: 60 };
  expect((await transact((tx) => tx.claimMove(term)))?.id).toBe(move.id);
  expect(await isWaiting()).toBe(false);
  await transact((tx) => tx.updateMove(move, { ...term, seconds: -1 }));
  expect(await isWaiting()).toBe(true);
  await transact((tx) => tx.updateMove({ ...move, state: "done", finished_at: time.now }, term));
  expect(await isWaiting()).toBe(false);
});

test("owners with a burst of denials are found together, and each is taken once", async () => {
  const { store, time, transact, organization } = await openFixture();
  const { now } = time;
  const since = minutes(now, -5);
  const denied = async (key: OwnerKey, times: number) => {
    for (let count = 0; count < times; count++)
      await store.record(event(key, { outcome: "denied", reason: "role", at: now }));
  };
  const keys = await Promise.all([organization(), organization(), organization()]);
  const [one, other, calm] = keys.map(({ key }) => key) as [OwnerKey, OwnerKey, OwnerKey];
  await denied(one, 20);
  await denied(other, 21);
  await denied(calm, 19);
  const bursts = await store.reader.deniedBursts(since, 20, 100);
  expect(new Map(bursts.map(({ owner_id, denied: times }) => [owner_id, times]))).toEqual(
    new Map([
      [one.owner_id, 20],
      [other.owner_id, 21],
    ]),
  );
  expect(await store.reader.deniedBursts(since, 20, 1)).toHaveLength(1);
  for (const burst of bursts) {
    const take = () => transact((tx) => tx.takeDeniedBurst(burst, since, now));
    expect([await take(), await take()]).toEqual([true, false]);
  }
  expect(await store.reader.deniedBursts(since, 20, 100)).toEqual([]);
  // A later burst is another one.
  const later = minutes(now, 6);
  const [burst] = bursts;
  if (burst === undefined) throw new Error("there were some");
  expect(await transact((tx) => tx.takeDeniedBurst(burst, minutes(later, -5), later))).toBe(true);
});

test("a tenant with many owners keeps no other's burst from being told", async () => {
  const { store, time, organization } = await openFixture();
  const since = minutes(time.now, -5);
  const denied = async (key: OwnerKey, times: number) => {
    for (let count = 0; count < times; count++)
      await store.record(event(key, { outcome: "denied", reason: "role", at: time.now }));
  };
  const { key: many } = await organization();
  for (let each = 0; each < 4; each++) await denied({ ...many, owner_id: newId() }, 25 + each);
  const { key: one } = await organization();
  await denied(one, 20);
  const bursts = await store.reader.deniedBursts(since, 20, 2);
  expect(bursts.map(({ tenant_id, denied: times }) => [tenant_id, times])).toEqual([
    [many.tenant_id, 28],
    [one.tenant_id, 20],
  ]);
});
