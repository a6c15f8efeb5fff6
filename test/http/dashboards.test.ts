// The dashboard and the alert rules in docs/grafana ask for nothing that /metrics does not give, and docs/operations.md
// names every metric that it does.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { createMetrics } from "../../src/http/metrics.ts";

const docs = join(import.meta.dirname, "../../docs");
const registry = createMetrics({ ofProcess: true }).registry;

/** As they are called in an expression: a histogram has three names. */
async function given(): Promise<Set<string>> {
  const all = await registry.getMetricsAsJSON();
  return new Set(
    all.flatMap(({ name, type }) =>
      String(type) === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
}

type Rule = {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: { readonly summary: string };
};
type Panel = { readonly targets: readonly { readonly expr: string }[] };

const namesIn = (expression: string): string[] =>
  [...expression.matchAll(/\b(?:coffer|nodejs|process)_[a-z0-9_]+/g)].map(([name]) => name);

/** Each label that a selector names must be one of the metric's. */
function labelsIn(expression: string): [string, string][] {
  return [...expression.matchAll(/\b(coffer_[a-z0-9_]+)\{([^}]*)\}/g)].flatMap(
    ([, name = "", selector = ""]) =>
      [...selector.matchAll(/([a-z_]+)\s*[!=]~?/g)].map(([, label = ""]): [string, string] => [name, label]),
  );
}

async function expressions(): Promise<string[]> {
  const dashboard = JSON.parse(await readFile(join(docs, "grafana/dashboard.json"), "utf8"));
  const rules = parse(await readFile(join(docs, "grafana/alerts.yaml"), "utf8"));
  const panels: Panel[] = dashboard.panels;
  const alerts: Rule[] = rules.groups.flatMap((group: { rules: Rule[] }) => group.rules);
  expect(new Set(alerts.map(({ alert }) => alert)).size).toBe(alerts.length);
  return [
    ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    ...alerts.map(({ expr }) => expr),
  ];
}

test("every metric and label that the dashboard and the alert rules name is one that /metrics gives", async () => {
  const known = await given();
  const all = await expressions();
  expect(all.length).toBeGreaterThan(20);
  expect(all.flatMap(namesIn).filter((name) => !known.has(name))).toEqual([]);
  const metrics = registry.getMetricsAsArray();
  const labels = new Map(
    metrics.map((metric) => [
      metric.name,
      (metric as unknown as { labelNames: readonly string[] }).labelNames,
    ]),
  );
  const wrong = all
    .flatMap(labelsIn)
    .filter(([, label]) => label !== "job" && label !== "le")
    .filter(([name, label]) => !labels.get(name.replace(/_(bucket|sum|count)$/, ""))?.includes(label));
  expect(wrong).toEqual([]);
});

test("docs/operations.md names every metric of Coffer's", async () => {
  const text = await readFile(join(docs, "operations.md"), "utf8");
  const own = (await registry.getMetricsAsJSON())
    .map(({ name }) => name)
    .filter((name) => name.startsWith("coffer_"));
  expect(own.length).toBeGreaterThan(10);
  expect(own.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
});
