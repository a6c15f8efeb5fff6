// POST /auth/token with client credentials, and what becomes of the access tokens: RFC 6749's answers, narrowing,
// expiry, and that an access token dies with whatever it was had with, on every replica, at once.
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
import { registerRoutes } from "../../src/http/routes.ts";
import { testApp } from "./app.ts";
import { NOBODY, narrower } from "./rights-kit.ts";
import { attack, later } from "./settings-kit.ts";
import { ACCESS_TYPE, EXCHANGE, accessOf, basic, partsOf, signIn, withCredentials } from "./sign-in-kit.ts";

let broker: TestBroker;
let beside: TestBroker;
let world: World;

beforeAll(async () => {
  const environment = { COFFER_TRUSTED_PROXIES: "127.0.0.1", COFFER_PUBLIC_URL: "https://coffer.test/" };
  broker = await startBroker({ environment });
  beside = await startBroker({ beside: broker, environment });
  world = await furnish(broker);
  for (const path of ["connect/S3/a", "secret/Custom/b"])
    await made(
      world.writer.api.put(settingsUrl(world.project, path), {
        body: {
          value: path.startsWith("secret") ? "hidden" : { access_key_id: "a", secret_access_key: "b" },
        },
      }),
    );
});
afterAll(async () => {
  await beside.close();
  await broker.close();
});

const grant = { grant_type: "client_credentials" };
const from = (address: string) => ({ "x-forwarded-for": address });

/** A worker with an access token on both replicas, each of which has verified it once. */
async function signedIn(role: string | null, more: Record<string, string> = {}) {
  const worker = await world.worker(role);
  const jwt = await accessOf(withCredentials(broker, worker.id, worker.api.token, more));
  const apis = [broker.as(jwt), client(beside.url, jwt)];
  for (const api of apis) expect((await api.get("/auth/me")).status).toBe(200);
  return { ...worker, jwt, apis };
}

async function statusesOf(apis: readonly Api[], path = "/auth/me"): Promise<number[]> {
  const answers = await Promise.all(apis.map((api) => api.get(path)));
  return answers.map(({ status }) => status);
}

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
    expect(refused[0]!.headers.get("www-authenticate")).toBe('Basic realm="coffer"');
    expect(new Set(refused.map(({ text }) => text.length)).size).toBe(1);
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

describe("an access token", () => {
  test("never outlives the API token that it was had with", async () => {
    const { owner, writer } = world;
    const short = await narrower(broker, owner.api, { principal_id: writer.id });
    await attack(broker, "UPDATE tokens SET expires_at = now() + interval '60 seconds' WHERE id = $1", [
      short.id,
    ]);
    const { body } = await withCredentials(broker, writer.id, short.api.token);
    expect(body.expires_in).toBeLessThanOrEqual(60);
    expect(body.expires_in).toBeGreaterThan(50);
    const me = await made(broker.as(body.access_token).get("/auth/me"));
    expect(Date.parse(me.token.expires_at)).toBeLessThanOrEqual(Date.now() + 60_000);
  });

  test("dies at its expiry, also where it was verified before", async () => {
    const { apis } = await signedIn("write");
    expect(await later(890, () => statusesOf(apis))).toEqual([200, 200]);
    expect(await later(901, () => statusesOf(apis))).toEqual([401, 401]);
  });

  test("can do what its scope says and no more", async () => {
    const { project } = world;
    const scope = `decrypt:project/${project.id}/connect/S3`;
    const { apis, id } = await signedIn("write", { scope });
    const [api] = apis;
    expect((await api!.get(settingsUrl(project, "connect/S3/a", { decrypt: "true" }))).status).toBe(200);
    expect((await api!.get(settingsUrl(project, "secret/Custom/b"))).status).toBe(403);
    expect((await api!.put(settingsUrl(project, "connect/S3/a"), { body: { value: {} } })).status).toBe(403);
    expect(await made(api!.get("/auth/me"))).toMatchObject({ id, token: { scopes: [scope] } });
  });

  test("gets no scope that is malformed or beyond the API token's: scope only narrows", async () => {
    const { owner, writer, project } = world;
    const place = `project/${project.id}/connect/S3`;
    const scoped = await narrower(broker, owner.api, {
      principal_id: writer.id,
      scopes: [`decrypt:${place}`],
    });
    const ask = (scope: string) => withCredentials(broker, writer.id, scoped.api.token, { scope });
    for (const scope of [`list:${place}/a`, `decrypt:${place}/a list:${place}`]) {
      const { body } = await ask(scope);
      expect(body.scope).toBe(scope);
    }
    for (const scope of [
      `decrypt:project/${project.id}`,
      `write:${place}`,
      `list:${place}/a write:${place}/a`,
      `decrypt:project/${NOBODY}/connect/S3`,
      `list:${place}-old`,
      "openid",
      `decrypt:${place}/../secret`,
    ]) {
      const { status, body } = await ask(scope);
      expect([status, body.error]).toEqual([400, "invalid_scope"]);
    }
    // Without a scope of its own it is held by the API token's all the same.
    const jwt = await accessOf(withCredentials(broker, writer.id, scoped.api.token));
    expect((await broker.as(jwt).get(settingsUrl(project, "secret/Custom/b"))).status).toBe(403);
    expect((await broker.as(jwt).get(settingsUrl(project, "connect/S3/a"))).status).toBe(200);
  });

  test("with more scopes than it can carry is not made", async () => {
    const { writer, project } = world;
    const scopes = Array.from(
      { length: 60 },
      (_, n) => `list:project/${project.id}/secret/Custom/${"a".repeat(60)}${n}`,
    );
    const { status, body } = await withCredentials(broker, writer.id, writer.api.token, {
      scope: scopes.join(" "),
    });
    expect([status, body.error]).toEqual([400, "invalid_scope"]);
  });

  test("is cut down at once, on both replicas, when its service account's ceiling is", async () => {
    const { owner, project } = world;
    const { apis, id } = await signedIn("write");
    const url = settingsUrl(project, "secret/Custom/b");
    expect(await statusesOf(apis, url)).toEqual([200, 200]);
    const scopes = [`decrypt:project/${project.id}/connect`];
    await made(owner.api.patch(`/service-accounts/${id}`, { body: { scopes } }));
    expect(await statusesOf(apis, url)).toEqual([403, 403]);
  });
});

describe("the very next request on both replicas is refused when", () => {
  test("its API token is revoked", async () => {
    const { apis, token_id } = await signedIn("write");
    await made(world.owner.api.delete(`/tokens/${token_id}`));
    expect(await statusesOf(apis)).toEqual([401, 401]);
  });

  test("its API token's parent is revoked, on the other replica", async () => {
    const worker = await world.worker("write");
    const child = await narrower(broker, worker.api, {});
    const jwt = await accessOf(withCredentials(broker, worker.id, child.api.token));
    const apis = [broker.as(jwt), client(beside.url, jwt)];
    expect(await statusesOf(apis)).toEqual([200, 200]);
    await made(client(beside.url, world.owner.api.token).delete(`/tokens/${worker.token_id}`));
    expect(await statusesOf(apis)).toEqual([401, 401]);
  });

  test("its service account is disabled, and served again once that is enabled", async () => {
    const { apis, id } = await signedIn("write");
    await made(world.owner.api.patch(`/service-accounts/${id}`, { body: { disabled: true } }));
    expect(await statusesOf(apis)).toEqual([401, 401]);
    await made(world.owner.api.patch(`/service-accounts/${id}`, { body: { disabled: false } }));
    expect(await statusesOf(apis)).toEqual([200, 200]);
  });

  test("its service account is removed", async () => {
    const { apis, id } = await signedIn("write");
    await made(world.owner.api.delete(`/service-accounts/${id}`));
    expect(await statusesOf(apis)).toEqual([401, 401]);
  });

  test("its service account's role is taken away", async () => {
    const { owner, project } = world;
    const { apis, id } = await signedIn("write");
    const url = settingsUrl(project, "connect/S3/a");
    expect(await statusesOf(apis, url)).toEqual([200, 200]);
    await made(owner.api.delete(`/projects/${project.id}/members/${id}`));
    expect(await statusesOf(apis, url)).toEqual([403, 403]);
  });
});

describe("an access token mints nothing:", () => {
  test("no token, not for itself and not, as an owner, for others; no identity provider", async () => {
    const { owner, organization, reader } = world;
    const worker = await world.worker(null);
    const member = `/organizations/${organization.id}/members/${worker.id}`;
    await made(owner.api.put(member, { body: { role: "owner" } }));
    const jwt = await accessOf(withCredentials(broker, worker.id, worker.api.token));
    const api = broker.as(jwt);
    for (const body of [{ name: "own" }, { name: "theirs", principal_id: reader.id }]) {
      const { status, body: told } = await api.post("/tokens", { body });
      expect([status, told.reason]).toEqual([403, "token_scope"]);
    }
    const provider = {
      issuer: "https://attacker.test",
      audience: "a",
      jwks_uri: "https://attacker.test/jwks",
      bindings: [{ claims: { sub: "me" }, service_account_id: worker.id }],
    };
    const { status, body } = await api.post(`/organizations/${organization.id}/identity-providers`, {
      body: provider,
    });
    expect([status, body.reason]).toEqual([403, "token_scope"]);
    // Nor can it be a client's secret, or a subject token.
    expect((await withCredentials(broker, worker.id, jwt)).body.error).toBe("invalid_request");
    const again = { grant_type: EXCHANGE, subject_token: jwt, subject_token_type: ACCESS_TYPE };
    expect((await signIn(broker, again)).body.error).toBe("invalid_request");
    await made(owner.api.delete(member));
  });
});

test("max_uses is counted through access tokens, over both replicas, exactly", async () => {
  const { owner, writer } = world;
  const counted = await narrower(broker, owner.api, { principal_id: writer.id, max_uses: 6 });
  // The sign-in is a request like any other: one use.
  const jwt = await accessOf(withCredentials(broker, writer.id, counted.api.token));
  const apis = [broker.as(jwt), client(beside.url, jwt)];
  const answers = await statusesOf(Array.from({ length: 20 }, (_, index) => apis[index % 2]!));
  expect(answers.filter((status) => status === 200)).toHaveLength(5);
  expect(answers.filter((status) => status === 401)).toHaveLength(15);
  expect((await withCredentials(broker, writer.id, counted.api.token)).status).toBe(401);
});

describe("failed sign-ins are limited", () => {
  test("per address: past 100 a minute 429 with Retry-After; a good one still passes, and others' addresses do", async () => {
    const { writer } = world;
    const here = from("198.51.100.1");
    const wrong = (index: number) =>
      signIn(broker, { ...grant, client_id: `guess-${index}`, client_secret: "x" }, here);
    const first = await Promise.all(Array.from({ length: 60 }, (_, index) => wrong(index)));
    // Two seconds on: so that it is not the limit on requests of any kind that answers.
    await later(2, async () => {
      const second = await Promise.all(Array.from({ length: 60 }, (_, index) => wrong(60 + index)));
      const statuses = [...first, ...second].map(({ status }) => status);
      expect(statuses.filter((status) => status === 401)).toHaveLength(100);
      const limited = second.filter(({ status }) => status === 429);
      expect(limited).toHaveLength(20);
      for (const { body, headers } of limited) {
        expect(body.error).toBe("slow_down");
        expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
      }
      const good = { ...grant, client_id: writer.id, client_secret: writer.api.token };
      expect((await signIn(broker, good, here)).status).toBe(200);
      expect((await signIn(broker, { ...grant, client_id: "x" }, from("198.51.100.2"))).status).toBe(401);
    });
  });

  test("per client id, from however many addresses and however it is spelt; a good one still passes", async () => {
    const { stranger, reader } = world;
    const guess = (index: number) => {
      const client_id = index % 2 === 0 ? stranger.id : stranger.id.toUpperCase();
      return signIn(broker, { ...grant, client_id, client_secret: "x" }, from(`192.0.2.${index}`));
    };
    const guesses = await Promise.all(Array.from({ length: 120 }, (_, index) => guess(index)));
    expect(guesses.filter(({ status }) => status === 429)).toHaveLength(20);
    const good = { ...grant, client_id: stranger.id, client_secret: stranger.api.token };
    expect((await signIn(broker, good, from("192.0.2.201"))).status).toBe(200);
    const other = { ...grant, client_id: reader.id, client_secret: "x" };
    expect((await signIn(broker, other, from("192.0.2.202"))).status).toBe(401);
  });
});

describe("the audit", () => {
  test("leads from what an access token did to its sign-in and to the API token behind it", async () => {
    const { owner, organization, project, writer } = world;
    const scope = `decrypt:project/${project.id}/connect`;
    const answer = await withCredentials(broker, writer.id, writer.api.token, { scope });
    const { payload } = partsOf(answer.body.access_token);
    const read = await broker
      .as(answer.body.access_token)
      .get(settingsUrl(project, "connect/S3/a", { decrypt: "true" }));
    const log = async ({ headers }: Answer) => {
      const request_id = headers.get("x-request-id") ?? "";
      const query = new URLSearchParams({
        owner_type: "organization",
        owner_id: organization.id,
        request_id,
      });
      return (await made(owner.api.get(`/audit?${query}`))).events;
    };
    expect(await log(answer)).toEqual([
      expect.objectContaining({
        action: "sign_in",
        outcome: "allowed",
        operation: "getAccessToken",
        principal_id: writer.id,
        token_id: writer.token_id,
        details: expect.objectContaining({ access_token_id: payload.jti, scopes: scope }),
      }),
    ]);
    expect(await log(read)).toEqual([
      expect.objectContaining({ action: "decrypt", principal_id: writer.id, token_id: writer.token_id }),
    ]);
  });

  test("counts refused sign-ins of an address and a reason in one event", async () => {
    const { writer } = world;
    const here = from("198.51.100.77");
    for (let count = 0; count < 3; count++)
      await signIn(broker, { ...grant, client_id: writer.id, client_secret: "x" }, here);
    const { events } = await made(broker.admin.get("/audit?owner_type=instance&action=sign_in&limit=100"));
    const mine = events.filter(({ ip }: { ip: string }) => ip === "198.51.100.77");
    expect(mine.reduce((sum: number, { count }: { count: number }) => sum + count, 0)).toBe(3);
    expect(mine[0]).toMatchObject({ outcome: "denied", reason: "unknown", principal_id: null });
  });

  test("and the log hold no piece of a token or secret", async () => {
    const { writer } = world;
    const { body } = await withCredentials(broker, writer.id, writer.api.token);
    await broker.as(body.access_token).get("/auth/me");
    const { signature } = partsOf(body.access_token);
    const { rows } = await attack(broker, "SELECT row_to_json(e)::text AS text FROM audit_events e");
    const all = [broker.log(), ...rows.map(({ text }) => text)].join("\n");
    for (const secret of [signature, writer.api.token.slice(4), body.access_token.split(".")[1]])
      expect(all).not.toContain(secret);
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
    const { body } = await client(beside.url, "").get("/.well-known/oauth-authorization-server");
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
