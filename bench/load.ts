// The load, in a process of its own, as the parent asks for it: bounded rounds of autocannon, as fast as the answers
// come, or an even rate. Each connection of a round goes round a list of its own, so that owners and settings are spread
// over the data set.
import autocannon from "autocannon";
import { pace } from "./pace.ts";

export type Shot = {
  readonly method: "GET" | "PUT" | "POST";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** `#` in it becomes a number that is new each time. */
  readonly body?: string;
};
export type Round = {
  readonly urls: readonly string[];
  /** How many requests to make. */
  readonly amount: number;
  readonly connections: number;
  /** Requests a second; absent: as many as there can be. */
  readonly rate?: number;
  readonly status: number;
  readonly shots: readonly Shot[];
};
export type Fired = {
  readonly requests: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  readonly p99_9: number;
};

const SHOTS_EACH = 60;
let number = Date.now();
/** What must be new each time is. */
const numbered = (body: string): string => body.replace("#", `${number++}`);

function listFor(shots: readonly Shot[]): autocannon.Request[] {
  const start = Math.floor(Math.random() * shots.length);
  return Array.from({ length: Math.min(SHOTS_EACH, shots.length) }, (_, index) => {
    const { method, path, headers, body } = shots[(start + index) % shots.length] as Shot;
    const fixed = { method, path, headers: { ...headers } };
    if (body === undefined) return fixed;
    if (!body.includes("#")) return { ...fixed, body };
    return { ...fixed, setupRequest: (request) => ({ ...request, body: numbered(body) }) };
  });
}

async function fire({ urls, shots, status, connections, amount }: Omit<Round, "rate">): Promise<Fired> {
  const startedAt = performance.now();
  const parts = await Promise.all(
    urls.map((url) =>
      autocannon({
        url,
        sampleInt: 50,
        connections: Math.ceil(connections / urls.length),
        amount: Math.ceil(amount / urls.length),
        setupClient: (client) => client.setRequests(listFor(shots)),
      }),
    ),
  );
  for (const { errors, statusCodeStats = {} } of parts) {
    const others = Object.keys(statusCodeStats).filter((code) => code !== String(status));
    if (errors > 0 || others.length > 0)
      throw new Error(`${errors} requests failed, and besides ${status} there was ${others.join(", ")}`);
  }
  const [first] = parts;
  return {
    requests: parts.reduce((sum, { requests }) => sum + requests.total, 0),
    seconds: (performance.now() - startedAt) / 1_000,
    p50: first?.latency.p50 ?? Number.NaN,
    p99: first?.latency.p99 ?? Number.NaN,
    p99_9: first?.latency.p99_9 ?? Number.NaN,
  };
}

process.on("message", (round: Round) => {
  const { rate } = round;
  (rate === undefined ? fire(round) : pace({ ...round, rate }, numbered)).then(
    (fired) => process.send?.({ fired }),
    (error: unknown) => process.send?.({ error: String(error) }),
  );
});
