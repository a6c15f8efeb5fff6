// Contract, section 7: when the audit cannot be written, nothing is read and nothing changes; it recovers by itself.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { person, sql } from "./rights-kit.ts";

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  await made(world.writer.api.put(secret(), { body: { value: CANARY } }));
});
afterAll(() => broker.close());
afterEach(() => sql(broker, ...UNDO));

const CANARY = "canary-in-the-vault";
const secret = (rest = {}, at = "/settings") => settingsUrl(world.project, "secret/Custom/kept", rest, at);
const UNDO = [
  "ALTER TABLE IF EXISTS audit_away RENAME TO audit_events",
  "DROP TRIGGER IF EXISTS unwritable ON audit_events",
];
const RAISE = `CREATE OR REPLACE FUNCTION unwritable() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the audit is full'; END $$`;
const trigger = (when = "TRUE") =>
  `CREATE TRIGGER unwritable BEFORE INSERT ON audit_events FOR EACH ROW WHEN (${when}) EXECUTE FUNCTION unwritable()`;

const reads = (): Promise<Answer>[] => {
  const { reader, writer, keeper, owner, organization, project } = world;
  return [
    writer.api.get(secret({ decrypt: "true" })),
    writer.api.get(secret({}, "/settings/value")),
    writer.api.get(secret({}, "/settings/value"), { headers: { accept: "text/plain" } }),
    reader.api.get(secret()),
    reader.api.get(secret({}, "/settings/versions")),
    keeper.api.get(`/projects/${project.id}/members`),
    keeper.api.get(`/audit?owner_type=project&owner_id=${project.id}`),
    keeper.api.get(`/audit?owner_type=project&owner_id=${project.id}&order=asc`),
    owner.api.get(`/organizations/${organization.id}`),
    owner.api.get("/tokens"),
    owner.api.get("/auth/me"),
    broker.admin.get("/users"),
  ];
};
const writes = (code: string): Promise<Answer>[] => {
  const { writer, keeper, owner, organization, project, reader } = world;
  return [
    writer.api.put(secret(), { body: { value: "changed" } }),
    writer.api.put(settingsUrl(project, "secret/Custom/new"), { body: { value: "new" } }),
    writer.api.patch(secret(), { body: { description: "changed" } }),
    writer.api.delete(secret()),
    keeper.api.delete(secret({ purge: "true" })),
    keeper.api.delete(secret({ version: "1" }, "/settings/versions")),
    keeper.api.put(`/projects/${project.id}/members/${reader.id}`, { body: { role: "owner" } }),
    owner.api.post(`/organizations/${organization.id}/projects`, { body: { name: "unaudited" } }),
    owner.api.post(`/organizations/${organization.id}/service-accounts`, { body: { name: "unaudited" } }),
    owner.api.post("/tokens", { body: { name: "unaudited" } }),
    owner.api.delete(`/tokens/${writer.token_id}`),
    broker.admin.post("/users", { body: { name: "unaudited" } }),
    broker.admin.post("/organizations", { body: { name: "unaudited" } }),
    client(broker.url, "").post("/auth/enrol", { body: { code } }),
  ];
};

const state = async () => {
  const { body } = await world.writer.api.get(secret({ decrypt: "true" }));
  const [{ last_accessed_at: _moves, ...setting }] = body.settings;
  const members = (await world.keeper.api.get(`/projects/${world.project.id}/members`)).body;
  const projects = (await world.owner.api.get(`/organizations/${world.organization.id}/projects`)).body;
  const tokens = (await world.owner.api.get("/tokens")).body.tokens.length;
  return { setting, members, projects, tokens };
};

describe.each([
  ["a trigger raises", [RAISE, trigger()]],
  ["the table is away", ["ALTER TABLE audit_events RENAME TO audit_away"]],
])("while %s", (_how, how) => {
  test("every read and write is 503 with Retry-After; nothing is told, nothing changes; then all is well again", async () => {
    const { enrolment_code: code } = await made(broker.admin.post("/users", { body: { name: "waiting" } }));
    const before = await state();
    await sql(broker, ...how);
    for (const { status, body, text, headers } of await Promise.all([...reads(), ...writes(code)])) {
      expect([status, body.code]).toEqual([503, "unavailable"]);
      expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
      expect(text).not.toContain(CANARY);
      expect(Object.keys(body)).toEqual(["type", "title", "status", "detail", "code", "request_id"]);
    }
    await sql(broker, ...UNDO);
    expect(await state()).toEqual(before);
    expect((await client(broker.url, "").post("/auth/enrol", { body: { code } })).status).toBe(201);
    expect((await broker.admin.get("/users")).text).not.toContain("unaudited");
  });

  test("a denial and a refused credential are not told either", async () => {
    await sql(broker, ...how);
    expect((await world.stranger.api.get(secret())).status).toBe(503);
    expect((await client(broker.url, "nonsense").get("/auth/me")).status).toBe(503);
    await sql(broker, ...UNDO);
    expect((await world.stranger.api.get(secret())).status).toBe(403);
    expect((await client(broker.url, "nonsense").get("/auth/me")).status).toBe(401);
  });
});

test("when only what was allowed cannot be written, a change is 503 all the same and is not made", async () => {
  await sql(broker, RAISE, trigger("NEW.outcome = 'allowed'"));
  const put = await world.writer.api.put(secret(), { body: { value: "changed" } });
  const read = await world.writer.api.get(secret({}, "/settings/value"));
  const { status } = await broker.admin.post("/users", { body: { name: "unaudited" } });
  await sql(broker, ...UNDO);
  expect([put.status, read.status, status]).toEqual([503, 503, 503]);
  expect((await world.writer.api.get(secret({}, "/settings/value"))).body).toMatchObject({
    value: CANARY,
    version: 1,
  });
});

test("one event that cannot be written fails its own request alone", async () => {
  const { id, api } = await person(broker);
  await sql(broker, RAISE, trigger(`NEW.principal_id = '${id}'`));
  const [hers, others] = await Promise.all([
    Promise.all(Array.from({ length: 5 }, () => api.get("/auth/me"))),
    Promise.all(Array.from({ length: 20 }, () => world.writer.api.get(secret({ decrypt: "true" })))),
  ]);
  expect(new Set(hers.map(({ status }) => status))).toEqual(new Set([503]));
  expect(new Set(others.map(({ status }) => status))).toEqual(new Set([200]));
});
