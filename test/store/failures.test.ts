// What failures promise: the right word for each, nothing quoted from the database, nothing committed by halves, and
// a store that works again once the database does.
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import { asBrokerError } from "../../src/store/failures.ts";
import { createStore } from "../../src/store/store.ts";
import { event, newId, openFixture, putSetting } from "./fixture.ts";

class Own extends Error {}

describe("errors", () => {
  test("what work throws comes out as it is, after rollback", async () => {
    const { store, organization, transact, time } = await openFixture();
    const { key } = await organization();
    const thrown = [new Own("mine"), new BrokerError("precondition_failed", "no"), new TypeError("bug")];
    for (const error of thrown) {
      const work = transact(async (tx) => {
        await putSetting(tx, key, "connect/S3/a", time.now);
        throw error;
      });
      expect(await work.catch((caught: unknown) => caught)).toBe(error);
    }
    expect(await store.reader.setting(key, "connect/S3/a" as never)).toBeNull();
  });

  test("no word of what the database quotes comes out, in any field of the error", async () => {
    const { transact, organization, principal } = await openFixture();
    const canary = "canary-7f3a";
    await organization();
    await principal({ email: canary });
    const failing = [
      principal({ email: canary }),
      principal({ name: `${canary}\0` }),
      principal({ kind: canary as never }),
      transact((tx) => tx.principal(canary)),
      transact((tx) => tx.lockOwner({ owner_type: "project", owner_id: canary })),
    ];
    for (const result of await Promise.allSettled(failing)) {
      const error: unknown = result.status === "rejected" ? result.reason : null;
      expect(error).toBeInstanceOf(BrokerError);
      expect(inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error)).not.toContain(canary);
    }
  });

  test("a transaction whose work swallows a failed statement commits nothing and says so", async () => {
    const { store, organization, principal, transact, time } = await openFixture();
    const { key } = await organization();
    const { id } = await principal();
    const half = transact(async (tx) => {
      await putSetting(tx, key, "connect/S3/a", time.now);
      await tx.insertPrincipal({ ...(await tx.principal(id))! }).catch(() => undefined);
    });
    await expect(half).rejects.toMatchObject({ code: "conflict" });
    expect(await store.reader.setting(key, "connect/S3/a" as never)).toBeNull();
  });

  test("two transactions that deadlock both end well", async () => {
    const { organization, transact } = await openFixture();
    const [one, two] = [await organization(), await organization()];
    const { promise: oneHolds, resolve: holdOne } = Promise.withResolvers<void>();
    const { promise: twoHolds, resolve: holdTwo } = Promise.withResolvers<void>();
    const cross = (first: typeof one, second: typeof one, mine: () => void, theirs: Promise<void>) =>
      transact(async (tx) => {
        await tx.lockOwner(first.orgKey);
        mine();
        await theirs;
        return tx.lockOwner(second.orgKey);
      });
    expect(
      await Promise.all([cross(one, two, holdOne, twoHolds), cross(two, one, holdTwo, oneHolds)]),
    ).toEqual([true, true]);
  });

  test.each([
    ["23505", "conflict"],
    ["40P01", "unavailable"],
    ["55P03", "unavailable"],
    ["57014", "unavailable"],
    ["57P01", "unavailable"],
    ["25006", "unavailable"],
    ["53100", "unavailable"],
    ["53300", "unavailable"],
    ["08006", "unavailable"],
    ["22P02", "internal"],
    ["42P01", "internal"],
  ])("SQLSTATE %s is told as %s", (code, expected) => {
    const error = asBrokerError(Object.assign(new Error("text"), { code, severity: "ERROR" }));
    expect([error.code, error.fields.retry_after_seconds]).toEqual([
      expected,
      expected === "unavailable" ? 1 : undefined,
    ]);
    expect(inspect(error, { depth: 9 })).toContain(code);
  });
});

describe("an unreachable database", () => {
  test("is unavailable, for reads, transactions, events and readiness alike", async () => {
    const away = createStore({
      databaseUrl: "postgres://nobody@127.0.0.1:1/none",
      clock: { now: () => new Date() },
      onBackgroundError: () => undefined,
    });
    const { store } = away;
    const tries = [
      store.reader.principal(newId()),
      store.admit({ kind: "api", hash: Buffer.alloc(32) }, null, false),
      store.transact((tx) => tx.lockInstance()),
      store.record(event(null)),
      store.countRefusal(event(null)),
      away.keys.keyCheck(null),
      away.ping(),
    ];
    for (const result of await Promise.allSettled(tries))
      expect(result).toMatchObject({
        status: "rejected",
        reason: { code: "unavailable", fields: { retry_after_seconds: 1 } },
      });
    await away.close();
  });

  test("once its connections are cut, the store works again with new ones", async () => {
    const { store, driver, organization, principal, transact, ...opened } = await openFixture();
    const { orgKey } = await organization();
    const { id } = await principal();
    const cut = transact(async (tx) => {
      await driver.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'coffer'",
      );
      await tx.lockOwner(orgKey);
    });
    await expect(cut).rejects.toMatchObject({ code: "unavailable" });
    expect((await store.reader.principal(id))?.id).toBe(id);
    expect(await transact((tx) => tx.lockOwner(orgKey))).toBe(true);
    await store.record(event(orgKey));
    expect(await opened.ping()).toEqual({ audit: true });
    // The driver's own error has the client in it, and the client has the password.
    expect(opened.backgroundErrors.every((error) => error instanceof BrokerError)).toBe(true);
  });

  test("a database that only reads is not ready for the audit, and refuses events as unavailable", async () => {
    const { url, driver, organization } = await openFixture();
    const { orgKey } = await organization();
    await driver.query(
      "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$",
    );
    const readOnly = createStore({
      databaseUrl: url,
      clock: { now: () => new Date() },
      onBackgroundError: () => undefined,
    });
    expect(await readOnly.ping()).toEqual({ audit: false });
    await expect(readOnly.store.record(event(orgKey))).rejects.toMatchObject({ code: "unavailable" });
    await expect(readOnly.store.transact((tx) => tx.record(event(orgKey)))).rejects.toMatchObject({
      code: "unavailable",
    });
    await readOnly.close();
  });

  test("writers that fill every turn leave reads and events a connection", async () => {
    const { store, open, organization, transact } = await openFixture();
    const small = open(4);
    const { orgKey } = await organization();
    const { promise: freed, resolve: free } = Promise.withResolvers<void>();
    let waiting: Promise<boolean[]> = Promise.resolve([]);
    await transact(async (tx) => {
      await tx.lockOwner(orgKey);
      waiting = Promise.all(
        Array.from({ length: 20 }, () => small.store.transact((other) => other.lockOwner(orgKey))),
      );
      await small.store.record(event(orgKey));
      expect(await small.store.reader.organization(orgKey.owner_id)).not.toBeNull();
      free();
    });
    await freed;
    expect((await waiting).every(Boolean)).toBe(true);
    await small.close();
    expect((await store.reader.organization(orgKey.owner_id))?.id).toBe(orgKey.owner_id);
  });
});

test("sessions name themselves, keep UTC whatever the server says, and respect what the URL asks for", async () => {
  const { url, driver } = await openFixture();
  await driver.query(
    "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Tokyo'); END $$",
  );
  const own = new URL(url);
  own.searchParams.set("statement_timeout", "4321");
  own.searchParams.set("options", "-c work_mem=5MB");
  const other = createStore({
    databaseUrl: own.href,
    clock: { now: () => new Date() },
    onBackgroundError: () => undefined,
  });
  const at = new Date("2026-03-04T05:06:07.089Z");
  const id = newId();
  await other.store.transact((tx) =>
    tx.insertOrganization({ id, name: "o", created_at: at, created_by: null }),
  );
  expect((await other.store.reader.organization(id))?.created_at).toEqual(at);
  const { rows } = await driver.query("SELECT created_at FROM organizations WHERE id = $1", [id]);
  expect(rows).toEqual([{ created_at: at }]);
  const sessions = await driver.query(
    "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'coffer'",
  );
  expect(sessions.rowCount).toBeGreaterThan(0);
  await other.close();
});
