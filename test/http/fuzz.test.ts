// Every route of openapi.json with seeded, hostile input from callers of every kind: no fault of the broker's, and no
// answer that the document does not describe. A failure names its request; the seed makes it come again.
import { Agent, request } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { type Document, type Got, type Route, flawOf, validators } from "./fuzz-document-kit.ts";
import { type Cast, type Sent, generator, randomOf } from "./fuzz-requests-kit.ts";

const SEED = 20_261_122;
const REQUESTS = 3_000;
const IN_FLIGHT = 12;

let broker: TestBroker;
let document: Document;
let routes: Route[];
let cast: Cast;
const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });

beforeAll(async () => {
  broker = await startBroker();
  const world = await furnish(broker);
  const { owner, organization, project, reader, writer } = world;
  document = (await broker.admin.get("/openapi.json")).body;
  routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
  );
  for (const [path, value] of [
    ["secret/Custom/a", "the value"],
    ["connect/S3/training-data", { access_key_id: "AKID", secret_access_key: "secret" }],
  ] as const)
    await made(owner.api.put(settingsUrl(project, path), { body: { value } }));
  const victim = await made(broker.admin.post("/users", { body: { name: "Vic" } }));
  const spare = await made(
    owner.api.post(`/organizations/${organization.id}/projects`, { body: { name: "spare" } }),
  );
  const account = await world.worker("read");
  const unknown = "01900000-0000-7000-8000-000000000000";
  const ids = {
    safe: [organization.id, project.id, owner.id, reader.id, writer.id, unknown],
    named: {
      organization_id: organization.id,
      project_id: project.id,
      user_id: victim.id,
      service_account_id: account.id,
      token_id: account.token_id,
      principal_id: account.id,
    },
    expendable: [victim.id, spare.id, account.id, account.token_id, unknown],
  };
  const callers = [
    "",
    "garbage",
    "cfr_0000000000000000000000000000000000000000000",
    reader.api.token,
    writer.api.token,
    owner.api.token,
    owner.api.token,
    owner.api.token,
    broker.admin.token,
    broker.admin.token,
  ];
  cast = { world, callers, ids };
});

afterAll(async () => {
  agent.destroy();
  await broker.close();
});

function send({ method, url, headers, body }: Sent): Promise<Got> {
  const { hostname, port } = new URL(broker.url);
  return new Promise((resolve, reject) => {
    const length = body === null ? {} : { "content-length": String(body.length) };
    const call = request(
      { agent, hostname, port, method, path: url, headers: { ...headers, ...length } },
      (response) => {
        const chunks: Buffer[] = [];
        const { statusCode: status = 0, headers: got } = response;
        // A stream has no end to wait for.
        if (got["content-type"]?.startsWith("text/event-stream") === true) {
          response.destroy();
          return resolve({ status, headers: got, text: "" });
        }
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => resolve({ status, headers: got, text: Buffer.concat(chunks).toString() }));
      },
    );
    call.on("error", reject);
    call.end(body ?? undefined);
  });
}

test("every route answers hostile input as the document says, and with no fault of its own", async () => {
  const wrong: string[] = [];
  const seen = new Map<string, Set<number>>();
  const validate = validators(document);
  const next = generator(randomOf(SEED), cast);
  const requests = Array.from({ length: REQUESTS }, (_, index) => {
    const route = routes[index % routes.length] as Route;
    return { route, sent: next(route) };
  });

  async function check({ route, sent }: (typeof requests)[number]): Promise<void> {
    const got = await send(sent);
    const { operationId } = route.operation;
    const flaw = flawOf(document, route, got, validate);
    seen.set(operationId, (seen.get(operationId) ?? new Set()).add(got.status));
    if (flaw === null) return;
    const body = sent.body === null ? "" : ` ${sent.body.toString().slice(0, 300)}`;
    wrong.push(
      `${operationId}: ${flaw}\n  ${sent.method} ${sent.url.slice(0, 300)} ${JSON.stringify(sent.headers).slice(0, 300)}${body}\n  → ${got.status} ${got.text.slice(0, 400)}`,
    );
  }

  const queue = requests[Symbol.iterator]();
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      for (const each of queue) await check(each);
    }),
  );
  expect(wrong.slice(0, 10).join("\n")).toBe("");
  expect(wrong).toHaveLength(0);
  // The fuzz is worth something only while it gets past the first check.
  const succeeded = [...seen.values()].filter((statuses) => [...statuses].some((status) => status < 300));
  expect(seen.size).toBe(routes.length);
  expect(succeeded.length).toBeGreaterThan(routes.length / 2);
}, 60_000);
