// Who asks for long answers and reads none of them fills nobody else's memory.
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
});
afterAll(() => broker.close());

test("past so many bytes its token is told 429, others go on, and it is well again when they are gone", async () => {
  const path = "secret/Custom/long";
  const { api } = world.writer;
  await made(settingsOf(api, world.project).put(path, "x".repeat(65_000)));
  const body = JSON.stringify({
    refs: Array.from({ length: 100 }, () => `project/${world.project.id}/${path}`),
  });
  const request = [
    "POST /settings/resolve HTTP/1.1",
    "host: coffer",
    `authorization: Bearer ${api.token}`,
    "content-type: application/json",
    `content-length: ${body.length}`,
    "",
    body,
  ].join("\r\n");
  const { hostname, port } = new URL(broker.url);
  const sockets = Array.from({ length: 4 }, () => connect(Number(port), hostname));
  for (const socket of sockets)
    socket
      .on("error", () => undefined)
      .pause()
      .write(request.repeat(8));
  const me = async () => (await api.get("/auth/me")).status;
  await until("the token told that its answers are not read", async () => (await me()) === 429);
  expect((await world.reader.api.get("/auth/me")).status).toBe(200);
  for (const socket of sockets) socket.destroy();
  await until("the token welcome again", async () => (await me()) === 200);
});
