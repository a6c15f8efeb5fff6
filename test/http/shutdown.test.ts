// How a broker ends when it is asked to: it takes nothing new, finishes what it has, and is gone in bounded time,
// whatever its clients do.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { Agent, type IncomingMessage, get } from "node:http";
import { type Socket, connect } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startOf } from "../../src/embedded/lock.ts";
import { client, made, settingsUrl } from "../harness/broker.ts";
import { type TestDatabase, createDatabase } from "../harness/postgres.ts";
import { type BrokerProcess, newHome, postgresOf, spawnBroker } from "../harness/process.ts";

let home: Awaited<ReturnType<typeof newHome>>;
let database: TestDatabase;

beforeAll(async () => {
  home = await newHome();
  database = await createDatabase();
});
afterAll(async () => {
  await database.drop();
  await home.remove();
});

function start(): Promise<BrokerProcess> {
  return spawnBroker(join(home.path, "own"), {
    DATABASE_URL: database.url,
    COFFER_MASTER_KEY_FILE: "",
    COFFER_MASTER_KEY: masterKey,
  });
}
const masterKey = randomBytes(32).toString("hex");

async function open(broker: BrokerProcess): Promise<Socket> {
  const { hostname, port } = new URL(broker.url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

async function refuses(broker: BrokerProcess): Promise<boolean> {
  return open(broker).then(
    (socket) => {
      socket.destroy();
      return false;
    },
    () => true,
  );
}

test("a write that is under way is finished and answered, while no new connection is taken", async () => {
  const broker = await start();
  const admin = await broker.admin();
  const { id } = await made(admin.get("/auth/me"));
  const url = settingsUrl({ type: "user", id }, "secret/Custom/late");
  await made(admin.put(url, { body: { value: "before" } }));
  // Whoever holds the table holds up the write for as long as it takes.
  const holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
  await holder.query("BEGIN; LOCK TABLE setting_versions IN ACCESS EXCLUSIVE MODE");
  const write = admin.put(url, { body: { value: "after" } });
  const waits = "SELECT count(*)::int AS waiting FROM pg_locks WHERE NOT granted";
  await expect.poll(async () => (await holder.query(waits)).rows[0].waiting).toBeGreaterThan(0);
  broker.child.kill("SIGTERM");
  await broker.said('"stopping"');
  await expect.poll(() => refuses(broker)).toBe(true);
  // Impatience changes nothing.
  broker.child.kill("SIGTERM");
  broker.child.kill("SIGINT");
  await holder.query("COMMIT");
  await holder.end();
  const answer = await write;
  expect(answer.status).toBe(200);
  expect(answer.headers.get("connection")).toBe("close");
  expect(await broker.ended).toMatchObject({ code: 0, stderr: "" });

  const again = await start();
  const read = await client(again.url, admin.token).get(
    settingsUrl({ type: "user", id }, "secret/Custom/late", {}, "/settings/value"),
  );
  expect(read.body.value).toBe("after");
  expect((await again.stop()).code).toBe(0);
});

test("clients that say nothing, never finish or never read do not keep it", async () => {
  const broker = await start();
  const agent = new Agent({ keepAlive: true });
  const [idle] = (await once(get(`${broker.url}/healthz`, { agent }), "response")) as [IncomingMessage];
  idle.resume();
  await once(idle, "end");
  const silent = await open(broker);
  const unfinished = await open(broker);
  unfinished.write(
    "POST /auth/enrol HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
  );
  const deaf = await open(broker);
  deaf.pause();
  // More than the sockets' buffers hold, so that answers are under way for ever.
  deaf.write("GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(400));
  await expect
    .poll(async () => (await (await fetch(`${broker.url}/metrics`)).text()).includes('route="/openapi.json"'))
    .toBe(true);
  expect(await broker.stop()).toMatchObject({ code: 0, stderr: "" });
  agent.destroy();
  for (const socket of [silent, unfinished, deaf]) socket.destroy();
}, 60_000);

test.each(["SIGTERM", "SIGINT"] as const)(
  "%s stops the embedded database as well",
  async (signal) => {
    const folder = join(home.path, "embedded");
    const broker = await spawnBroker(folder);
    const server = await postgresOf(folder);
    expect(startOf(server)).toBeDefined();
    broker.child.kill(signal);
    expect(await broker.ended).toMatchObject({ code: 0, stderr: "" });
    expect(startOf(server)).toBeUndefined();
    await expect(postgresOf(folder)).rejects.toThrow("ENOENT");
  },
  60_000,
);
