// Clients that reset their connection as soon as they have asked: what they had asked for is on record with their address
// like anybody's, and none of it is a fault of the broker's.
import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { query } from "../keys/kit.ts";

const CLIENTS = 40;

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
});
afterAll(() => broker.close());

/** Sends this over a connection of its own, which it resets at once. */
async function sendAndReset(text: string): Promise<void> {
  const { hostname, port } = new URL(broker.url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  const closed = once(socket, "close");
  socket.write(text, () => socket.resetAndDestroy());
  await closed;
}

const requests = (route: string) => async (): Promise<number> => {
  const metrics = await (await fetch(`${broker.url}/metrics`)).text();
  const lines = metrics.split("\n").filter((line) => line.startsWith("coffer_http_requests_total{"));
  return lines
    .filter((line) => line.includes(`route="${route}"`))
    .reduce((sum, line) => sum + Number(line.split(" ")[1]), 0);
};

/** Until one of this kind is over: some are reset before they are read, and never come to be. */
async function resetting(text: () => string, count: () => Promise<number>): Promise<void> {
  const before = await count();
  await until("a request of a client that has left is over", async () => {
    for (let each = 0; each < CLIENTS; each++) await sendAndReset(text());
    return (await count()) >= before + CLIENTS;
  });
}

const head = (method: string, path: string, token: string, more: readonly string[] = []): string =>
  [`${method} ${path} HTTP/1.1`, "host: coffer", `authorization: Bearer ${token}`, ...more, "", ""].join(
    "\r\n",
  );

test("a change by a client that has left is on record with its address", async () => {
  const { owner, project } = world;
  const body = JSON.stringify({ value: "a value" });
  let n = 0;
  const put = (): string =>
    head("PUT", settingsUrl(project, `secret/Custom/left${(n += 1)}`), owner.api.token, [
      "content-type: application/json",
      `content-length: ${Buffer.byteLength(body)}`,
    ]) + body;
  await resetting(put, requests("/settings"));
  const seen = async () => {
    const [row] = await query(
      broker.databaseUrl,
      `SELECT count(*)::int AS events, count(*) FILTER (WHERE ip IS NULL)::int AS nowhere
        FROM audit_events WHERE operation = 'putSetting' AND path LIKE 'secret/Custom/left%'`,
    );
    return row;
  };
  // Its connection is over before the change is.
  await until("a change is on record", async () => Number((await seen())?.["events"]) > 0);
  expect((await seen())?.["nowhere"]).toBe(0);
  await made(owner.api.get(settingsUrl(project)));
});

test("none of what such clients ask for is told as a fault", async () => {
  const form = "grant_type=client_credentials&client_id=x&client_secret=y";
  const signIn = (): string =>
    head("POST", "/auth/token", "", [
      "content-type: application/x-www-form-urlencoded",
      `content-length: ${form.length}`,
    ]) + form;
  await resetting(signIn, requests("/auth/token"));
  const half = (): string =>
    `${head("PUT", settingsUrl(world.project, "secret/Custom/half"), world.owner.api.token, [
      "content-type: application/json",
      "content-length: 1000",
    ])}{"value":`;
  await resetting(half, requests("/settings"));
  expect(broker.log()).not.toContain('"msg":"fault"');
  expect(await (await fetch(`${broker.url}/metrics`)).text()).not.toMatch(/status="5\d\d"/);
});
