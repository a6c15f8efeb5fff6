// The keys of access tokens: rotated with an overlap on two replicas, and what was verified with them remembered.
import fastifyJwt from "@fastify/jwt";
import Fastify from "fastify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SigningKey } from "../../src/auth/signing-keys.ts";
import { createAccessTokens } from "../../src/http/access-tokens.ts";
import { type TestBroker, type World, client, furnish, made, startBroker } from "../harness/broker.ts";
import { NOBODY, sql } from "./rights-kit.ts";
import { later } from "./settings-kit.ts";
import { accessOf, nowSeconds, partsOf, rawJwt, signingKeyOf, withCredentials } from "./sign-in-kit.ts";

let broker: TestBroker;
let beside: TestBroker;
let world: World;
let ours: SigningKey;

beforeAll(async () => {
  broker = await startBroker();
  beside = await startBroker({ beside: broker });
  world = await furnish(broker);
  ours = await signingKeyOf(broker);
});
afterAll(async () => {
  await beside.close();
  await broker.close();
});

/** A token of the writer's, as we write it, with a key of ours. */
function forged(key: SigningKey): string {
  const { id: sub, token_id } = world.writer;
  const times = { iat: nowSeconds(), exp: nowSeconds() + 600 };
  const claims = { iss: "coffer", aud: "coffer", sub, jti: NOBODY, ...times, token_id, scope: "" };
  const header = { alg: "EdDSA", typ: "at+jwt", kid: key.id };
  return rawJwt(key.privateKey, JSON.stringify(header), JSON.stringify(claims));
}

describe("keys", () => {
  test("are published as they are sealed, whatever somebody wrote beside them in the database", async () => {
    const published = async (at: TestBroker) =>
      (await made(client(at.url, "").get("/.well-known/jwks.json"))).keys;
    const before = await published(broker);
    await sql(broker, `UPDATE signing_keys SET public_jwk = public_jwk || '{"x": "forged"}'`);
    const fresh = await startBroker({ beside: broker });
    expect(await published(fresh)).toEqual(before);
    await fresh.close();
  });

  test("rotate with an overlap: both replicas take both keys' tokens, and publish both keys", async () => {
    const { writer } = world;
    const apis = (jwt: string) => [broker.as(jwt), client(beside.url, jwt)];
    const statuses = (jwt: string) =>
      Promise.all(apis(jwt).map(async (api) => (await api.get("/auth/me")).status));
    const kids = async (at: TestBroker) => {
      const { keys } = await made(client(at.url, "").get("/.well-known/jwks.json"));
      return keys.map(({ kid }: { kid: string }) => kid);
    };
    const before = await accessOf(withCredentials(broker, writer.id, writer.api.token));
    const kid = await beside.service.broker.rotateSigningKey();
    expect(await statuses(before)).toEqual([200, 200]);
    // Within a minute every replica has looked again.
    await later(61, async () => {
      for (const at of [broker, beside]) {
        const after = await accessOf(withCredentials(at, writer.id, writer.api.token));
        expect(JSON.parse(partsOf(after).header).kid).toBe(kid);
        expect(await statuses(after)).toEqual([200, 200]);
        expect(await kids(at)).toEqual([ours.id, kid]);
      }
      expect(await statuses(before)).toEqual([200, 200]);
    });
    // A retired key that was stolen is good for an hour, and published as long.
    await later(3_500, async () => expect(await statuses(forged(ours))).toEqual([200, 200]));
    await later(3_700, async () => {
      expect(await statuses(forged(ours))).toEqual([401, 401]);
      expect([await kids(broker), await kids(beside)]).toEqual([[kid], [kid]]);
    });
  });

  test("that a replica does not know yet are looked for at once", async () => {
    const kid = await broker.service.broker.rotateSigningKey();
    const key = await signingKeyOf(broker);
    expect(key.id).toBe(kid);
    const jwt = forged(key);
    await later(2, async () => expect((await client(beside.url, jwt).get("/auth/me")).status).toBe(200));
  });
});

describe("what was verified is remembered by its hash", () => {
  const now = new Date();
  const record = {
    id: NOBODY,
    principal_id: NOBODY,
    token_id: null,
    provider: { id: NOBODY, revision: 3 },
    scopes: [],
    issued_at: new Date(Math.floor(now.getTime() / 1_000) * 1_000),
    expires_at: new Date(Math.floor(now.getTime() / 1_000) * 1_000 + 60_000),
  };

  test("answered at once, be it over or not; bounded, one that was not used lately given up", async () => {
    const app = Fastify();
    await app.register(fastifyJwt, { secret: "never used" });
    const clock = { at: now, now: () => clock.at };
    let asked = 0;
    const find = async () => ((asked += 1), ours);
    const keys = { current: async () => ours, find };
    const tokens = createAccessTokens(app, keys, { issuer: "here", clock, cachedMax: 2 });
    const sign = await tokens.signer();
    const [one, two, three] = ["019", "018", "017"].map((start) =>
      sign({ ...record, id: `${start}${NOBODY.slice(3)}` }),
    );
    if (one === undefined || two === undefined || three === undefined) throw new Error("three were made");
    expect(await tokens.read(one)).toEqual({ ...record, id: `019${NOBODY.slice(3)}` });
    expect(tokens.read(one)).toEqual({ ...record, id: `019${NOBODY.slice(3)}` });
    await tokens.read(two);
    expect(tokens.read(one)).not.toBeInstanceOf(Promise);
    await tokens.read(three);
    expect(tokens.read(two)).toBeInstanceOf(Promise);
    expect(asked).toBe(4);
    expect(tokens.read(three)).not.toBeInstanceOf(Promise);
    // Whether it is in time, the gate judges.
    clock.at = new Date(record.expires_at);
    expect(tokens.read(three)).toEqual({ ...record, id: `017${NOBODY.slice(3)}` });
    expect(await tokens.read(two)).toEqual({ ...record, id: `018${NOBODY.slice(3)}` });
    await app.close();
  });
});
