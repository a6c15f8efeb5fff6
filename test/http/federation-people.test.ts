// People who sign in with an identity provider of the instance: (issuer, sub), made at the first sign-in.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, made, settingsUrl, startBroker } from "../harness/broker.ts";
import {
  type Body,
  type Federation,
  REFUSED,
  eventsOf,
  federation,
  people,
  statusesOf,
  told,
} from "./federation-kit.ts";
import { AUDIENCE, accessOf, exchange, issuerOf, nowSeconds, partsOf } from "./sign-in-kit.ts";

let both: Federation["both"];
let broker: TestBroker;
let beside: TestBroker;
let world: World;
let all: Federation;

beforeAll(async () => {
  all = await federation();
  ({ broker, beside, world, both } = all);
});
afterAll(() => all.close());

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

  test("who owns an organization makes tokens for its service accounts, none for themselves", async () => {
    const jwt = await accessOf(ask({ sub: "dorothy" }));
    const { id } = await made(broker.as(jwt).get("/auth/me"));
    const { organization, owner, writer, project } = world;
    await made(owner.api.put(`/organizations/${organization.id}/members/${id}`, { body: { role: "owner" } }));
    const body = { name: "cluster", principal_id: writer.id };
    const token = await made(broker.as(jwt).post("/tokens", { body }));
    expect(token).toMatchObject({ principal_id: writer.id, created_by: id, parent_id: null });
    expect((await broker.as(token.token).get(settingsUrl(project))).status).toBe(200);
    expect((await broker.as(jwt).post("/tokens", { body: { name: "kept" } })).status).toBe(403);
    await made(owner.api.delete(`/organizations/${organization.id}/members/${id}`));
    expect((await broker.as(jwt).post("/tokens", { body })).status).toBe(403);
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

test("the audit has a person's first sign-in in their own log, with issuer and subject", async () => {
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
