// Whether memory stays bounded: a broker under a mixed load for minutes on end (reads, writes, lists, denials, refused
// tokens, clients that leave in the middle), its resident memory looked at every few seconds. `npm run soak`, or
// `npm run soak -- --minutes 2 --rate 50`. Fails when memory at the end is far above what it was after warming up.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Started, residentBytesOf, startBroker } from "./processes.ts";

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "10" }, rate: { type: "string", default: "40" } },
});
const MINUTES = Number(values.minutes);
const RATE = Number(values.rate);
const LOOK_MS = 5_000;
const WARM_SHARE = 0.2;
/** What is over after that is a leak, not the moods of a collector. */
const GROWTH_MAX_MB = 60;
const LEAVES_AFTER_MS = 3;

const home = await mkdtemp(join(tmpdir(), "coffer-soak-"));
try {
  await main();
} finally {
  await rm(home, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const broker = await startBroker(home);
  const token = await readFile(join(home, "admin.token"), "utf8");
  const auth = { authorization: `Bearer ${token}` };
  const json = { ...auth, "content-type": "application/json" };
  const post = async (path: string, body: object): Promise<string> => {
    const response = await fetch(broker.url + path, {
      method: "POST",
      headers: json,
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path} answered ${response.status}`);
    return ((await response.json()) as { id: string }).id;
  };
  const organization = await post("/organizations", { name: "soak" });
  const project = await post(`/organizations/${organization}/projects`, { name: "soak" });
  const at = (name: string): string =>
    `${broker.url}/settings?owner_type=project&owner_id=${project}&path=secret/Custom/${name}`;

  const counts = new Map<string, number>();
  const failures: string[] = [];
  async function one(turn: number): Promise<void> {
    const name = `s${turn % 200}`;
    const write = (): Promise<Response> =>
      fetch(at(name), {
        method: "PUT",
        headers: json,
        body: JSON.stringify({ value: `${turn}`.padEnd(2_000, "x") }),
      });
    const kinds: Readonly<Record<string, () => Promise<Response>>> = {
      write,
      read: () => fetch(`${at(name)}&decrypt=true`, { headers: auth }),
      list: () =>
        fetch(`${broker.url}/settings?owner_type=project&owner_id=${project}&decrypt=true&limit=50`, {
          headers: auth,
        }),
      denied: () =>
        fetch(`${broker.url}/settings?owner_type=project&owner_id=${organization}`, { headers: auth }),
      refused: () => fetch(at(name), { headers: { authorization: `Bearer made-up-${turn}` } }),
      leaves: () =>
        fetch(`${at(name)}&decrypt=true`, { headers: auth, signal: AbortSignal.timeout(LEAVES_AFTER_MS) }),
    };
    const names = ["write", "read", "read", "read", "read", "list", "denied", "refused", "leaves", "read"];
    const kind = names[turn % names.length] ?? "read";
    try {
      const response = await (kinds[kind] ?? write)();
      await response.arrayBuffer();
      const word = `${kind} ${response.status}`;
      counts.set(word, (counts.get(word) ?? 0) + 1);
      if (response.status >= 500 && response.status !== 503) failures.push(word);
    } catch {
      counts.set(`${kind} left`, (counts.get(`${kind} left`) ?? 0) + 1);
      if (kind !== "leaves") failures.push(`${kind} had no answer`);
    }
  }

  const looks: number[] = [];
  const end = performance.now() + MINUTES * 60_000;
  const watching = watch(broker, looks, end);
  for (let turn = 0; performance.now() < end; turn++) {
    void one(turn);
    await pause(1_000 / RATE);
  }
  await watching;
  const metrics = await (await fetch(`${broker.url}/metrics`)).text();
  const shed = [...metrics.matchAll(/coffer_requests_shed_total\{reason="(\w+)"\} (\d+)/g)];
  await broker.stop();

  const sent = [...counts.values()].reduce((sum, each) => sum + each, 0);
  console.log(`requests ${sent}: ${[...counts].map(([word, count]) => `${word} × ${count}`).join(", ")}`);
  const warm = looks.slice(0, Math.ceil(looks.length * WARM_SHARE));
  const later = looks.slice(warm.length);
  const last = later.slice(-warm.length);
  const [atWarm, atLast] = [median(warm), median(last)];
  console.log(
    `resident memory: median ${atWarm.toFixed(0)} MB in the first fifth, ${atLast.toFixed(0)} MB in the last, ${Math.max(...looks).toFixed(0)} MB at most (${looks.length} looks in ${MINUTES} minutes)`,
  );
  console.log(`turned away: ${shed.map(([, reason, count]) => `${reason} × ${count}`).join(", ")}`);
  console.log(`no answer, or 5xx but 503: ${failures.length}`);
  process.exitCode = atLast - atWarm > GROWTH_MAX_MB || failures.length > 0 ? 1 : 0;
}

async function watch(broker: Started, looks: number[], end: number): Promise<void> {
  while (performance.now() < end) {
    await pause(LOOK_MS);
    looks.push((await residentBytesOf(broker.pid)) / 1e6);
  }
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
