// The escalations of who owns an organization and has keys of their own: with them they become their own service
// accounts, and nobody else.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, made, settingsUrl } from "../harness/broker.ts";
import {
  type Body,
  type Federation,
  REFUSED,
  SUBJECT,
  bound,
  ci,
  federation,
  people,
  providersOf,
  register,
  told,
} from "./federation-kit.ts";
import { AUDIENCE, accessOf, exchange, issuerOf } from "./sign-in-kit.ts";

let broker: TestBroker;
let world: World;
let others: World;
let all: Federation;

beforeAll(async () => {
  all = await federation();
  ({ broker, world, others } = all);
  await register(world, bound(world.writer.id));
});
afterAll(() => all.close());

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
    expect((await exchange(broker, real, { client_id: world.writer.id })).status).toBe(200);
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
