// Every route of openapi.json with seeded, hostile input from callers of every kind: no fault of the broker's, and no
// answer that the document does not describe. A failure names its request; the seed makes it come again.
import { Agent, request } from "node:http";
import { createRequire } from "node:module";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";

const SEED = 20_261_122;
const REQUESTS = 3_000;
const IN_FLIGHT = 12;

type Schema = { readonly [keyword: string]: unknown };
type Parameter = {
  readonly name: string;
  readonly in: string;
  readonly required: boolean;
  readonly schema: Schema;
  readonly example?: unknown;
};
type Media = {
  readonly schema: Schema;
  readonly example?: unknown;
  readonly examples?: Record<string, { value: unknown }>;
};
type Response = { readonly $ref?: string; readonly content?: Record<string, Media> };
type Operation = {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Record<string, Media> };
  readonly responses: Record<string, Response>;
};
type Document = {
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: {
    readonly responses: Record<string, Response>;
    readonly schemas: Record<string, Schema>;
  };
};
type Route = { readonly method: string; readonly path: string; readonly operation: Operation };
type Sent = { method: string; url: string; headers: Record<string, string | string[]>; body: Buffer | null };
type Got = { status: number; headers: Record<string, string | string[] | undefined>; text: string };
type Validate = ((data: unknown) => boolean) & { readonly errors?: unknown };

let broker: TestBroker;
let world: World;
let document: Document;
let routes: Route[];
let callers: string[];
/** Ids that a request may well name: those of what a request may destroy are nobody's who calls. */
let ids: { safe: string[]; expendable: string[]; named: Readonly<Record<string, string>> };
const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
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
  ids = {
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
  callers = [
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
});

afterAll(async () => {
  agent.destroy();
  await broker.close();
});

/** mulberry32: small, seeded, good enough to pick with. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const UUID = /^[0-9a-f-]{36}$/;
const HOSTILE_TEXT = [
  "",
  " ",
  "0",
  "-1",
  "1e309",
  "9007199254740993",
  "2147483648",
  "null",
  "true",
  "undefined",
  "NaN",
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "' OR 1=1 --",
  '"; DROP TABLE settings; --',
  "$1",
  "%s%n",
  "../../../etc/passwd",
  "..%2f..%2f",
  "/",
  "//",
  ".",
  "secret/Custom/../../x",
  "connect/S3",
  "connect/S3/",
  "secret/Custom/a",
  "secret",
  "organization",
  "user",
  "\0",
  "a\0b",
  "\u0001",
  "\r\nX-Injected: 1",
  "\u202e",
  "😀".repeat(40),
  "\ud800",
  "é",
  "Ａ",
  "İ",
  "*",
  "k:v",
  ":",
  "2026-02-30T00:00:00Z",
  "2026-01-01T00:00:00Z",
  "9999-12-31T23:59:59Z",
  "0000-01-01T00:00:00Z",
  "x".repeat(65),
  "x".repeat(513),
  "y".repeat(5_000),
  "eyJhIjoxfQ",
  "(a+)+$",
  "<script>",
  "{}",
  "[]",
];
const HOSTILE_VALUES: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  2 ** 31,
  2 ** 53,
  [],
  [null],
  [[[[]]]],
  {},
  { a: { b: { c: null } } },
  { constructor: { prototype: {} } },
  { toString: 1 },
  Array.from({ length: 300 }, (_, index) => index),
  Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`k${index}`, "v"])),
  { "": "" },
  { "\0": "\0" },
  "z".repeat(70_000),
];
const CONTENT_TYPES = [
  "application/json; charset=utf-8",
  "application/json; charset=utf-16",
  "APPLICATION/JSON",
  "application/merge-patch+json",
  "application/x-www-form-urlencoded",
  "multipart/form-data; boundary=x",
  "text/plain",
  "application/xml",
  "json",
  ";",
  "application/json, text/plain",
];
const RAW_BODIES = [
  "",
  "{",
  "nul",
  '{"a":1,}',
  '{"name":"x","name":"y"}',
  '{"__proto__":{"admin":true}}',
  "[".repeat(20_000),
  '"text"',
  "\ufeff{}",
  Buffer.from([0xff, 0xfe, 0x00]),
  Buffer.from('{"value":"\xff"}', "latin1"),
  `{"value":"${"v".repeat(270_000)}"}`,
  '{"value":1e999}',
  '{"value":"\\ud800"}',
  '{"value":"\\u0000"}',
];
const HEADERS: readonly (readonly [string, string])[] = [
  ["if-match", '"1"'],
  ["if-match", "*"],
  ["if-match", "1"],
  ["if-match", 'W/"x", "y"'],
  ["if-none-match", "*"],
  ["if-none-match", '"'],
  ["if-none-match", ",,,"],
  ["accept", "text/plain"],
  ["accept", "image/png"],
  ["accept", "*/*;q=0"],
  ["accept", ";;;"],
  ["x-request-id", "sane-1"],
  ["x-request-id", "not sane"],
  ["x-request-id", "x".repeat(200)],
  ["x-forwarded-for", "1.2.3.4, ' OR 1=1"],
  ["x-http-method-override", "DELETE"],
  ["expect", "200-ok"],
  ["range", "bytes=0-1"],
  ["content-encoding", "gzip"],
  ["authorization", "Basic Og=="],
  ["user-agent", "\u00ff".repeat(300)],
  ["cookie", "a=b"],
];

function encoded(value: string): string {
  try {
    return encodeURIComponent(value);
  } catch {
    // Half a surrogate pair, as CESU-8 has it.
    return "%ED%A0%80";
  }
}

function generator(random: () => number) {
  /** How hostile the request at hand is: some are almost plain, or little would ever get past the first check. */
  let hostility = 1;
  let place = world.project;
  const chance = (share: number): boolean => random() < share;
  const spoils = (share: number): boolean => chance(share * hostility);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  const text = (): string =>
    chance(0.8)
      ? pick(HOSTILE_TEXT)
      : Array.from({ length: Math.floor(random() * 20) }, () =>
          String.fromCodePoint(Math.floor(random() * 0xd7ff)),
        ).join("");

  function idFor(route: Route): string {
    const destructive = route.method === "DELETE" || /users|service-accounts|tokens|members/.test(route.path);
    return pick(destructive && !route.path.startsWith("/settings") ? ids.expendable : ids.safe);
  }

  function plausible(route: Route, { name, schema, example }: Parameter): string {
    if (name === "owner_id") return place.id;
    if (name === "owner_type") return place.type;
    if (ids.named[name] !== undefined && route.method !== "DELETE") return ids.named[name];
    if (name === "path")
      return pick([
        "secret/Custom/a",
        "secret/Custom/a",
        "connect/S3/training-data",
        "secret/Custom",
        "connect/ContainerRegistry/new",
      ]);
    if (schema["format"] === "uuid") return idFor(route);
    if (Array.isArray(schema["enum"])) return String(pick(schema["enum"]));
    if (schema["type"] === "boolean") return pick(["true", "false"]);
    if (schema["type"] === "integer") return pick(["1", "2", "10"]);
    return typeof example === "string" ? example : text();
  }

  /** An example with some of it replaced. */
  function spoiled(value: unknown): unknown {
    if (typeof value === "string" && UUID.test(value))
      return spoils(0.25) ? text() : pick([...ids.safe, ...ids.expendable]);
    if (spoils(0.25)) return chance(0.5) ? text() : pick(HOSTILE_VALUES);
    if (Array.isArray(value)) return value.map(spoiled);
    if (typeof value !== "object" || value === null) return value;
    const fields = Object.entries(value)
      .filter(() => !spoils(0.1))
      .map(([name, inner]) => [name, spoiled(inner)]);
    if (spoils(0.1)) fields.push([text(), text()]);
    return Object.fromEntries(fields);
  }

  function bodyOf(content: Record<string, Media>): Buffer {
    if (spoils(0.15)) return Buffer.from(pick(RAW_BODIES) as string);
    const media = pick(Object.values(content));
    const shown = [media.example, ...Object.values(media.examples ?? {}).map(({ value }) => value)].filter(
      (each) => each !== undefined,
    );
    const example = pick(shown);
    return Buffer.from(JSON.stringify(spoiled(example)) ?? "");
  }

  return function next(route: Route): Sent {
    hostility = pick([0, 0.4, 1]);
    place = pick([world.project, world.project, world.organization, { type: "user", id: world.owner.id }]);
    const { parameters = [], requestBody } = route.operation;
    const query: string[] = [];
    let path = route.path;
    const headers: Sent["headers"] = {};
    for (const parameter of parameters) {
      const value = spoils(0.12) ? text() : plausible(route, parameter);
      // An empty segment would be another route's.
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, () => encoded(value) || "%20");
      else if (parameter.in === "query" && (parameter.required ? !spoils(0.04) : chance(0.3))) {
        query.push(`${parameter.name}=${encoded(value)}`);
        if (spoils(0.02)) query.push(`${parameter.name}=${encoded(value)}`);
      }
    }
    if (spoils(0.04)) query.push(`${encoded(text())}=${encoded(text())}`);
    if (spoils(0.02)) query.push(pick(["%", "%zz", "a=%ff", "&&", "=", "__proto__=1", "%00"]));
    for (let count = Math.floor(random() * 2.2 * hostility); count > 0; count--) {
      const [name, value] = pick(HEADERS);
      headers[name] = value;
    }
    const caller = pick(callers);
    if (caller !== "" && headers["authorization"] === undefined)
      headers["authorization"] = `Bearer ${caller}`;
    let body: Buffer | null = null;
    if (requestBody !== undefined ? !spoils(0.03) : spoils(0.04)) {
      body =
        requestBody === undefined ? Buffer.from(pick(RAW_BODIES) as string) : bodyOf(requestBody.content);
      headers["content-type"] = spoils(0.1) ? pick(CONTENT_TYPES) : "application/json";
    }
    return {
      method: route.method,
      url: query.length === 0 ? path : `${path}?${query.join("&")}`,
      headers,
      body,
    };
  };
}

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

type Compile = (part: { readonly schema: Schema }) => Validate;
type Compiler = () => (schemas: Record<string, Schema>, options: object) => Compile;

/** Finds the validator of a place in the document, by the framework's own Ajv. */
function validators(): (at: string) => Validate {
  const compiler = createRequire(import.meta.resolve("fastify"))("@fastify/ajv-compiler") as Compiler;
  const customOptions = { strict: false, coerceTypes: false, removeAdditional: false, useDefaults: false };
  const compile = compiler()(
    { openapi: { $id: "openapi", ...(judged(document) as Schema) } },
    { customOptions },
  );
  const known = new Map<string, Validate>();
  return (at) => {
    const validate = known.get(at) ?? compile({ schema: { $ref: `openapi#${at}` } });
    known.set(at, validate);
    return validate;
  };
}

/** In words that Ajv has: `nullable` beside alternatives, as generators of clients read it. */
function judged(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(judged);
  if (typeof node !== "object" || node === null) return node;
  const { nullable, ...rest } = node as Schema;
  const inner = Object.fromEntries(Object.entries(rest).map(([name, each]) => [name, judged(each)]));
  return nullable === true ? { anyOf: [{ enum: [null] }, inner] } : inner;
}

const pointer = (...segments: readonly string[]): string =>
  segments.map((each) => `/${encodeURIComponent(each.replaceAll("~", "~0").replaceAll("/", "~1"))}`).join("");

/** What is wrong with an answer, going by the document; null when nothing is. */
function flawOf(
  { route }: { readonly route: Route },
  got: Got,
  validate: (at: string) => Validate,
): string | null {
  const { status, headers, text } = got;
  if (status >= 500) return "a fault";
  if (!/^[A-Za-z0-9._-]{1,128}$/.test(String(headers["x-request-id"]))) return "no X-Request-ID";
  const declared = route.operation.responses[status];
  if (declared === undefined) return `the status ${status} is not in the document`;
  const shared = declared.$ref?.replace("#/components/responses/", "");
  const at =
    shared === undefined
      ? ["paths", route.path, route.method.toLowerCase(), "responses", String(status)]
      : ["components", "responses", shared];
  const { content } = shared === undefined ? declared : (document.components.responses[shared] ?? {});
  if (content === undefined) return text === "" ? null : "a body where the document has none";
  const type = String(headers["content-type"]).split(";", 1)[0] ?? "";
  if (content[type] === undefined) return `the type ${type} is not in the document`;
  if (!type.endsWith("json")) return null;
  const valid = validate(pointer(...at, "content", type, "schema"));
  return valid(JSON.parse(text)) ? null : `outside its schema: ${JSON.stringify(valid.errors)}`;
}

test("every route answers hostile input as the document says, and with no fault of its own", async () => {
  const wrong: string[] = [];
  const seen = new Map<string, Set<number>>();
  const validate = validators();
  const next = generator(randomOf(SEED));
  const requests = Array.from({ length: REQUESTS }, (_, index) => {
    const route = routes[index % routes.length] as Route;
    return { route, sent: next(route) };
  });

  async function check({ route, sent }: (typeof requests)[number]): Promise<void> {
    const got = await send(sent);
    const { operationId } = route.operation;
    const flaw = flawOf({ route }, got, validate);
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
