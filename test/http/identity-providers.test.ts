// Identity providers of organizations over HTTP: what may be registered, by whom, and what is shown of it.
import { generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { told } from "./federation-kit.ts";
import { NOBODY, TIME, UUID, narrower } from "./rights-kit.ts";
import { AUDIENCE, issuerOf } from "./sign-in-kit.ts";

let broker: TestBroker;
let world: World;
let others: World;
let url: string;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  others = await furnish(broker);
  url = `/organizations/${world.organization.id}/identity-providers`;
});
afterAll(() => broker.close());

const ci = issuerOf("https://ci.test");
type Body = Readonly<Record<string, unknown>>;

function provider(more: Body = {}): Body {
  const bindings = [{ claims: { sub: "repo:acme/train" }, service_account_id: world.writer.id }];
  return { issuer: ci.issuer, audience: AUDIENCE, jwks: ci.jwks, bindings, ...more };
}
const binding = (more: Body): Body =>
  provider({ bindings: [{ ...(provider()["bindings"] as Body[])[0], ...more }] });
const create = (body: Body, api: Api = world.owner.api, at = url) => api.post(at, { body });

describe("an identity provider", () => {
  test("is registered, read, listed, replaced and removed", async () => {
    const { owner, organization, writer, project } = world;
    const scopes = [`decrypt:project/${project.id}/connect`];
    const claims = {
      sub: ["repo:acme/*:ref:refs/heads/main", "repo:acme/train"],
      "/kubernetes.io/namespace": "ml",
    };
    const bindings = [{ claims, match: "glob", service_account_id: writer.id, scopes }];
    const answer = await create(provider({ bindings }));
    expect(answer.status).toBe(201);
    const { id } = answer.body;
    expect(answer.headers.get("location")).toBe(`${url}/${id}`);
    expect(answer.body).toEqual({
      id: expect.stringMatching(UUID),
      organization_id: organization.id,
      issuer: ci.issuer,
      audience: AUDIENCE,
      jwks_uri: null,
      jwks: ci.jwks,
      bindings,
      created_at: expect.stringMatching(TIME),
      created_by: owner.id,
      updated_at: answer.body.created_at,
    });
    expect((await owner.api.get(`${url}/${id.toUpperCase()}`)).body).toEqual(answer.body);
    expect((await owner.api.get(url)).body).toEqual({ identity_providers: [answer.body], next_cursor: null });

    const replaced = await owner.api.put(`${url}/${id}`, {
      body: { ...provider(), jwks: null, jwks_uri: "https://ci.test/jwks" },
    });
    expect(replaced.status).toBe(200);
    expect(replaced.body).toMatchObject({
      id,
      jwks: null,
      jwks_uri: "https://ci.test/jwks",
      bindings: [{ match: "exact", scopes: null }],
      created_at: answer.body.created_at,
    });
    expect((await owner.api.delete(`${url}/${id}`)).status).toBe(204);
    expect((await owner.api.get(`${url}/${id}`)).status).toBe(404);
    expect((await owner.api.delete(`${url}/${id}`)).status).toBe(404);
    expect((await owner.api.put(`${url}/${id}`, { body: provider() })).status).toBe(404);
  });

  test("keeps and shows the public members of a key and no other", async () => {
    const [key] = ci.jwks.keys;
    const noisy = {
      ...key,
      x5c: ["MIIB"],
      x5u: "https://ci.test/cert",
      note: "canary-note",
      key_ops: ["verify"],
    };
    const { id, jwks } = await made(create(provider({ jwks: { keys: [noisy] } })));
    expect(jwks).toEqual({ keys: [{ ...key, key_ops: ["verify"] }] });
    await made(world.owner.api.delete(`${url}/${id}`));
  });

  const { privateKey } = generateKeyPairSync("ed25519");
  const bad: Readonly<Record<string, [number, () => Body]>> = {
    "a private key": [
      422,
      () => provider({ jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "k" }] } }),
    ],
    "a shared secret": [422, () => provider({ jwks: { keys: [{ kty: "oct", k: "c2VjcmV0" }] } })],
    "no key at all": [422, () => provider({ jwks: undefined })],
    "both a URL and keys": [422, () => provider({ jwks_uri: "https://ci.test/jwks" })],
    "a plain http URL": [422, () => provider({ jwks: undefined, jwks_uri: "http://ci.test/jwks" })],
    "a private address": [422, () => provider({ jwks: undefined, jwks_uri: "https://10.0.0.1/jwks" })],
    "a loopback address that is not allowed": [
      422,
      () => provider({ jwks: undefined, jwks_uri: "http://127.0.0.1:1/" }),
    ],
    "the cloud's metadata address": [
      422,
      () => provider({ jwks: undefined, jwks_uri: "https://169.254.169.254/latest" }),
    ],
    "a file": [422, () => provider({ jwks: undefined, jwks_uri: "file:///etc/passwd" })],
    "keys that are none": [422, () => provider({ jwks: { keys: [{ kty: "RSA" }] } })],
    "more characters of keys than each exchange should read": [
      422,
      () => {
        const long = { kty: "EC", crv: "P-256", x: "x".repeat(2_100), kid: "k" };
        return provider({ jwks: { keys: [...ci.jwks.keys, ...Array.from({ length: 31 }, () => long)] } });
      },
    ],
    "an empty set of keys": [400, () => provider({ jwks: { keys: [] } })],
    "a binding without sub": [422, () => binding({ claims: { repository: "acme/train" } })],
    "a binding with an empty sub": [422, () => binding({ claims: { sub: "" } })],
    "a binding with no claims": [400, () => binding({ claims: {} })],
    "a binding of anybody": [422, () => binding({ claims: { sub: "*" }, match: "glob" })],
    "a binding with a claim that is no text": [400, () => binding({ claims: { sub: { a: 1 } } })],
    "a binding with a NUL": [400, () => binding({ claims: { sub: "a\0" } })],
    "a binding with another match": [400, () => binding({ match: "regex" })],
    "a binding with a scope that is none": [422, () => binding({ scopes: ["*"] })],
    "a binding to another organization's service account": [
      422,
      () => binding({ service_account_id: others.writer.id }),
    ],
    "a binding to a user": [422, () => binding({ service_account_id: world.owner.id })],
    "a binding to nobody": [422, () => binding({ service_account_id: NOBODY })],
    "a field that is not known": [400, () => provider({ secret: "x" })],
    "no audience": [400, () => provider({ audience: undefined })],
  };
  test.each(Object.entries(bad))("with %s is refused, and not quoted", async (name, [status, body]) => {
    const answer = await create(body());
    expect([answer.status, answer.body.code]).toEqual([
      status,
      status === 400 ? "invalid_request" : "invalid_value",
    ]);
    expect(answer.text).not.toMatch(/c2VjcmV0|metadata|passwd/);
    if (name.includes("scope")) expect(answer.body.errors[0].pointer).toBe("/bindings/0/scopes");
    expect((await world.owner.api.get(url)).body.identity_providers).toEqual([]);
  });

  test("has at most twenty beside it: the next is 409", async () => {
    const at = `/organizations/${others.organization.id}/identity-providers`;
    const body = { ...provider(), bindings: [] };
    for (let count = 0; count < 20; count++) await made(create(body, others.owner.api, at));
    expect((await create(body, others.owner.api, at)).status).toBe(409);
    const { identity_providers, next_cursor } = await made(others.owner.api.get(`${at}?limit=15`));
    expect(identity_providers).toHaveLength(15);
    const rest = await made(others.owner.api.get(`${at}?limit=15&cursor=${next_cursor}`));
    expect([rest.identity_providers.length, rest.next_cursor]).toEqual([5, null]);
  });
});

describe("nobody else registers one:", () => {
  test("not members, admins, strangers or another organization's owner; and they learn nothing", async () => {
    const { reader, writer, keeper, stranger, owner } = world;
    const { id } = await made(create(provider()));
    for (const api of [reader.api, writer.api, keeper.api, stranger.api, broker.admin, others.owner.api]) {
      const refused = await Promise.all([
        create(provider(), api),
        create(provider(), api, `/organizations/${NOBODY}/identity-providers`),
        api.get(url),
        api.get(`${url}/${id}`),
        api.get(`${url}/${NOBODY}`),
        api.put(`${url}/${id}`, { body: provider() }),
        api.delete(`${url}/${id}`),
      ]);
      expect(new Set(refused.map(told)).size).toBe(1);
      expect(refused[0].status).toBe(403);
    }
    expect((await owner.api.get(`${url}/${id}`)).status).toBe(200);
    await made(owner.api.delete(`${url}/${id}`));
  });

  test("not a scoped token, be its scope manage; it may look", async () => {
    const { owner, organization } = world;
    const place = `organization/${organization.id}`;
    const scopes = [`manage:${place}`, `list:${place}`];
    const { api } = await narrower(broker, owner.api, { scopes });
    const { status, body, headers } = await create(provider(), api);
    expect([status, body.reason]).toEqual([403, "token_scope"]);
    expect(headers.get("www-authenticate")).toBe('Bearer error="insufficient_scope"');
    expect((await api.get(url)).status).toBe(200);
  });

  test("not a token with max_uses, which may make no tokens either", async () => {
    const { api } = await narrower(broker, world.owner.api, { max_uses: 5 });
    const { status, body } = await create(provider(), api);
    expect([status, body.reason]).toEqual([403, "token_scope"]);
  });

  test("not an owner at another's address: a provider is found in its own organization alone", async () => {
    const { id } = await made(create(provider()));
    const theirs = `/organizations/${others.organization.id}/identity-providers/${id}`;
    for (const answer of [
      await others.owner.api.get(theirs),
      await others.owner.api.put(theirs, { body: { ...provider(), bindings: [] } }),
      await others.owner.api.delete(theirs),
    ])
      expect(answer.status).toBe(404);
    await made(world.owner.api.delete(`${url}/${id}`));
  });
});

test("registering, replacing and removing are in the organization's audit log", async () => {
  const { owner, organization } = world;
  const { id } = await made(create(provider()));
  await made(owner.api.put(`${url}/${id}`, { body: provider() }));
  await made(owner.api.delete(`${url}/${id}`));
  const query = new URLSearchParams({
    owner_type: "organization",
    owner_id: organization.id,
    action: "manage",
    limit: "200",
  });
  const { events } = await made(owner.api.get(`/audit?${query}`));
  const mine = events.filter((each: { target_id: string; outcome: string }) => each.target_id === id);
  expect(mine.map(({ details }: { details: unknown }) => details)).toEqual([
    { change: "removed", issuer: ci.issuer },
    { change: "replaced", issuer: ci.issuer },
    { change: "created", issuer: ci.issuer },
  ]);
});
