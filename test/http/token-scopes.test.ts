// Contract, section 4: what a scope lets through, over real HTTP: each action, at each kind of owner, at a path or not.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Api,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { NOBODY, bare, narrower, person } from "./rights-kit.ts";
import { eventsOf, instanceEvents } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  for (const owner of owners())
    for (const path of ["connect/S3/a", "connect/S3/a/b", "connect/S3/c", "secret/Custom/x"])
      await made(
        world.owner.api.put(settingsUrl(owner, path), {
          body: { value: path.startsWith("secret") ? "v" : S3 },
        }),
      );
});
afterAll(() => broker.close());

const S3 = { access_key_id: "AKIDEXAMPLE", secret_access_key: "wJalrXUtnFEMI" };
const owners = () => [world.organization, world.project, { type: "user", id: world.owner.id }];
const scoped = async (...scopes: string[]): Promise<Api> =>
  (await narrower(broker, world.owner.api, { scopes })).api;

/** A request for each action at a path; what it answers when it is allowed. */
const requests = {
  list: (api: Api, url: (at?: string) => string) => api.get(`${url()}&match=exact`),
  decrypt: (api: Api, url: (at?: string) => string) => api.get(url("/settings/value")),
  write: (api: Api, url: (at?: string) => string) => api.patch(url(), { body: { description: "d" } }),
  destroy: (api: Api, url: (at?: string) => string) =>
    api.delete(`${url("/settings/versions")}&version=99`, { headers: { "if-match": '"99"' } }),
} as const;
const ALLOWED = { list: 200, decrypt: 200, write: 200, destroy: 412 };
const PATHS = ["connect/S3/a", "connect/S3/a/b", "connect/S3/c", "secret/Custom/x"];

describe.each(["list", "decrypt", "write", "destroy", "manage"])("a token with the scope %s", (action) => {
  const allows = (wanted: string) => wanted === action || (action === "decrypt" && wanted === "list");

  test.each([0, 1, 2])("lets that through at its owner and no other (%i)", async (index) => {
    const owner = owners()[index]!;
    const api = await scoped(`${action}:${owner.type}/${owner.id}`);
    for (const other of owners())
      for (const [wanted, request] of Object.entries(requests)) {
        const { status } = await request(api, (at) => settingsUrl(other, "connect/S3/a", {}, at));
        const expected =
          other.id === owner.id && allows(wanted) ? ALLOWED[wanted as keyof typeof ALLOWED] : 403;
        expect([other.type, wanted, status]).toEqual([other.type, wanted, expected]);
      }
    const members =
      owner.type === "user"
        ? `/audit?owner_type=user&owner_id=${owner.id}`
        : `/${owner.type}s/${owner.id}/members`;
    expect((await api.get(members)).status).toBe(action === "manage" ? 200 : 403);
  });

  test("at a path means that path and all under it, segment by segment", async () => {
    const api = await scoped(`${action}:project/${world.project.id}/connect/S3/a`);
    for (const path of PATHS)
      for (const [wanted, request] of Object.entries(requests)) {
        const { status } = await request(api, (at) => settingsUrl(world.project, path, {}, at));
        const inside = path === "connect/S3/a" || path === "connect/S3/a/b";
        expect([path, wanted, status]).toEqual([
          path,
          wanted,
          inside && allows(wanted) ? ALLOWED[wanted as keyof typeof ALLOWED] : 403,
        ]);
      }
    expect((await api.get(`/projects/${world.project.id}/members`)).status).toBe(403);
  });
});

const paths = (body: { settings: { path: string }[] }) => body.settings.map(({ path }) => path);

test("rows outside the scope to list are left out, in every page", async () => {
  const p = `project/${world.project.id}`;
  const api = await scoped(`list:${p}/connect/S3/a`, `decrypt:${p}/secret/Custom`);
  const all = await api.get(settingsUrl(world.project));
  expect(paths(all.body)).toEqual(["connect/S3/a", "connect/S3/a/b", "secret/Custom/x"]);
  expect(paths((await api.get(settingsUrl(world.project, "connect"))).body)).toEqual([
    "connect/S3/a",
    "connect/S3/a/b",
  ]);
  const seen: string[] = [];
  let cursor = "";
  do {
    const { body } = await api.get(
      settingsUrl(world.project, undefined, { limit: "1", ...(cursor === "" ? {} : { cursor }) }),
    );
    seen.push(...paths(body));
    cursor = body.next_cursor ?? "";
  } while (cursor !== "");
  expect(seen).toEqual(paths(all.body));
});

test("rows that may be listed and not decrypted are withheld: token_scope", async () => {
  const p = `project/${world.project.id}`;
  const api = await scoped(`list:${p}`, `decrypt:${p}/secret`);
  const { body } = await api.get(settingsUrl(world.project, undefined, { decrypt: "true" }));
  const told = body.settings.map(({ path, decrypted, withheld = null }: Record<string, unknown>) => [
    path,
    decrypted,
    withheld,
  ]);
  expect(told).toEqual([
    ["connect/S3/a", false, "token_scope"],
    ["connect/S3/a/b", false, "token_scope"],
    ["connect/S3/c", false, "token_scope"],
    ["secret/Custom/x", true, null],
  ]);
});

test("an exact path outside is 403 token_scope with insufficient_scope, whether or not a setting is there", async () => {
  const api = await scoped(`decrypt:project/${world.project.id}/connect/S3/a`);
  for (const at of ["/settings", "/settings/value", "/settings/versions"]) {
    const there = await api.get(settingsUrl(world.project, "connect/S3/c", {}, at));
    const not = await api.get(settingsUrl(world.project, "connect/S3/none", {}, at));
    expect(bare(there)).toEqual(bare(not));
    expect(there.body).toMatchObject({ status: 403, code: "forbidden", reason: "token_scope" });
    expect(there.headers.get("www-authenticate")).toBe('Bearer error="insufficient_scope"');
  }
});

test("at an owner where the token may list nothing, 403 says nothing, there or not", async () => {
  const api = await scoped(`decrypt:user/${world.owner.id}`, `write:project/${world.project.id}`);
  for (const owner of [world.project, world.organization, { type: "project", id: NOBODY }]) {
    const refused = await api.get(settingsUrl(owner, "connect/S3/a"));
    expect(bare(refused)).toEqual(
      bare(await api.get(settingsUrl({ type: "organization", id: NOBODY }, "connect/S3/a"))),
    );
    expect(refused.body.reason).toBeUndefined();
  }
});

test("scopes only ever take away: a reader's token with every scope reads metadata", async () => {
  const { api } = await narrower(broker, world.reader.api, {
    scopes: ["list", "decrypt", "write", "destroy", "manage"].map(
      (action) => `${action}:project/${world.project.id}`,
    ),
  });
  expect((await api.get(settingsUrl(world.project, "connect/S3/a"))).status).toBe(200);
  const refused = await api.get(settingsUrl(world.project, "connect/S3/a", {}, "/settings/value"));
  expect(refused.body).toMatchObject({ status: 403, reason: "insufficient_role", required: "decrypt" });
  expect(refused.headers.get("www-authenticate")).toBeNull();
});

test("what is not there is 404 for who may list there alone: with another scope it is the uniform 403", async () => {
  const { project } = world;
  const at = `${project.type}/${project.id}`;
  const absent = "connect/S3/absent";
  const requestsOf = (api: Api) => [
    api.patch(settingsUrl(project, absent), { body: {} }),
    api.delete(settingsUrl(project, absent)),
    api.post(settingsUrl(project, absent, {}, "/settings/restore")),
    api.post(settingsUrl(project, absent, { version: "1" }, "/settings/rollback")),
    api.post(settingsUrl(project, "connect/S3/a", { version: "99" }, "/settings/rollback")),
    api.delete(settingsUrl(project, absent, { purge: "true" })),
    api.delete(settingsUrl(project, absent, { version: "1" }, "/settings/versions")),
    api.delete(settingsUrl(project, "connect/S3/a", { version: "99" }, "/settings/versions")),
  ];
  const both = [`write:${at}`, `destroy:${at}`];
  const nobodys = bare(await world.stranger.api.get(settingsUrl(project, absent)));
  for (const answer of await Promise.all(requestsOf(await scoped(...both))))
    expect(bare(answer)).toEqual(nobodys);
  for (const { status } of await Promise.all(requestsOf(await scoped(...both, `list:${at}`))))
    expect(status).toBe(404);
});

test("GET /access says no more of an owner that the token may not list at than of one that is not there", async () => {
  const { project } = world;
  const api = await scoped(`write:project/${project.id}/connect/S3/only`);
  const ask = (id: string) =>
    api.get(`/access?owner_type=project&owner_id=${id}&action=list&path=connect/S3/a`);
  const [there, nowhere] = [await ask(project.id), await ask(NOBODY)];
  expect([there.status, there.body]).toEqual([nowhere.status, nowhere.body]);
  expect(there.body).toEqual({ allowed: false, reason: "insufficient_role" });
});

describe("an admin's scoped token", () => {
  const name = { body: { name: "n" } };
  const asked = (api: Api) => [
    api.post("/users", name),
    api.get("/users"),
    api.get("/users?email=nobody@example.com"),
    api.get(`/users/${world.owner.id}`),
    api.patch(`/users/${world.owner.id}`, name),
    api.delete(`/users/${world.owner.id}?purge=true`),
    api.post("/organizations", name),
    api.get("/audit?owner_type=instance"),
  ];
  const ofAdmin = async () =>
    (await narrower(broker, broker.admin, { scopes: [`list:project/${world.project.id}`] })).api;

  test("asking an admin's action is told of its scope, and that is on record", async () => {
    for (const answer of await Promise.all(asked(await ofAdmin()))) {
      expect(answer.body).toMatchObject({ status: 403, code: "forbidden", reason: "token_scope" });
      expect(answer.headers.get("www-authenticate")).toBe('Bearer error="insufficient_scope"');
      expect(await instanceEvents(broker, answer)).toEqual([
        expect.objectContaining({ outcome: "denied", reason: "token_scope" }),
      ]);
    }
  });

  test("is told so by the revocation of any token, and not whether it is there or whose it is", async () => {
    const api = await ofAdmin();
    const { token_id } = await person(broker);
    const nowhere = await api.delete(`/tokens/${NOBODY}`);
    expect(nowhere.body).toMatchObject({ status: 403, reason: "token_scope", required: "token" });
    for (const id of [token_id, world.writer.token_id]) {
      const there = await api.delete(`/tokens/${id}`);
      expect(bare(there)).toEqual(bare(nowhere));
    }
    expect(
      await eventsOf(world, await api.delete(`/tokens/${world.writer.token_id}`), world.organization),
    ).toEqual([
      expect.objectContaining({ outcome: "denied", reason: "token_scope", target_id: world.writer.id }),
    ]);
    expect((await world.writer.api.get("/auth/me")).status).toBe(200);
  });

  test("and nobody else's is: who is no admin, scoped or not, gets the 403 that says nothing", async () => {
    const { api: plain } = await person(broker);
    const { api: narrow } = await narrower(broker, plain, { scopes: [`list:project/${world.project.id}`] });
    const nobodys = bare(await plain.get(settingsUrl({ type: "project", id: NOBODY })));
    const answers = await Promise.all([plain, narrow, world.reader.api].flatMap(asked));
    for (const answer of answers) {
      expect(bare(answer)).toEqual(nobodys);
      expect(await instanceEvents(broker, answer)).toEqual([
        expect.objectContaining({ outcome: "denied", reason: "insufficient_role" }),
      ]);
    }
    for (const id of [NOBODY, world.writer.token_id])
      expect(bare(await narrow.delete(`/tokens/${id}`))).toEqual(nobodys);
  });
});
