// POST /auth/token with client credentials, and the documents beside it: what RFC 6749 and 8414 have clients expect.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { registerRoutes } from "../../src/http/routes.ts";
import {
  type Answer,
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  startBroker,
} from "../harness/broker.ts";
import { testApp } from "./app.ts";
import { NOBODY, narrower } from "./rights-kit.ts";
import { attack } from "./settings-kit.ts";
import { ACCESS_TYPE, EXCHANGE, accessOf, basic, partsOf, signIn, withCredentials } from "./sign-in-kit.ts";

let broker: TestBroker;
let world: World;

beforeAll(async () => {
  const environment = { COFFER_TRUSTED_PROXIES: "127.0.0.1", COFFER_PUBLIC_URL: "https://coffer.test/" };
  broker = await startBroker({ environment });
  world = await furnish(broker);
});
afterAll(() => broker.close());

const grant = { grant_type: "client_credentials" };
const from = (address: string) => ({ "x-forwarded-for": address });

describe("client credentials", () => {
  test("in the form give a Bearer token of at most 15 minutes, kept by no cache", async () => {
    const { writer } = world;
    const { status, body, headers } = await withCredentials(broker, writer.id, writer.api.token);
    expect(status).toBe(200);
    expect(Object.keys(body)).toEqual(["access_token", "token_type", "expires_in", "scope"]);
    expect(body).toMatchObject({ token_type: "Bearer", expires_in: 900, scope: "" });
    expect([headers.get("cache-control"), headers.get("pragma")]).toEqual(["no-store", "no-cache"]);
    const { payload } = partsOf(body.access_token);
    expect(payload).toMatchObject({
      iss: "https://coffer.test",
      aud: "coffer",
      sub: writer.id,
      token_id: writer.token_id,
    });
    expect(payload.exp - payload.iat).toBe(900);
    const me = await made(broker.as(body.access_token).get("/auth/me"));
    expect(me).toMatchObject({ id: writer.id, token: { id: writer.token_id, kind: "access" } });
  });

  test("by HTTP Basic, each part form-urlencoded, give the same", async () => {
    const { writer } = world;
    const encoded = [writer.id.replaceAll("-", "%2D"), writer.api.token.replace("_", "%5f")].join(":");
    for (const authorization of [
      basic(writer.id, writer.api.token),
      `basic ${Buffer.from(encoded).toString("base64")}`,
    ])
      expect((await signIn(broker, grant, { authorization })).status).toBe(200);
    const named = { ...grant, client_id: writer.id.toUpperCase() };
    expect((await signIn(broker, named, { authorization: basic(writer.id, writer.api.token) })).status).toBe(
      200,
    );
  });

  test("both at once are invalid_request, also where they agree; so is an ill-formed Authorization", async () => {
    const { writer, reader } = world;
    const authorization = basic(writer.id, writer.api.token);
    const both = [
      signIn(broker, { ...grant, client_secret: writer.api.token }, { authorization }),
      signIn(broker, { ...grant, client_id: reader.id }, { authorization }),
      signIn(broker, grant, { authorization: "Basic !" }),
      signIn(broker, grant, { authorization: `Basic ${Buffer.from("no colon").toString("base64")}` }),
      signIn(broker, grant, { authorization: `Basic ${Buffer.from("a:%zz").toString("base64")}` }),
      signIn(broker, grant, { authorization: `Bearer ${writer.api.token}` }),
    ];
    for (const { status, body } of await Promise.all(both))
      expect([status, body.error]).toEqual([400, "invalid_request"]);
  });

  test("of an unknown client, a wrong, ill-formed or missing secret, or another's: one answer, byte for byte", async () => {
    const { writer, reader, owner } = world;
    const wrong = reader.api.token;
    const refused = await Promise.all([
      withCredentials(broker, NOBODY, writer.api.token),
      withCredentials(broker, "nobody at all", writer.api.token),
      withCredentials(broker, writer.id, wrong),
      withCredentials(broker, writer.id, `${wrong.slice(0, -1)}!`),
      withCredentials(broker, writer.id, "x"),
      withCredentials(broker, owner.id, owner.api.token),
      signIn(broker, { ...grant, client_id: writer.id }),
      signIn(broker, grant, { authorization: basic(writer.id, wrong) }),
      signIn(broker, grant),
    ]);
    const told = ({ status, body: { request_id, ...body }, headers }: Answer) =>
      JSON.stringify([status, body, headers.get("www-authenticate"), typeof request_id]);
    expect(new Set(refused.map(told)).size).toBe(1);
    expect(refused[0]).toMatchObject({ status: 401, body: { error: "invalid_client" } });
    expect(refused[0].headers.get("www-authenticate")).toBe('Basic realm="coffer"');
    expect(new Set(refused.map(({ text }) => text.length)).size).toBe(1);
  });

  test("are on record with whose they are, also where they are refused, and tell no listener of a change", async () => {
    const { writer, reader, organization } = world;
    const changes = async (): Promise<number> => {
      const direct = new pg.Client({ connectionString: broker.databaseUrl });
      await direct.connect();
      try {
        return (await direct.query("SELECT count(*)::int AS n FROM change_events")).rows[0].n;
      } finally {
        await direct.end();
      }
    };
    const before = await changes();
    const signedIn = await withCredentials(broker, writer.id, writer.api.token);
    const refused = await signIn(
      broker,
      { ...grant, client_id: reader.id, client_secret: writer.api.token },
      from("198.51.100.91"),
    );
    expect([signedIn.status, refused.status, await changes()]).toEqual([200, 401, before]);
    const about = { principal_id: writer.id, token_id: writer.token_id };
    const { body } = await world.owner.api.get(
      `/audit?owner_type=organization&owner_id=${organization.id}&action=sign_in&limit=1`,
    );
    const { payload } = partsOf(signedIn.body.access_token);
    expect(body.events[0]).toMatchObject({
      ...about,
      outcome: "allowed",
      details: { grant: "client_credentials", access_token_id: payload.jti, scopes: "" },
    });
    const denied = await broker.admin.get(
      "/audit?owner_type=instance&action=sign_in&outcome=denied&limit=1000",
    );
    expect(denied.body.events).toContainEqual(
      expect.objectContaining({ ...about, ip: "198.51.100.91", reason: "wrong_client" }),
    );
  });

  test("of a token that is revoked, expired, or used from elsewhere are invalid_client", async () => {
    const { owner, writer } = world;
    const body = { principal_id: writer.id };
    const revoked = await narrower(broker, owner.api, body);
    await made(owner.api.delete(`/tokens/${revoked.id}`));
    const expired = await narrower(broker, owner.api, body);
    await attack(broker, "UPDATE tokens SET expires_at = now() - interval '1 second' WHERE id = $1", [
      expired.id,
    ]);
    const elsewhere = await narrower(broker, owner.api, { ...body, allowed_cidrs: ["203.0.113.0/24"] });
    for (const { api } of [revoked, expired, elsewhere]) {
      const { status, body } = await withCredentials(broker, writer.id, api.token);
      expect([status, body.error]).toEqual([401, "invalid_client"]);
    }
    const there = from("203.0.113.9");
    const good = { ...grant, client_id: writer.id, client_secret: elsewhere.api.token };
    const jwt = await accessOf(signIn(broker, good, there));
    expect((await broker.as(jwt).get("/auth/me", { headers: there })).status).toBe(200);
    expect((await broker.as(jwt).get("/auth/me")).status).toBe(401);
  });
});

describe("a malformed request", () => {
  const long = "x".repeat(33 * 1024);
  test.each([
    ["no grant_type", "client_id=a", 400, "invalid_request"],
    ["an empty body", "", 400, "invalid_request"],
    ["an empty grant_type, which is none", "grant_type=", 400, "invalid_request"],
    ["another grant_type", "grant_type=password&username=a&password=b", 400, "unsupported_grant_type"],
    ["a repeated parameter", "grant_type=client_credentials&client_id=a&client_id=a", 400, "invalid_request"],
    ["a repeated one, once empty", "grant_type=client_credentials&scope=&scope=a", 400, "invalid_request"],
    [
      "what is not percent-encoded UTF-8",
      "grant_type=client_credentials&client_id=%ff",
      400,
      "invalid_request",
    ],
    ["a NUL", "grant_type=client_credentials&client_id=%00", 400, "invalid_request"],
    [
      "a client_id without end",
      `grant_type=client_credentials&client_id=${"a".repeat(129)}`,
      400,
      "invalid_request",
    ],
    ["more than 32 KiB", `grant_type=client_credentials&client_id=a&x=${long}`, 413, "invalid_request"],
    [
      "an exchange without subject_token",
      `grant_type=${EXCHANGE}&subject_token_type=x`,
      400,
      "invalid_request",
    ],
    [
      "an exchange of an unknown type",
      `grant_type=${EXCHANGE}&subject_token=a&subject_token_type=x`,
      400,
      "invalid_request",
    ],
    [
      "an exchange for another type",
      `grant_type=${EXCHANGE}&subject_token=a&subject_token_type=urn:ietf:params:oauth:token-type:jwt&requested_token_type=urn:ietf:params:oauth:token-type:saml2`,
      400,
      "invalid_request",
    ],
    [
      "an exchange with an actor",
      `grant_type=${EXCHANGE}&subject_token=a&subject_token_type=urn:ietf:params:oauth:token-type:jwt&actor_token=a&requested_token_type=${ACCESS_TYPE}`,
      400,
      "invalid_request",
    ],
  ])("%s: OAuth's error, with the request id", async (_name, form, status, error) => {
    const answer = await signIn(broker, form, { "x-request-id": "malformed-1" });
    expect([answer.status, answer.body.error]).toEqual([status, error]);
    expect(Object.keys(answer.body)).toEqual(["error", "error_description", "request_id"]);
    expect(answer.body.request_id).toBe("malformed-1");
    expect(answer.headers.get("cache-control")).toBe("no-store");
    expect(answer.headers.get("content-type")).toBe("application/json");
  });

  test("JSON, or any other type: 415, and a form anywhere else: 415 too", async () => {
    for (const type of ["application/json", "text/plain", "multipart/form-data; boundary=x"]) {
      const { status, body } = await signIn(broker, "{}", { "content-type": type });
      expect([status, body.error]).toEqual([415, "invalid_request"]);
    }
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const { status, body } = await world.owner.api.post("/tokens", { body: "name=a", headers });
    expect([status, body.code]).toEqual([415, "unsupported_media_type"]);
  });

  test("unknown parameters are passed over, as RFC 6749 wants it, __proto__ among them", async () => {
    const { writer } = world;
    const more = { audience: "https://coffer.test", __proto__x: "1", resource: "x" };
    const form = `${new URLSearchParams({ ...grant, client_id: writer.id, client_secret: writer.api.token, ...more })}&__proto__=x`;
    expect((await signIn(broker, form)).status).toBe(200);
  });
});

describe("the documents", () => {
  test("jwks.json holds the public keys and nothing of the private ones, for five minutes", async () => {
    const { body, headers } = await client(broker.url, "").get("/.well-known/jwks.json");
    expect(headers.get("cache-control")).toBe("public, max-age=300");
    expect(body.keys).toHaveLength(1);
    expect(Object.keys(body.keys[0])).toEqual(["kty", "crv", "x", "kid", "alg", "use"]);
    expect(body.keys[0]).toMatchObject({ kty: "OKP", crv: "Ed25519", alg: "EdDSA", use: "sig" });
  });

  test("oauth-authorization-server says where things are, where the broker was told its address", async () => {
    const { body } = await client(broker.url, "").get("/.well-known/oauth-authorization-server");
    expect(body).toMatchObject({
      issuer: "https://coffer.test",
      token_endpoint: "https://coffer.test/auth/token",
      jwks_uri: "https://coffer.test/.well-known/jwks.json",
      grant_types_supported: ["client_credentials", EXCHANGE],
    });
    const { app } = await testApp(registerRoutes);
    expect((await app.inject({ url: "/.well-known/oauth-authorization-server" })).statusCode).toBe(404);
    await app.close();
  });
});
