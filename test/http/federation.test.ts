// Workloads that sign in with their platform's token: end to end, over real HTTP, on two replicas.
import { once } from "node:events";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, type TestBroker, type World, client, made, settingsUrl } from "../harness/broker.ts";
import {
  type Body,
  type Federation,
  REFUSED,
  SUBJECT,
  bound,
  ci,
  eventsOf,
  federation,
  providersOf,
  register,
  statusesOf,
  told,
} from "./federation-kit.ts";
import { NOBODY } from "./rights-kit.ts";
import { later } from "./settings-kit.ts";
import {
  ACCESS_TYPE,
  EXCHANGE,
  ID_TOKEN_TYPE,
  accessOf,
  exchange,
  issuerOf,
  nowSeconds,
  partsOf,
  signIn,
} from "./sign-in-kit.ts";

type Query = Readonly<Record<string, string>>;

let both: Federation["both"];
let broker: TestBroker;
let beside: TestBroker;
let world: World;
let others: World;
let all: Federation;

beforeAll(async () => {
  all = await federation();
  ({ broker, beside, world, others, both } = all);
  await made(
    world.writer.api.put(settingsUrl(world.project, "secret/Custom/a"), { body: { value: "hidden" } }),
  );
  provider = await register(world, bound(world.writer.id));
});
afterAll(() => all.close());
let provider: { readonly id: string };

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
    const wide = await ask({ scope: `list:project/${project.id}` });
    expect(wide.body.error).toBe("invalid_scope");
    // On record too: somebody tries a stolen token's reach.
    const request_id = wide.headers.get("x-request-id") ?? "";
    const { events } = await made(broker.admin.get(`/audit?owner_type=instance&request_id=${request_id}`));
    expect(events).toMatchObject([{ action: "sign_in", outcome: "failed", reason: "invalid_scope" }]);
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

test("the audit leads from what a workload's access token did to the foreign identity behind it", async () => {
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
