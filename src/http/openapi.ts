// openapi.yaml, made from the very schemas that validate and serialize. OpenAPI 3.0.3, which the most generators
// read well; schemas/kit.ts writes in its dialect, so that little is translated here. The same routes always give
// the same text: the committed file is this function's answer, and a check sees that it stays so.
import type { App } from "./app.ts";
import { type Contract, type Operation, isSchema } from "./contract.ts";
import { DESCRIPTION, TAGS } from "./openapi-texts.ts";
import { isProblemResponse } from "./problem.ts";
import { EXAMPLE } from "./schemas/common.ts";
import { COMPONENTS, published } from "./schemas/kit.ts";
import { STATUS_CODES } from "./status-codes.ts";

type Node = { [key: string]: unknown };
export type Document = {
  readonly openapi: string;
  readonly info: Node;
  readonly servers: readonly Node[];
  readonly security: readonly Node[];
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Record<string, Node>>>;
  readonly components: Readonly<Record<string, Record<string, Node>>>;
};

declare module "fastify" {
  interface FastifyInstance {
    /** The application's own description. */
    openapi(): Document;
  }
}

const METHOD_ORDER = ["get", "post", "put", "patch", "delete"];

/** The document of an application that has booted. */
export function openapiOf({ operations }: Contract, version: string): Document {
  const paths: Record<string, Record<string, Node>> = {};
  const responses: Record<string, Node> = {};
  for (const operation of [...operations].toSorted(byPath)) {
    const path = operation.url.replaceAll(/:([A-Za-z_]+)/g, "{$1}");
    (paths[path] ??= {})[operation.method.toLowerCase()] = operationOf(operation, responses);
  }
  const used = new Set(operations.flatMap(({ schema }) => schema.tags));
  const known = new Set(TAGS.map(([name]) => name));
  for (const tag of used) if (!known.has(tag)) throw new Error(`openapi.ts does not describe the tag ${tag}`);
  return {
    openapi: "3.0.3",
    info: {
      title: "Coffer",
      version,
      description: DESCRIPTION,
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    servers: [{ url: "http://127.0.0.1:7420", description: "Where a broker listens unless told otherwise." }],
    security: [{ bearerAuth: [] }],
    tags: TAGS.filter(([name]) => used.has(name)).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      securitySchemes: {
        bearerAuth: {
          type: "http",
          scheme: "bearer",
          description: "An API token, `cfr_…`, or an access token (a JWT) from `POST /auth/token`.",
        },
      },
      headers: {
        RequestId: {
          description: "Names this request in the log and the audit.",
          schema: { type: "string" },
        },
      },
      responses: Object.fromEntries(Object.entries(responses).toSorted(byKey)),
      schemas: schemasOf(paths, responses),
    },
  };
}

/** The committed text: YAML, the same on every machine. */
export async function renderOpenapi(app: App): Promise<string> {
  // Loaded when somebody asks: a broker that nobody asks does without.
  const { stringify } = await import("yaml");
  const comment = "# Made by `coffer openapi --write` from the routes; do not edit.\n";
  return (
    comment +
    stringify(app.openapi(), {
      lineWidth: 110,
      aliasDuplicateObjects: false,
      // Readers of YAML 1.1 would take a time for more than text.
      compat: "yaml-1.1",
    })
  );
}

function byPath(one: Operation, other: Operation): number {
  const byUrl = one.url < other.url ? -1 : one.url > other.url ? 1 : 0;
  return (
    byUrl || METHOD_ORDER.indexOf(one.method.toLowerCase()) - METHOD_ORDER.indexOf(other.method.toLowerCase())
  );
}

function byKey([one]: readonly [string, unknown], [other]: readonly [string, unknown]): number {
  return one < other ? -1 : 1;
}

function operationOf({ action, schema }: Operation, responses: Record<string, Node>): Node {
  const { operationId, summary, description, tags, response } = schema;
  const parameters = [
    ...parametersOf("path", schema["params"]),
    ...parametersOf("query", schema["querystring"]),
    ...parametersOf("header", schema["headers"]),
  ];
  const body = schema["body"];
  const consumes = Array.isArray(schema["consumes"])
    ? (schema["consumes"] as string[])
    : ["application/json"];
  const media = mediaOf({ schema: body });
  const requestBody = { required: true, content: Object.fromEntries(consumes.map((type) => [type, media])) };
  const answers = Object.entries(response).map(([status, each]) => [
    status,
    responseOf(status, each, responses),
  ]);
  return shorn({
    operationId,
    summary,
    description,
    tags,
    "x-coffer-action": action,
    security: action === "public" ? [] : undefined,
    parameters: parameters.length === 0 ? undefined : parameters,
    requestBody: body === undefined ? undefined : requestBody,
    responses: Object.fromEntries(answers),
  });
}

function parametersOf(place: string, declared: unknown): Node[] {
  const { properties, required } = isSchema(declared) ? declared : {};
  return Object.entries(isSchema(properties) ? properties : {}).map(([name, schema]) => {
    const { description, example, ...rest } = convert(schema) as Node;
    const isRequired = place === "path" || (Array.isArray(required) && required.includes(name));
    return shorn({ name, in: place, required: isRequired, description, schema: rest, example });
  });
}

function responseOf(status: string, declared: Node, responses: Record<string, Node>): Node {
  if (isProblemResponse(declared)) {
    const name = (STATUS_CODES[status] ?? `Status ${status}`).replaceAll(/[^A-Za-z]/g, "");
    responses[name] ??= answerOf(status, declared);
    return { $ref: `#/components/responses/${name}` };
  }
  return answerOf(status, declared);
}

function answerOf(status: string, declared: Node): Node {
  const { description, headers, content, ...schema } = declared;
  const given = isSchema(headers) ? Object.entries(headers).toSorted(byKey) : [];
  const told = Object.fromEntries(given.map(([name, header]) => [name, headerOf(header as Node)]));
  const answer = {
    description: description ?? STATUS_CODES[status],
    headers: { ...told, "X-Request-ID": { $ref: "#/components/headers/RequestId" } },
  };
  if (isSchema(content)) {
    const medias = Object.entries(content).map(([type, media]) => [type, mediaOf(media as Node)]);
    return { ...answer, content: Object.fromEntries(medias) };
  }
  return schema["type"] === "null"
    ? answer
    : { ...answer, content: { "application/json": mediaOf({ schema }) } };
}

function headerOf({ description, example, ...schema }: Node): Node {
  return shorn({ description, schema, example });
}

/** Without what is undefined, which YAML would show as null. */
function shorn(node: Node): Node {
  return Object.fromEntries(Object.entries(node).filter(([, inner]) => inner !== undefined));
}

/** A body with an example: the ones given, or one made from its schema's. */
function mediaOf({ schema, example, examples }: Node): Node {
  const shown = convert(schema) as Node;
  if (examples !== undefined) return { schema: shown, examples };
  return { schema: shown, example: example ?? exampleOf(shown) };
}

/** From the schema that works to the schema that is shown. */
function convert(schema: unknown): unknown {
  return translate(published(schema));
}

function translate(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(translate);
  if (!isSchema(node)) return node;
  const { $ref: reference } = node;
  if (typeof reference === "string") return { $ref: `#/components/schemas/${reference.replace(/#$/, "")}` };
  const shown: Node = {};
  for (const [keyword, inner] of Object.entries(node)) {
    if (keyword === "$id" || keyword === "propertyNames") continue;
    if (keyword === "examples" && Array.isArray(inner)) shown["example"] = inner[0];
    else if (keyword === "const") shown["enum"] = [inner];
    else if (keyword === "enum" || keyword === "example" || keyword === "default") shown[keyword] = inner;
    else if (keyword === "properties" && isSchema(inner))
      shown[keyword] = Object.fromEntries(
        Object.entries(inner).map(([name, each]) => [name, translate(each)]),
      );
    else shown[keyword] = translate(inner);
  }
  if (Array.isArray(shown["type"]))
    throw new Error("OpenAPI 3.0 has no lists of types; say PUBLISHED what to show");
  return shown;
}

/** The components that something refers to, by name. */
function schemasOf(paths: Document["paths"], responses: Record<string, Node>): Record<string, Node> {
  const all = Object.fromEntries([...COMPONENTS].map(([name, schema]) => [name, convert(schema) as Node]));
  const operations = Object.values(paths).flatMap((each) => Object.values(each));
  const sent = reach(
    operations.map(({ requestBody }) => requestBody),
    all,
  );
  const received = reach([operations, responses], all);
  const entries = [...received].toSorted().map((name): [string, Node] => {
    // What is only ever received may grow: a client that refuses unknown fields would break.
    return [name, sent.has(name) ? (all[name] ?? {}) : (opened(all[name]) as Node)];
  });
  return Object.fromEntries(entries);
}

function reach(root: unknown, all: Record<string, Node>): Set<string> {
  const names = new Set<string>();
  const visit = (node: unknown): void => {
    if (typeof node !== "object" || node === null) return;
    for (const [keyword, inner] of Object.entries(node)) {
      const name =
        keyword === "$ref" && typeof inner === "string"
          ? /^#\/components\/schemas\/(.+)$/.exec(inner)?.[1]
          : undefined;
      if (name === undefined) visit(inner);
      else if (!names.has(name)) {
        names.add(name);
        visit(all[name]);
      }
    }
  };
  visit(root);
  return names;
}

function opened(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(opened);
  if (!isSchema(node)) return node;
  const entries = Object.entries(node).filter(
    ([keyword, inner]) => keyword !== "additionalProperties" || inner !== false,
  );
  return Object.fromEntries(entries.map(([keyword, inner]) => [keyword, opened(inner)]));
}

/** An example of what a shown schema allows. */
function exampleOf(node: unknown): unknown {
  if (!isSchema(node)) return null;
  const {
    $ref: reference,
    example,
    type,
    enum: words,
    format,
    properties,
    items,
    oneOf,
    anyOf,
    nullable,
  } = node;
  if (typeof reference === "string")
    return exampleOf(convert(COMPONENTS.get(reference.slice(reference.lastIndexOf("/") + 1))));
  if (example !== undefined) return example;
  if (nullable === true) return null;
  if (Array.isArray(words)) return words[0];
  const [alternative] = [oneOf, anyOf].flatMap((each) => (Array.isArray(each) ? each : []));
  if (alternative !== undefined) return exampleOf(alternative);
  if (type === "array") return [exampleOf(items)];
  if (type === "boolean") return true;
  if (type === "integer" || type === "number") return 1;
  if (type === "string")
    return format === "uuid" ? EXAMPLE.event : format === "date-time" ? EXAMPLE.at : "text";
  const fields = Object.entries(isSchema(properties) ? properties : {});
  return Object.fromEntries(fields.map(([name, each]) => [name, exampleOf(each)]));
}
