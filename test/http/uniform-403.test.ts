// Contract, section 2: a caller with no right gets the same 403, byte for byte, whether or not the thing exists.
// Every route with an id in it is tried: the list is checked against openapi.json, so that none is forgotten.
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
import { NOBODY, bare, person } from "./rights-kit.ts";

let broker: TestBroker;
let world: World;
let ids: Ids;
let callers: Record<string, Api>;
let reader: Api;

type Ids = Record<"organization" | "project" | "user" | "member" | "account" | "token" | "webhook", string>;
const nothing: Ids = {
  organization: NOBODY,
  project: NOBODY,
  user: NOBODY,
  member: NOBODY,
  account: NOBODY,
  token: NOBODY,
  webhook: NOBODY,
};

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  const { owner, organization, project, writer } = world;
  for (const place of [organization, project, { type: "user", id: owner.id }])
    await made(owner.api.put(settingsUrl(place, "secret/Custom/a"), { body: { value: "v" } }));
  const webhook = await made(
    owner.api.post(settingsUrl(project, undefined, {}, "/webhooks"), {
      body: { url: "https://hooks.example.com/x", events: [] },
    }),
  );
  ids = {
    organization: organization.id,
    project: project.id,
    user: owner.id,
    member: writer.id,
    account: writer.id,
    token: writer.token_id,
    webhook: webhook.id,
  };
  callers = {
    "a person": (await person(broker)).api,
    "a worker without a role": world.stranger.api,
    "an admin": broker.admin,
  };
  reader = world.reader.api;
});
afterAll(() => broker.close());

type Try = readonly [route: string, request: (api: Api, ids: Ids) => ReturnType<Api["get"]>];
const role = { body: { role: "read" } };
const name = { body: { name: "n" } };
const value = { body: { value: "w" } };

/** The routes of an owner's webhooks: those of the project are there. */
function ofWebhooks(type: "organization" | "project" | "user"): readonly Try[] {
  const url = (at: Ids, rest = "") => settingsUrl({ type, id: at[type] }, undefined, {}, `/webhooks${rest}`);
  const hook = { body: { url: "https://hooks.example.com/x", events: [] } };
  const one = "/webhooks/{webhook_id}";
  return [
    ["post /webhooks", (api, at) => api.post(url(at), hook)],
    ["get /webhooks", (api, at) => api.get(url(at))],
    [`get ${one}`, (api, at) => api.get(url(at, `/${at.webhook}`))],
    [`patch ${one}`, (api, at) => api.patch(url(at, `/${at.webhook}`), { body: { disabled: true } })],
    [`delete ${one}`, (api, at) => api.delete(url(at, `/${at.webhook}`))],
    [`get ${one}/deliveries`, (api, at) => api.get(url(at, `/${at.webhook}/deliveries`))],
    [
      `post ${one}/deliveries/{delivery_id}/replay`,
      (api, at) => api.post(url(at, `/${at.webhook}/deliveries/${NOBODY}/replay`)),
    ],
  ];
}

/** The routes below an owner of settings, for each kind of owner. */
const ofSettings: readonly Try[] = (["organization", "project", "user"] as const).flatMap((type) => {
  const url = (
    at: Ids,
    rest: Record<string, string> = {},
    route = "/settings",
    path: string | undefined = "secret/Custom/a",
  ) => settingsUrl({ type, id: at[type] }, path, rest, route);
  const tries: readonly Try[] = [
    ["get /settings", (api, at) => api.get(url(at))],
    ["get /settings", (api, at) => api.get(settingsUrl({ type, id: at[type] }))],
    ["get /settings", (api, at) => api.get(url(at, { decrypt: "true", match: "exact" }))],
    ["get /settings", (api, at) => api.get(url(at), { headers: { "if-none-match": '"x"' } })],
    ["get /settings", (api, at) => api.get(url(at, { version: "9" }))],
    ["get /settings/value", (api, at) => api.get(url(at, {}, "/settings/value"))],
    [
      "get /settings/value",
      (api, at) => api.get(url(at, {}, "/settings/value"), { headers: { accept: "text/plain" } }),
    ],
    ["get /settings/versions", (api, at) => api.get(url(at, {}, "/settings/versions"))],
    ["put /settings", (api, at) => api.put(url(at), value)],
    ["put /settings", (api, at) => api.put(url(at), { ...value, headers: { "if-match": '"1"' } })],
    ["put /settings", (api, at) => api.put(url(at), { ...value, headers: { "if-none-match": "*" } })],
    ["patch /settings", (api, at) => api.patch(url(at), { body: { description: "d" } })],
    ["delete /settings", (api, at) => api.delete(url(at))],
    ["delete /settings", (api, at) => api.delete(url(at, { purge: "true" }))],
    ["post /settings/restore", (api, at) => api.post(url(at, {}, "/settings/restore"))],
    ["post /settings/rollback", (api, at) => api.post(url(at, { version: "1" }, "/settings/rollback"))],
    ["delete /settings/versions", (api, at) => api.delete(url(at, { version: "1" }, "/settings/versions"))],
    [
      "get /settings/report",
      (api, at) => api.get(settingsUrl({ type, id: at[type] }, undefined, {}, "/settings/report")),
    ],
    [
      "get /settings/events",
      (api, at) => api.get(settingsUrl({ type, id: at[type] }, undefined, {}, "/settings/events")),
    ],
    ["get /settings/rotations", (api, at) => api.get(url(at, {}, "/settings/rotations"))],
    ["post /settings/rotate", (api, at) => api.post(url(at, {}, "/settings/rotate"), value)],
    [
      "post /settings/rotate",
      (api, at) =>
        api.post(url(at, {}, "/settings/rotate"), {
          body: { value: "w", destroy_old: true, hook: { webhook_id: at.webhook } },
        }),
    ],
    ["delete /settings", (api, at) => api.delete(url(at, { dry_run: "true" }))],
    [
      "delete /settings/versions",
      (api, at) => api.delete(url(at, { version: "1", dry_run: "true" }, "/settings/versions")),
    ],
    ...["true", "false"].map((dry_run): Try => {
      const body = { settings: [{ path: "secret/Custom/a", value: "w" }] };
      return [
        "post /settings/import",
        (api, at) =>
          api.post(settingsUrl({ type, id: at[type] }, undefined, { dry_run }, "/settings/import"), { body }),
      ];
    }),
    ...(["copy", "move"] as const).map((verb): Try => {
      const to = { owner_type: "user", owner_id: NOBODY, path: "secret/Custom/b" };
      return [
        `post /settings/${verb}`,
        (api, at) => api.post(url(at, {}, `/settings/${verb}`), { body: { to } }),
      ];
    }),
    ...ofWebhooks(type),
    ["get /audit", (api, at) => api.get(`/audit?owner_type=${type}&owner_id=${at[type]}`)],
    [
      "get /access",
      (api, at) =>
        api.get(`/access?owner_type=${type}&owner_id=${at[type]}&action=list&principal_id=${at.member}`),
    ],
  ];
  return tries;
});
const ofMembers: readonly Try[] = (["organization", "project"] as const).flatMap((type) => {
  const url = (at: Ids) => `/${type}s/${at[type]}`;
  const member = `/${type}s/{${type}_id}/members/{principal_id}`;
  const tries: readonly Try[] = [
    [`get /${type}s/{${type}_id}`, (api, at) => api.get(url(at))],
    [`patch /${type}s/{${type}_id}`, (api, at) => api.patch(url(at), name)],
    [`delete /${type}s/{${type}_id}`, (api, at) => api.delete(url(at))],
    [`delete /${type}s/{${type}_id}`, (api, at) => api.delete(`${url(at)}?purge=true`)],
    [`get /${type}s/{${type}_id}/members`, (api, at) => api.get(`${url(at)}/members`)],
    [`get ${member}`, (api, at) => api.get(`${url(at)}/members/${at.member}`)],
    [`put ${member}`, (api, at) => api.put(`${url(at)}/members/${at.member}`, role)],
    [`delete ${member}`, (api, at) => api.delete(`${url(at)}/members/${at.member}`)],
  ];
  return tries;
});
const ofOrganizations: readonly Try[] = [
  [
    "get /organizations/{organization_id}/projects",
    (api, at) => api.get(`/organizations/${at.organization}/projects`),
  ],
  [
    "post /organizations/{organization_id}/projects",
    (api, at) => api.post(`/organizations/${at.organization}/projects`, { body: { name: "training" } }),
  ],
  [
    "get /organizations/{organization_id}/service-accounts",
    (api, at) => api.get(`/organizations/${at.organization}/service-accounts`),
  ],
  [
    "post /organizations/{organization_id}/service-accounts",
    (api, at) => api.post(`/organizations/${at.organization}/service-accounts`, name),
  ],
  ["get /service-accounts/{service_account_id}", (api, at) => api.get(`/service-accounts/${at.account}`)],
  [
    "patch /service-accounts/{service_account_id}",
    (api, at) => api.patch(`/service-accounts/${at.account}`, name),
  ],
  [
    "delete /service-accounts/{service_account_id}",
    (api, at) => api.delete(`/service-accounts/${at.account}`),
  ],
];
/** Of an admin these are the job, or part of it. */
const notOfAdmins: readonly Try[] = [
  ["get /users/{user_id}", (api, at) => api.get(`/users/${at.user}`)],
  ["patch /users/{user_id}", (api, at) => api.patch(`/users/${at.user}`, name)],
  ["delete /users/{user_id}", (api, at) => api.delete(`/users/${at.user}?purge=true`)],
  ["delete /tokens/{token_id}", (api, at) => api.delete(`/tokens/${at.token}`)],
  ["delete /tokens/{token_id}", (api, at) => api.delete(`/tokens/${at.token}?made=true`)],
];
const ofTokens: readonly Try[] = [
  ["get /tokens", (api, at) => api.get(`/tokens?principal_id=${at.account}`)],
  ["get /tokens", (api, at) => api.get(`/tokens?principal_id=${at.user}`)],
  ["get /tokens/{token_id}", (api, at) => api.get(`/tokens/${at.token}`)],
  ["post /tokens", (api, at) => api.post("/tokens", { body: { name: "t", principal_id: at.account } })],
  ["post /tokens", (api, at) => api.post("/tokens", { body: { name: "t", principal_id: at.user } })],
];
const forAll: readonly Try[] = [...ofSettings, ...ofMembers, ...ofOrganizations, ...ofTokens];

describe.each(["a person", "a worker without a role", "an admin"])("%s without a right", (who) => {
  test("learns nothing from any route: what is there and what is not are answered alike", async () => {
    const api = callers[who]!;
    for (const [route, request] of who === "an admin" ? forAll : [...forAll, ...notOfAdmins]) {
      const [there, not] = await Promise.all([request(api, ids), request(api, nothing)]);
      expect([route, there.status, Object.keys(there.body)]).toEqual([
        route,
        403,
        ["type", "title", "status", "detail", "code", "request_id"],
      ]);
      expect([route, bare(there)]).toEqual([route, bare(not)]);
    }
  });

  test("is told the same by every route", async () => {
    const api = callers[who]!;
    const bodies = new Set<string>();
    for (const [, request] of forAll) bodies.add(bare(await request(api, ids)).text);
    expect(bodies.size).toBe(1);
  });
});

test("every route with an id is in the list", async () => {
  const tried = new Set([...forAll, ...notOfAdmins].map(([route]) => route));
  const { paths } = (await broker.admin.get("/openapi.json")).body;
  const named = Object.entries<Record<string, { parameters?: { name: string }[] }>>(paths).flatMap(
    ([path, methods]) =>
      Object.entries(methods).map(([method, { parameters = [] }]) => ({
        route: `${method} ${path}`,
        names: parameters.map((each) => each.name),
      })),
  );
  const later = ["identity-providers", "/settings/render", "/manager"];
  const missing = named
    .filter(({ names }) => names.some((each) => each.endsWith("_id") && each !== "request_id"))
    .map(({ route }) => route)
    .filter((route) => !tried.has(route) && !later.some((each) => route.includes(each)));
  expect(missing).toEqual([]);
});

test("who may list is told the reason and the action; and 404 where there is nothing", async () => {
  const url = (path: string, at = "/settings") => settingsUrl(world.project, path, {}, at);
  const required = {
    decrypt: await reader.get(url("secret/Custom/a", "/settings/value")),
    write: await reader.put(url("secret/Custom/a"), value),
    destroy: await reader.delete(`${url("secret/Custom/a")}&purge=true`),
    manage: await reader.get(`/audit?owner_type=project&owner_id=${world.project.id}`),
  };
  for (const [action, { status, body, headers }] of Object.entries(required)) {
    expect([status, body.reason, body.required]).toEqual([403, "insufficient_role", action]);
    expect(headers.get("www-authenticate")).toBeNull();
  }
  const absent = await reader.get(url("secret/Custom/none", "/settings/value"));
  expect([absent.status, absent.body.required]).toEqual([403, "decrypt"]);
  expect((await reader.get(`${url("secret/Custom/none")}&match=exact`)).status).toBe(404);
  expect((await reader.get(url("secret/Custom/none", "/settings/versions"))).status).toBe(404);
  expect((await world.writer.api.get(url("secret/Custom/none", "/settings/value"))).status).toBe(404);
});

test("GET /access of oneself says the same of an owner without a right as of one that is not", async () => {
  for (const api of Object.values(callers)) {
    const ask = (id: string) => api.get(`/access?owner_type=project&owner_id=${id}&action=list`);
    expect((await ask(world.project.id)).body).toEqual({ allowed: false, reason: "insufficient_role" });
    expect((await ask(NOBODY)).body).toEqual({ allowed: false, reason: "insufficient_role" });
  }
});
