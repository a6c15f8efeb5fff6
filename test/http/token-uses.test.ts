// Contract, section 4: tokens that are used up, and those that are refused. Two replicas share the database.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Api,
  type TestBroker,
  type World,
  client,
  furnish,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { narrower, sql, statuses } from "./rights-kit.ts";

let broker: TestBroker;
let beside: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  beside = await startBroker({ beside: broker });
  world = await furnish(broker);
});
afterAll(async () => {
  await beside.close();
  await broker.close();
});

const me = (api: Api) => api.get("/auth/me");
const there = (api: Api): Api => beside.as(api.token);
const post = (api: Api, body: Record<string, unknown>) =>
  api.post("/tokens", { body: { name: "t", ...body } });

describe("max_uses", () => {
  test("is exact: of 20 requests at once, over two replicas, five are let in", async () => {
    const { api, id } = await narrower(broker, world.owner.api, { max_uses: 5 });
    const race = Array.from({ length: 20 }, (_, index) => me(index % 2 === 0 ? api : there(api)));
    const all = await statuses(race);
    expect(
      [all.filter((status) => status === 200), all.filter((status) => status === 401)].map(
        ({ length }) => length,
      ),
    ).toEqual([5, 15]);
    expect((await world.owner.api.get(`/tokens/${id}`)).body).toMatchObject({ max_uses: 5, uses_left: 0 });
  });

  test("counts each authenticated request once, whatever its outcome", async () => {
    const { api, id } = await narrower(broker, world.writer.api, { max_uses: 6 });
    const left = async () => (await world.writer.api.get(`/tokens/${id}`)).body.uses_left;
    expect((await me(api)).body.token.uses_left).toBe(5);
    expect((await api.get("/settings?nonsense=1")).status).toBe(400);
    expect((await api.get(settingsUrl(world.organization))).status).toBe(403);
    expect(
      (await api.get(settingsUrl(world.project, "secret/Custom/no", {}, "/settings/value"))).status,
    ).toBe(404);
    expect(
      (await api.put(settingsUrl(world.project, "secret/Custom/used"), { body: { value: "v" } })).status,
    ).toBe(201);
    expect(await left()).toBe(1);
    expect(
      (await api.put(settingsUrl(world.project, "secret/Custom/used"), { body: { value: 7 } })).status,
    ).toBe(422);
    expect(await left()).toBe(0);
    const { status, headers } = await api.get("/settings?nonsense=1");
    expect([status, headers.get("www-authenticate")]).toEqual([401, 'Bearer error="invalid_token"']);
  });

  test("a request that is answered 503 is not counted", async () => {
    const { api } = await narrower(broker, world.writer.api, { max_uses: 2 });
    const url = settingsUrl(world.project, "secret/Custom/unwritten");
    await sql(broker, "ALTER TABLE audit_events RENAME TO audit_events_away");
    for (let round = 0; round < 3; round++)
      expect(await statuses([me(api), api.put(url, { body: { value: "v" } }), api.get(url)])).toEqual([
        503, 503, 503,
      ]);
    await sql(broker, "ALTER TABLE audit_events_away RENAME TO audit_events");
    for (let round = 0; round < 2; round++) expect((await api.get(url)).body.settings).toEqual([]);
    expect((await api.get(url)).status).toBe(401);
  });

  test("makes no tokens, for nobody", async () => {
    const { api } = await narrower(broker, world.owner.api, { max_uses: 10 });
    for (const body of [{}, { principal_id: world.writer.id }, { max_uses: 1 }])
      expect((await post(api, body)).body).toMatchObject({ status: 403, reason: "token_scope" });
  });
});

const challenge = async (api: Api, path = "/auth/me") => {
  const { status, body, headers } = await api.get(path);
  return [status, body.code, headers.get("www-authenticate")];
};

describe("401", () => {
  test("says Bearer, and error=invalid_token where a token was presented; before any 400", async () => {
    const bad = [401, "unauthenticated", 'Bearer error="invalid_token"'];
    expect(await challenge(client(broker.url, ""))).toEqual([401, "unauthenticated", "Bearer"]);
    expect(await challenge(client(broker.url, "nonsense"))).toEqual(bad);
    const { id, api } = await narrower(broker, world.owner.api, {});
    await world.owner.api.delete(`/tokens/${id}`);
    for (const path of ["/auth/me", "/settings?nonsense=1", "/organizations/no-id", "/tokens?limit=0"])
      expect(await challenge(api, path)).toEqual(bad);
    expect((await post(api, { scopes: ["no scope"] })).status).toBe(401);
    const basic = await client(broker.url, "").get("/auth/me", { headers: { authorization: "Basic eDp5" } });
    expect([basic.status, basic.headers.get("www-authenticate")]).toEqual([
      401,
      'Bearer error="invalid_token"',
    ]);
  });

  test("is said of an expired token, and of one used from another address", async () => {
    const { id, api } = await narrower(broker, world.owner.api, {});
    await sql(broker, `UPDATE tokens SET expires_at = now() WHERE id = '${id}'`);
    expect((await me(api)).status).toBe(401);
    const far = await narrower(broker, world.owner.api, { allowed_cidrs: ["192.0.2.0/24", "2001:db8::/32"] });
    expect((await me(far.api)).status).toBe(401);
    const near = await narrower(broker, world.owner.api, { allowed_cidrs: ["192.0.2.0/24", "127.0.0.1"] });
    expect((await me(near.api)).status).toBe(200);
  });
});
