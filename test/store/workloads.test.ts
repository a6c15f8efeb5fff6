// Many workloads' service accounts and what vouches for them, found by one statement: the same as one by one.
import { expect, test } from "vitest";
import type { IdentityProviderRecord } from "../../src/domain/federation-ports.ts";
import { newId, openFixture } from "./fixture.ts";

const everyone = { after: null, limit: 100 };

test("each gets what is found of it by itself, whoever asks beside it, and how often", async () => {
  const { store, transact, organization, principal, time } = await openFixture();
  const provider = (
    organization_id: string,
    over: Partial<IdentityProviderRecord> = {},
  ): IdentityProviderRecord => ({
    id: newId(),
    organization_id,
    issuer: "https://ci.test",
    audience: "coffer",
    jwks_uri: "https://ci.test/keys",
    jwks: null,
    bindings: [
      {
        claims: { sub: 'a "b" \\ ü', runs: ["x", "y"] },
        match: "glob" as const,
        service_account_id: newId(),
        scopes: [],
      },
    ],
    revision: 3,
    created_at: time.now,
    created_by: newId(),
    updated_at: new Date(time.now.getTime() + 1),
    ...over,
  });
  const [one, other, none] = [await organization(), await organization(), await organization()];
  const keys = { keys: [{ kty: "OKP", crv: "Ed25519", x: "AAAA", n: 1e21, deep: { a: [null, true, 0.5] } }] };
  await transact(async (tx) => {
    for (const each of [
      provider(one.org),
      provider(one.org, { jwks_uri: null, jwks: keys }),
      provider(other.org, { bindings: [], revision: 2_147_483_647 }),
    ])
      await tx.putIdentityProvider(each);
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
  const expected = await Promise.all(
    asked.map(async (id) => {
      const alone = await store.reader.principal(id);
      if (alone?.kind !== "service_account" || alone.organization_id === null) return null;
      const { rows } = await store.reader.identityProvidersOf(alone.organization_id, everyone);
      return { account: alone, providers: rows };
    }),
  );
  expect(found).toEqual(expected);
  expect(found.map((each) => each?.providers.length)).toEqual([2, 2, 1, 0, undefined, undefined, 0, 1, 2, 2]);
  expect(await transact((tx) => tx.workload(accounts[0]?.id ?? ""))).toEqual(expected[0]);
});
