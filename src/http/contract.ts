// Every route, checked as it is registered: one that breaks a rule here stops the boot. So that nothing is served
// without a decision on who may call it, nothing undeclared leaves in an answer, and openapi.yaml is complete.
// What has passed is kept as the list of operations that openapi.ts prints.
import type { RouteOptions } from "fastify";
import { ACTIONS } from "../domain/access.ts";
import { isProblemResponse } from "./problem.ts";
import type { Coercion, RouteAction, RouteInfo } from "./request-state.ts";
import { createSelfContained } from "./self-contained.ts";

type Schema = Readonly<Record<string, unknown>>;

export type OperationSchema = Schema & {
  readonly operationId: string;
  readonly summary: string;
  readonly tags: readonly string[];
  readonly response: Readonly<Record<string, Schema>>;
};

export type Operation = {
  readonly method: string;
  readonly url: string;
  readonly action: RouteAction;
  readonly schema: OperationSchema;
};

export type Contract = {
  readonly operations: readonly Operation[];
  /** Every name that a schema gives to a field or parameter: what an error may repeat. */
  readonly names: ReadonlySet<string>;
  /** Checks a route and makes it ready. @throws Error, which stops the boot */
  readonly admit: (route: RouteOptions) => void;
};

const NO_QUERY = { type: "object", properties: {}, additionalProperties: false };
const INPUTS = ["body", "querystring", "params", "headers"];
const TOKEN_STATUSES = ["400", "401", "403", "429", "500", "503"];
const PUBLIC_STATUSES = ["500"];

/** @param find a named schema, by its `$id` */
export function createContract(find: (id: string) => unknown): Contract {
  const operations: Operation[] = [];
  const names = new Set<string>();
  const operationIds = new Set<string>();
  const compiled = createSelfContained(find);

  function admit(route: RouteOptions): void {
    const at = `${String(route.method)} ${route.url}`;
    const fail = (rule: string): never => {
      throw new Error(`${at} breaks the contract: ${rule}`);
    };
    const schema = schemaOf(route, fail);
    const action = actionOf(route, fail);
    // The framework registers a HEAD for each GET: the same operation, answered without its body.
    if (route.method !== "HEAD") {
      if (typeof route.method !== "string") return fail("one method a route");
      if (operationIds.has(schema.operationId)) fail("its operationId is another route's");
      operationIds.add(schema.operationId);
      assertAnswers(schema.response, action, find, fail);
      assertInput(schema, fail);
      if (route.url.includes(":") && schema["params"] === undefined) fail("it has a schema for its path");
      operations.push({ method: route.method, url: route.url, action, schema });
    }
    const consumes: readonly unknown[] = Array.isArray(schema["consumes"]) ? schema["consumes"] : [];
    const info: RouteInfo = {
      operation: schema.operationId,
      action,
      pattern: route.url,
      takesBody: schema["body"] !== undefined,
      takesMergePatch: consumes.includes("application/merge-patch+json"),
      takesForm: consumes.includes("application/x-www-form-urlencoded"),
      coercions: coercionsOf(schema["querystring"]),
    };
    const given = INPUTS.filter((part) => part in schema).map((part) => {
      return [part, part === "headers" ? asNodeNames(schema[part], fail) : schema[part]] as const;
    });
    for (const [, each] of given) collectNames(each, names, find, new Set());
    route.config = { ...route.config, info };
    // Problems are worded and serialized in problem.ts alone, so the framework compiles nothing for them.
    const answers = Object.entries(schema.response).filter(([, response]) => !isProblemResponse(response));
    route.schema = {
      ...schema,
      ...Object.fromEntries(given.map(([part, each]) => [part, compiled(each)])),
      querystring: compiled(schema["querystring"] ?? NO_QUERY),
      response: Object.fromEntries(answers.map(([status, response]) => [status, compiled(response)])),
    };
  }

  return { operations, names, admit };
}

type Fail = (rule: string) => never;

function schemaOf(route: RouteOptions, fail: Fail): OperationSchema {
  const schema = (route.schema ?? fail("it has a schema")) as Partial<OperationSchema>;
  const { operationId, summary, tags, response } = schema;
  if (typeof operationId !== "string" || !/^[a-z][A-Za-z0-9]*$/.test(operationId))
    fail("it has an operationId");
  if (typeof summary !== "string" || summary === "") fail("it has a summary");
  if (!Array.isArray(tags) || tags.length === 0) fail("it has a tag");
  if (typeof response !== "object") fail("it has a schema for every answer");
  return schema as OperationSchema;
}

function actionOf(route: RouteOptions, fail: Fail): RouteAction {
  const action = route.config?.action;
  if (action === "public") return action;
  return ACTIONS.find((each) => each === action) ?? fail("config.action says what it takes, or `public`");
}

function assertAnswers(
  responses: Readonly<Record<string, Schema>>,
  action: RouteAction,
  find: (id: string) => unknown,
  fail: Fail,
): void {
  const statuses = Object.keys(responses);
  if (!statuses.some((status) => /^[23]\d\d$/.test(status))) fail("it has a schema for its success");
  for (const status of action === "public" ? PUBLIC_STATUSES : TOKEN_STATUSES)
    if (!statuses.includes(status)) fail(`it has a schema for ${status}`);
  for (const [status, response] of Object.entries(responses)) {
    if (!/^[2-5]\d\d$/.test(status)) fail(`${status} is no status`);
    if (isProblemResponse(response)) continue;
    for (const schema of bodiesOf(response))
      assertClosed(schema, find, (rule) => fail(`its ${status} answer ${rule}`), new Set());
  }
}

/** The schemas of an answer or a body: its own, or one for each media type. */
export function bodiesOf(declared: unknown): readonly unknown[] {
  if (!isSchema(declared) || !isSchema(declared["content"])) return [declared];
  return Object.values(declared["content"]).map((media) => (isSchema(media) ? media["schema"] : undefined));
}

export function isSchema(candidate: unknown): candidate is Schema {
  return typeof candidate === "object" && candidate !== null && !Array.isArray(candidate);
}

const TYPES: ReadonlySet<unknown> = new Set([
  "string",
  "number",
  "integer",
  "boolean",
  "null",
  "object",
  "array",
]);

/** An answer's schema is an allow-list: whatever it does not name stays here. */
function assertClosed(schema: unknown, find: (id: string) => unknown, fail: Fail, seen: Set<unknown>): void {
  if (!isSchema(schema)) return fail("lets everything through");
  if (seen.has(schema)) return;
  seen.add(schema);
  const inner = (each: unknown) => assertClosed(each, find, fail, seen);
  const { type, $ref: reference } = schema;
  if (typeof reference === "string")
    return inner(find(reference.replace(/#.*$/, "")) ?? fail("refers to nothing"));
  if (["not", "if", "unevaluatedProperties"].some((keyword) => keyword in schema))
    fail("is not plain enough to trust");
  const alternatives = ["anyOf", "oneOf", "allOf"].flatMap((keyword) => schema[keyword] ?? []);
  if (alternatives.length > 0) return alternatives.forEach(inner);
  // Without a type the serializer lets anything through, also beside an enum.
  const types = Array.isArray(type) ? type : [type];
  if (!types.every((each) => TYPES.has(each))) fail("lets everything through");
  if (types.includes("array")) inner(schema["items"]);
  if (!types.includes("object")) return;
  const { properties = {}, patternProperties, additionalProperties } = schema;
  if (isSchema(properties)) Object.values(properties).forEach(inner);
  if (isSchema(patternProperties)) Object.values(patternProperties).forEach(inner);
  if (isSchema(additionalProperties)) inner(additionalProperties);
  else if (additionalProperties !== false && patternProperties === undefined) fail("has an open object");
}

/** What a schema of headers may consist of. */
const OF_HEADERS: ReadonlySet<string> = new Set(["type", "properties", "required"]);

/** Node writes headers' names in lower case. Fastify writes schemas so as well, but only for compilers of its own choice. */
function asNodeNames(headers: unknown, fail: Fail): Schema {
  if (!isSchema(headers) || !Object.keys(headers).every((key) => OF_HEADERS.has(key)))
    return fail("its headers are not a plain object");
  const { properties, required } = headers as { properties?: Schema; required?: readonly string[] };
  const lower = Object.entries(properties ?? {}).map(([name, each]) => [name.toLowerCase(), each] as const);
  const needed = required?.map((name) => name.toLowerCase());
  return { type: "object", properties: Object.fromEntries(lower), ...(needed && { required: needed }) };
}

/** Unknown parameters and fields are errors, so what takes them says which it knows. */
function assertInput(schema: OperationSchema, fail: Fail): void {
  for (const part of ["querystring", "params"]) {
    const declared = schema[part];
    if (declared !== undefined && !(isSchema(declared) && declared["additionalProperties"] === false))
      fail(`its ${part} takes what it does not name`);
  }
}

function coercionsOf(query: unknown): ReadonlyMap<string, Coercion> {
  const properties = isSchema(query) && isSchema(query["properties"]) ? query["properties"] : {};
  const coercions = new Map<string, Coercion>();
  for (const [name, schema] of Object.entries(properties)) {
    const type = isSchema(schema) ? schema["type"] : undefined;
    if (type === "integer" || type === "number" || type === "boolean") coercions.set(name, type);
  }
  return coercions;
}

function collectNames(
  schema: unknown,
  names: Set<string>,
  find: (id: string) => unknown,
  seen: Set<unknown>,
): void {
  if (typeof schema !== "object" || schema === null || seen.has(schema)) return;
  seen.add(schema);
  for (const [keyword, inner] of Object.entries(schema)) {
    if (keyword === "properties" && isSchema(inner)) for (const name of Object.keys(inner)) names.add(name);
    if (keyword === "$ref" && typeof inner === "string")
      collectNames(find(inner.replace(/#.*$/, "")), names, find, seen);
    collectNames(inner, names, find, seen);
  }
}
