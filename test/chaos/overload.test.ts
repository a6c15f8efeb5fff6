// Four times the load that the broker can carry: what it accepts it answers in bounded time, the rest it turns away at
// once with 503 and Retry-After, and within five seconds of the load's end it is as quick as before.
import autocannon from "autocannon";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type World, furnish, made, settingsUrl } from "../harness/broker.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";
import { until } from "../harness/until.ts";

const AT_ONCE = 100;
const MEASURE_SECONDS = 2;
const OVERLOAD_SECONDS = 10;
const TIMES = 4;
const RECOVERY_MS = 5_000;

let home: Awaited<ReturnType<typeof newHome>>;
let broker: BrokerProcess;
let world: World;
beforeAll(async () => {
  home = await newHome();
  broker = await spawnBroker(home.path, {
    COFFER_RATE_LIMIT: "1000000",
    COFFER_REQUESTS_MAX: String(AT_ONCE),
    COFFER_LOOP_DELAY_MAX_MS: "1000",
  });
  const admin = await broker.admin();
  world = await furnish({ url: broker.url, admin, as: (token) => broker.as(token) });
  await made(
    world.writer.api.put(settingsUrl(world.project, "secret/Custom/a"), { body: { value: "value" } }),
  );
}, 120_000);
afterAll(async () => {
  await broker.stop();
  await home.remove();
});

type Load = {
  readonly accepted: number[];
  readonly shed: number[];
  readonly other: number;
};

async function load(connections: number, seconds: number, rate?: number): Promise<Load> {
  const [accepted, shed]: [number[], number[]] = [[], []];
  let other = 0;
  await new Promise<void>((resolve, reject) => {
    const options = {
      url: broker.url + settingsUrl(world.project, "secret/Custom/a", { decrypt: "true" }),
      headers: { authorization: `Bearer ${world.writer.api.token}` },
      connections,
      duration: seconds,
      timeout: 60,
      ...(rate === undefined ? {} : { overallRate: rate }),
    };
    const running = autocannon(options, (error) => (error === null ? resolve() : reject(error as Error)));
    running.on("response", (_client, status, _bytes, milliseconds) => {
      if (status === 200) accepted.push(milliseconds);
      else if (status === 503) shed.push(milliseconds);
      else other += 1;
    });
  });
  return { accepted, shed, other };
}

function percentile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((one, more) => one - more);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

async function oneRead(): Promise<number> {
  const started = performance.now();
  const { status } = await world.writer.api.get(
    settingsUrl(world.project, "secret/Custom/a", { decrypt: "true" }),
  );
  return status === 200 ? performance.now() - started : Number.POSITIVE_INFINITY;
}

async function quickReads(count: number): Promise<number> {
  const times: number[] = [];
  for (let turn = 0; turn < count; turn++) times.push(await oneRead());
  return percentile(times, 0.5);
}

/** Requests a second that are answered when no more come than it can carry. */
async function pace(): Promise<number> {
  return (await load(32, MEASURE_SECONDS)).accepted.length / MEASURE_SECONDS;
}

test("4× overload: accepted latency bounded, the rest 503 at once, back to normal within 5 s", async () => {
  await load(32, 2);
  const paceBefore = await pace();
  const before = await quickReads(20);
  const asked = Math.ceil(TIMES * paceBefore);
  const { accepted, shed, other } = await load(TIMES * AT_ONCE, OVERLOAD_SECONDS, asked);
  const endedAt = performance.now();
  // Ten in a row, no slower than before by more than the machine's moods.
  await until("reads as quick as before", async () => (await quickReads(10)) <= 3 * before + 20);
  const recovered = performance.now() - endedAt;
  // The machine is not as quick at one moment as at the next.
  const capacity = (paceBefore + (await pace())) / 2;
  const inTime = percentile(accepted, 0.99);
  const sent = accepted.length + shed.length + other;
  console.log(
    `| 4× overload: ${asked}/s asked of ${Math.round(paceBefore)}/s (${Math.round(capacity)}/s with the pace after), ${TIMES * AT_ONCE} connections | ${sent} | ${accepted.length} | ${shed.length} | accepted p50 ${percentile(accepted, 0.5)} ms, p99 ${inTime} ms; at most ${percentile(accepted, 1)} ms; turned away p50 ${percentile(shed, 0.5)} ms, at most ${percentile(shed, 1)} ms | recovered after ${Math.round(recovered)} ms |`,
  );
  expect(other).toBe(0);
  expect(shed.length).toBeGreaterThan(0);
  // Nobody waits for a 503 as others do for an answer.
  expect(percentile(shed, 0.5)).toBeLessThan(percentile(accepted, 0.5));
  // It goes on working, and at no less than a good part of its pace, though turning away costs something too: here two
  // thirds and more of its processor, at 27,000 a second.
  expect(accepted.length / OVERLOAD_SECONDS).toBeGreaterThan(capacity / 6);
  // By Little's law so long on average, whatever is asked for; and the machine is shared with the load itself.
  const average = (1_000 * AT_ONCE * OVERLOAD_SECONDS) / accepted.length;
  expect(inTime).toBeLessThan(1_000 + 8 * average);
  expect(recovered).toBeLessThan(RECOVERY_MS);
}, 120_000);
