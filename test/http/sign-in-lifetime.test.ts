// What becomes of access tokens: scope only narrows, expiry never outlives the API token, and one dies with whatever it
// was had with, on every replica, at once. The log leads back to the API token behind it.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  S3,
  type Api,
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { NOBODY, narrower } from "./rights-kit.ts";
import { attack, later } from "./settings-kit.ts";
import { ACCESS_TYPE, EXCHANGE, accessOf, partsOf, signIn, withCredentials } from "./sign-in-kit.ts";

let broker: TestBroker;
let beside: TestBroker;
let world: World;

beforeAll(async () => {
  broker = await startBroker();
  beside = await startBroker({ beside: broker });
  world = await furnish(broker);
  const put = (path: string, value: unknown) =>
    made(world.writer.api.put(settingsUrl(world.project, path), { body: { value } }));
  await put("connect/S3/a", S3);
  await put("secret/Custom/b", "hidden");
});
afterAll(async () => {
  await beside.close();
  await broker.close();
});

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

  test("is not had in the last second of an API token, when none of it would be left", async () => {
    const { owner, writer } = world;
    const short = await narrower(broker, owner.api, { principal_id: writer.id });
    const second = Math.ceil(Date.now() / 1_000) + 60;
    await attack(broker, "UPDATE tokens SET expires_at = to_timestamp($2) WHERE id = $1", [
      short.id,
      second + 0.9,
    ]);
    const at = (time: number) =>
      later(time - Date.now() / 1_000, () => withCredentials(broker, writer.id, short.api.token));
    const before = await at(second - 0.1);
    expect([before.status, before.body.expires_in]).toEqual([200, 1]);
    const within = await at(second + 0.1);
    expect([within.status, within.body.error]).toEqual([401, "invalid_client"]);
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
    const log = `/audit?owner_type=organization&owner_id=${world.organization.id}&action=sign_in&limit=1`;
    const { events } = await made(world.owner.api.get(log));
    expect(events).toMatchObject([{ outcome: "failed", reason: "invalid_scope", principal_id: writer.id }]);
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
