// Contract, section 2: service accounts, which belong to one organization and hold roles nowhere else.
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

const at = (): string => `/organizations/${world.organization.id}/service-accounts`;

test("an owner makes one: 201 with the object; it has no role yet", async () => {
  const { owner, organization } = world;
  const { status, body, headers } = await owner.api.post(at(), { body: { name: "trainer" } });
  expect([status, headers.get("location")]).toEqual([201, `/service-accounts/${body.id}`]);
  expect(body).toEqual({
    id: expect.stringMatching(UUID),
    kind: "service_account",
    organization_id: organization.id,
    name: "trainer",
    scopes: null,
    disabled: false,
    created_at: expect.stringMatching(TIME),
    created_by: owner.id,
  });
  expect((await owner.api.get(`/service-accounts/${body.id}`)).body).toEqual(body);
  expect((await owner.api.get(at())).body.service_accounts).toContainEqual(body);
  const { api } = await narrower(broker, owner.api, { principal_id: body.id });
  expect((await api.get("/auth/me")).body).toMatchObject({
    id: body.id,
    kind: "service_account",
    admin: false,
    roles: [],
  });
});

test("only an owner makes, lists, sees, changes or deletes one", async () => {
  const { keeper, writer, stranger } = world;
  for (const api of [keeper.api, stranger.api, broker.admin]) {
    const url = `/service-accounts/${writer.id}`;
    const tries = [
      api.post(at(), { body: { name: "n" } }),
      api.get(at()),
      api.get(url),
      api.patch(url, { body: { name: "n" } }),
      api.delete(url),
    ];
    expect(new Set(await statuses(tries))).toEqual(new Set([403]));
  }
});

test("names are unique in the organization: 409 with existing_id, when made, renamed or raced", async () => {
  const { api } = world.owner;
  const { id } = await made(api.post(at(), { body: { name: "one" } }));
  const { id: other } = await made(api.post(at(), { body: { name: "two" } }));
  for (const clash of [
    await api.post(at(), { body: { name: "one" } }),
    await api.patch(`/service-accounts/${other}`, { body: { name: "one" } }),
  ])
    expect([clash.status, clash.body.existing_id]).toEqual([409, id]);
  const race = await Promise.all(
    Array.from({ length: 6 }, () => api.post(at(), { body: { name: "raced" } })),
  );
  const won = race.filter(({ status }) => status === 201);
  expect(won).toHaveLength(1);
  for (const { status, body } of race.filter((each) => each !== won[0]))
    expect([status, body.existing_id]).toEqual([409, won[0]?.body.id]);
});

test("it holds roles in its own organization and its projects only, whatever a row may say", async () => {
  const { owner, writer, organization } = world;
  const elsewhere = await organizationOf(broker, owner.id, "elsewhere");
  const project = await projectOf(owner.api, elsewhere, "p");
  for (const url of [`/organizations/${elsewhere.id}`, `/projects/${project.id}`])
    expect((await owner.api.put(`${url}/members/${writer.id}`, { body: { role: "read" } })).status).toBe(404);
  expect(
    (
      await owner.api.put(`/organizations/${organization.id}/members/${writer.id}`, {
        body: { role: "read" },
      })
    ).status,
  ).toBe(201);
  expect((await writer.api.get(settingsUrl(organization))).status).toBe(200);
  expect((await writer.api.get(settingsUrl(project))).status).toBe(403);
});

test("has no settings of its own: a user's scope is a person's", async () => {
  const { writer } = world;
  expect(
    (
      await writer.api.put(settingsUrl({ type: "user", id: writer.id }, "secret/Custom/a"), {
        body: { value: "v" },
      })
    ).status,
  ).toBe(403);
});

test("its scopes are a ceiling on whatever it obtains, and null takes it away", async () => {
  const { owner, project, writer } = world;
  const url = `/service-accounts/${writer.id}`;
  const [inside, outside] = [
    settingsUrl(project, "secret/Custom/in"),
    settingsUrl(project, "secret/Custom/out"),
  ];
  for (const each of [inside, outside]) await made(writer.api.put(each, { body: { value: "v" } }));
  const patched = await owner.api.patch(url, {
    body: { scopes: [`decrypt:project/${project.id}/secret/Custom/in`] },
  });
  expect([patched.status, patched.body.scopes]).toEqual([
    200,
    [`decrypt:project/${project.id}/secret/Custom/in`],
  ]);
  expect((await writer.api.get(inside)).status).toBe(200);
  expect((await writer.api.get(outside)).body).toMatchObject({
    status: 403,
    reason: "token_scope",
    required: "list",
  });
  expect((await writer.api.put(inside, { body: { value: "w" } })).status).toBe(403);
  const access = `/access?owner_type=project&owner_id=${project.id}&action=write&principal_id=${writer.id}`;
  expect((await owner.api.get(access)).body).toEqual({ allowed: false, reason: "token_scope" });
  await made(owner.api.patch(url, { body: { scopes: null } }));
  expect((await writer.api.put(inside, { body: { value: "w" } })).status).toBe(200);
});

test("a ceiling that is no scope is 422; an unknown field 400; an empty change 400", async () => {
  const { api } = world.owner;
  const url = `/service-accounts/${world.reader.id}`;
  expect((await api.patch(url, { body: { scopes: ["read:everything"] } })).status).toBe(422);
  expect((await api.post(at(), { body: { name: "x", scopes: ["decrypt:project/x"] } })).status).toBe(422);
  expect((await api.patch(url, { body: { admin: true } })).status).toBe(400);
  expect((await api.patch(url, { body: {} })).status).toBe(400);
});

test("disabling it refuses its tokens at once; deleting it ends them and its roles", async () => {
  const { owner, project } = world;
  const worker = await world.worker("write");
  const url = `/service-accounts/${worker.id}`;
  expect((await owner.api.patch(url, { body: { disabled: true } })).body.disabled).toBe(true);
  expect((await worker.api.get("/auth/me")).status).toBe(401);
  await made(owner.api.patch(url, { body: { disabled: false } }));
  expect((await worker.api.get("/auth/me")).status).toBe(200);
  expect((await owner.api.delete(url)).status).toBe(204);
  expect((await worker.api.get("/auth/me")).status).toBe(401);
  expect((await owner.api.get(`/projects/${project.id}/members/${worker.id}`)).status).toBe(404);
  expect((await owner.api.get(url)).status).toBe(403);
});

test("a scoped token makes and changes none", async () => {
  const { owner, organization, reader } = world;
  const { api } = await narrower(broker, owner.api, {
    scopes: [`manage:organization/${organization.id}`, `list:organization/${organization.id}`],
  });
  expect((await api.get(at())).status).toBe(200);
  const refused = [
    api.post(at(), { body: { name: "n" } }),
    api.patch(`/service-accounts/${reader.id}`, { body: { name: "n" } }),
    api.delete(`/service-accounts/${reader.id}`),
  ];
  for (const { status, body } of await Promise.all(refused))
    expect([status, body.reason]).toEqual([403, "token_scope"]);
});

test("another person's organization keeps its accounts to itself", async () => {
  const { id, api } = await person(broker);
  await organizationOf(broker, id, "other people's");
  expect((await api.get(`/service-accounts/${world.writer.id}`)).status).toBe(403);
  expect((await api.post("/tokens", { body: { name: "t", principal_id: world.writer.id } })).status).toBe(
    403,
  );
});
