// Workloads and persons that sign in with a foreign identity: end to end, over real HTTP, on two replicas; and the
// escalations that somebody would try who owns an organization, or runs an identity provider.
import { once } from "node:events";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  type Api,
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { NOBODY } from "./rights-kit.ts";
import { later } from "./settings-kit.ts";
import {
  ACCESS_TYPE,
  AUDIENCE,
  EXCHANGE,
  ID_TOKEN_TYPE,
  accessOf,
  exchange,
  issuerOf,
  nowSeconds,
  partsOf,
  signIn,
} from "./sign-in-kit.ts";

const SUBJECT = "repo:acme/train:ref:refs/heads/main";
const ci = issuerOf("https://ci.test");
/** Of the instance: whose subjects are persons. */
const people = issuerOf("https://people.test");

let broker: TestBroker;
let beside: TestBroker;
let world: World;
let others: World;
let provider: { readonly id: string };

beforeAll(async () => {
  const environment = {
    COFFER_PRIVATE_ADDRESSES_ALLOWED: "127.0.0.0/8",
    COFFER_TRUSTED_PROXIES: "127.0.0.1",
    COFFER_IDENTITY_PROVIDERS: JSON.stringify([
      { issuer: people.issuer, audience: AUDIENCE, jwks: people.jwks },
    ]),
  };
  broker = await startBroker({ environment });
  beside = await startBroker({ beside: broker, environment });
  world = await furnish(broker);
  others = await furnish(broker);
  await made(
    world.writer.api.put(settingsUrl(world.project, "secret/Custom/a"), { body: { value: "hidden" } }),
  );
  provider = await register(world, bound(world.writer.id));
});
afterAll(async () => {
  await beside.close();
  await broker.close();
});

type Body = Readonly<Record<string, unknown>>;
type Query = Readonly<Record<string, string>>;

const providersOf = ({ organization }: World): string =>
  `/organizations/${organization.id}/identity-providers`;
const bound = (service_account_id: string, more: Body = {}, rest: Body = {}): Body => ({
  issuer: ci.issuer,
  audience: AUDIENCE,
  jwks: ci.jwks,
  bindings: [{ claims: { sub: SUBJECT }, service_account_id, ...more }],
  ...rest,
});
const register = (at: World, body: Body) => made(at.owner.api.post(providersOf(at), { body }));
const both = (jwt: string): readonly Api[] => [broker.as(jwt), client(beside.url, jwt)];
const statusesOf = (apis: readonly Api[], path = "/auth/me") =>
  Promise.all(apis.map(async (api) => (await api.get(path)).status));
const told = ({ status, body: { request_id: _, ...body } }: Answer) => JSON.stringify([status, body]);
const REFUSED = JSON.stringify([
  400,
  { error: "invalid_grant", error_description: "The token is not valid." },
]);

/** As the workload that the fixture trusts. */
const workload = (claims: Body = {}, more: Query = {}, at: TestBroker = broker) =>
  exchange(at, ci.token({ sub: SUBJECT, ...claims }), { client_id: world.writer.id, ...more });

describe("a workload", () => {
  test("exchanges its platform's token for an access token of its service account, and reads with it", async () => {
    const { writer, project } = world;
    const { status, body, headers } = await workload();
    expect(status).toBe(200);
    expect(Object.keys(body)).toEqual([
      "access_token",
      "token_type",
      "expires_in",
      "scope",
      "issued_token_type",
    ]);
    expect(body).toMatchObject({ issued_token_type: ACCESS_TYPE, token_type: "Bearer", scope: "" });
    expect(headers.get("cache-control")).toBe("no-store");
    const { payload } = partsOf(body.access_token);
    expect(payload).toMatchObject({ sub: writer.id, provider: { id: provider.id, revision: 1 } });
    expect(payload).not.toHaveProperty("token_id");
    for (const api of both(body.access_token)) {
      expect((await api.get(settingsUrl(project, "secret/Custom/a", {}, "/settings/value"))).body.value).toBe(
        "hidden",
      );
      expect(await made(api.get("/auth/me"))).toMatchObject({
        id: writer.id,
        kind: "service_account",
        token: { id: payload.jti, kind: "access" },
      });
    }
  });

  test("may say id_token, and write its service account's id in upper case", async () => {
    const client_id = world.writer.id.toUpperCase();
    const more = { client_id, subject_token_type: ID_TOKEN_TYPE, requested_token_type: ACCESS_TYPE };
    expect((await workload({}, more)).status).toBe(200);
  });

  test("gets a token that never outlives its own", async () => {
    const { body } = await workload({ exp: nowSeconds() + 120 });
    expect(body.expires_in).toBeLessThanOrEqual(120);
    expect(body.expires_in).toBeGreaterThan(110);
    const apis = both(body.access_token);
    expect(await statusesOf(apis)).toEqual([200, 200]);
    expect(await later(121, () => statusesOf(apis))).toEqual([401, 401]);
  });

  const good = () => ci.token({ sub: SUBJECT });
  const fork = () => ci.token({ sub: "repo:attacker/train:ref:refs/heads/main" });
  const wrong: Readonly<Record<string, () => Promise<Answer>>> = {
    "another audience": () => workload({ aud: "https://other.test" }),
    "another sub": () => workload({ sub: `${SUBJECT}-2` }),
    "a fork's sub": () => exchange(broker, fork(), { client_id: world.writer.id }),
    "another branch": () => workload({ sub: SUBJECT.replace("main", "evil") }),
    "no sub": () => workload({ sub: undefined }),
    "a sub that is a list": () => workload({ sub: [SUBJECT] }),
    "another issuer": () => workload({ iss: "https://ci.test/" }),
    "an expiry that is over": () => workload({ exp: nowSeconds() - 3_600 }),
    "a key that is not its issuer's": () =>
      exchange(broker, issuerOf(ci.issuer).token({ sub: SUBJECT }), { client_id: world.writer.id }),
    "a service account that no binding names": () => exchange(broker, good(), { client_id: world.reader.id }),
    "a service account of another organization": () =>
      exchange(broker, good(), { client_id: others.writer.id }),
    "a service account that is none": () => exchange(broker, good(), { client_id: NOBODY }),
    "a client_id that is no id": () => exchange(broker, good(), { client_id: "acme/train" }),
    "a user's id": () => exchange(broker, good(), { client_id: world.owner.id }),
    "text that is no token": () => exchange(broker, "not.a.token", { client_id: world.writer.id }),
    "an API token": () => exchange(broker, world.writer.api.token, { client_id: world.writer.id }),
    "no client_id: it is no person": () => exchange(broker, good()),
  };
  test.each(Object.entries(wrong))(
    "is refused with %s, and told no more than invalid_grant",
    async (_name, call) => {
      expect(told(await call())).toBe(REFUSED);
    },
  );

  test("is refused a scope beyond its binding's, and has the binding's unless it asks", async () => {
    const { reader, project } = world;
    const scopes = [`list:project/${project.id}/connect`];
    const { id } = await register(world, bound(reader.id, { scopes }));
    const ask = (more: Query = {}) =>
      exchange(broker, ci.token({ sub: SUBJECT }), { client_id: reader.id, ...more });
    const usual = await ask();
    expect(usual.body.scope).toBe(scopes[0]);
    const [api] = both(usual.body.access_token);
    expect((await api!.get(settingsUrl(project, "connect"))).status).toBe(200);
    expect((await api!.get(settingsUrl(project, "secret/Custom/a"))).status).toBe(403);
    expect((await ask({ scope: `list:project/${project.id}/connect/S3` })).status).toBe(200);
    expect((await ask({ scope: `list:project/${project.id}` })).body.error).toBe("invalid_scope");
    await made(world.owner.api.delete(`${providersOf(world)}/${id}`));
  });

  test("gives no secret with it: client_secret or Basic beside a subject token are invalid_request", async () => {
    expect((await workload({}, { client_secret: "x" })).body.error).toBe("invalid_request");
    const form = { grant_type: EXCHANGE, subject_token: good(), subject_token_type: ID_TOKEN_TYPE };
    expect((await signIn(broker, form, { authorization: "Basic YTpi" })).body.error).toBe("invalid_request");
  });

  test("cannot use the platform's token itself as a bearer token", async () => {
    expect((await broker.as(good()).get("/auth/me")).status).toBe(401);
  });
});

describe("a workload's access token is refused at once, on both replicas, when", () => {
  /** A provider of its own, and a token had through it that both replicas have verified. */
  async function trusted() {
    const worker = await world.worker("write");
    const body = bound(worker.id);
    const { id } = await register(world, body);
    const jwt = await accessOf(exchange(broker, ci.token({ sub: SUBJECT }), { client_id: worker.id }));
    const apis = both(jwt);
    expect(await statusesOf(apis)).toEqual([200, 200]);
    return { worker, apis, body, url: `${providersOf(world)}/${id}` };
  }

  test("its identity provider is replaced, be it by the same", async () => {
    const { apis, body, url } = await trusted();
    await made(client(beside.url, world.owner.api.token).put(url, { body }));
    expect(await statusesOf(apis)).toEqual([401, 401]);
  });

  test("its identity provider is removed", async () => {
    const { apis, url } = await trusted();
    await made(world.owner.api.delete(url));
    expect(await statusesOf(apis)).toEqual([401, 401]);
  });

  test("its service account is disabled, which gets no other", async () => {
    const { apis, worker } = await trusted();
    await made(world.owner.api.patch(`/service-accounts/${worker.id}`, { body: { disabled: true } }));
    expect(await statusesOf(apis)).toEqual([401, 401]);
    expect(told(await exchange(beside, ci.token({ sub: SUBJECT }), { client_id: worker.id }))).toBe(REFUSED);
  });

  test("its service account is removed", async () => {
    const { apis, worker } = await trusted();
    await made(world.owner.api.delete(`/service-accounts/${worker.id}`));
    expect(await statusesOf(apis)).toEqual([401, 401]);
  });

  test("its role is taken away", async () => {
    const { apis, worker } = await trusted();
    const url = settingsUrl(world.project, "secret/Custom/a");
    expect(await statusesOf(apis, url)).toEqual([200, 200]);
    await made(world.owner.api.delete(`/projects/${world.project.id}/members/${worker.id}`));
    expect(await statusesOf(apis, url)).toEqual([403, 403]);
  });
});

describe("with a jwks_uri", () => {
  let server: Server;
  let address: string;
  let keys: unknown = ci.jwks;
  let asked = 0;
  beforeAll(async () => {
    server = createServer((_request, response) => {
      asked += 1;
      response.setHeader("content-type", "application/json").end(JSON.stringify(keys));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
  });
  afterAll(() => server.close());

  test("the keys are fetched, kept, and fetched anew for a key id that is new", async () => {
    const worker = await world.worker("write");
    await register(world, { ...bound(worker.id), jwks: undefined, jwks_uri: address });
    const ask = (token: string) => exchange(broker, token, { client_id: worker.id });
    const first = await accessOf(ask(ci.token({ sub: SUBJECT })));
    expect(await statusesOf(both(first))).toEqual([200, 200]);
    await accessOf(ask(ci.token({ sub: SUBJECT })));
    expect(asked).toBe(1);
    const rotated = issuerOf(ci.issuer, "key-2");
    keys = { keys: [...ci.jwks.keys, ...rotated.jwks.keys] };
    await later(120, async () => {
      const token = rotated.token({ sub: SUBJECT, iat: nowSeconds(), exp: nowSeconds() + 60 });
      await accessOf(ask(token));
    });
    expect(asked).toBe(2);
  });

  test("that cannot be had the exchange is refused, as for a bad token", async () => {
    const worker = await world.worker("write");
    await register(world, { ...bound(worker.id), jwks: undefined, jwks_uri: "http://127.0.0.1:9/jwks" });
    expect(told(await exchange(broker, ci.token({ sub: SUBJECT }), { client_id: worker.id }))).toBe(REFUSED);
  });
});

describe("a person", () => {
  const ask = (claims: Body, at: TestBroker = broker) => exchange(at, people.token(claims));

  test("is made at the first sign-in, without any role, and is the same at the next, on both replicas", async () => {
    const first = await accessOf(ask({ sub: "ada", name: "Ada Lovelace", email: "ada@example.com" }));
    const me = await made(broker.as(first).get("/auth/me"));
    expect(me).toMatchObject({ kind: "user", name: "Ada Lovelace", admin: false, roles: [] });
    expect(partsOf(first).payload).not.toHaveProperty("provider");
    const again = await accessOf(ask({ sub: "ada", name: "Somebody Else" }, beside));
    expect(await made(broker.as(again).get("/auth/me"))).toMatchObject({ id: me.id, name: "Ada Lovelace" });
    const other = await accessOf(ask({ sub: "grace", email: "ada@example.com" }));
    expect((await made(broker.as(other).get("/auth/me"))).id).not.toBe(me.id);
    expect((await broker.as(first).get(settingsUrl(world.project))).status).toBe(403);
    // Their own scope is theirs.
    const own = settingsUrl({ type: "user", id: me.id }, "secret/Custom/mine");
    expect((await broker.as(first).put(own, { body: { value: "x" } })).status).toBe(201);
  });

  test("who first signs in many times at once, on both replicas, is one", async () => {
    const at = Array.from({ length: 12 }, (_, index) => (index % 2 === 0 ? broker : beside));
    const jwts = await Promise.all(at.map((each) => accessOf(ask({ sub: "twin" }, each))));
    expect(new Set(jwts.map((jwt) => partsOf(jwt).payload.sub)).size).toBe(1);
  });

  test("is given a role like anybody, and loses everything at once when disabled", async () => {
    const jwt = await accessOf(ask({ sub: "joan" }));
    const { id } = await made(broker.as(jwt).get("/auth/me"));
    const member = `/projects/${world.project.id}/members/${id}`;
    await made(world.owner.api.put(member, { body: { role: "read" } }));
    expect(await statusesOf(both(jwt), settingsUrl(world.project))).toEqual([200, 200]);
    await made(broker.admin.patch(`/users/${id}`, { body: { disabled: true } }));
    expect(await statusesOf(both(jwt))).toEqual([401, 401]);
    expect(told(await ask({ sub: "joan" }))).toBe(REFUSED);
  });

  test("with an access token makes no API token, and is no admin by any claim", async () => {
    const jwt = await accessOf(
      ask({ sub: "mallory", admin: true, roles: ["owner"], email: "root@example.com" }),
    );
    const { status, body } = await broker.as(jwt).post("/tokens", { body: { name: "kept" } });
    expect([status, body.reason]).toEqual([403, "token_scope"]);
    expect((await broker.as(jwt).get("/users")).status).toBe(403);
  });

  test("is not made of a token that is not good here", async () => {
    const before = (await made(broker.admin.get("/users?limit=1000"))).users.length;
    const refused = await Promise.all([
      ask({ sub: "eve", aud: "https://other.test" }),
      ask({ sub: "" }),
      ask({ sub: undefined }),
      ask({ sub: 7 }),
      ask({ sub: "eve", exp: nowSeconds() - 3_600 }),
      exchange(broker, issuerOf(people.issuer).token({ sub: "eve" })),
    ]);
    expect(new Set(refused.map(told))).toEqual(new Set([REFUSED]));
    expect((await made(broker.admin.get("/users?limit=1000"))).users).toHaveLength(before);
  });
});

describe("an organization's owner with keys of their own", () => {
  const mine = issuerOf("https://mallory.test");
  /** All that `others`' owner can register: bindings to their own account, of whatever issuer and subject. */
  const claim = (issuer: string, claims: Body) =>
    register(others, {
      issuer,
      audience: AUDIENCE,
      jwks: mine.jwks,
      bindings: [{ claims, service_account_id: others.writer.id }],
    });
  const asserting = (issuer: string, sub: string, more: Body = {}) =>
    mine.token({ iss: issuer, sub, ...more });

  test("asserting another organization's issuer and subject becomes their own account and no other", async () => {
    await claim(ci.issuer, { sub: SUBJECT });
    const token = asserting(ci.issuer, SUBJECT);
    expect(told(await exchange(broker, token, { client_id: world.writer.id }))).toBe(REFUSED);
    const jwt = await accessOf(exchange(broker, token, { client_id: others.writer.id }));
    expect(await made(broker.as(jwt).get("/auth/me"))).toMatchObject({ id: others.writer.id });
    expect((await broker.as(jwt).get(settingsUrl(world.project))).status).toBe(403);
    // And the real issuer's token is none of theirs: each organization's providers have their own keys.
    const real = ci.token({ sub: SUBJECT });
    expect(told(await exchange(broker, real, { client_id: others.writer.id }))).toBe(REFUSED);
    expect((await workload()).status).toBe(200);
  });

  test("asserting a person's issuer, sub and email becomes no person", async () => {
    const ada = await accessOf(exchange(broker, people.token({ sub: "ada" })));
    const { id } = await made(broker.as(ada).get("/auth/me"));
    await claim(people.issuer, { sub: "ada" });
    const token = asserting(people.issuer, "ada", { email: "ada@example.com" });
    expect(told(await exchange(broker, token))).toBe(REFUSED);
    expect(told(await exchange(broker, token, { client_id: id }))).toBe(REFUSED);
    const jwt = await accessOf(exchange(broker, token, { client_id: others.writer.id }));
    expect(await made(broker.as(jwt).get("/auth/me"))).toMatchObject({ kind: "service_account" });
  });

  test("asserting a service account's id as sub, or ours as issuer, becomes nobody else", async () => {
    await claim("coffer", { sub: world.writer.id });
    const token = asserting("coffer", world.writer.id, { aud: [AUDIENCE, "coffer"] });
    expect((await broker.as(token).get("/auth/me")).status).toBe(401);
    expect(told(await exchange(broker, token, { client_id: world.writer.id }))).toBe(REFUSED);
  });

  test("binding a service account of another organization is refused", async () => {
    const { status } = await others.owner.api.post(providersOf(others), { body: bound(world.writer.id) });
    expect(status).toBe(422);
  });

  test("learns nothing of who else registered the issuer: the same answers before and after", async () => {
    const issuer = issuerOf("https://shared.test");
    const body = (account: string): Body => ({ ...bound(account), issuer: issuer.issuer, jwks: issuer.jwks });
    const probe = () => exchange(broker, issuer.token({ sub: SUBJECT }), { client_id: world.reader.id });
    const before = told(await probe());
    const theirs = await register(others, body(others.reader.id));
    expect(told(await probe())).toBe(before);
    const ours = await register(world, body(world.keeper.id));
    expect(Object.keys(ours)).toEqual(Object.keys(theirs));
    expect(
      (await made(world.owner.api.get(`${providersOf(world)}?limit=1000`))).identity_providers,
    ).not.toContainEqual(expect.objectContaining({ id: theirs.id }));
    await made(others.owner.api.delete(`${providersOf(others)}/${theirs.id}`));
    await accessOf(exchange(broker, issuer.token({ sub: SUBJECT }), { client_id: world.keeper.id }));
  });
});

describe("the audit", () => {
  const eventsOf = async (api: Api, owner: { type: string; id: string } | null, answer: Answer) => {
    const place =
      owner === null ? { owner_type: "instance" } : { owner_type: owner.type, owner_id: owner.id };
    const request_id = answer.headers.get("x-request-id") ?? "";
    return (await made(api.get(`/audit?${new URLSearchParams({ ...place, request_id })}`))).events;
  };

  test("leads from what a workload's access token did to the foreign identity behind it", async () => {
    const { owner, organization, project, writer } = world;
    const answer = await workload();
    const { jti } = partsOf(answer.body.access_token).payload;
    const read = await broker.as(answer.body.access_token).get(settingsUrl(project, "secret/Custom/a"));
    expect(await eventsOf(owner.api, organization, read)).toEqual([
      expect.objectContaining({ principal_id: writer.id, token_id: jti }),
    ]);
    expect(await eventsOf(owner.api, organization, answer)).toEqual([
      expect.objectContaining({
        action: "sign_in",
        outcome: "allowed",
        principal_id: writer.id,
        token_id: jti,
        details: expect.objectContaining({
          access_token_id: jti,
          provider: provider.id,
          issuer: ci.issuer,
          subject: SUBJECT,
        }),
      }),
    ]);
  });

  test("has a person's first sign-in in their own log, with issuer and subject", async () => {
    const answer = await exchange(broker, people.token({ sub: "edith" }));
    const jwt = answer.body.access_token;
    const { sub } = partsOf(jwt).payload;
    expect(await eventsOf(broker.as(jwt), { type: "user", id: sub }, answer)).toEqual([
      expect.objectContaining({
        action: "sign_in",
        principal_id: sub,
        details: expect.objectContaining({ issuer: people.issuer, subject: "edith", change: "created" }),
      }),
    ]);
  });
});

test("failed exchanges are limited per service account, and a good one still passes", async () => {
  const { stranger } = world;
  await register(world, bound(stranger.id));
  const answers = await Promise.all(
    Array.from({ length: 110 }, (_, index) =>
      signIn(
        broker,
        {
          grant_type: EXCHANGE,
          subject_token: "a.b.c",
          subject_token_type: ID_TOKEN_TYPE,
          client_id: stranger.id,
        },
        { "x-forwarded-for": `192.0.2.${index}` },
      ),
    ),
  );
  expect(answers.filter(({ status }) => status === 429)).toHaveLength(10);
  expect((await exchange(broker, ci.token({ sub: SUBJECT }), { client_id: stranger.id })).status).toBe(200);
});

test("an identity provider of the instance that could never verify stops the start, and says which", async () => {
  const bad = [
    { issuer: people.issuer, audience: AUDIENCE, jwks: people.jwks },
    { issuer: "https://bad.test", audience: AUDIENCE, jwks_uri: "http://bad.test/jwks" },
  ];
  const environment = { COFFER_IDENTITY_PROVIDERS: JSON.stringify(bad) };
  await expect(startBroker({ beside: broker, environment })).rejects.toThrow(
    /COFFER_IDENTITY_PROVIDERS, entry 2/,
  );
});
