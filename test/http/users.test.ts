// Contract, section 2: users, instance admins, and the code that enrols. Two replicas share the database.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { NOBODY, TIME, UUID, narrower, person, sql, statuses } from "./rights-kit.ts";

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

const enrol = (code: string, url = broker.url, name?: string) =>
  client(url, "").post("/auth/enrol", { body: { code, ...(name === undefined ? {} : { name }) } });

describe("users", () => {
  test("POST answers 201 with the id and a code; GET and PATCH show the user, never the code", async () => {
    const { status, body, headers } = await broker.admin.post("/users", {
      body: { name: "Una", email: "Una@Example.com" },
    });
    const { enrolment_code: code, ...user } = body;
    expect([status, headers.get("location")]).toEqual([201, `/users/${body.id}`]);
    expect(user).toEqual({
      id: expect.stringMatching(UUID),
      kind: "user",
      name: "Una",
      email: "una@example.com",
      admin: false,
      disabled: false,
      created_at: expect.stringMatching(TIME),
      created_by: (await broker.admin.get("/auth/me")).body.id,
    });
    const got = await broker.admin.get(`/users/${user.id}`);
    expect([got.status, got.body]).toEqual([200, user]);
    const patched = await broker.admin.patch(`/users/${user.id}`, { body: { name: "Uno", admin: true } });
    expect([patched.status, patched.body]).toEqual([200, { ...user, name: "Uno", admin: true }]);
    expect(got.text + patched.text + broker.log()).not.toContain(code);
  });

  test("an email is unique: 409 with existing_id, also in a race", async () => {
    const race = Array.from({ length: 6 }, () =>
      broker.admin.post("/users", { body: { email: "one@example.com" } }),
    );
    const answers = await Promise.all(race);
    const won = answers.find(({ status }) => status === 201);
    for (const { status, body } of answers.filter((each) => each !== won))
      expect([status, body.existing_id]).toEqual([409, won?.body.id]);
  });

  test("GET ?email= finds exactly one, also for organization owners, who list nobody else", async () => {
    const { id } = await made(broker.admin.post("/users", { body: { email: "find@example.com" } }));
    for (const api of [broker.admin, world.owner.api]) {
      expect(
        (await api.get("/users?email=Find@example.com")).body.users.map((each: { id: string }) => each.id),
      ).toEqual([id]);
      expect((await api.get("/users?email=ind@example.com")).body).toEqual({ users: [], next_cursor: null });
    }
    const refused = [
      world.owner.api.get("/users"),
      world.owner.api.get(`/users/${id}`),
      world.keeper.api.get("/users?email=find@example.com"),
    ];
    expect(await statuses(refused)).toEqual([403, 403, 403]);
    const first = (await broker.admin.get("/users?limit=2")).body;
    const second = (await broker.admin.get(`/users?limit=2&cursor=${first.next_cursor}`)).body;
    expect(new Set([...first.users, ...second.users].map((each: { id: string }) => each.id)).size).toBe(4);
  });

  test("an unknown one is 404 to an admin; a service account is no user", async () => {
    for (const id of [NOBODY, world.writer.id]) {
      const url = `/users/${id}`;
      const tries = [
        broker.admin.get(url),
        broker.admin.patch(url, { body: { name: "n" } }),
        broker.admin.delete(url),
      ];
      expect(await statuses(tries)).toEqual([404, 404, 404]);
    }
  });

  test("a user's own settings are that user's alone: no organization owner's, no admin's", async () => {
    const { owner } = world;
    const url = settingsUrl({ type: "user", id: owner.id }, "secret/Custom/mine");
    expect((await owner.api.put(url, { body: { value: "v" } })).status).toBe(201);
    const other = await person(broker);
    for (const api of [broker.admin, other.api, world.writer.api]) {
      const refused = [
        api.get(url),
        api.put(url, { body: { value: "w" } }),
        api.delete(url),
        api.get(`/audit?owner_type=user&owner_id=${owner.id}`),
      ];
      expect(await statuses(refused)).toEqual([403, 403, 403, 403]);
    }
    expect((await owner.api.get(`/audit?owner_type=user&owner_id=${owner.id}`)).status).toBe(200);
  });

  test("one with settings, soft-deleted ones too, is deleted with purge=true alone", async () => {
    const { id, api } = await person(broker);
    const url = settingsUrl({ type: "user", id }, "secret/Custom/mine");
    await made(api.put(url, { body: { value: "v" } }));
    expect((await api.delete(url)).status).toBe(204);
    expect((await broker.admin.delete(`/users/${id}`)).body).toMatchObject({ status: 409, code: "conflict" });
    expect((await broker.admin.delete(`/users/${id}?purge=true`)).status).toBe(204);
    expect((await beside.as(api.token).get("/auth/me")).status).toBe(401);
    expect((await broker.admin.get(`/users/${id}`)).status).toBe(404);
  });
});

describe("disabling", () => {
  test("refuses all of a user's tokens at once, on every replica, until it is undone", async () => {
    const { id, api } = await person(broker);
    const second = await narrower(broker, api, {});
    const tokens = [api.token, second.api.token];
    const everywhere = () =>
      statuses(
        tokens.flatMap((token) => [broker.as(token).get("/auth/me"), beside.as(token).get("/auth/me")]),
      );
    expect(await everywhere()).toEqual([200, 200, 200, 200]);
    await made(broker.admin.patch(`/users/${id}`, { body: { disabled: true } }));
    expect(await everywhere()).toEqual([401, 401, 401, 401]);
    expect((await api.get("/auth/me")).headers.get("www-authenticate")).toBe('Bearer error="invalid_token"');
    await made(broker.admin.patch(`/users/${id}`, { body: { disabled: false } }));
    expect(await everywhere()).toEqual([200, 200, 200, 200]);
  });

  test("holds back an enrolment code and does not use it up", async () => {
    const { id, enrolment_code: code } = await made(broker.admin.post("/users", { body: { name: "later" } }));
    await made(broker.admin.patch(`/users/${id}`, { body: { disabled: true } }));
    expect((await enrol(code)).status).toBe(401);
    await made(broker.admin.patch(`/users/${id}`, { body: { disabled: false } }));
    expect((await enrol(code)).status).toBe(201);
  });
});

const first = async (): Promise<string> => (await broker.admin.get("/auth/me")).body.id;

const resign = (id: string, api: TestBroker["admin"]) =>
  api.patch(`/users/${id}`, { body: { admin: false } });

describe("admins", () => {
  test("have no way to become somebody or to change members", async () => {
    const { owner, organization, project, writer } = world;
    const { admin } = broker;
    const tries = [
      admin.post("/tokens", { body: { name: "t", principal_id: owner.id } }),
      admin.post("/tokens", { body: { name: "t", principal_id: writer.id } }),
      admin.put(`/organizations/${organization.id}/members/${await first()}`, { body: { role: "owner" } }),
      admin.put(`/projects/${project.id}/members/${await first()}`, { body: { role: "read" } }),
      admin.delete(`/organizations/${organization.id}/members/${owner.id}`),
      admin.get(settingsUrl(project)),
      admin.get(settingsUrl(organization)),
      admin.post(`/organizations/${organization.id}/service-accounts`, { body: { name: "w" } }),
      admin.delete(`/service-accounts/${writer.id}`),
    ];
    expect(new Set(await statuses(tries))).toEqual(new Set([403]));
  });

  test("the last one is not demoted, disabled or removed: 409", async () => {
    const url = `/users/${await first()}`;
    const { admin } = broker;
    const { users } = await made(admin.get("/users"));
    for (const each of users)
      if (each.admin && each.id !== (await first()))
        await made(admin.patch(`/users/${each.id}`, { body: { admin: false } }));
    const tries = [
      admin.patch(url, { body: { admin: false } }),
      admin.patch(url, { body: { disabled: true } }),
      admin.delete(`${url}?purge=true`),
    ];
    expect(await statuses(tries)).toEqual([409, 409, 409]);
    expect((await admin.patch(url, { body: { admin: true, disabled: false } })).status).toBe(200);
  });

  test("who resign at once leave one: 200 and 409", async () => {
    const one = await person(broker);
    for (let round = 0; round < 3; round++) {
      await made(broker.admin.patch(`/users/${one.id}`, { body: { admin: true } }));
      const resigning = [
        resign(one.id, beside.as(one.api.token)),
        resign(await first(), broker.admin),
      ] as const;
      expect(await statuses([...resigning])).toEqual([200, 409]);
      const [mine, firsts] = await Promise.all(resigning);
      if (firsts.status === 200)
        await made(one.api.patch(`/users/${await first()}`, { body: { admin: true } }));
      if (mine.status === 409) await made(broker.admin.patch(`/users/${one.id}`, { body: { admin: false } }));
    }
  });

  test("with a scoped token carry no admin power", async () => {
    const { api } = await narrower(broker, broker.admin, { scopes: [`list:user/${await first()}`] });
    const tries = [
      api.post("/users", { body: { name: "n" } }),
      api.get("/users"),
      api.post("/organizations", { body: { name: "n" } }),
      api.get("/audit?owner_type=instance"),
      api.delete(`/tokens/${world.writer.token_id}`),
    ];
    expect(await statuses(tries)).toEqual([403, 403, 403, 403, 403]);
    expect((await api.get("/auth/me")).body.admin).toBe(true);
  });
});

const newCode = async (): Promise<string> =>
  (await made(broker.admin.post("/users", { body: { name: "n" } }))).enrolment_code;

const hours = (count: number) =>
  `UPDATE enrolments SET expires_at = expires_at - interval '${count} minutes'`;

test("who becomes an organization's only owner just then is not removed: 409", async () => {
  const { id } = await made(broker.admin.post("/users", { body: { name: "n" } }));
  const other = new pg.Client({ connectionString: broker.databaseUrl });
  await other.connect();
  // As another replica makes it, which has not committed yet.
  await other.query("BEGIN");
  await other.query("SELECT FROM principals WHERE id = $1 FOR KEY SHARE", [id]);
  await other.query("INSERT INTO organizations (id, name, created_at) VALUES ($1, 'just then', now())", [
    NOBODY,
  ]);
  await other.query(
    `INSERT INTO memberships (tenant_id, owner_type, owner_id, principal_id, role, created_at)
      VALUES ($1, 'organization', $1, $2, 'owner', now())`,
    [NOBODY, id],
  );
  const removal = broker.admin.delete(`/users/${id}?purge=true`);
  await until("the removal waiting", async () => {
    const waiting =
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    return (await other.query(waiting)).rowCount !== 0;
  });
  await other.query("COMMIT");
  await other.end();
  expect(await removal).toMatchObject({ status: 409, body: { code: "conflict" } });
  expect((await broker.admin.get(`/users/${id}`)).status).toBe(200);
});

describe("an enrolment code", () => {
  test("is good for one token: of ten who bring it at once, to either replica, one has it", async () => {
    const code = await newCode();
    const race = Array.from({ length: 10 }, (_, index) =>
      enrol(code, index % 2 === 0 ? broker.url : beside.url, "laptop"),
    );
    const answers = await Promise.all(race);
    const won = answers.filter(({ status }) => status === 201);
    expect(won).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(9);
    expect(won[0]?.body).toMatchObject({
      name: "laptop",
      parent_id: null,
      scopes: null,
      token: expect.stringMatching(/^cfr_/),
    });
    expect((await broker.as(won[0]?.body.token).get("/auth/me")).body.admin).toBe(false);
  });

  test("is good for 24 hours", async () => {
    const code = await newCode();
    await sql(broker, hours(24 * 60 - 5));
    expect((await enrol(code)).status).toBe(201);
    const late = await newCode();
    await sql(broker, hours(24 * 60));
    expect((await enrol(late)).body).toMatchObject({ status: 401, code: "unauthenticated" });
  });

  test("is no token, and a token is no code", async () => {
    const code = await newCode();
    expect((await broker.as(code).get("/auth/me")).status).toBe(401);
    expect((await enrol(broker.admin.token)).status).toBe(401);
    expect((await client(broker.url, "").post("/auth/enrol", { body: {} })).status).toBe(400);
  });
});
