// Many workloads' service accounts and what vouches for them, found by one statement: the same as one by one.
import { expect, test } from "vitest";
import type { IdentityProviderRecord } from "../../src/domain/federation-ports.ts";
import { newId, openFixture } from "./fixture.ts";

const everyone = { after: null, limit: 100 };
const KEYS = { keys: [{ kty: "OKP", crv: "Ed25519", x: "AAAA", n: 1e21, deep: { a: [null, true, 0.5] } }] };

function providerOf(
  organization_id: string,
  now: Date,
  over: Partial<IdentityProviderRecord> = {},
): IdentityProviderRecord {
  const claims = { sub: 'a "b" \\ ü', runs: ["x", "y"] };
  return {
    id: newId(),
    organization_id,
    issuer: "https://ci.test",
    audience: "coffer",
    jwks_uri: "https://ci.test/keys",
    jwks: null,
    bindings: [{ claims, match: "glob", service_account_id: newId(), scopes: [] }],
    revision: 3,
    created_at: now,
    created_by: newId(),
    updated_at: new Date(now.getTime() + 1),
    ...over,
  };
}

test("each gets what is found of it by itself, whoever asks beside it, and how often", async () => {
  const { store, transact, organization, principal, time } = await openFixture();
  const [one, other, none] = [await organization(), await organization(), await organization()];
  await transact(async (tx) => {
    await tx.putIdentityProvider(providerOf(one.org, time.now));
    await tx.putIdentityProvider(providerOf(one.org, time.now, { jwks_uri: null, jwks: KEYS }));
    const few = { bindings: [], revision: 2_147_483_647 };
    await tx.putIdentityProvider(providerOf(other.org, time.now, few));
  });
  const account = (organization_id: string, over = {}) =>
    principal({ kind: "service_account", organization_id, ...over });
  const accounts = [
    await account(one.org, { scopes: ["decrypt:project/x", "a,{}", '"'] }),
    await account(one.org, { disabled_at: time.now, name: 'n "ü" \u{1f511}' }),
    await account(other.org),
    await account(none.org),
  ];
  const person = await principal();
  const asked = [...accounts, person, { id: newId() }, ...accounts.toReversed()].map(({ id }) => id);
  const found = await Promise.all(asked.map((id) => store.reader.workload(id)));

  const alone = await Promise.all(asked.map((id) => store.reader.principal(id)));
  expect(found.map((each) => each?.account ?? null)).toEqual(
    alone.map((each) => (each?.kind === "service_account" ? each : null)),
  );
  expect(found.map((each) => each?.trusted.size)).toEqual([2, 2, 1, 0, undefined, undefined, 0, 1, 2, 2]);
  for (const each of found) {
    if (each === null) continue;
    const at = each.account.organization_id ?? "";
    const trusted = await store.reader.trustedProviders(at);
    expect(new Map(trusted.map(({ id, row_version }) => [id, row_version]))).toEqual(each.trusted);
    const { rows } = await store.reader.identityProvidersOf(at, everyone);
    expect(trusted).toEqual(rows.map((row, index) => ({ ...row, row_version: trusted[index]?.row_version })));
  }
  expect(await transact((tx) => tx.workload(asked[0] ?? ""))).toEqual(found[0]);
});

test("a provider that was changed, be it by hand, is of another version", async () => {
  const { store, transact, organization, principal, driver, time } = await openFixture();
  const { org } = await organization();
  const { id } = await principal({ kind: "service_account", organization_id: org });
  await transact((tx) => tx.putIdentityProvider(providerOf(org, time.now)));
  const versions = async () => [...((await store.reader.workload(id))?.trusted.values() ?? [])];
  const before = await versions();
  expect(before).toHaveLength(1);
  expect(await versions()).toEqual(before);
  await driver.query("UPDATE identity_providers SET audience = 'other'");
  expect(await versions()).not.toEqual(before);
  expect((await store.reader.trustedProviders(org)).map(({ audience }) => audience)).toEqual(["other"]);
});
