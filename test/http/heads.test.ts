// A request's head: one host, one credential, and no more than 16 KiB. What is refused for it is told as anything else is.
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, startBroker } from "../harness/broker.ts";

let broker: TestBroker;
beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.close());

/** Sends this head over a connection of its own. */
async function ask(...lines: readonly string[]) {
  const { hostname, port } = new URL(broker.url);
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(Number(port), hostname, () =>
      socket.write([...lines, "Connection: close", "", ""].join("\r\n")),
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

test("HTTP/1.0 names no host, and an empty name is one", async () => {
  expect((await ask("GET /healthz HTTP/1.0")).status).toBe(200);
  expect((await ask("GET /healthz HTTP/1.1", "Host:")).status).toBe(200);
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
