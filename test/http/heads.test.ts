// A request's head: one host, one credential, and no more than 16 KiB. What is refused for it is told as anything else is.
import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, furnish, settingsUrl, startBroker } from "../harness/broker.ts";

let broker: TestBroker;
beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.close());

const ask = (...lines: readonly string[]) => send("", ...lines);

/** Sends this body under this head over a connection of its own. */
async function send(body: string, ...lines: readonly string[]) {
  const { hostname, port } = new URL(broker.url);
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(Number(port), hostname, () =>
      socket.write([...lines, "Connection: close", "", body].join("\r\n")),
    );
    let got = "";
    socket.on("data", (chunk) => (got += String(chunk)));
    socket.on("close", () => resolve(got));
    socket.on("error", reject);
  });
  const at = text.indexOf("\r\n\r\n");
  const head = text.slice(0, at);
  const type = /^content-type: (.*)$/im.exec(head)?.[1];
  return {
    status: Number(head.split(" ")[1]),
    head,
    body: type?.includes("json") ? JSON.parse(text.slice(at)) : null,
  };
}

test.each(["/auth/me", "/healthz", "/nowhere"])(
  "without a host %s is 400, in a problem with its id",
  async (path) => {
    const { status, head, body } = await ask(
      `GET ${path} HTTP/1.1`,
      "X-Request-ID: mine",
      `Authorization: Bearer ${broker.admin.token}`,
    );
    expect(status).toBe(400);
    expect(head).toMatch(/^content-type: application\/problem\+json$/im);
    expect(head).toMatch(/^x-request-id: mine$/im);
    expect(body).toMatchObject({
      status: 400,
      code: "invalid_request",
      detail: "The request has no Host header.",
      request_id: "mine",
    });
  },
);

test("a type and no body is answered as an empty body is, at once", async () => {
  const { owner, project } = await furnish(broker);
  const at = settingsUrl(project, "secret/Custom/none");
  const asked = [
    "POST /organizations",
    "POST /auth/token",
    `POST ${at.replace("/settings", "/settings/restore")}`,
    `PUT ${at}`,
    `PATCH ${at}`,
    `DELETE ${at}`,
    "POST /nowhere",
  ];
  const types = ["application/json", "application/x-www-form-urlencoded", "text/plain"];
  for (const [line, type] of asked.flatMap((line) => types.map((each) => [line, each]))) {
    const token = `Authorization: Bearer ${owner.api.token}`;
    const head = [`${line} HTTP/1.1`, "Host: a", token, `Content-Type: ${type}`];
    const [none, empty] = await Promise.all([ask(...head), ask(...head, "Content-Length: 0")]);
    const told = ({ status, body }: typeof none) => [line, type, status, { ...body, request_id: "" }];
    expect(told(none)).toEqual(told(empty));
    expect(none.status).toBeGreaterThanOrEqual(400);
  }
});

test("HTTP/1.0 names no host, and an empty name is one", async () => {
  expect((await ask("GET /healthz HTTP/1.0")).status).toBe(200);
  expect((await ask("GET /healthz HTTP/1.1", "Host:")).status).toBe(200);
});

test("two hosts are 400, also where they are one and the same", async () => {
  for (const path of ["/auth/me", "/healthz"])
    for (const second of ["Host: x", "hOST: y", "Host:"]) {
      const { status, body } = await ask(`GET ${path} HTTP/1.1`, "Host: x", second);
      expect(status).toBe(400);
      expect(body).toMatchObject({
        code: "invalid_request",
        detail: "The request has more than one Host header.",
      });
    }
  expect((await ask("GET /healthz HTTP/1.1", "Host: x", "X-Forwarded-Host: y")).status).toBe(200);
});

test("who signs in with two Authorization headers is not signed in, whichever of them is good", async () => {
  const { id, api } = (await furnish(broker)).writer;
  const good = `Authorization: Basic ${Buffer.from(`${id}:${api.token}`).toString("base64")}`;
  const form = "grant_type=client_credentials";
  const signIn = (...authorization: readonly string[]) =>
    send(
      form,
      "POST /auth/token HTTP/1.1",
      "Host: x",
      "Content-Type: application/x-www-form-urlencoded",
      `Content-Length: ${form.length}`,
      ...authorization,
    );
  expect((await signIn(good)).status).toBe(200);
  const other = "Authorization: Basic eDp5";
  for (const two of [
    [good, other],
    [other, good],
    [good, good],
  ]) {
    const { status, body } = await signIn(...two);
    expect(status).toBe(400);
    expect(body).toMatchObject({
      error: "invalid_request",
      error_description: "The request has more than one Authorization header.",
    });
  }
});

test.each([
  ["Transfer-Encoding: gzip, chunked", "The body is to come in no Transfer-Encoding but chunked."],
  ["Content-Type: text/plain", "The request has more than one Content-Type header."],
])("a body under %s beside what is right is 400, and is not taken", async (line, detail) => {
  const { writer, project } = await furnish(broker);
  const path = "secret/Custom/framed";
  const put = (...lines: readonly string[]) =>
    send(
      'd\r\n{"value":"x"}\r\n0\r\n\r\n',
      `PUT ${settingsUrl(project, path)} HTTP/1.1`,
      "Host: x",
      `Authorization: Bearer ${writer.api.token}`,
      "Content-Type: application/json",
      ...lines,
    );
  const chunked = "Transfer-Encoding: chunked";
  const strange = await put(...(line.startsWith("Transfer") ? [line] : [line, chunked]));
  expect([strange.status, strange.body.detail]).toEqual([400, detail]);
  expect((await writer.api.get(settingsUrl(project, path, {}, "/settings/value"))).status).toBe(404);
  expect((await put(chunked)).status).toBe(201);
});

test("two Authorization headers are no credential, whichever of them is good", async () => {
  const good = `Authorization: Bearer ${broker.admin.token}`;
  const me = (...authorization: readonly string[]) =>
    ask("GET /auth/me HTTP/1.1", "Host: x", ...authorization);
  const malformed = await me("Authorization: Bearer x");
  expect(malformed.status).toBe(401);
  for (const two of [
    [good, "Authorization: Bearer x"],
    ["Authorization: Bearer x", good],
    [good, good.replace("Authorization", "aUTHORIZATION")],
    [good, "Accept: */*", "Authorization:"],
  ]) {
    const { status, head, body } = await me(...two);
    expect(status).toBe(401);
    expect(head).toMatch(/^www-authenticate: Bearer error="invalid_token"$/im);
    expect({ ...body, request_id: "" }).toEqual({ ...malformed.body, request_id: "" });
  }
  expect((await me(good, "X-Authorization: Bearer x", "Authentication: Bearer x")).status).toBe(200);
});

test("a head over 16 KiB is 431, of the target or of a header", async () => {
  const long = "x".repeat(17_000);
  for (const lines of [
    [`GET /healthz?${long} HTTP/1.1`, "Host: x"],
    ["GET /healthz HTTP/1.1", "Host: x", `X: ${long}`],
  ]) {
    const { status, head, body } = await ask(...lines);
    expect(status).toBe(431);
    expect(head).toContain("431 Request Header Fields Too Large");
    expect(body).toMatchObject({
      status: 431,
      code: "invalid_request",
      detail: "The request's head has more than 16 KiB.",
    });
  }
});

test("whoever sends ever more requests ahead is cut off, also after some that are no requests of ours", async () => {
  const { hostname, port } = new URL(broker.url);
  for (const strange of [0, 40]) {
    const socket = connect(Number(port), hostname).on("error", () => undefined);
    await once(socket, "connect");
    for (let each = 0; each < strange; each++) {
      socket.write("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n");
      await once(socket, "data");
    }
    let text = "";
    const how = new Promise<string>((resolve) => {
      socket.on("close", () => resolve("cut off"));
      socket.on("data", (chunk) => {
        text += String(chunk);
        if (text.split("HTTP/1.1 200").length > 60) resolve("all answered");
      });
    });
    socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(60));
    expect([strange, await how]).toEqual([strange, "cut off"]);
    socket.destroy();
  }
});
