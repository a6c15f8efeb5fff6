// What the broker costs, measured on this machine in one run beside a bare Fastify that answers the same bytes.
// Rounds are interleaved and medians printed, since machines have moods; ratios travel, absolute figures do not.
// `npm run bench` writes bench/RESULTS.md, at the end with two and with four replicas; `-- --quick` compares with it, in
// under two minutes. `--only <pattern>` picks cases, `--soak 1000000` says what so many more requests leave in memory.
// All of it listens on loopback and ends with the run.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startEmbeddedPostgres } from "../src/embedded/postgres.ts";
import { generateMasterKey } from "../src/sealing/master-key.ts";
import { type Case, bareShots, casesOf, refreshed, sampleOf, slug } from "./cases.ts";
import { furnish } from "./furnish.ts";
import type { Fired } from "./load.ts";
import {
  type Load,
  type Started,
  cpuOf,
  residentBytesOf,
  startBare,
  startBroker,
  startLoad,
} from "./processes.ts";
import { type Result, type Sample, compare, median, spreadOf, tableOf } from "./results.ts";

const { values: flags } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    soak: { type: "string" },
    only: { type: "string", default: "" },
    rounds: { type: "string" },
    amount: { type: "string" },
    connections: { type: "string", default: "64" },
  },
});
const OWNERS = flags.quick ? 50 : 1_000;
/** How many are run at once in the end, and on which cases. */
const REPLICAS = flags.quick || flags.only !== "" ? [] : [2, 4];
const REPLICATED = /^(one value|20 values), api$/;
const ROUNDS = Number(flags.rounds ?? (flags.quick ? 2 : 5));
/** Requests a round; where each of them is dear, a fraction. */
const AMOUNT = Number(flags.amount ?? (flags.quick ? 1_000 : 10_000));
/** A round's. */
const HALF_LOAD_SECONDS = flags.quick ? 2 : 5;
const CONNECTIONS = Number(flags.connections);
const LATER_STARTS = 3;
const SOAK_REQUESTS = Number(flags.soak ?? 0);
const RESULTS = join(import.meta.dirname, "RESULTS.md");

const said: string[] = [];
const home = await mkdtemp(join(tmpdir(), "coffer-bench-"));
const stops: (() => unknown)[] = [];
try {
  await main();
} finally {
  for (const stop of stops.toReversed()) await stop();
  await rm(home, { recursive: true, force: true });
}

async function main(): Promise<void> {
  if (!flags.quick) await starts();
  const postgres = await startEmbeddedPostgres({ home: join(home, "database") });
  stops.push(() => postgres.stop());
  const masterKey = generateMasterKey();
  const environment = {
    DATABASE_URL: postgres.url,
    COFFER_MASTER_KEY: masterKey,
    // So that sign-ins may come from many addresses.
    COFFER_TRUSTED_PROXIES: "127.0.0.1",
  };
  // What only a first start needs (migrations) is not to be measured.
  await (await startBroker(join(home, "broker-0"), environment)).stop();
  const brokers: Started[] = [];
  const another = async (): Promise<Started> => {
    const broker = await startBroker(join(home, `broker-${brokers.length}`), environment);
    stops.push(() => broker.stop());
    brokers.push(broker);
    return broker;
  };
  const broker = await another();
  print("idle broker's resident memory", await memoryOf(broker));
  const furnished = await furnish(broker, join(home, "broker-0"), postgres.url, masterKey, OWNERS);
  print("settings, owners", `${OWNERS * 100}, ${OWNERS}`);
  const load = startLoad();
  stops.push(() => load.stop());

  const only = new RegExp(flags.only);
  const cases = await casesOf(furnished, broker, only);
  const answers = await Promise.all(
    cases.map(async (each) => [slug(each.name), await sampleOf(each, broker)] as const),
  );
  const bare = await startBare(Object.fromEntries(answers));
  stops.push(() => bare.stop());

  const results: Result[] = [];
  const measured = async ({ name, credential }: Case, beside = ""): Promise<void> => {
    const measure = createMeasure(load, brokers, bare, postgres.pid);
    const only = new RegExp(`^${name}, ${credential}$`);
    const [each] = (await casesOf(await refreshed(furnished, broker), broker, only)) as [Case];
    await measure.warm(each);
    const samples: Sample[] = [];
    for (let round = 0; round < ROUNDS; round++) samples.push(await measure.round(each));
    const result = { name: `${name}, ${credential} token${beside}`, samples };
    console.log(tableOf([result]).split("\n").slice(2).join("\n"));
    results.push(result);
  };
  const halfLoad = async (when: string): Promise<void> => {
    const [first] = results;
    const [firstCase] = await casesOf(await refreshed(furnished, broker), broker, only);
    if (first !== undefined && firstCase !== undefined)
      await atHalfLoad(load, brokers, firstCase, first, when);
  };
  for (const [index, each] of cases.entries()) {
    await measured(each);
    // Half of what it was just then; and in the end, with all that the other cases left to do behind it.
    if (index === 0) await halfLoad("");
  }
  if (cases.length > 1) await halfLoad(", after all cases");
  const [firstCase] = await casesOf(await refreshed(furnished, broker), broker, only);
  print("broker's resident memory after all that", await memoryOf(broker));
  if (SOAK_REQUESTS > 0 && firstCase !== undefined) await soak(load, brokers, firstCase);
  for (const replicas of REPLICAS) {
    while (brokers.length < replicas) await another();
    for (const each of cases)
      if (REPLICATED.test(`${each.name}, ${each.credential}`)) await measured(each, `, ${replicas} replicas`);
  }

  if (flags.quick) for (const line of await compare(RESULTS, results)) console.log(`  ${line}`);
  else if (flags.only === "") await write(results);
}

/** How long a start takes, with the embedded PostgreSQL, and what is held with nothing to do. */
async function starts(): Promise<void> {
  const own = join(home, "own");
  const first = await startBroker(own);
  print("first start to ready", `${first.readyMs.toFixed(0)} ms`);
  await first.stop();
  const later: number[] = [];
  for (let round = 0; round < LATER_STARTS; round++) {
    const again = await startBroker(own);
    later.push(again.readyMs);
    if (round === LATER_STARTS - 1)
      print("resident memory after a start, without PostgreSQL", await memoryOf(again));
    await again.stop();
  }
  print("later starts to ready, median", `${median(later).toFixed(0)} ms`);
}

function createMeasure(load: Load, brokers: readonly Started[], bare: Started, postgresPid: number) {
  const urls = brokers.map(({ url }) => url);
  const common = { connections: CONNECTIONS };
  const amountOf = ({ share }: Case): number => Math.ceil(AMOUNT * share);
  const cpu = async (): Promise<number> =>
    (await Promise.all(brokers.map(({ pid }) => cpuOf(pid)))).reduce((sum, each) => sum + each, 0);

  async function beside(each: Case, under: "" | "/open") {
    const before = await cpuOf(bare.pid);
    const fired = await load.fire({
      ...common,
      urls: [bare.url],
      amount: AMOUNT,
      shots: bareShots(each, under),
      status: each.status,
    });
    return { perSecond: rateOf(fired), microseconds: ((await cpuOf(bare.pid)) - before) / fired.requests };
  }

  return {
    async warm(each: Case): Promise<void> {
      await beside(each, "");
      const { shots, status } = each;
      await load.fire({ ...common, urls, amount: amountOf(each), shots, status });
    },
    async round(each: Case): Promise<Sample> {
      const plain = await beside(each, "");
      const opening = each.opensTwenty ? await beside(each, "/open") : null;
      const before = [await cpu(), await cpuOf(postgresPid, true)] as const;
      const { shots, status } = each;
      const fired = await load.fire({ ...common, urls, amount: amountOf(each), shots, status });
      const after = [await cpu(), await cpuOf(postgresPid, true)] as const;
      return {
        perSecond: rateOf(fired),
        brokerMicroseconds: (after[0] - before[0]) / fired.requests,
        postgresMicroseconds: (after[1] - before[1]) / fired.requests,
        barePerSecond: plain.perSecond,
        bareMicroseconds: plain.microseconds,
        openingPerSecond: opening?.perSecond ?? null,
        openingMicroseconds: opening?.microseconds ?? null,
        p50: fired.p50,
        p99: fired.p99,
      };
    },
  };
}

function rateOf({ requests, seconds }: Fired): number {
  return requests / seconds;
}

async function atHalfLoad(
  load: Load,
  brokers: readonly Started[],
  each: Case,
  { name, samples }: Result,
  when: string,
): Promise<void> {
  const rate = median(samples.map(({ perSecond }) => perSecond)) / 2;
  const urls = brokers.map(({ url }) => url);
  const round = { urls, shots: each.shots, status: each.status, connections: CONNECTIONS };
  const amount = Math.ceil(rate * HALF_LOAD_SECONDS);
  const fired: Fired[] = [];
  for (let each = 0; each < ROUNDS; each++) fired.push(await load.fire({ ...round, amount, rate }));
  const told = (of: (one: Fired) => number): string => spreadOf(fired.map(of), 1);
  const [p50, p99, p99_9] = [told((one) => one.p50), told((one) => one.p99), told((one) => one.p99_9)];
  const figure = `p50 ${p50}, p99 ${p99}, p99.9 ${p99_9} ms; p99 ÷ p50 ${told((one) => one.p99 / one.p50)}`;
  print(`${name}, at half load (${rate.toFixed(0)}/s)${when}`, figure);
}

/**
 * What so many more requests leave in memory. A heap grows until it is collected, so that two looks differ by that alone:
 * beside before and after, the medians of the first and of the last quarter of looks are told.
 */
async function soak(load: Load, brokers: readonly Started[], each: Case): Promise<void> {
  const [broker] = brokers as [Started];
  const urls = brokers.map(({ url }) => url);
  const looks = [await residentBytesOf(broker.pid)];
  let sent = 0;
  // In pieces, so that access tokens are not the ones measured: the first case has API tokens.
  while (sent < SOAK_REQUESTS) {
    const piece = { urls, shots: each.shots, status: each.status, connections: CONNECTIONS, amount: 50_000 };
    sent += (await load.fire(piece)).requests;
    looks.push(await residentBytesOf(broker.pid));
  }
  const quarter = Math.max(1, Math.floor(looks.length / 4));
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  const more = (looks.at(-1) ?? Number.NaN) - (looks[0] ?? Number.NaN);
  const [early, late] = [median(looks.slice(0, quarter)), median(looks.slice(-quarter))];
  print(
    `${sent} more requests: resident memory`,
    `${megabytes(more)} MB more; first quarter ${megabytes(early)} MB, last ${megabytes(late)} MB`,
  );
}

async function memoryOf({ pid }: Started): Promise<string> {
  return `${((await residentBytesOf(pid)) / 1e6).toFixed(0)} MB`;
}

function print(what: string, figure: string): void {
  said.push(`| ${what} | ${figure} |`);
  console.log(`  ${what.padEnd(56)} ${figure}`);
}

async function write(results: readonly Result[]): Promise<void> {
  const text = `# Results of the benchmark

Written by \`npm run bench\`. Node ${process.versions.node}, ${cpus().length} cores (${cpus()[0]?.model ?? "unknown"}) shared by load, broker and
PostgreSQL with fsync on; ${CONNECTIONS} connections, ${ROUNDS} rounds of up to ${AMOUNT} requests a case, each beside a bare Fastify that answers the same
bytes. Medians, with the lowest and highest round. CPU is the kernel's accounting per request: the steadier figure where
others use the machine as well.

${tableOf(results)}

| what | figure |
| --- | --- |
${said.join("\n")}
`;
  await writeFile(RESULTS, text);
}
