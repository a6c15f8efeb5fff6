// Contract, section 2: organizations, and what their owners inherit.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { NOBODY, TIME, UUID, organizationOf, person, projectOf, statuses } from "./rights-kit.ts";

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
});
afterAll(() => broker.close());

describe("organizations", () => {
  test("POST answers 201 with the object and where it is; by default the caller owns it", async () => {
    const { status, body, headers } = await broker.admin.post("/organizations", {
      body: { name: "by default" },
    });
    expect(status).toBe(201);
    const me = (await broker.admin.get("/auth/me")).body;
    expect(body).toEqual({
      id: expect.stringMatching(UUID),
      name: "by default",
      created_at: expect.stringMatching(TIME),
      created_by: me.id,
    });
    expect(headers.get("location")).toBe(`/organizations/${body.id}`);
    expect(me.roles).toContainEqual({ owner_type: "organization", owner_id: body.id, role: "owner" });
    expect((await broker.admin.get(`/organizations/${body.id}`)).body).toEqual(body);
  });

  test("whom owner_id names becomes its owner, and the admin who made it has no right in it", async () => {
    const { api, id } = await person(broker);
    const organization = await organizationOf(broker, id, "for another");
    expect((await api.get("/auth/me")).body.roles).toEqual([
      { owner_type: "organization", owner_id: organization.id, role: "owner" },
    ]);
    for (const path of ["", "/members", "/projects", "/service-accounts"])
      expect((await broker.admin.get(`/organizations/${organization.id}${path}`)).status).toBe(403);
    expect((await broker.admin.get(settingsUrl(organization))).status).toBe(403);
    const put = broker.admin.put(`/organizations/${organization.id}/members/${id}`, {
      body: { role: "read" },
    });
    expect((await put).status).toBe(403);
  });

  test("owner_id of nobody, or of a service account, is 422", async () => {
    for (const owner_id of [NOBODY, world.writer.id])
      expect((await broker.admin.post("/organizations", { body: { name: "x", owner_id } })).status).toBe(422);
  });

  test("only an instance admin makes one", async () => {
    for (const { api } of [world.owner, world.writer])
      expect((await api.post("/organizations", { body: { name: "mine" } })).body).toMatchObject({
        code: "forbidden",
      });
  });

  test("a taken name is 409 with existing_id, when made and when renamed", async () => {
    const { id } = (await broker.admin.post("/organizations", { body: { name: "taken" } })).body;
    const again = await broker.admin.post("/organizations", { body: { name: "taken" } });
    expect([again.status, again.body.code, again.body.existing_id]).toEqual([409, "conflict", id]);
    const other = (await broker.admin.post("/organizations", { body: { name: "free" } })).body;
    const renamed = await broker.admin.patch(`/organizations/${other.id}`, { body: { name: "taken" } });
    expect([renamed.status, renamed.body.existing_id]).toEqual([409, id]);
    expect((await broker.admin.patch(`/organizations/${other.id}`, { body: { name: "free" } })).status).toBe(
      200,
    );
  });

  test("of racers for one name one is 201 and the others are 409 that name the winner", async () => {
    const race = Array.from({ length: 8 }, () =>
      broker.admin.post("/organizations", { body: { name: "raced" } }),
    );
    const answers = await Promise.all(race);
    const winners = answers.filter(({ status }) => status === 201);
    expect(winners).toHaveLength(1);
    for (const { status, body } of answers.filter((each) => each !== winners[0]))
      expect([status, body.existing_id]).toEqual([409, winners[0]?.body.id]);
  });

  test("GET lists those that the caller has a role in, page by page", async () => {
    const { api, id } = await person(broker);
    const mine = [];
    for (const name of ["page 1", "page 2", "page 3"]) mine.push((await organizationOf(broker, id, name)).id);
    const first = (await api.get("/organizations?limit=2")).body;
    const second = (await api.get(`/organizations?limit=2&cursor=${first.next_cursor}`)).body;
    const ids = [...first.organizations, ...second.organizations].map((each: { id: string }) => each.id);
    expect([ids, second.next_cursor]).toEqual([mine, null]);
    expect((await (await person(broker)).api.get("/organizations")).body).toEqual({
      organizations: [],
      next_cursor: null,
    });
  });

  test("PATCH renames, for an owner; any member sees it; a lesser role is told what it lacks", async () => {
    const { api, id } = await person(broker);
    const url = `/organizations/${world.organization.id}`;
    await made(world.owner.api.put(`${url}/members/${id}`, { body: { role: "write" } }));
    expect((await api.get(url)).body.name).toBe(world.organization.name);
    const refused = await api.patch(url, { body: { name: "new" } });
    expect([refused.status, refused.body.reason, refused.body.required]).toEqual([
      403,
      "insufficient_role",
      "manage",
    ]);
    const renamed = await world.owner.api.patch(url, { body: { name: "new name" } });
    expect([renamed.status, renamed.body.name]).toEqual([200, "new name"]);
  });

  test("a blank, missing, overlong or non-text name is 400, and so is an unknown field", async () => {
    for (const body of [
      {},
      { name: "" },
      { name: " x" },
      { name: 7 },
      { name: "x".repeat(129) },
      { name: "x", colour: 1 },
    ])
      expect((await broker.admin.post("/organizations", { body })).body).toMatchObject({
        status: 400,
        code: "invalid_request",
      });
  });
});

describe("inheritance", () => {
  test("an organization's owner owns all its projects; no other role reaches a project", async () => {
    const { owner, organization, project } = world;
    const url = settingsUrl(project, "secret/Custom/inherited");
    expect((await owner.api.put(url, { body: { value: "v" } })).status).toBe(201);
    expect((await owner.api.get(`/projects/${project.id}/members`)).status).toBe(200);
    const { api, id } = await person(broker);
    for (const role of ["read", "write"]) {
      await made(owner.api.put(`/organizations/${organization.id}/members/${id}`, { body: { role } }));
      expect((await api.get(url)).status).toBe(403);
      expect((await api.get(`/projects/${project.id}`)).status).toBe(403);
      expect((await api.get(`/organizations/${organization.id}/projects`)).body.projects).toEqual([]);
    }
  });

  test("a project's owner has no right in its organization, nor in another project of it", async () => {
    const { keeper, owner, organization } = world;
    const other = await projectOf(owner.api, organization, "another");
    expect((await keeper.api.get(settingsUrl(organization))).status).toBe(403);
    expect((await keeper.api.get(`/organizations/${organization.id}`)).status).toBe(403);
    expect((await keeper.api.get(settingsUrl(other))).status).toBe(403);
  });
});

describe("deleting an organization", () => {
  test("with settings, soft-deleted ones of a project too, is 409 unless purge=true; then nobody finds it", async () => {
    const { api, id } = await person(broker);
    const organization = await organizationOf(broker, id, "doomed");
    const project = await projectOf(api, organization, "p");
    const secret = settingsUrl(project, "secret/Custom/a");
    await made(api.put(secret, { body: { value: "v" } }));
    const { id: account } = await made(
      api.post(`/organizations/${organization.id}/service-accounts`, { body: { name: "w" } }),
    );
    const { token } = await made(api.post("/tokens", { body: { name: "w", principal_id: account } }));
    const url = `/organizations/${organization.id}`;
    expect((await api.delete(url)).status).toBe(409);
    expect((await api.delete(secret)).status).toBe(204);
    expect((await api.delete(url)).status).toBe(409);
    expect((await broker.admin.delete(`${url}?purge=true`)).status).toBe(403);
    expect((await api.delete(`${url}?purge=true`)).status).toBe(204);
    for (const gone of [url, `/projects/${project.id}`, secret, `/service-accounts/${account}`])
      expect((await api.get(gone)).status).toBe(403);
    expect((await broker.as(token).get("/auth/me")).status).toBe(401);
    expect((await broker.admin.post("/organizations", { body: { name: "doomed" } })).status).toBe(201);
  });

  test("an empty one goes at once, and only by its owner", async () => {
    const { api, id } = await person(broker);
    const organization = await organizationOf(broker, id, "empty");
    const member = await person(broker);
    await made(
      api.put(`/organizations/${organization.id}/members/${member.id}`, { body: { role: "write" } }),
    );
    expect((await member.api.delete(`/organizations/${organization.id}`)).status).toBe(403);
    expect(await statuses([api.delete(`/organizations/${organization.id}`)])).toEqual([204]);
  });
});
