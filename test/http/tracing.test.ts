// Traces, to a collector of the test's own: what a request's spans are, that none holds a path, an id of anything, a
// value or a token, that a collector that is away costs nothing, and that without an endpoint nothing is even loaded.
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, expect, test } from "vitest";
import { type TestBroker, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";

type Attribute = { readonly key: string; readonly value: { stringValue?: string; intValue?: string } };
type Span = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code?: number };
};

async function collector() {
  const bodies: string[] = [];
  const requests: IncomingMessage[] = [];
  const take = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    bodies.push(await text(request));
    response.end("{}");
  };
  const server = createServer((request, response) => {
    requests.push(request);
    void take(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bodies,
    requests,
    spans: (): Span[] => bodies.flatMap((body) => JSON.parse(body).resourceSpans[0].scopeSpans[0].spans),
    close: () => new Promise((resolve) => server.close(resolve)),
  };
}

const open: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const close of open) await close();
});

/** A broker whose spans are all sent by the time that `work` has ended. */
async function traced(
  environment: Readonly<Record<string, string>>,
  work: (broker: TestBroker) => Promise<void>,
): Promise<void> {
  const broker = await startBroker({ environment });
  try {
    await work(broker);
  } finally {
    await broker.close();
  }
}

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const STEPWISE = "5b8efff798038103d269b633813fc60c";
const SECRET = "a-value-that-no-span-may-hold";
const PATH = "secret/Custom/spanless";

test("a request is one trace: its route and status, the use case behind the gate, the statements; nothing of what is kept", async () => {
  const sink = await collector();
  open.push(sink.close);
  const forbidden: string[] = [SECRET, "spanless", "secret/Custom"];
  const parent = `00-${TRACE}-b7ad6b7169203331-01`;
  await traced(
    { OTEL_EXPORTER_OTLP_ENDPOINT: sink.url, OTEL_EXPORTER_OTLP_HEADERS: "x-key=abc%20def" },
    async (broker) => {
      const { writer, stranger, project, owner, organization } = await furnish(broker);
      const url = settingsUrl(project, PATH, {}, "/settings/value");
      await made(writer.api.put(settingsUrl(project, PATH), { body: { value: SECRET } }));
      const headers = { traceparent: parent, "x-request-id": "known-request" };
      expect((await writer.api.get(url, { headers })).body.value).toBe(SECRET);
      // By its number a version is read step by step.
      const pinned = settingsUrl(project, PATH, { version: "1" }, "/settings/value");
      const other = { traceparent: parent.replace(TRACE, STEPWISE) };
      expect((await writer.api.get(pinned, { headers: other })).body.value).toBe(SECRET);
      expect((await stranger.api.get(url)).status).toBe(403);
      forbidden.push(writer.api.token, writer.id, project.id, organization.id, owner.id, writer.token_id);
    },
  );
  const all = sink.bodies.join("\n");
  for (const each of forbidden) expect(all).not.toContain(each);
  expect(sink.requests[0]?.url).toBe("/v1/traces");
  expect(sink.requests[0]?.headers["x-key"]).toBe("abc def");
  expect(JSON.parse(sink.bodies[0] ?? "").resourceSpans[0].resource.attributes).toEqual([
    { key: "service.name", value: { stringValue: "coffer" } },
  ]);
  const mine = sink.spans().filter(({ traceId }) => traceId === TRACE);
  const request = mine.find(({ name }) => name === "GET /settings/value");
  expect(request).toMatchObject({ parentSpanId: "b7ad6b7169203331", kind: 2, status: {} });
  expect(Object.fromEntries(request?.attributes.map(({ key, value }) => [key, value]) ?? [])).toEqual({
    "http.request.method": { stringValue: "GET" },
    "http.route": { stringValue: "/settings/value" },
    "http.response.status_code": { intValue: "200" },
    "coffer.request_id": { stringValue: "known-request" },
  });
  const named = mine.filter(({ name }) => name.startsWith("broker."));
  expect(named).toHaveLength(1);
  expect(named[0]?.parentSpanId).toBe(request?.spanId);
  const statements = mine.filter(({ name }) => name.startsWith("store."));
  const stepwise = sink.spans().filter(({ traceId }) => traceId === STEPWISE);
  expect(stepwise.map(({ name }) => name)).toEqual(expect.arrayContaining(["store.admit", "store.record"]));
  expect(statements.map(({ name }) => name)).toEqual(expect.arrayContaining(["store.readAhead"]));
  for (const { parentSpanId, startTimeUnixNano, endTimeUnixNano } of statements) {
    expect(parentSpanId).toBe(named[0]?.spanId);
    expect(BigInt(endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(startTimeUnixNano));
  }
  const denied = sink
    .spans()
    .find(({ attributes }) =>
      attributes.some(({ key, value }) => key === "coffer.code" && value.stringValue === "forbidden"),
    );
  expect(denied).toBeDefined();
});

test("a caller who does not sample, and a ratio of 0, leave no span", async () => {
  const sink = await collector();
  open.push(sink.close);
  const unsampled = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00" };
  await traced(
    {
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${sink.url}/v1/traces`,
      OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
      OTEL_TRACES_SAMPLER_ARG: "0",
    },
    async (broker) => {
      expect((await broker.admin.get("/auth/me")).status).toBe(200);
      expect((await broker.admin.get("/auth/me", { headers: unsampled })).status).toBe(200);
    },
  );
  expect(sink.spans()).toEqual([]);
});

test("a collector that is away costs nothing, and the log says once that spans were dropped", async () => {
  const sink = await collector();
  await sink.close();
  let log = (): string => "";
  await traced({ OTEL_EXPORTER_OTLP_ENDPOINT: sink.url }, async (broker) => {
    ({ log } = broker);
    for (let turn = 0; turn < 5; turn++) expect((await broker.admin.get("/auth/me")).status).toBe(200);
  });
  expect(log().match(/spans were dropped/g)).toHaveLength(1);
});

test("without an endpoint nothing of tracing is loaded", () => {
  const script = `
    import { registerHooks } from "node:module";
    const loaded = [];
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
    await import("./src/compose.ts");
    const { readConfig } = await import("./src/config.ts");
    if (readConfig({}).tracing !== null) throw new Error("tracing is on");
    if (!loaded.some((url) => url.endsWith("/src/compose.ts"))) throw new Error("nothing was seen");
    console.log(JSON.stringify(loaded.filter((url) => url.includes("/src/tracing/"))));
  `;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    cwd: join(import.meta.dirname, "../.."),
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toEqual([]);
});
