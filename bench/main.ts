// What the broker costs, measured on this machine in one run: how long it takes to start, what it holds in memory
// when idle, and how many reads of one value it answers for each that a bare Fastify answers with the same bytes.
// Rounds are interleaved and medians printed, since machines have moods; ratios travel, absolute figures do not.
// Everything listens on loopback and ends with the run.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import autocannon from "autocannon";
import { type Started, startBroker, startBare } from "./processes.ts";

const ROUNDS = 5;
const ROUND_SECONDS = 3;
const CONNECTIONS = 64;
const LATER_STARTS = 3;

const home = await mkdtemp(join(tmpdir(), "coffer-bench-"));
try {
  await main();
} finally {
  await rm(home, { recursive: true, force: true });
}

async function main(): Promise<void> {
  console.log("Starting");
  const first = await startBroker(home);
  print("first start to ready", `${first.readyMs.toFixed(0)} ms`);
  await first.stop();
  const later: number[] = [];
  for (let round = 0; round < LATER_STARTS; round++) {
    const again = await startBroker(home);
    later.push(again.readyMs);
    await again.stop();
  }
  print("later starts to ready, median", `${median(later).toFixed(0)} ms`);

  const broker = await startBroker(home);
  // One read of everything that a start leaves for later, then what is held with nothing to do.
  const target = await furnish(broker);
  print(
    "idle broker's resident memory, without PostgreSQL",
    `${((await broker.residentBytes()) / 1e6).toFixed(0)} MB`,
  );

  console.log("\nOne value, decrypted, audited, by API token, against a bare Fastify with the same answer");
  const bare = await startBare(target.body);
  const ratios: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    const plain = await load(bare.url, {});
    const real = await load(target.url, { authorization: `Bearer ${target.token}` });
    ratios.push(real / plain);
    print(`round ${round}`, `${plain.toFixed(0)} and ${real.toFixed(0)} requests/s`);
  }
  print(
    "ratio, median (lowest to highest)",
    `${median(ratios).toFixed(3)} (${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)})`,
  );
  print("resident memory after that", `${((await broker.residentBytes()) / 1e6).toFixed(0)} MB`);
  await bare.stop();
  await broker.stop();
}

/** An organization, a project and one secret; the address that reads it, and the bytes that come back. */
async function furnish(broker: Started): Promise<{ url: string; token: string; body: string }> {
  const token = await readFile(join(home, "admin.token"), "utf8");
  const call = async (method: string, path: string, body?: unknown): Promise<string> => {
    const response = await fetch(broker.url + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path.split("?")[0]} answered ${response.status}`);
    return text;
  };
  const idOf = (text: string): string => (JSON.parse(text) as { id: string }).id;
  const organization = idOf(await call("POST", "/organizations", { name: "bench" }));
  const project = idOf(await call("POST", `/organizations/${organization}/projects`, { name: "bench" }));
  const address = `/settings?owner_type=project&owner_id=${project}&path=connect/S3/data`;
  await call("PUT", address, {
    value: { access_key_id: "AKIDEXAMPLE", secret_access_key: "not-a-real-secret" },
  });
  const path = `${address}&decrypt=true`;
  return { url: broker.url + path, token, body: await call("GET", path) };
}

/** Requests a second over one bounded round; anything but 200 ends the run, since it would measure something else. */
async function load(url: string, headers: Record<string, string>): Promise<number> {
  const result = await autocannon({ url, headers, connections: CONNECTIONS, duration: ROUND_SECONDS });
  if (result.non2xx > 0 || result.errors > 0)
    throw new Error(`${result.non2xx} answers were no success, ${result.errors} failed`);
  return result.requests.average;
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function print(what: string, figure: string): void {
  console.log(`  ${what.padEnd(52)} ${figure}`);
}
