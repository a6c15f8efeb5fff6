// Contract, section 2: projects.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { TIME, UUID, narrower, organizationOf, person, projectOf, statuses } from "./rights-kit.ts";

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
});
afterAll(() => broker.close());

const at = (): string => `/organizations/${world.organization.id}/projects`;

test("an organization's owner makes one: 201 with the object and where it is", async () => {
  const { owner, organization } = world;
  const { status, body, headers } = await owner.api.post(at(), { body: { name: "fresh" } });
  expect(status).toBe(201);
  expect(body).toEqual({
    id: expect.stringMatching(UUID),
    organization_id: organization.id,
    name: "fresh",
    created_at: expect.stringMatching(TIME),
    created_by: owner.id,
  });
  expect(headers.get("location")).toBe(`/projects/${body.id}`);
  expect((await owner.api.get(`/projects/${body.id}`)).body).toEqual(body);
  expect(
    (
      await owner.api.put(settingsUrl({ type: "project", id: body.id }, "secret/Custom/a"), {
        body: { value: "v" },
      })
    ).status,
  ).toBe(201);
});

test("nobody else makes one: no member, no project owner, no admin", async () => {
  const { api, id } = await person(broker);
  await made(
    world.owner.api.put(`/organizations/${world.organization.id}/members/${id}`, { body: { role: "write" } }),
  );
  for (const each of [api, world.keeper.api, broker.admin])
    expect((await each.post(at(), { body: { name: "no" } })).status).toBe(403);
});

test("names are unique in their organization: 409 with existing_id; another organization may have the same", async () => {
  const { owner, project } = world;
  const clash = await owner.api.post(at(), { body: { name: "training" } });
  expect([clash.status, clash.body.existing_id]).toEqual([409, project.id]);
  const other = await projectOf(owner.api, world.organization, "other");
  const renamed = await owner.api.patch(`/projects/${other.id}`, { body: { name: "training" } });
  expect([renamed.status, renamed.body.existing_id]).toEqual([409, project.id]);
  const elsewhere = await organizationOf(broker, owner.id, "elsewhere");
  expect(
    (await owner.api.post(`/organizations/${elsewhere.id}/projects`, { body: { name: "training" } })).status,
  ).toBe(201);
});

test("of racers for one name one is 201, and each other is a 409 that names it", async () => {
  const race = await Promise.all(
    Array.from({ length: 8 }, () => world.owner.api.post(at(), { body: { name: "raced" } })),
  );
  const won = race.filter(({ status }) => status === 201);
  expect(won).toHaveLength(1);
  for (const { status, body } of race.filter((each) => each !== won[0]))
    expect([status, body.existing_id]).toEqual([409, won[0]?.body.id]);
});

test("the list has all for the organization's owner, and for a member those with a role", async () => {
  const { owner, organization } = world;
  const { api, id } = await person(broker);
  const mine = await projectOf(owner.api, organization, "mine");
  await made(owner.api.put(`/organizations/${organization.id}/members/${id}`, { body: { role: "read" } }));
  await made(owner.api.put(`/projects/${mine.id}/members/${id}`, { body: { role: "read" } }));
  const names = async (url: string, who = owner.api) =>
    (await who.get(url)).body.projects.map((each: { name: string }) => each.name);
  expect(await names(at(), api)).toEqual(["mine"]);
  const all = await names(at());
  expect(all).toEqual(expect.arrayContaining(["training", "mine"]));
  const first = (await owner.api.get(`${at()}?limit=1`)).body;
  expect(first.projects).toHaveLength(1);
  expect([
    ...(await names(`${at()}?limit=1`)),
    ...(await names(`${at()}?cursor=${first.next_cursor}`)),
  ]).toEqual(all);
});

test("the list has what the owner's scopes let them see, though they hold no role in it of its own", async () => {
  const { owner, organization } = world;
  const [seen, hidden] = [
    await projectOf(owner.api, organization, "seen"),
    await projectOf(owner.api, organization, "hidden"),
  ];
  const scopes = [`list:organization/${organization.id}`, `list:project/${seen.id}`];
  const { api } = await narrower(broker, owner.api, { scopes });
  const { projects } = await made(api.get(at()));
  expect(projects.map(({ id }: { id: string }) => id)).toEqual([seen.id]);
  expect((await api.get(`/projects/${hidden.id}`)).status).toBe(403);
  // No cursor names what is hidden.
  const first = await made(api.get(`${at()}?limit=1`));
  expect([first.projects.length, first.next_cursor]).toEqual([1, null]);
});

test("any role in it sees it; only an owner renames it", async () => {
  const { reader, writer, keeper, stranger, project } = world;
  const url = `/projects/${project.id}`;
  for (const { api } of [reader, writer, keeper]) expect((await api.get(url)).body.name).toBe("training");
  expect((await stranger.api.get(url)).status).toBe(403);
  const refused = await writer.api.patch(url, { body: { name: "x" } });
  expect([refused.status, refused.body.reason, refused.body.required]).toEqual([
    403,
    "insufficient_role",
    "manage",
  ]);
  expect((await keeper.api.patch(url, { body: { name: "training" } })).status).toBe(200);
});

test("one with settings, soft-deleted ones too, is deleted with purge=true alone, and its paths with it", async () => {
  const { owner, organization } = world;
  const project = await projectOf(owner.api, organization, "doomed");
  const secret = settingsUrl(project, "secret/Custom/a");
  await made(owner.api.put(secret, { body: { value: "v" } }));
  expect((await owner.api.delete(`/projects/${project.id}`)).body).toMatchObject({
    status: 409,
    code: "conflict",
  });
  await owner.api.delete(secret);
  expect((await owner.api.delete(`/projects/${project.id}?purge=false`)).status).toBe(409);
  expect((await owner.api.delete(`/projects/${project.id}?purge=true`)).status).toBe(204);
  expect((await owner.api.get(`/projects/${project.id}`)).status).toBe(403);
  expect((await owner.api.get(secret)).status).toBe(403);
});

test("a setting written while its project is being deleted is purged with it, refused, or told to try again", async () => {
  const { owner, organization } = world;
  const project = await projectOf(owner.api, organization, "contested");
  const writes = Array.from({ length: 6 }, (_, index) =>
    owner.api.put(settingsUrl(project, `secret/Custom/n${index}`), { body: { value: "v" } }),
  );
  const all = await statuses([...writes, owner.api.delete(`/projects/${project.id}?purge=true`)]);
  expect(all.filter((status) => ![201, 204, 403, 503].includes(status))).toEqual([]);
  expect((await owner.api.get(settingsUrl(project))).status).toBe(403);
});
