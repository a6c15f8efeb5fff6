// Contract, section 4: API tokens, made, shown once, used up, revoked. Two replicas share the database.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { NOBODY, TIME, UUID, narrower, person, statuses } from "./rights-kit.ts";

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

const DAY_MS = 86_400_000;
const me = (api: Api) => api.get("/auth/me");
const there = (api: Api): Api => beside.as(api.token);
const post = (api: Api, body: Record<string, unknown>) =>
  api.post("/tokens", { body: { name: "t", ...body } });

describe("POST /tokens", () => {
  test("answers 201 with the token, which is shown this once and never logged", async () => {
    const { owner } = world;
    const before = Date.now();
    const { status, body, headers } = await owner.api.post("/tokens", {
      body: { name: "laptop", allowed_cidrs: ["127.0.0.0/8"] },
    });
    const { token, ...rest } = body;
    expect([status, headers.get("location"), headers.get("cache-control")]).toEqual([
      201,
      `/tokens/${body.id}`,
      "no-store",
    ]);
    expect(token).toMatch(/^cfr_[0-9A-Za-z]{49}$/);
    const parent = (await me(owner.api)).body.token;
    expect(rest).toEqual({
      id: expect.stringMatching(UUID),
      principal_id: owner.id,
      name: "laptop",
      parent_id: parent.id,
      scopes: null,
      max_uses: null,
      uses_left: null,
      allowed_cidrs: ["127.0.0.0/8"],
      expires_at: expect.stringMatching(TIME),
      last_used_at: null,
      revoked_at: null,
      created_at: expect.stringMatching(TIME),
      created_by: owner.id,
    });
    const life = Date.parse(rest.expires_at) - 90 * DAY_MS;
    expect(life).toBeGreaterThanOrEqual(before);
    expect(life).toBeLessThanOrEqual(Date.now());
    const shown = [await owner.api.get(`/tokens/${body.id}`), await owner.api.get("/tokens")];
    expect(shown[0]?.body).toEqual(rest);
    expect(shown[1]?.body.tokens).toContainEqual(rest);
    expect(shown.map(({ text }) => text).join("") + broker.log()).not.toContain(token);
  });

  test("lasts 90 days by default, 365 at most", async () => {
    const { admin } = broker;
    const days = async (body: object) => {
      const { created_at, expires_at } = await made(post(admin, { ...body }));
      return (Date.parse(expires_at) - Date.parse(created_at)) / DAY_MS;
    };
    expect(await days({})).toBe(90);
    expect(await days({ expires_in_days: 365 })).toBe(365);
    const wrong = [366, 0, -1, 1.5, "90", null].map((expires_in_days) => post(admin, { expires_in_days }));
    expect(new Set(await statuses(wrong))).toEqual(new Set([400]));
  });

  test("what is no scope or range is 422; what is of the wrong form 400", async () => {
    const { api } = world.owner;
    const id = world.project.id;
    for (const scope of [
      "decrypt",
      `read:project/${id}`,
      `decrypt:team/${id}`,
      `decrypt:project/${id}/`,
      `decrypt:project/${id}/a//b`,
      "decrypt:project/x",
    ])
      expect((await post(api, { scopes: [scope] })).body).toMatchObject({
        status: 422,
        code: "invalid_value",
      });
    for (const cidr of ["10.0.0.0/33", "localhost", "::1/129", "1.2.3"])
      expect((await post(api, { allowed_cidrs: [cidr] })).status).toBe(422);
    for (const body of [{ max_uses: 0 }, { scopes: "x" }, { name: "" }, { colour: 1 }, { scopes: [] }])
      expect((await post(api, body)).status).toBe(400);
  });

  test("is for oneself, and for an organization owner's service accounts; nobody makes one for anybody else", async () => {
    const { owner, writer, keeper, reader } = world;
    expect((await post(writer.api, {})).body.principal_id).toBe(writer.id);
    const given = (await post(owner.api, { principal_id: writer.id })).body;
    expect(given).toMatchObject({ principal_id: writer.id, parent_id: null, created_by: owner.id });
    const refused = [
      post(keeper.api, { principal_id: reader.id }),
      post(broker.admin, { principal_id: writer.id }),
      post(broker.admin, { principal_id: owner.id }),
      post(owner.api, { principal_id: (await person(broker)).id }),
      post(owner.api, { principal_id: NOBODY }),
    ];
    expect(new Set(await statuses(refused))).toEqual(new Set([403]));
  });
});

test("GET /auth/me tells who calls, with what", async () => {
  const { writer, organization, project } = world;
  const { body } = await me(writer.api);
  const token = {
    id: writer.token_id,
    kind: "api",
    expires_at: expect.stringMatching(TIME),
    scopes: null,
    uses_left: null,
  };
  expect(body).toEqual({
    id: writer.id,
    kind: "service_account",
    name: expect.stringMatching(/^write-/),
    admin: false,
    organization_id: organization.id,
    roles: [{ owner_type: "project", owner_id: project.id, role: "write" }],
    token,
  });
  expect((await me(broker.admin)).body.token.expires_at).toBeNull();
});

describe("a child", () => {
  test("is no wider than its parent", async () => {
    const p = `project/${world.project.id}`;
    const parent = await narrower(broker, world.owner.api, {
      scopes: [`decrypt:${p}/connect`, `write:${p}/connect/S3`],
      allowed_cidrs: ["127.0.0.0/16"],
    });
    for (const scopes of [
      [`decrypt:${p}`],
      [`destroy:${p}/connect/S3`],
      [`write:${p}/connect`],
      [`decrypt:${p}/connect-x`],
      [`decrypt:project/${NOBODY}/connect`],
    ]) {
      const { body, headers } = await post(parent.api, { scopes });
      expect(body).toMatchObject({ status: 403, reason: "token_scope" });
      expect(headers.get("www-authenticate")).toBe('Bearer error="insufficient_scope"');
    }
    for (const allowed_cidrs of [["127.0.0.0/15"], ["127.0.0.1", "10.0.0.1"], ["::1"]])
      expect((await post(parent.api, { allowed_cidrs })).status).toBe(403);
    const fits = await post(parent.api, {
      scopes: [`list:${p}/connect/S3/a`],
      allowed_cidrs: ["127.0.0.0/24"],
    });
    expect(fits.status).toBe(201);
    expect((await post(parent.api, {})).body).toMatchObject({
      scopes: [`decrypt:${p}/connect`, `write:${p}/connect/S3`],
      allowed_cidrs: ["127.0.0.0/16"],
    });
  });

  test("is no longer-lived: cut down when not asked for more, refused when asked for", async () => {
    const parent = await narrower(broker, world.owner.api, { expires_in_days: 2 });
    const { expires_at } = (await me(parent.api)).body.token;
    for (const body of [{}, { expires_in_days: 2 }])
      expect((await post(parent.api, body)).body.expires_at).toBe(expires_at);
    expect((await post(parent.api, { expires_in_days: 4 })).status).toBe(422);
    expect(Date.parse((await post(parent.api, { expires_in_days: 1 })).body.expires_at)).toBeLessThan(
      Date.parse(expires_at),
    );
  });

  test("dies with its parent, and its own children with it, on every replica, before the answer", async () => {
    const parent = await narrower(broker, world.owner.api, {});
    const child = await narrower(broker, there(parent.api), {});
    const grandchild = await narrower(broker, child.api, {});
    expect((await world.owner.api.get(`/tokens/${grandchild.id}`)).body.parent_id).toBe(child.id);
    expect((await there(parent.api).delete(`/tokens/${parent.id}`)).status).toBe(204);
    const all = [parent, child, grandchild].flatMap(({ api }) => [me(api), me(there(api))]);
    expect(new Set(await statuses(all))).toEqual(new Set([401]));
    expect((await me(world.owner.api)).status).toBe(200);
  });
});

const alive = async (...apis: Api[]) => (await Promise.all(apis.map(me))).map(({ status }) => status === 200);

describe("revoking", () => {
  test("is for its principal, an organization's owner and an admin; again is 204 still", async () => {
    const { owner, writer, keeper, stranger } = world;
    for (const who of [writer.api, owner.api, broker.admin]) {
      const { id, api } = await narrower(broker, writer.api, {});
      for (const other of [keeper.api, stranger.api])
        expect((await other.delete(`/tokens/${id}`)).status).toBe(403);
      expect((await who.delete(`/tokens/${id}`)).status).toBe(204);
      expect(await alive(api, there(api))).toEqual([false, false]);
      expect((await who.delete(`/tokens/${id}`)).status).toBe(204);
    }
    const own = await narrower(broker, owner.api, {});
    expect((await broker.admin.delete(`/tokens/${own.id}`)).status).toBe(204);
    expect((await owner.api.get(`/tokens/${own.id}`)).body.revoked_at).toMatch(TIME);
  });

  test("with a scoped token is for itself and its children alone, not for its principal's other tokens", async () => {
    const { owner, writer, organization } = world;
    const parent = await narrower(broker, owner.api, {});
    const worker = await narrower(broker, parent.api, { principal_id: writer.id });
    const leaked = await narrower(broker, parent.api, {
      scopes: [`list:organization/${organization.id}`, `manage:organization/${organization.id}`],
    });
    const [child, other] = [await narrower(broker, leaked.api, {}), await narrower(broker, writer.api, {})];
    const listing = await narrower(broker, writer.api, { scopes: [`list:project/${world.project.id}`] });
    for (const refused of [
      leaked.api.delete(`/tokens/${parent.id}`),
      leaked.api.delete(`/tokens/${parent.id}?made=true`),
      listing.api.delete(`/tokens/${other.id}`),
    ])
      expect(await refused).toMatchObject({ status: 403, body: { reason: "token_scope" } });
    expect(await alive(parent.api, worker.api, other.api)).toEqual([true, true, true]);
    // Who manages there still revokes a service account's.
    expect((await leaked.api.delete(`/tokens/${worker.id}`)).status).toBe(204);
    expect((await leaked.api.delete(`/tokens/${child.id}`)).status).toBe(204);
    expect(await alive(worker.api, child.api, leaked.api)).toEqual([false, false, true]);
    expect((await leaked.api.delete(`/tokens/${leaked.id}`)).status).toBe(204);
    expect(await alive(leaked.api, parent.api)).toEqual([false, true]);
  });

  test("leaves those made for others, but with made=true", async () => {
    const { owner, writer } = world;
    const maker = await narrower(broker, owner.api, {});
    const [first, second] = [
      await narrower(broker, maker.api, { principal_id: writer.id }),
      await narrower(broker, maker.api, { principal_id: writer.id }),
    ];
    const deeper = await narrower(broker, second.api, {});
    expect((await owner.api.delete(`/tokens/${maker.id}`)).status).toBe(204);
    expect(await alive(maker.api, first.api, second.api, deeper.api)).toEqual([false, true, true, true]);
    expect((await owner.api.delete(`/tokens/${maker.id}?made=true`)).status).toBe(204);
    expect(await alive(first.api, there(second.api), deeper.api)).toEqual([false, false, false]);
  });

  test("GET lists one's own or a service account's, and shows when it was last used", async () => {
    const { owner, writer, reader } = world;
    const { id, api } = await narrower(broker, writer.api, {});
    await me(api);
    expect((await writer.api.get(`/tokens/${id}`)).body.last_used_at).toMatch(TIME);
    const { tokens } = (await owner.api.get(`/tokens?principal_id=${writer.id}&limit=1000`)).body;
    expect(tokens.map((each: { id: string }) => each.id)).toEqual(
      expect.arrayContaining([id, writer.token_id]),
    );
    expect(new Set(tokens.map((each: { principal_id: string }) => each.principal_id))).toEqual(
      new Set([writer.id]),
    );
    const refused = [
      reader.api.get(`/tokens?principal_id=${writer.id}`),
      reader.api.get(`/tokens/${id}`),
      writer.api.get(`/tokens?principal_id=${owner.id}`),
    ];
    expect(await statuses(refused)).toEqual([403, 403, 403]);
  });
});
