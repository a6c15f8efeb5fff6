// What removal and the locks promise: nothing of a removed owner is left but its log, and nothing slips in meanwhile.
import { describe, expect, test } from "vitest";
import { INSTANCE_TENANT } from "../../src/domain/audit.ts";
import type { OwnerKey, PageQuery } from "../../src/domain/ports.ts";
import { type Fixture, event, newId, openFixture, putSetting, sha256 } from "./fixture.ts";

/** Every table that holds a column with one of the ids, but the log and its list of removed tenants. */
async function tracesOf({ driver }: Fixture, ids: readonly string[]): Promise<string[]> {
  const { rows } = await driver.query<{ table_name: string; column_name: string }>(
    `SELECT c.table_name, c.column_name FROM information_schema.columns c JOIN pg_class p ON p.relname = c.table_name
     WHERE c.table_schema = 'public' AND c.data_type = 'uuid' AND p.relkind IN ('r', 'p') AND NOT p.relispartition`,
  );
  const traces: string[] = [];
  for (const { table_name, column_name } of rows) {
    // That something was written about it is remembered for some ten minutes.
    if (["audit_events", "removed_tenants", "recent_writes"].includes(table_name)) continue;
    const { rowCount } = await driver.query(
      `SELECT FROM ${table_name} WHERE ${column_name} = ANY($1::uuid[])`,
      [ids],
    );
    if ((rowCount ?? 0) > 0) traces.push(`${table_name}.${column_name}`);
  }
  return traces;
}

async function withKeys({ keys, time }: Fixture, key: OwnerKey) {
  const id = newId();
  const kek = {
    tenant_id: key.tenant_id,
    id: newId(),
    manager: "local" as const,
    generation: 1,
    sealed: Buffer.from("k"),
    secret: null,
    created_at: time.now,
  };
  const kek_tenant = key.owner_type === "user" ? INSTANCE_TENANT : key.tenant_id;
  const { id: kek_id = "" } =
    (await keys.insertKek({ ...kek, tenant_id: kek_tenant }, Buffer.from("c"))) ?? {};
  await keys.insertDataKey({
    ...key,
    id,
    generation: 1,
    manager: "local",
    kek_tenant,
    kek_id,
    wrapped: Buffer.from("w"),
    created_at: time.now,
  });
}

describe("removing an owner", () => {
  test("an organization goes with its projects, settings, keys, accounts and their tokens; others' stay", async () => {
    const fixture = await openFixture();
    const { transact, organization, principal, member, token, setting, store } = fixture;
    const [gone, kept] = [await organization(), await organization()];
    const person = await principal();
    for (const { org, orgKey, key } of [gone, kept]) {
      const account = await principal({ kind: "service_account", organization_id: org });
      await member(orgKey, person.id);
      await member(key, account.id, "read");
      await token(account.id);
      for (const each of [orgKey, key]) {
        await setting(each, "connect/S3/a");
        await withKeys(fixture, each);
      }
      await store.record(event(key));
    }
    const before = await tracesOf(fixture, [kept.org, kept.project]);
    const purged = await transact((tx) => tx.removeOwner(gone.orgKey));
    expect(purged.map(({ path }) => path)).toEqual(["connect/S3/a", "connect/S3/a"]);
    expect(await tracesOf(fixture, [gone.org, gone.project])).toEqual([]);
    expect(await tracesOf(fixture, [kept.org, kept.project])).toEqual(before);
    expect(await store.reader.principal(person.id)).toEqual(person);
    expect(await store.reader.ownerKey(gone.key)).toBeNull();
    const counts = await fixture.driver.query(
      "SELECT (SELECT count(*)::int FROM tokens) AS tokens, (SELECT count(*)::int FROM setting_versions) AS versions, (SELECT count(*)::int FROM audit_events) AS events",
    );
    expect(counts.rows).toEqual([{ tokens: 1, versions: 2, events: 2 }]);
  });

  test("a project goes alone", async () => {
    const fixture = await openFixture();
    const { transact, organization, principal, member, setting } = fixture;
    const { org, project, orgKey, key } = await organization();
    const person = await principal();
    for (const each of [orgKey, key]) {
      await member(each, person.id);
      await setting(each, "connect/S3/a");
      await withKeys(fixture, each);
    }
    expect(await transact((tx) => tx.removeOwner(key))).toHaveLength(1);
    expect(await tracesOf(fixture, [project])).toEqual([]);
    expect((await fixture.driver.query("SELECT FROM settings WHERE tenant_id = $1", [org])).rowCount).toBe(1);
    expect((await fixture.driver.query("SELECT FROM setting_versions")).rowCount).toBe(1);
  });

  test("a user goes with their own scope, tokens, roles and enrolment code", async () => {
    const fixture = await openFixture();
    const { transact, organization, principal, member, token, setting, time } = fixture;
    const { orgKey } = await organization();
    const person = await principal();
    const key: OwnerKey = { owner_type: "user", owner_id: person.id, tenant_id: person.id };
    await member(orgKey, person.id);
    await token(person.id);
    await setting(key, "connect/S3/a");
    await withKeys(fixture, key);
    await transact((tx) => tx.insertEnrolment(sha256("code"), person.id, time.now));
    expect(await transact((tx) => tx.hasSettings(key))).toBe(true);
    expect(await transact((tx) => tx.removeOwner(key))).toHaveLength(1);
    expect(await tracesOf(fixture, [person.id])).toEqual([]);
  });

  test("writers that race a removal leave nothing behind", async () => {
    const fixture = await openFixture();
    const { transact, organization, time } = fixture;
    const { org, project, orgKey, key } = await organization();
    const write = (index: number) =>
      transact(async (tx) => {
        await tx.lockPath(key, `connect/S3/${index}` as never);
        // As the gate does: decides again, from what is committed by now.
        if ((await tx.ownerKey(key)) === null) throw new Error("no right");
        await putSetting(tx, key, `connect/S3/${index}`, time.now);
      });
    const writers = Array.from({ length: 20 }, (_, index) => write(index));
    const removal = transact((tx) => tx.removeOwner(orgKey));
    await Promise.allSettled([...writers, removal]);
    await removal;
    expect(await tracesOf(fixture, [org, project])).toEqual([]);
  });

  test("hasSettings holds until the end: no setting is made between the answer and the removal", async () => {
    const fixture = await openFixture();
    const { transact, stuckOrDone, organization, time } = fixture;
    const { orgKey, key } = await organization();
    const writers: Promise<string>[] = [];
    const purged = await transact(async (tx) => {
      expect(await tx.hasSettings(orgKey)).toBe(false);
      const writer = transact(async (other) => {
        await other.lockPath(key, "connect/S3/a" as never);
        if ((await other.ownerKey(key)) === null) return "gone";
        await putSetting(other, key, "connect/S3/a", time.now);
        return "written";
      });
      writers.push(writer);
      await stuckOrDone(writer);
      return tx.removeOwner(orgKey);
    });
    expect(purged).toEqual([]);
    expect(await Promise.all(writers)).toEqual(["gone"]);
  });

  test("no key, account, member, project or token is put under what is gone", async () => {
    const fixture = await openFixture();
    const { transact, organization, principal, member, token, time } = fixture;
    const { org, orgKey, key } = await organization();
    const person = await principal();
    const userKey: OwnerKey = { owner_type: "user", owner_id: person.id, tenant_id: person.id };
    await transact((tx) => tx.removeOwner(orgKey));
    await transact((tx) => tx.removeOwner(userKey));
    const late = [
      withKeys(fixture, orgKey),
      withKeys(fixture, key),
      principal({ kind: "service_account", organization_id: org }),
      member(orgKey, newId()),
      token(person.id),
      transact((tx) => tx.insertEnrolment(sha256("x"), person.id, time.now)),
      transact((tx) =>
        tx.insertProject({
          id: newId(),
          organization_id: org,
          name: "x",
          created_at: time.now,
          created_by: null,
        }),
      ),
    ];
    for (const result of await Promise.allSettled(late))
      expect(result).toMatchObject({ status: "rejected", reason: { code: "unavailable" } });
    expect(await tracesOf(fixture, [org, person.id])).toEqual([]);
    expect(await transact((tx) => tx.lockOwner(orgKey))).toBe(false);
  });
});

describe("last owners and admins", () => {
  test("only enabled owners other than the one count", async () => {
    const { transact, organization, principal, member } = await openFixture();
    const { org, orgKey, key } = await organization();
    const other = await organization();
    const [one, two, disabled] = [
      await principal(),
      await principal(),
      await principal({ disabled_at: new Date() }),
    ];
    for (const each of [one, disabled]) await member(orgKey, each.id);
    await member(key, two.id);
    await member(other.orgKey, one.id);
    await member(other.orgKey, two.id);
    const owners = (except: string) => transact((tx) => tx.otherOwners(org, except));
    expect([await owners(one.id), await owners(two.id)]).toEqual([0, 1]);
    const alone = (id: string) => transact((tx) => tx.organizationsOnlyOwnedBy(id));
    expect([await alone(one.id), await alone(two.id)]).toEqual([[org], []]);
  });

  test("two admins who remove each other do not both succeed", async () => {
    const { transact, principal } = await openFixture();
    const [one, two] = [await principal({ admin: true }), await principal({ admin: true })];
    const demote = (who: typeof one) =>
      transact(async (tx) => {
        await tx.lockInstance();
        const others = await tx.otherAdmins(who.id);
        if (others > 0) await tx.updatePrincipal({ ...who, admin: false });
        return others;
      });
    expect((await Promise.all([demote(one), demote(two)])).toSorted()).toEqual([0, 1]);
  });
});

describe("lists", () => {
  test("go by id, page by page, and show only what is visible", async () => {
    const { store, transact, organization, principal, member, token, time } = await openFixture();
    const { org, orgKey, key } = await organization();
    const person = await principal();
    const projects = [key.owner_id];
    for (const name of ["q", "r", "s"]) {
      const id = newId();
      await transact((tx) =>
        tx.insertProject({ id, organization_id: org, name, created_at: time.now, created_by: null }),
      );
      projects.push(id);
    }
    await member(orgKey, person.id, "read");
    await member({ ...orgKey, owner_type: "project", owner_id: projects[2]! }, person.id, "write");
    const tokens = [await token(person.id), await token(person.id)];
    const page = (over: Partial<PageQuery> = {}): PageQuery => ({ after: null, limit: 2, ...over });
    const first = await store.reader.projectsOf(org, null, page());
    expect([first.rows.map(({ id }) => id), first.more]).toEqual([projects.slice(0, 2), true]);
    const second = await store.reader.projectsOf(org, null, page({ after: projects[1]! }));
    expect([second.rows.map(({ id }) => id), second.more]).toEqual([projects.slice(2), false]);
    expect((await store.reader.projectsOf(org, person.id, page())).rows.map(({ id }) => id)).toEqual([
      projects[2],
    ]);
    expect((await store.reader.organizationsOf(person.id, page())).rows.map(({ id }) => id)).toEqual([org]);
    expect((await store.reader.members(orgKey, page())).rows).toMatchObject([
      { principal_id: person.id, role: "read", name: person.name, kind: "user" },
    ]);
    expect(await store.reader.member(key, person.id)).toBeNull();
    const listed = (await store.reader.tokensOf(person.id, page())).rows;
    expect(tokens).toEqual(listed.map((each, index) => Object.assign(each, { hash: tokens[index]?.hash })));
    expect(await store.reader.rolesOf(person.id)).toEqual([
      { owner_type: "organization", owner_id: org, role: "read" },
      { owner_type: "project", owner_id: projects[2], role: "write" },
    ]);
    expect((await store.reader.users(page())).rows).toEqual([person]);
    const bad = page({ after: "no id" });
    const { reader } = store;
    const lists = [
      reader.users(bad),
      reader.members(orgKey, bad),
      reader.tokensOf(person.id, bad),
      reader.projectsOf(org, null, bad),
      reader.organizationsOf(person.id, bad),
      reader.serviceAccountsOf(org, bad),
    ];
    for (const result of await Promise.allSettled(lists))
      expect(result).toMatchObject({ status: "rejected", reason: { code: "invalid_request" } });
  });

  test("a name or email taken in a race is a conflict, and a role given twice is one membership", async () => {
    const { store, transact, organization, principal, member, time } = await openFixture();
    const { org, orgKey } = await organization();
    await principal({ email: "a@example.org" });
    await expect(principal({ email: "a@example.org" })).rejects.toMatchObject({ code: "conflict" });
    const project = (name: string) =>
      transact((tx) =>
        tx.insertProject({ id: newId(), organization_id: org, name, created_at: time.now, created_by: null }),
      );
    const racers = await Promise.allSettled([project("same"), project("same")]);
    expect(racers.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(racers.find(({ status }) => status === "rejected")).toMatchObject({
      reason: { code: "conflict" },
    });
    const person = await principal();
    await member(orgKey, person.id, "read");
    await member(orgKey, person.id, "write");
    expect(await store.reader.member(orgKey, person.id)).toMatchObject({ role: "write" });
  });
});
