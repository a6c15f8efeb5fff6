// A canary instead of a secret, pushed through every route and every error at log level trace, into a broker that runs
// as a process on its own database. Afterwards neither it nor any token is found in any file, line, metric or refusal:
// a value comes out in the answer of a decrypting read, a token in the answer that makes it, and nowhere else.
// What is metadata by design (names, descriptions, labels, paths, X-Request-ID, User-Agent) never holds the canary.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type World, client, furnish, made, settingsUrl } from "../harness/broker.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";
import { CANARY, CORE, type Call, type Operation, type Route, misplaced, urlOf } from "./canary-calls-kit.ts";
import { dumpOf, filesUnder, findingsIn, guises } from "./canary-search-kit.ts";

let home: Awaited<ReturnType<typeof newHome>>;
let broker: BrokerProcess;
let world: World;
let routes: Route[];
/** Every answer, by what may rightly be in it. */
const answers: { readonly what: string; readonly text: string }[] = [];
const tokens = new Set<string>();
const codes = new Set<string>();

beforeAll(async () => {
  home = await newHome();
  broker = await spawnBroker(home.path, { COFFER_LOG_LEVEL: "trace", COFFER_RATE_LIMIT: "1000000" });
  const admin = await broker.admin();
  tokens.add(admin.token);
  world = await furnish({ url: broker.url, admin, as: (token) => broker.as(token) });
  for (const { api } of [world.owner, world.reader, world.writer, world.keeper, world.stranger])
    tokens.add(api.token);
  const { body } = await admin.get("/openapi.json");
  routes = Object.entries(body.paths as Record<string, Record<string, Operation>>).flatMap(
    ([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({
        method: method.toUpperCase(),
        path,
        operation,
      })),
  );
});

afterAll(async () => {
  await broker.stop();
  await home.remove();
});

/** Sends exactly this; the answer goes on record, as one that must hold nothing. */
async function send(
  { opens = false, method, path, headers = {}, body = "" }: Call,
  token = world.owner.api.token,
): Promise<number> {
  const { hostname, port } = new URL(broker.url);
  const given = {
    authorization: `Bearer ${token}`,
    "content-length": String(Buffer.byteLength(body)),
    ...headers,
  };
  const call = request({ hostname, port, method, path, headers: given });
  call.end(body);
  const [response] = await once(call, "response");
  // A stream has no end to wait for; what it says of changes is looked at in what webhooks are told, word for word.
  if (String(response.headers["content-type"]).startsWith("text/event-stream")) {
    response.destroy();
    return response.statusCode;
  }
  const head = `${response.statusCode} ${response.rawHeaders.join(" ")}`;
  if (!opens || response.statusCode !== 200)
    answers.push({ what: `${method} ${path}`, text: `${head} ${await textOf(response)}` });
  return response.statusCode;
}

/** Speaks something that is no HTTP. */
async function shout(bytes: string): Promise<void> {
  const { hostname, port } = new URL(broker.url);
  const socket = connect(Number(port), hostname);
  socket.end(bytes);
  answers.push({ what: "no HTTP", text: await textOf(socket) });
}

async function everyError(): Promise<void> {
  const { reader, stranger, owner } = world;
  for (const route of routes)
    for (const each of misplaced(world, route)) {
      const call = { ...each, opens: route.operation["x-coffer-action"] === "decrypt" };
      await send(call);
      if (call.headers?.["authorization"] === undefined) await send(call, reader.api.token);
    }
  // Credentials where they do not belong.
  for (const token of [owner.api.token, stranger.api.token])
    for (const route of routes) {
      await send({ method: route.method, path: urlOf(world, route, { cursor: token }) }, stranger.api.token);
      await send(
        {
          method: route.method,
          path: `${route.path}/${token}?${token}=${token}`,
          headers: { cookie: token },
        },
        stranger.api.token,
      );
      await send({ method: "GET", path: "/auth/me", headers: { "x-request-id": token } }, token);
      await send({
        method: route.method,
        path: urlOf(world, route),
        headers: { authorization: `Bearer ${token}x` },
      });
    }
  for (const bytes of [
    `GET /${CORE} HTTP/9.9\r\n\r\n`,
    `${CORE}\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: x\r\nX: ${CORE}${"x".repeat(20_000)}\r\n\r\n`,
  ])
    await shout(bytes);
}

/** The canary where it belongs, through everything that is done with a value. */
async function everySuccess(): Promise<void> {
  const { owner, writer, reader, project } = world;
  const values = {
    "secret/Custom/a": CANARY,
    "connect/S3/b": { access_key_id: CORE, secret_access_key: CANARY, session_token: CANARY },
    "connect/ContainerRegistry/c": { registry: "registry.example.com", username: CORE, password: CANARY },
  };
  const quiet = async (answer: ReturnType<typeof owner.api.get>, what: string) => {
    const { status, text, headers } = await answer;
    answers.push({ what, text: text + JSON.stringify([...headers]) });
    return status;
  };
  for (const place of [project, { type: "user", id: owner.id }, world.organization])
    for (const [path, value] of Object.entries(values)) {
      const { api } = owner;
      const url = settingsUrl(place, path);
      expect(await quiet(api.put(url, { body: { value } }), "put")).toBe(201);
      expect(await quiet(api.put(url, { body: { value } }), "put again")).toBe(200);
      await quiet(
        api.put(url, {
          body: { value: path.includes("Custom") ? `${CANARY}2` : value, expires_at: "2999-01-01T00:00:00Z" },
        }),
        "next",
      );
      await quiet(api.put(url, { body: { value }, headers: { "if-match": '"99"' } }), "stale");
      await quiet(api.patch(url, { body: { description: "plain" } }), "patch");
      await quiet(api.get(url), "metadata");
      for (const extra of [{ decrypt: "true" }, { decrypt: "true", version: "1" }])
        expect((await api.get(settingsUrl(place, path, extra))).text).toContain(CORE);
      expect((await api.get(settingsUrl(place, path, {}, "/settings/value"))).text).toContain(CORE);
      await quiet(reader.api.get(settingsUrl(place, path, { decrypt: "true" })), "withheld");
      await quiet(reader.api.get(settingsUrl(place, path, {}, "/settings/value")), "refused");
      await quiet(
        api.get(settingsUrl(place, path, { field: "nonsense" }, "/settings/value")),
        "no such field",
      );
      await quiet(api.post(settingsUrl(place, path, { version: "1" }, "/settings/rollback")), "rollback");
      await quiet(api.get(settingsUrl(place, path, {}, "/settings/versions")), "versions");
      await quiet(api.delete(settingsUrl(place, path, { version: "1" }, "/settings/versions")), "destroy");
      await quiet(api.get(settingsUrl(place, path, { version: "1" }, "/settings/value")), "destroyed");
      await quiet(api.delete(url), "delete");
      await quiet(api.post(settingsUrl(place, path, {}, "/settings/restore")), "restore");
    }
  await quiet(owner.api.delete(settingsUrl(project, "connect/S3/b", { purge: "true" })), "purge");
  expect((await writer.api.get(settingsUrl(project, "secret/Custom", { decrypt: "true" }))).text).toContain(
    CORE,
  );
}

async function everyToken(): Promise<void> {
  const admin = await broker.admin();
  const enrolled = await made(admin.post("/users", { body: { name: "Ed" } }));
  codes.add(enrolled.enrolment_code);
  const nobody = client(broker.url, "");
  const { token } = await made(nobody.post("/auth/enrol", { body: { code: enrolled.enrolment_code } }));
  tokens.add(token);
  const unused = await made(admin.post("/users", { body: { name: "Unused" } }));
  codes.add(unused.enrolment_code);
  for (const code of codes) {
    await send({
      method: "POST",
      path: `/auth/enrol?code=${code}`,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ code, [code]: 1 }),
    });
    await send({ method: "GET", path: `/auth/enrol/${code}` });
  }
  const child = await made(broker.as(token).post("/tokens", { body: { name: "child", max_uses: 1 } }));
  tokens.add(child.token);
  for (let use = 0; use < 3; use++) await send({ method: "GET", path: "/auth/me" }, child.token);
  await send({ method: "DELETE", path: `/tokens/${child.id}` }, token);
  await send({ method: "GET", path: "/tokens" }, token);
}

test("nothing but the answer that is asked for it holds a value, a token or a code", async () => {
  await everySuccess();
  await everyError();
  await everyToken();
  const metrics = await (await fetch(`${broker.url}/metrics`)).text();
  const audits = [];
  for (const place of [
    `project&owner_id=${world.project.id}`,
    `organization&owner_id=${world.organization.id}`,
    `user&owner_id=${world.owner.id}`,
  ])
    audits.push((await world.owner.api.get(`/audit?owner_type=${place}&limit=1000`)).text);
  const dump = await dumpOf(home.path);
  expect(dump).toContain("setting_versions: ");
  const { code, stdout, stderr } = await broker.stop();
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });

  const secrets = new Map([["the canary", guises(CORE)]]);
  // Without the prefix that every token has.
  for (const token of tokens) secrets.set(`token ${token.slice(0, 8)}…`, guises(token.replace(/^cfr_/, "")));
  for (const each of codes) secrets.set(`code ${each.slice(0, 8)}…`, guises(each));
  // The search finds what is there.
  expect(
    findingsIn("here", Buffer.from(`x${Buffer.from(`é${CORE}`).toString("base64")}`), secrets),
  ).not.toEqual([]);

  const found = [
    ...answers.flatMap(({ what, text }) => findingsIn(`the answer to ${what}`, Buffer.from(text), secrets)),
    ...findingsIn("the output", Buffer.from(stdout), secrets),
    ...findingsIn("the metrics", Buffer.from(metrics), secrets),
    ...findingsIn("the audit", Buffer.from(audits.join("\n")), secrets),
    ...findingsIn("the database", Buffer.from(dump), secrets),
  ];
  const files = await filesUnder(home.path);
  expect(files.filter((path) => path.includes("pg_wal")).length).toBeGreaterThan(0);
  for (const path of files) {
    const mayHold = path === join(home.path, "admin.token");
    if (!mayHold) found.push(...findingsIn(path, await readFile(path), secrets));
  }
  expect(found.slice(0, 20)).toEqual([]);
}, 120_000);
