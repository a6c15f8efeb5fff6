// Clients that misbehave on purpose: one sends its request a byte at a time, one never reads what it asked for. Each is
// cut off in bounded time, holds nobody else up meanwhile, and costs a bounded amount of memory.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type Socket, connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type World, furnish, made, settingsUrl } from "../harness/broker.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";

const CROWD = 200;
const SILENT = 30;
const PAGES = 16;
const HEADERS_MS = 10_000;
const BODY_MS = 15_000;
/** Longer than any honest answer takes here; an operator's is a minute, see the limits in docs/operations.md. */
const SILENCE_MS = 20_000;
/** The server looks at its connections every 2 s; and the machine may be busy. */
const GRACE_MS = 5_000;

let home: Awaited<ReturnType<typeof newHome>>;
let broker: BrokerProcess;
let world: World;
beforeAll(async () => {
  home = await newHome();
  broker = await spawnBroker(home.path, {
    COFFER_RATE_LIMIT: "1000000",
    COFFER_SILENCE_SECONDS: String(SILENCE_MS / 1_000),
  });
  const admin = await broker.admin();
  world = await furnish({ url: broker.url, admin, as: (token) => broker.as(token) });
  await made(
    world.writer.api.put(settingsUrl(world.project, "secret/Custom/large"), {
      body: { value: "x".repeat(60_000) },
    }),
  );
  for (let page = 0; page < PAGES; page++)
    await made(
      world.writer.api.put(settingsUrl(world.project, `secret/Custom/pages/p${page}`), {
        body: { value: "x".repeat(60_000) },
      }),
    );
}, 120_000);
afterAll(async () => {
  await broker.stop();
  await home.remove();
});

function open(): Socket {
  const { hostname, port } = new URL(broker.url);
  return connect(Number(port), hostname).on("error", () => undefined);
}

async function underWay(): Promise<number> {
  const { text } = await world.writer.api.get("/metrics");
  return Number(/^coffer_http_requests_under_way (\d+)/m.exec(text)?.[1] ?? Number.NaN);
}

/** With or without an error. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.on("close", () => resolve()));
}

function requestOf(path: string): string {
  const target = settingsUrl(world.project, path, { decrypt: "true" });
  return `GET ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${world.writer.api.token}\r\n\r\n`;
}

async function residentMegabytes(): Promise<number> {
  const status = await readFile(`/proc/${broker.child.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1_024;
}

type Bystander = {
  readonly sent: number;
  readonly acknowledged: number;
  readonly slowestMs: number;
  /** When the last 503 was, from the start. */
  readonly lastRefusedMs: number;
};

/** Reads one value again and again until `over`; each answer must be 200, or 503 with Retry-After. */
async function bystander(over: Promise<unknown>): Promise<Bystander> {
  const state = { over: false };
  const done = over.finally(() => (state.over = true));
  const url = settingsUrl(world.project, "secret/Custom/large", {}, "/settings/value");
  const times: number[] = [];
  const began = performance.now();
  let acknowledged = 0;
  let lastRefusedMs = 0;
  while (!state.over) {
    const started = performance.now();
    const { status, headers } = await world.writer.api.get(url);
    if (status === 200) acknowledged += 1;
    else {
      expect([status, headers.get("retry-after")]).toEqual([503, "1"]);
      lastRefusedMs = performance.now() - began;
    }
    times.push(performance.now() - started);
    await pause(50);
  }
  await done;
  return { sent: times.length, acknowledged, slowestMs: Math.max(...times), lastRefusedMs };
}

/** Sends `head`, then one byte every second, until it is cut off. @returns how long that took */
async function drip(head: string, byte: string): Promise<number> {
  const socket = open().resume();
  await once(socket, "connect");
  const started = performance.now();
  socket.write(head);
  const dripping = setInterval(() => socket.write(byte), 1_000);
  await closed(socket);
  clearInterval(dripping);
  return performance.now() - started;
}

async function crowdOf(head: string, byte: string): Promise<number[]> {
  return Promise.all(Array.from({ length: CROWD }, () => drip(head, byte)));
}

test("slow-loris: heads that never end are cut off after 10 s, bodies after 15 s, and nobody waits for them", async () => {
  const token = world.writer.api.token;
  const target = settingsUrl(world.project, "secret/Custom/slow");
  const heads = crowdOf("GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", "x");
  const bodies = crowdOf(
    `PUT ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{`,
    " ",
  );
  // More than may be worked on at once: what is still arriving takes nobody's place.
  const seen = await bystander(Promise.all([heads, bodies]));
  const [ofHeads, ofBodies] = [await heads, await bodies];
  console.log(
    `| slow-loris, ${CROWD} heads and ${CROWD} bodies | bystander: ${seen.sent} sent, ${seen.acknowledged} acknowledged, slowest ${Math.round(seen.slowestMs)} ms | heads cut off after ${Math.round(Math.max(...ofHeads))} ms, bodies after ${Math.round(Math.max(...ofBodies))} ms |`,
  );
  expect(Math.max(...ofHeads)).toBeLessThan(HEADERS_MS + GRACE_MS);
  expect(Math.max(...ofBodies)).toBeLessThan(BODY_MS + GRACE_MS);
  expect(seen.acknowledged).toBe(seen.sent);
  expect(seen.sent).toBeGreaterThan(20);
  expect(seen.slowestMs).toBeLessThan(3_000);
}, 60_000);

/** Sends a few requests ahead, which is a client's good right, and reads all their answers. */
async function sendFewAhead(): Promise<void> {
  const patient = open();
  patient.write(requestOf("secret/Custom/large").repeat(8));
  let bytes = 0;
  for await (const chunk of patient) {
    bytes += (chunk as Buffer).length;
    if (bytes >= 8 * 60_000) break;
  }
  expect(bytes).toBeGreaterThanOrEqual(8 * 60_000);
}

test("a client that sends hundreds of requests ahead of their answers is cut off at once", async () => {
  // What answering so many large ones takes anyway (room for young objects, above all) is there before.
  for (let n = 0; n < 5; n++) await Promise.all(Array.from({ length: SILENT }, sendFewAhead));
  const started = performance.now();
  const sockets = Array.from({ length: SILENT }, () => open());
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  const before = await residentMegabytes();
  const ends = sockets.map((socket) => closed(socket.resume()));
  for (const socket of sockets) socket.write(requestOf("secret/Custom/large").repeat(500));
  const seen = await bystander(Promise.all(ends));
  const last = performance.now() - started;
  const after = await residentMegabytes();
  console.log(
    `| 500 requests sent ahead, by ${SILENT} clients | bystander: ${seen.sent} sent, ${seen.acknowledged} acknowledged | memory ${Math.round(before)} MB before, ${Math.round(after)} MB after; all cut off after ${Math.round(last)} ms |`,
  );
  expect(last).toBeLessThan(10_000);
  expect(after - before).toBeLessThan(200);
  await sendFewAhead();
}, 60_000);

test("a client that never reads: its answers wait in bounded memory, and it is cut off", async () => {
  const before = await residentMegabytes();
  const started = performance.now();
  // 30 connections × 8 pages of a megabyte: some of it waits in the kernel, the rest in the broker.
  const sockets = Array.from({ length: SILENT }, () => open().pause());
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  for (const socket of sockets) socket.write(requestOf("secret/Custom/pages/").repeat(8));
  await expect.poll(() => underWay(), { timeout: 30_000 }).toBeGreaterThan(SILENT);
  // Who does not read is not told that the other end is gone: the broker tells that it has let go of them.
  const gone = (async () => {
    await expect.poll(() => underWay(), { timeout: 90_000, interval: 1_000 }).toBeLessThan(10);
  })();
  let most = 0;
  const look = async (): Promise<void> => {
    most = Math.max(most, await residentMegabytes().catch(() => 0));
  };
  const watching = setInterval(() => void look(), 500);
  const seen = await bystander(gone);
  clearInterval(watching);
  const last = performance.now() - started;
  for (const socket of sockets) socket.destroy();
  console.log(
    `| never reads, ${SILENT} clients of 8 pages of 1 MB each | bystander: ${seen.sent} sent, ${seen.acknowledged} acknowledged, slowest ${Math.round(seen.slowestMs)} ms | memory ${Math.round(before)} MB before, ${Math.round(most)} MB at most; all cut off after ${Math.round(last)} ms |`,
  );
  expect(most - before).toBeLessThan(600);
  // A time-out that finds that a little was taken meanwhile starts anew, once.
  expect(last).toBeLessThan(2 * SILENCE_MS + 4 * GRACE_MS);
  // Making the pages is work for seconds: a few may be turned away meanwhile.
  expect(seen.acknowledged).toBeGreaterThan(0.98 * seen.sent);
  // They take turns (test/http/pages-in-turn.test.ts).
  expect(seen.slowestMs).toBeLessThan(3_000);
}, 120_000);
