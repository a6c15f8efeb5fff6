// Contract, section 2: members, and the owner who always remains. Two replicas share the database.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { NOBODY, TIME, narrower, organizationOf, person, statuses } from "./rights-kit.ts";
import { eventsOf, instanceEvents } from "./settings-kit.ts";

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

const role = (name: string) => ({ body: { role: name } });

describe.each(["organization", "project"] as const)("members of a %s", (kind) => {
  const url = () => `/${kind}s/${world[kind].id}/members`;

  test("PUT is 201 when new and 200 when changed; GET shows one and all; DELETE is 204, then 404", async () => {
    const { owner } = world;
    const { id } = await person(broker, "Mem Ber");
    const put = await owner.api.put(`${url()}/${id}`, role("read"));
    const member = {
      owner_type: kind,
      owner_id: world[kind].id,
      principal_id: id,
      kind: "user",
      name: "Mem Ber",
      role: "read",
      created_at: expect.stringMatching(TIME),
      created_by: owner.id,
    };
    expect([put.status, put.body]).toEqual([201, member]);
    const changed = await owner.api.put(`${url()}/${id}`, role("write"));
    expect([changed.status, changed.body]).toEqual([200, { ...member, role: "write" }]);
    expect((await owner.api.get(`${url()}/${id}`)).body).toEqual({ ...member, role: "write" });
    expect((await owner.api.get(url())).body.members).toContainEqual({ ...member, role: "write" });
    expect((await owner.api.delete(`${url()}/${id}`)).status).toBe(204);
    expect((await owner.api.delete(`${url()}/${id}`)).status).toBe(404);
    expect((await owner.api.get(`${url()}/${id}`)).status).toBe(404);
  });

  test("a principal that is not, or a service account of another organization, is 404 to an owner", async () => {
    const stranger = await person(broker);
    const other = await organizationOf(broker, stranger.id, `foreign to ${kind}`);
    const { id } = await made(
      stranger.api.post(`/organizations/${other.id}/service-accounts`, { body: { name: "w" } }),
    );
    for (const each of [id, NOBODY])
      expect((await world.owner.api.put(`${url()}/${each}`, role("read"))).status).toBe(404);
  });

  test("a change that was denied or failed is on record with whom it was about and the role asked for", async () => {
    const { owner, reader, stranger } = world;
    const place = `${kind}/${world[kind].id}`;
    const scoped = await narrower(broker, owner.api, { scopes: [`manage:${place}`, `list:${place}`] });
    const told = async (answer: Promise<Answer>) =>
      (await eventsOf(world, await answer, world[kind])).map(
        ({ action, outcome, reason, target_id, details }: Record<string, unknown>) =>
          [action, outcome, reason, target_id, details] as const,
      );
    const required = "manage";
    for (const [api, reason] of [
      [reader.api, "insufficient_role"],
      [stranger.api, "insufficient_role"],
      [scoped.api, "token_scope"],
    ] as const) {
      expect(await told(api.put(`${url()}/${reader.id}`, role("owner")))).toEqual([
        ["manage", "denied", reason, reader.id, { required, role: "owner" }],
      ]);
      expect(await told(api.delete(`${url()}/${owner.id}`))).toEqual([
        ["manage", "denied", reason, owner.id, { required }],
      ]);
    }
    expect(await told(owner.api.put(`${url()}/${NOBODY}`, role("write")))).toEqual([
      ["manage", "failed", "not_found", NOBODY, { role: "write" }],
    ]);
    expect(await told(owner.api.delete(`${url()}/${NOBODY}`))).toEqual([
      ["manage", "failed", "not_found", NOBODY, {}],
    ]);
    const nowhere = await stranger.api.put(`/${kind}s/${NOBODY}/members/${reader.id}`, role("owner"));
    expect(await instanceEvents(broker, nowhere)).toEqual([
      expect.objectContaining({
        outcome: "denied",
        target_id: reader.id,
        details: { required, role: "owner", asked: `${kind}/${NOBODY}` },
      }),
    ]);
  });

  test("an unknown role, a missing one or an extra field is 400", async () => {
    for (const body of [{}, { role: "admin" }, { role: "read", more: 1 }])
      expect((await world.owner.api.put(`${url()}/${world.reader.id}`, { body })).status).toBe(400);
  });
});

test("only an owner there reads or changes members; a project's owner does so in the project", async () => {
  const { reader, writer, keeper, project, organization } = world;
  for (const { api } of [reader, writer]) {
    const refused = await api.get(`/projects/${project.id}/members`);
    expect(refused.body).toMatchObject({ status: 403, reason: "insufficient_role", required: "manage" });
  }
  expect((await keeper.api.get(`/projects/${project.id}/members`)).status).toBe(200);
  expect((await keeper.api.get(`/organizations/${organization.id}/members`)).status).toBe(403);
  const { id } = await person(broker);
  expect((await keeper.api.put(`/projects/${project.id}/members/${id}`, role("read"))).status).toBe(201);
});

test("a role given or taken on one replica holds on the other's very next answer", async () => {
  const { owner, organization, project } = world;
  const { id, api } = await person(broker);
  const there = beside.as(api.token);
  const url = settingsUrl(project);
  for (let round = 0; round < 5; round++) {
    expect((await there.get(url)).status).toBe(403);
    await made(owner.api.put(`/projects/${project.id}/members/${id}`, role("read")));
    expect((await there.get(url)).status).toBe(200);
    await owner.api.delete(`/projects/${project.id}/members/${id}`);
  }
  await made(owner.api.put(`/organizations/${organization.id}/members/${id}`, role("owner")));
  expect((await there.get(`/projects/${project.id}/members`)).status).toBe(200);
  await owner.api.put(`/organizations/${organization.id}/members/${id}`, role("write"));
  expect((await there.get(`/projects/${project.id}/members`)).status).toBe(403);
});

test("a scoped token reads members and gives no roles", async () => {
  const { owner, project, reader } = world;
  const { api } = await narrower(broker, owner.api, {
    scopes: [`manage:project/${project.id}`, `list:project/${project.id}`],
  });
  const url = `/projects/${project.id}/members`;
  expect((await api.get(url)).status).toBe(200);
  const put = await api.put(`${url}/${reader.id}`, role("owner"));
  expect(put.body).toMatchObject({ status: 403, reason: "token_scope", required: "manage" });
  expect(put.headers.get("www-authenticate")).toBe('Bearer error="insufficient_scope"');
  expect((await api.delete(`${url}/${reader.id}`)).status).toBe(403);
});

async function owned(name: string) {
  const [one, other] = [await person(broker), await person(broker)];
  const { id } = await organizationOf(broker, one.id, name);
  const url = `/organizations/${id}/members`;
  return { one, other, id, url, share: () => made(one.api.put(`${url}/${other.id}`, role("owner"))) };
}

describe("the last owner of an organization", () => {
  test("is not removed or demoted, by nobody: 409", async () => {
    const { one, other, url, id } = await owned("last");
    const remaining = [
      one.api.delete(`${url}/${one.id}`),
      one.api.put(`${url}/${one.id}`, role("write")),
      broker.admin.delete(`/users/${one.id}?purge=true`),
    ];
    expect(await statuses(remaining)).toEqual([409, 409, 409]);
    expect((await one.api.put(`${url}/${one.id}`, role("owner"))).status).toBe(200);
    await made(one.api.put(`${url}/${other.id}`, role("owner")));
    expect((await one.api.delete(`${url}/${one.id}`)).status).toBe(204);
    expect((await one.api.get(`/organizations/${id}`)).status).toBe(403);
    expect((await other.api.delete(`${url}/${other.id}`)).status).toBe(409);
  });

  test("is who is not disabled; disabling itself is not stopped by it", async () => {
    const { one, other, url, share } = await owned("disabled owner");
    await share();
    await made(broker.admin.patch(`/users/${other.id}`, { body: { disabled: true } }));
    expect((await one.api.delete(`${url}/${one.id}`)).status).toBe(409);
    expect((await one.api.delete(`${url}/${other.id}`)).status).toBe(204);
    expect((await broker.admin.patch(`/users/${one.id}`, { body: { disabled: true } })).status).toBe(200);
    expect((await one.api.get("/auth/me")).status).toBe(401);
  });

  test("remains when both owners leave at once: one 204, one 409", async () => {
    const { one, other, url, share } = await owned("both leave");
    for (let round = 0; round < 4; round++) {
      await share();
      const leaving = [
        one.api.delete(`${url}/${one.id}`),
        beside.as(other.api.token).delete(`${url}/${other.id}`),
      ];
      expect(await statuses(leaving)).toEqual([204, 409]);
      const [first] = await Promise.all(leaving);
      const [stayed, left] = first?.status === 409 ? [one, other] : [other, one];
      await made(stayed.api.put(`${url}/${left.id}`, role("owner")));
    }
  });

  test("remains when two owners demote each other at once: one 200, the other 409, or 403 as no owner any more", async () => {
    const { one, other, url, share } = await owned("each other");
    await share();
    const demotions = [
      one.api.put(`${url}/${other.id}`, role("read")),
      beside.as(other.api.token).put(`${url}/${one.id}`, role("read")),
    ];
    const [won, lost] = await statuses(demotions);
    expect(won).toBe(200);
    expect([403, 409]).toContain(lost);
    const listed = (await Promise.all([one.api.get(url), other.api.get(url)])).filter(
      ({ status }) => status === 200,
    );
    expect(listed).toHaveLength(1);
  });

  test("may be a service account", async () => {
    const { one, url, id } = await owned("account owns");
    const account = await made(
      one.api.post(`/organizations/${id}/service-accounts`, { body: { name: "robot" } }),
    );
    await made(one.api.put(`${url}/${account.id}`, role("owner")));
    expect((await one.api.delete(`${url}/${one.id}`)).status).toBe(204);
    expect((await one.api.get(url)).status).toBe(403);
  });

  test("is not demanded of a project: its organization's owners own it", async () => {
    const { owner, keeper, project } = world;
    expect((await owner.api.delete(`/projects/${project.id}/members/${keeper.id}`)).status).toBe(204);
  });
});
