// What tokens promise: found by hash with the standing of now, used exactly as often as allowed, and dead with
// whatever they were made with.
import { describe, expect, test } from "vitest";
import type { Owner } from "../../src/domain/address.ts";
import { newId, openFixture, sha256, tokenRow } from "./fixture.ts";

describe("admission", () => {
  test("gives the token, its principal and the roles at the owner and its organization", async () => {
    const { store, transact, organization, principal, member, token } = await openFixture();
    const { org, orgKey, key } = await organization();
    const person = await principal({ scopes: ["decrypt:user/x", "y,{}"] });
    const made = await token(person.id, {
      scopes: ["a"],
      allowed_cidrs: ["10.0.0.0/8"],
      max_uses: 3,
      expires_at: new Date(5),
    });
    const { hash, ...record } = made;
    await member(orgKey, person.id, "owner");
    await member(key, person.id, "read");
    const admit = (owner: Owner | null, lookup = false) => store.admit({ kind: "api", hash }, owner, lookup);
    const admission = await admit(key, true);
    expect(admission?.token).toEqual(record);
    expect(admission?.principal).toEqual(person);
    expect(admission?.standing).toEqual({
      owner: { owner_type: "project", owner_id: key.owner_id },
      tenant_id: org,
      role_at_owner: "read",
      role_at_organization: "owner",
    });
    expect(admission?.owns_an_organization).toBe(true);
    expect((await admit(orgKey))?.standing).toMatchObject({ role_at_owner: "owner", tenant_id: org });
    expect((await admit({ owner_type: "user", owner_id: person.id }))?.standing).toMatchObject({
      tenant_id: person.id,
      role_at_owner: null,
    });
    expect(await admit(null)).toMatchObject({ standing: null, owns_an_organization: false });
    expect(await transact((tx) => tx.admit({ kind: "api", hash }, key, true))).toEqual(admission);
  });

  test("no standing where no such owner is: none of that type, a service account, another's id", async () => {
    const { store, organization, principal, token } = await openFixture();
    const { org, project } = await organization();
    const account = await principal({ kind: "service_account", organization_id: org });
    const { hash } = await token((await principal()).id);
    const wrong: Owner[] = [
      { owner_type: "organization", owner_id: project },
      { owner_type: "project", owner_id: org },
      { owner_type: "user", owner_id: account.id },
      { owner_type: "user", owner_id: newId() },
    ];
    for (const owner of wrong) {
      expect((await store.admit({ kind: "api", hash }, owner, false))?.standing).toBeNull();
      expect(await store.reader.ownerKey(owner)).toBeNull();
      expect(await store.reader.standing(account.id, owner)).toBeNull();
    }
    expect(await store.admit({ kind: "api", hash: sha256("other") }, null, false)).toBeNull();
  });
});

describe("uses", () => {
  test("a token is used exactly as often as it may be, over all replicas", async () => {
    const { store, open, principal, token } = await openFixture();
    const other = open(3);
    const { id } = await token((await principal()).id, { max_uses: 7 });
    const takes = Array.from({ length: 30 }, (_, index) =>
      (index % 2 === 0 ? store : other.store).takeUse(id),
    );
    expect((await Promise.all(takes)).filter(Boolean)).toHaveLength(7);
    expect((await store.reader.token(id))?.uses).toBe(7);
    await other.close();
  });

  test("an enrolment code is taken once, and not after its time", async () => {
    const { transact, principal } = await openFixture();
    const { id } = await principal();
    await transact((tx) => tx.insertEnrolment(sha256("a"), id, new Date(1000)));
    const take = (now: number) => transact((tx) => tx.takeEnrolment(sha256("a"), new Date(now)));
    expect(await take(1000)).toBeNull();
    const takes = await Promise.all([take(999), take(999), take(999)]);
    expect(takes.filter((each) => each === id)).toHaveLength(1);
  });
});

describe("revoking", () => {
  test("takes a token with its children and theirs, and with made also those it made for others", async () => {
    const { store, transact, principal, token, time } = await openFixture();
    const [person, other] = [(await principal()).id, (await principal()).id];
    const root = await token(person);
    const child = await token(person, { parent_id: root.id, made_with: root.id });
    const grandchild = await token(person, { parent_id: child.id, made_with: child.id });
    const given = await token(other, { made_with: child.id });
    const givensChild = await token(other, { parent_id: given.id, made_with: given.id });
    const sibling = await token(person);
    const isRevoked = async ({ id }: { id: string }) => (await store.reader.token(id))?.revoked_at !== null;
    expect(await transact((tx) => tx.revokeToken(root.id, false, time.now))).toBe(3);
    expect(await Promise.all([root, child, grandchild, given, givensChild, sibling].map(isRevoked))).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    const later = new Date(time.now.getTime() + 1);
    expect(await transact((tx) => tx.revokeToken(root.id, true, later))).toBe(2);
    expect(await Promise.all([given, givensChild, sibling].map(isRevoked))).toEqual([true, true, false]);
    expect((await store.reader.token(root.id))?.revoked_at).toEqual(time.now);
  });

  test("a child whose making is not committed yet when its parent is revoked dies with it", async () => {
    const { driver, transact, stuckOrDone, principal, token, time } = await openFixture();
    const person = (await principal()).id;
    const root = await token(person);
    const revocations: Promise<number>[] = [];
    await transact(async (tx) => {
      await tx.insertToken(tokenRow(person, time.now, { parent_id: root.id }));
      const revocation = transact((other) => other.revokeToken(root.id, false, time.now));
      revocations.push(revocation);
      await stuckOrDone(revocation);
    });
    expect(await Promise.all(revocations)).toEqual([2]);
    expect((await driver.query("SELECT FROM tokens WHERE revoked_at IS NULL")).rowCount).toBe(0);
  });

  test("no child is born while its parent is being revoked", async () => {
    const { driver, transact, principal, token, time } = await openFixture();
    const person = (await principal()).id;
    const root = await token(person);
    const births = Array.from({ length: 20 }, () =>
      token(person, { parent_id: root.id, made_with: root.id }),
    );
    const revocation = transact((tx) => tx.revokeToken(root.id, false, time.now));
    await Promise.allSettled(births);
    await revocation;
    expect((await driver.query("SELECT FROM tokens WHERE revoked_at IS NULL")).rowCount).toBe(0);
    await expect(token(person, { parent_id: root.id })).rejects.toMatchObject({ code: "unavailable" });
  });
});
