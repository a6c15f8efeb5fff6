// Contract, section 3's table: what is refused too often, and what costs too much, is 429; never a token that verifies.
import { afterAll, beforeAll, expect, test } from "vitest";
import { tokenMaker } from "../../src/auth/api-token.ts";
import {
  type Api,
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { narrower, statuses } from "./rights-kit.ts";
import { later } from "./settings-kit.ts";
import { accessOf, withCredentials } from "./sign-in-kit.ts";

let broker: TestBroker;
let beside: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  beside = await startBroker({ beside: broker, environment: { COFFER_RATE_LIMIT: "5" } });
  world = await furnish(broker);
});
afterAll(async () => {
  await beside.close();
  await broker.close();
});

test("of 130 refused sign-ins from one address 100 are 401; the rest 429, told when to come again", async () => {
  const unknown = tokenMaker.newToken().token;
  const wrong = [unknown, "nonsense", `${world.writer.api.token.slice(0, -1)}!`].map((token) =>
    client(broker.url, token),
  );
  const answers = await Promise.all(
    Array.from({ length: 130 }, (_, index) => wrong[index % 3]!.get("/auth/me")),
  );
  const limited = answers.filter(({ status }) => status === 429);
  expect([answers.filter(({ status }) => status === 401).length, limited.length]).toEqual([100, 30]);
  for (const { body, headers } of limited) {
    expect(body.code).toBe("rate_limited");
    expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    expect(Number(headers.get("retry-after"))).toBeLessThanOrEqual(60);
    expect([headers.get("ratelimit-limit"), headers.get("ratelimit-remaining")]).toEqual(["100", "0"]);
    expect(headers.get("ratelimit-reset")).toBe(headers.get("retry-after"));
  }
  const code = await client(broker.url, "").post("/auth/enrol", { body: { code: "no code" } });
  expect([code.status, code.headers.get("ratelimit-remaining")]).toEqual([429, "0"]);
});

test("who presents no token, or one that was good once, guesses nothing: 401 however often", async () => {
  const { writer } = world;
  const revoked = await narrower(broker, writer.api, {});
  await writer.api.delete(`/tokens/${revoked.id}`);
  const used = await narrower(broker, writer.api, { max_uses: 10 });
  const repeat = (api: Api, times: number) =>
    statuses(Array.from({ length: times }, () => api.get("/auth/me")));
  expect(new Set(await repeat(client(broker.url, ""), 150))).toEqual(new Set([401]));
  expect(new Set(await repeat(broker.as(revoked.api.token), 150))).toEqual(new Set([401]));
  const race = await repeat(broker.as(used.api.token), 150);
  expect([200, 401].map((wanted) => race.filter((status) => status === wanted).length)).toEqual([10, 140]);
});

test("nor does who has an access token that we signed, whatever became of whom it names", async () => {
  const { owner, organization } = world;
  const url = `/organizations/${organization.id}/service-accounts`;
  const { id } = await made(owner.api.post(url, { body: { name: "gone" } }));
  const { token } = await made(owner.api.post("/tokens", { body: { name: "t", principal_id: id } }));
  const access = client(broker.url, await accessOf(withCredentials(broker, id, token)));
  await made(owner.api.delete(`/service-accounts/${id}`));
  const answers = await statuses(Array.from({ length: 50 }, () => access.get("/auth/me")));
  expect(new Set(answers)).toEqual(new Set([401]));
});

test("nor does who has one that is over: 401 however often, and nothing is read or written with it", async () => {
  const { writer, project } = world;
  const access = broker.as(await accessOf(withCredentials(broker, writer.id, writer.api.token)));
  const at = settingsUrl(project, "secret/Custom/kept");
  const value = settingsUrl(project, "secret/Custom/kept", {}, "/settings/value");
  const all = () => [
    access.get("/auth/me"),
    access.get(at),
    access.get(`${at}&decrypt=true`),
    access.get(value),
    access.put(at, { body: { value: "two" } }),
  ];
  await made(access.put(at, { body: { value: "one" } }));
  // Whatever is remembered of who reads and writes here is remembered now.
  for (let each = 0; each < 3; each++) expect(new Set(await statuses(all()))).toEqual(new Set([200]));
  const events = async () =>
    (
      await made(
        world.owner.api.get(
          `/audit?owner_type=project&owner_id=${project.id}&principal_id=${writer.id}&limit=1000`,
        ),
      )
    ).events;
  const before = await events();
  await later(901, async () => {
    for (let each = 0; each < 30; each++) expect(new Set(await statuses(all()))).toEqual(new Set([401]));
  });
  expect(await events()).toEqual(before);
  const refused = await made(
    broker.admin.get("/audit?owner_type=instance&action=sign_in&outcome=denied&limit=1000"),
  );
  const ofExpired = refused.events.filter(({ reason }: { reason: string }) => reason === "expired");
  expect(ofExpired.map(({ principal_id }: { principal_id: string }) => principal_id)).toEqual([writer.id]);
  expect(ofExpired[0].count).toBe(150);
});

test("a token that verifies is not refused for them, nor is its holder's 400, 403 or 404", async () => {
  const { writer, organization, project } = world;
  expect((await client(broker.url, "nonsense").get("/auth/me")).status).toBe(429);
  const tries = [
    writer.api.get("/auth/me"),
    writer.api.get("/settings?nonsense=1"),
    writer.api.get(settingsUrl(organization)),
    writer.api.get(settingsUrl(project, "secret/Custom/none", {}, "/settings/value")),
  ];
  expect(await statuses(tries)).toEqual([200, 400, 403, 404]);
});

test("every refusal is one counted event per address, reason and minute", async () => {
  const { body } = await broker.admin.get(
    "/audit?owner_type=instance&action=sign_in&outcome=denied&limit=1000",
  );
  const seen = body.events.map((each: { ip: string; reason: string; count: number }) => [
    each.ip,
    each.reason,
    each.count,
  ]);
  const countOf = (reasons: readonly string[]): number =>
    seen
      .filter(([, reason]: [string, string]) => reasons.includes(reason))
      .reduce((sum: number, [, , count]: [string, string, number]) => sum + count, 0);
  // Those that were told 429, too; 50 more are of who has an access token.
  expect(countOf(["unknown", "malformed"])).toBe(130 + 1 + 50);
  expect(["absent", "revoked", "used_up", "expired"].map((reason) => countOf([reason]))).toEqual([
    150, 150, 140, 150,
  ]);
  expect(new Set(seen.map(([ip]: [string]) => ip))).toEqual(new Set(["127.0.0.1"]));
  expect(new Set(seen.map(([, reason]: [string, string]) => reason))).toEqual(
    new Set(["unknown", "malformed", "enrolment_code", "absent", "revoked", "used_up", "expired"]),
  );
  // A minute may have ended meanwhile: then each reason has two.
  expect(seen.length).toBeLessThanOrEqual(14);
});

test("a good token with another's client id is told so too, and that is no use of it", async () => {
  const { reader, writer } = world;
  const { api, id } = await narrower(broker, writer.api, { max_uses: 5 });
  const { status, body } = await withCredentials(broker, reader.id, api.token);
  expect([status, body.error]).toEqual([429, "slow_down"]);
  expect((await writer.api.get(`/tokens/${id}`)).body.uses_left).toBe(5);
});

test("RateLimit-* headers tell a token what is left; past it 429 with Retry-After, which is no use of it", async () => {
  const { api, id } = await narrower(broker, world.writer.api, { max_uses: 50 });
  const there = beside.as(api.token);
  const first = await there.get("/auth/me");
  expect(["limit", "remaining", "reset"].map((name) => first.headers.get(`ratelimit-${name}`))).toEqual([
    "5",
    "4",
    "1",
  ]);
  const answers = await Promise.all(Array.from({ length: 30 }, () => there.get("/auth/me")));
  const limited = answers.filter(({ status }) => status === 429);
  expect(limited.length).toBeGreaterThan(0);
  for (const { body, headers } of limited) {
    expect(body).toMatchObject({ code: "rate_limited", status: 429 });
    expect([
      headers.get("retry-after"),
      headers.get("ratelimit-limit"),
      headers.get("ratelimit-remaining"),
    ]).toEqual(["1", "5", "0"]);
  }
  const let_in = 1 + answers.length - limited.length;
  expect((await world.writer.api.get(`/tokens/${id}`)).body.uses_left).toBe(50 - let_in);
});

test("an access token that is over takes nothing of what those have that are in time", async () => {
  const { writer } = world;
  const access = () => accessOf(withCredentials(beside, writer.id, writer.api.token));
  const over = client(beside.url, await access());
  await later(901, async () => {
    const answers = await statuses(Array.from({ length: 10 }, () => over.get("/auth/me")));
    expect([401, 429].map((wanted) => answers.filter((each) => each === wanted).length)).toEqual([5, 5]);
    expect((await client(beside.url, await access()).get("/auth/me")).status).toBe(200);
  });
});

test("another token is not made to wait for it", async () => {
  const hasty = beside.as(world.writer.api.token);
  expect(await statuses(Array.from({ length: 20 }, () => hasty.get("/auth/me")))).toContain(429);
  expect((await beside.as(world.reader.api.token).get("/auth/me")).status).toBe(200);
});
