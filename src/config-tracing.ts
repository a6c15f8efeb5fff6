// The part of the configuration that says where traces go: OpenTelemetry's standard variables, of which those are read
// that mean something for OTLP over HTTP as JSON. Without an endpoint there is no tracing, and nothing of it is loaded.

export type Sampling = {
  /** Whether a caller's own decision, in its traceparent, is followed. */
  readonly followsParent: boolean;
  /** 0 to 1: of those that nobody has decided about. */
  readonly ratio: number;
};

export type TracingSettings = {
  readonly url: string;
  /** A function, since headers may hold a collector's key: no print of the Config shows it. */
  readonly headers: () => Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly resource: Readonly<Record<string, string>>;
  readonly sampling: Sampling;
};

const SAMPLERS: Readonly<Record<string, (ratio: number) => Sampling>> = {
  always_on: () => ({ followsParent: false, ratio: 1 }),
  always_off: () => ({ followsParent: false, ratio: 0 }),
  traceidratio: (ratio) => ({ followsParent: false, ratio }),
  parentbased_always_on: () => ({ followsParent: true, ratio: 1 }),
  parentbased_always_off: () => ({ followsParent: true, ratio: 0 }),
  parentbased_traceidratio: (ratio) => ({ followsParent: true, ratio }),
};

type Text = (name: string) => string | null;

/** Null: no tracing. What is wrong is added to `problems`, without what was given. */
export function tracingSettings(text: Text, problems: string[]): TracingSettings | null {
  const own = text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
  const shared = text("OTEL_EXPORTER_OTLP_ENDPOINT");
  const url = own ?? (shared === null ? null : `${shared.replace(/\/+$/, "")}/v1/traces`);
  if (url === null || text("OTEL_SDK_DISABLED") === "true" || text("OTEL_TRACES_EXPORTER") === "none")
    return null;
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? ""))
    problems.push("OTEL_EXPORTER_OTLP_ENDPOINT is an http(s) address.");
  const of = (name: string): string | null =>
    text(`OTEL_EXPORTER_OTLP_TRACES_${name}`) ?? text(`OTEL_EXPORTER_OTLP_${name}`);
  if (!["http/json", null].includes(of("PROTOCOL")))
    problems.push("OTEL_EXPORTER_OTLP_PROTOCOL is http/json, or unset: Coffer speaks no other.");
  const headers = pairsOf(of("HEADERS") ?? "", "OTEL_EXPORTER_OTLP_HEADERS", problems);
  const resource = pairsOf(text("OTEL_RESOURCE_ATTRIBUTES") ?? "", "OTEL_RESOURCE_ATTRIBUTES", problems);
  const timeoutMs = Number(of("TIMEOUT") ?? 10_000);
  if (!(timeoutMs >= 1 && timeoutMs <= 60_000))
    problems.push("OTEL_EXPORTER_OTLP_TIMEOUT is milliseconds, 1 to 60000.");
  const ratio = Number(text("OTEL_TRACES_SAMPLER_ARG") ?? 1);
  const sampler = SAMPLERS[text("OTEL_TRACES_SAMPLER") ?? "parentbased_always_on"];
  if (sampler === undefined || !(ratio >= 0 && ratio <= 1))
    problems.push(
      `OTEL_TRACES_SAMPLER is one of ${Object.keys(SAMPLERS).join(", ")}; its _ARG is from 0 to 1.`,
    );
  return {
    url,
    headers: () => headers,
    timeoutMs,
    resource: { "service.name": text("OTEL_SERVICE_NAME") ?? "coffer", ...resource },
    sampling: sampler?.(ratio) ?? { followsParent: true, ratio: 0 },
  };
}

/** `name=value,name=value`, percent-encoded as in W3C Baggage. */
function pairsOf(list: string, name: string, problems: string[]): Record<string, string> {
  const pairs: Record<string, string> = {};
  for (const each of list.split(",").filter((part) => part.trim() !== "")) {
    const at = each.indexOf("=");
    try {
      if (at < 1) throw new Error("no pair");
      pairs[each.slice(0, at).trim()] = decodeURIComponent(each.slice(at + 1).trim());
    } catch {
      problems.push(`${name} is a list of name=value, with commas.`);
    }
  }
  return pairs;
}
