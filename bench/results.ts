// Figures and what is made of them: medians with their spread, the table of bench/RESULTS.md, and the comparison of a
// quick run with it.
import { readFile } from "node:fs/promises";

export type Sample = {
  readonly perSecond: number;
  readonly brokerMicroseconds: number;
  readonly postgresMicroseconds: number;
  readonly barePerSecond: number;
  readonly bareMicroseconds: number;
  /** Of a bare Fastify that opens as many values; null where none are. */
  readonly openingPerSecond: number | null;
  readonly openingMicroseconds: number | null;
  readonly p50: number;
  readonly p99: number;
};
export type Result = { readonly name: string; readonly samples: readonly Sample[] };

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** The median, with the lowest and the highest. */
export function spreadOf(all: readonly number[], digits = 2): string {
  const [middle, low, high] = [median(all), Math.min(...all), Math.max(...all)].map((each) =>
    each.toFixed(digits),
  );
  return `${middle} (${low}–${high})`;
}

const over = ({ samples }: Result, of: (sample: Sample) => number): string => spreadOf(samples.map(of));
const mid = ({ samples }: Result, of: (sample: Sample) => number): string =>
  median(samples.map(of)).toFixed(0);

const HEAD = [
  "case",
  "requests/s ÷ bare's",
  "bare's CPU ÷ broker's",
  "broker CPU µs",
  "PostgreSQL CPU µs",
  "bare CPU µs",
  "p50 / p99 ms at saturation",
];

export function tableOf(results: readonly Result[]): string {
  const rows = results.flatMap((result) => {
    const row = [
      result.name,
      over(result, (each) => each.perSecond / each.barePerSecond),
      over(result, (each) => each.bareMicroseconds / each.brokerMicroseconds),
      mid(result, (each) => each.brokerMicroseconds),
      mid(result, (each) => each.postgresMicroseconds),
      mid(result, (each) => each.bareMicroseconds),
      `${mid(result, (each) => each.p50)} / ${mid(result, (each) => each.p99)}`,
    ];
    if (result.samples[0]?.openingPerSecond === null) return [row];
    const opening = [
      `${result.name} ÷ a bare one that opens 20`,
      over(result, (each) => each.perSecond / (each.openingPerSecond ?? Number.NaN)),
      over(result, (each) => (each.openingMicroseconds ?? Number.NaN) / each.brokerMicroseconds),
      "",
      "",
      mid(result, (each) => each.openingMicroseconds ?? Number.NaN),
      "",
    ];
    return [row, opening];
  });
  return [HEAD, HEAD.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** How much CPU a case costs, in units of the bare Fastify's in the same run: what is the same on every machine. */
const costOf = (broker: number, postgres: number, bare: number): number => (broker + postgres) / bare;

/** What got slower, or faster, than the committed results say, by more than a fifth. */
export async function compare(path: string, results: readonly Result[]): Promise<readonly string[]> {
  const committed = await readFile(path, "utf8").catch(() => "");
  const known = new Map(
    [...committed.matchAll(/^\| ([^|]+) \| [^|]+ \| [^|]+ \| (\d+) \| (\d+) \| (\d+) \|/gm)].map(
      ([, name = "", broker, postgres, bare]) => [
        name,
        costOf(Number(broker), Number(postgres), Number(bare)),
      ],
    ),
  );
  return results.map((result) => {
    const cost = median(
      result.samples.map((each) =>
        costOf(each.brokerMicroseconds, each.postgresMicroseconds, each.bareMicroseconds),
      ),
    );
    const before = known.get(result.name);
    if (before === undefined)
      return `${result.name}: ${cost.toFixed(1)} × bare; nothing committed to compare with`;
    const change = cost / before;
    const verdict = change > 1.2 ? "SLOWER" : change < 0.8 ? "faster" : "as before";
    return `${result.name}: ${cost.toFixed(1)} × bare, committed ${before.toFixed(1)}: ${verdict} (${change.toFixed(2)})`;
  });
}
