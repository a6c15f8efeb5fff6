// Contract, section 7: who reads which log, what stands in it, and how it is paged and tailed.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  type Api,
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { NOBODY, TIME, UUID, organizationOf, person, projectOf, statuses } from "./rights-kit.ts";

type Event = Record<string, unknown> & { id: string; action: string; outcome: string; request_id: string };

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
});
afterAll(() => broker.close());

const logOf = ({ type, id }: { type: string; id: string }, rest = "") =>
  `/audit?owner_type=${type}&owner_id=${id}&limit=1000${rest}`;
const INSTANCE = "/audit?owner_type=instance&limit=1000";
const events = async (api: Api, url: string): Promise<Event[]> => (await made(api.get(url))).events;
const requestOf = ({ headers }: Answer): string => `&request_id=${headers.get("x-request-id")}`;

describe("an event", () => {
  test("says who did what to which settings, from where, and how it ended", async () => {
    const { writer, keeper, project } = world;
    const url = settingsUrl(project, "secret/Custom/told");
    const put = await writer.api.put(url, {
      body: { value: "canary-value" },
      headers: { "user-agent": "test/1" },
    });
    const [event, ...more] = await events(keeper.api, logOf(project, requestOf(put)));
    expect(more).toEqual([]);
    expect(event).toEqual({
      id: expect.stringMatching(UUID),
      at: expect.stringMatching(TIME),
      principal_id: writer.id,
      token_id: writer.token_id,
      action: "write",
      operation: "putSetting",
      outcome: "allowed",
      owner_type: "project",
      owner_id: project.id,
      path: "secret/Custom/told",
      settings: [{ id: put.body.id, path: "secret/Custom/told", version: 1 }],
      target_id: null,
      details: expect.any(Object),
      request_id: put.headers.get("x-request-id"),
      follows: null,
      ip: "127.0.0.1",
      user_agent: "test/1",
      reason: null,
      count: 1,
    });
    expect(JSON.stringify(await events(keeper.api, logOf(project)))).not.toContain("canary-value");
  });

  test("is there for every read, write and denial of settings", async () => {
    const { writer, reader, stranger, keeper, project } = world;
    const url = (rest = {}, at = "/settings") => settingsUrl(project, "secret/Custom/every", rest, at);
    const told = async (answer: Promise<Answer>) =>
      (await events(keeper.api, logOf(project, requestOf(await answer)))).map(
        ({ action, outcome, reason }) => [action, outcome, reason],
      );
    expect(await told(writer.api.put(url(), { body: { value: "v" } }))).toEqual([["write", "allowed", null]]);
    expect(await told(reader.api.get(url()))).toEqual([["list", "allowed", null]]);
    expect(await told(writer.api.get(url({ decrypt: "true" })))).toEqual([["decrypt", "allowed", null]]);
    expect(await told(reader.api.get(url({ decrypt: "true" })))).toEqual(
      expect.arrayContaining([
        ["list", "allowed", null],
        ["decrypt", "denied", "insufficient_role"],
      ]),
    );
    expect(await told(writer.api.get(url({}, "/settings/value")))).toEqual([["decrypt", "allowed", null]]);
    const { headers } = await writer.api.get(url({}, "/settings/value"));
    const again = writer.api.get(url({}, "/settings/value"), {
      headers: { "if-none-match": headers.get("etag") ?? "" },
    });
    expect([(await again).status, await told(again)]).toEqual([304, [["decrypt", "allowed", null]]]);
    expect(await told(writer.api.get(url({}, "/settings/versions")))).toEqual([["list", "allowed", null]]);
    expect(await told(reader.api.get(url({}, "/settings/value")))).toEqual([
      ["decrypt", "denied", "insufficient_role"],
    ]);
    expect(await told(stranger.api.get(url()))).toEqual([["list", "denied", "insufficient_role"]]);
    expect(await told(writer.api.patch(url(), { body: { description: "d" } }))).toEqual([
      ["write", "allowed", null],
    ]);
    expect(
      await told(writer.api.get(settingsUrl(project, "secret/Custom/none", { match: "exact" }))),
    ).toEqual([["list", "failed", "not_found"]]);
    expect(await told(keeper.api.delete(url({ purge: "true" })))).toEqual([["destroy", "allowed", null]]);
  });

  test("is there for every sign-in, token and membership change, in the log of whom it concerns", async () => {
    const { owner, organization, writer } = world;
    const { id, api, token_id } = await person(broker);
    const signIn = await events(api, logOf({ type: "user", id }, "&action=sign_in"));
    expect(signIn).toEqual([
      expect.objectContaining({ outcome: "allowed", operation: "enrol", principal_id: id, token_id }),
    ]);
    const steps = [
      await api.post("/tokens", { body: { name: "t" } }),
      await owner.api.put(`/organizations/${organization.id}/members/${id}`, { body: { role: "read" } }),
      await owner.api.delete(`/organizations/${organization.id}/members/${id}`),
      await owner.api.post("/tokens", { body: { name: "t", principal_id: writer.id } }),
      await owner.api.patch(`/service-accounts/${writer.id}`, { body: { name: "renamed" } }),
    ];
    const revoked = await owner.api.delete(`/tokens/${steps[3]?.body.id}`);
    const told = async (answer: Answer, log: string, who: Api) =>
      (await events(who, log + requestOf(answer))).map(({ operation, outcome, target_id }) => [
        operation,
        outcome,
        target_id,
      ]);
    const mine = logOf({ type: "user", id });
    const theirs = logOf(organization);
    expect(await told(steps[0]!, mine, api)).toEqual([["createToken", "allowed", id]]);
    expect(await told(steps[1]!, theirs, owner.api)).toEqual([["putOrganizationMember", "allowed", id]]);
    expect(await told(steps[2]!, theirs, owner.api)).toEqual([["removeOrganizationMember", "allowed", id]]);
    expect(await told(steps[3]!, theirs, owner.api)).toEqual([["createToken", "allowed", writer.id]]);
    expect(await told(steps[4]!, theirs, owner.api)).toEqual([["patchServiceAccount", "allowed", writer.id]]);
    expect(await told(revoked, theirs, owner.api)).toEqual([["revokeToken", "allowed", writer.id]]);
  });

  test("names what was asked about where that is denied, whether it is there or not", async () => {
    const { owner, organization, project, writer, reader } = world;
    const at = `/organizations/${organization.id}`;
    const hook = `/webhooks/${NOBODY}?owner_type=project&owner_id=${project.id}`;
    const asked = [
      ["getOrganizationMember", reader.id, writer.api.get(`${at}/members/${reader.id}`), organization],
      ["getIdentityProvider", NOBODY, writer.api.get(`${at}/identity-providers/${NOBODY}`), organization],
      [
        "removeIdentityProvider",
        NOBODY,
        writer.api.delete(`${at}/identity-providers/${NOBODY}`),
        organization,
      ],
      ["getWebhook", NOBODY, writer.api.get(hook), project],
      ["patchWebhook", NOBODY, writer.api.patch(hook, { body: { disabled: true } }), project],
      ["removeWebhook", NOBODY, writer.api.delete(hook), project],
      ["getUser", owner.id, writer.api.get(`/users/${owner.id}`), null],
      ["patchUser", owner.id, writer.api.patch(`/users/${owner.id}`, { body: { disabled: true } }), null],
      ["deleteUser", owner.id, writer.api.delete(`/users/${owner.id}`), null],
    ] as const;
    for (const [operation, target_id, asking, log] of asked) {
      const answer = await asking;
      expect([operation, answer.status]).toEqual([operation, 403]);
      const [who, where] = log === null ? [broker.admin, INSTANCE] : [owner.api, logOf(log)];
      expect(await events(who, where + requestOf(answer))).toEqual([
        expect.objectContaining({ operation, outcome: "denied", target_id, principal_id: writer.id }),
      ]);
    }
  });
});

describe("who reads which log", () => {
  test("an organization's includes its projects'; a project's is its own; a user's is the user's", async () => {
    const { owner, organization, project, keeper, writer } = world;
    const other = await projectOf(owner.api, organization, "other log");
    const [inProject, inOther] = [
      await writer.api.get(settingsUrl(project)),
      await owner.api.get(settingsUrl(other)),
    ];
    const found = async (log: { type: string; id: string }, answer: Answer, who = owner.api) =>
      (await events(who, logOf(log, requestOf(answer)))).length;
    expect([await found(organization, inProject), await found(organization, inOther)]).toEqual([1, 1]);
    expect([await found(project, inProject, keeper.api), await found(project, inOther, keeper.api)]).toEqual([
      1, 0,
    ]);
    expect(await found({ type: "user", id: owner.id }, inOther)).toBe(0);
    const refused = [
      writer.api.get(logOf(project)),
      keeper.api.get(logOf(organization)),
      broker.admin.get(logOf(organization)),
      broker.admin.get(logOf({ type: "user", id: owner.id })),
      owner.api.get(INSTANCE),
    ];
    expect(await statuses(refused)).toEqual([403, 403, 403, 403, 403]);
  });

  test("the instance's, for admins, holds what has no owner: also what was asked of owners that are not", async () => {
    const created = await broker.admin.post("/users", { body: { name: "n" } });
    expect(await events(broker.admin, INSTANCE + requestOf(created))).toEqual([
      expect.objectContaining({
        operation: "createUser",
        owner_type: "instance",
        owner_id: null,
        target_id: created.body.id,
      }),
    ]);
    const asked = await world.writer.api.get(settingsUrl({ type: "project", id: NOBODY }));
    expect(await events(broker.admin, INSTANCE + requestOf(asked))).toEqual([
      expect.objectContaining({ outcome: "denied", principal_id: world.writer.id }),
    ]);
    const refused = await client(broker.url, "nonsense").get("/auth/me");
    expect(refused.status).toBe(401);
    expect(await events(broker.admin, `${INSTANCE}&action=sign_in&outcome=denied`)).toContainEqual(
      expect.objectContaining({ reason: "malformed", ip: "127.0.0.1" }),
    );
    const read = await broker.admin.get(settingsUrl(world.project));
    expect(await events(broker.admin, INSTANCE + requestOf(read))).toEqual([]);
  });

  test("the log of a deleted organization or user is the instance's; a deleted project's stays its organization's", async () => {
    const { id, api } = await person(broker);
    const organization = await organizationOf(broker, id, "short-lived");
    const project = await projectOf(api, organization, "p");
    const put = await api.put(settingsUrl(project, "secret/Custom/a"), { body: { value: "v" } });
    const own = await api.put(settingsUrl({ type: "user", id }, "secret/Custom/a"), { body: { value: "v" } });
    expect((await api.delete(`/projects/${project.id}?purge=true`)).status).toBe(204);
    expect(await events(api, logOf(organization, requestOf(put)))).toHaveLength(1);
    expect(await events(broker.admin, INSTANCE + requestOf(put))).toEqual([]);
    expect((await api.delete(`/organizations/${organization.id}?purge=true`)).status).toBe(204);
    expect((await broker.admin.delete(`/users/${id}?purge=true`)).status).toBe(204);
    for (const each of [put, own])
      expect(await events(broker.admin, INSTANCE + requestOf(each))).toHaveLength(1);
  });
});

describe("reading it", () => {
  test("each filter keeps what it says and nothing else", async () => {
    const { owner, writer, project } = world;
    for (const path of ["connect/S3/f", "connect/S3-x/f", "secret/Custom/f"].filter(
      (each) => !each.includes("-x"),
    ))
      await writer.api.get(settingsUrl(project, path));
    const all = await events(owner.api, logOf(project));
    const only = async (rest: string, keeps: (event: Event) => boolean) => {
      const found = await events(owner.api, logOf(project, rest));
      expect(found.length).toBeGreaterThan(0);
      expect(found.map(({ id }) => id)).toEqual(all.filter(keeps).map(({ id }) => id));
    };
    const middle = all[Math.floor(all.length / 2)] as Event & { at: string };
    const until = all[0] as Event & { at: string };
    await only(
      `&action=list&until=${until.at}`,
      (event) => event.action === "list" && String(event["at"]) < until.at,
    );
    await only(`&outcome=denied`, ({ outcome }) => outcome === "denied");
    await only(`&principal_id=${writer.id}`, ({ principal_id }) => principal_id === writer.id);
    await only(`&path=connect/S3`, ({ path }) => String(path).startsWith("connect/S3/"));
    await only(`&request_id=${middle.request_id}`, ({ request_id }) => request_id === middle.request_id);
    const since = await events(owner.api, logOf(project, `&since=${middle.at}&until=${until.at}`));
    expect(since.map(({ id }) => id)).toEqual(
      all.filter(({ at }) => String(at) >= middle.at && String(at) < until.at).map(({ id }) => id),
    );
    const wrong = [
      "&since=yesterday",
      "&action=fly",
      "&limit=1001",
      "&limit=0",
      "&order=up",
      "&cursor=x",
      "&colour=1",
    ].map((each) => owner.api.get(`/audit?owner_type=project&owner_id=${project.id}${each}`));
    expect(new Set(await statuses(wrong))).toEqual(new Set([400]));
    expect(
      await statuses([
        owner.api.get("/audit?owner_type=project"),
        broker.admin.get(`/audit?owner_type=instance&owner_id=${NOBODY}`),
      ]),
    ).toEqual([400, 400]);
  });

  test("desc goes from the newest to the oldest, page by page, and ends with null", async () => {
    const { owner, project } = world;
    const until = new Date().toISOString();
    const whole = await events(owner.api, logOf(project, `&until=${until}`));
    const seen: Event[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const url = `/audit?owner_type=project&owner_id=${project.id}&until=${until}&limit=7${cursor === "" ? "" : `&cursor=${cursor}`}`;
      const { body } = await owner.api.get(url);
      seen.push(...body.events);
      cursor = body.next_cursor;
    }
    expect(seen).toEqual(whole);
    expect(seen.map(({ id }) => id)).toEqual(
      seen
        .map(({ id }) => id)
        .toSorted()
        .toReversed(),
    );
  });
});
