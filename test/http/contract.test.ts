// A route that breaks the contract stops the boot; openapi.yaml and the reference tell of those that do not.
import { Type } from "@fastify/type-provider-typebox";
import { expect, test } from "vitest";
import { parse } from "yaml";
import type { App } from "../../src/http/app.ts";
import { renderOpenapi } from "../../src/http/openapi.ts";
import { PROBLEMS, problems, publicProblems } from "../../src/http/problem.ts";
import { registerRoutes } from "../../src/http/routes.ts";
import { Fields, answer } from "../../src/http/schemas/kit.ts";
import { Echo, testApp } from "./app.ts";

type Node = { readonly [key: string]: Node };

const good = {
  config: { action: "list" },
  schema: {
    operationId: "getThing",
    tags: ["Settings"],
    summary: "A test's",
    response: { 200: answer("It went well.", Echo), ...problems() },
  },
};

function boot(url: string, options: object, more: readonly object[] = []) {
  return testApp((app: App) => {
    for (const [index, each] of [options, ...more].entries())
      app.route({ method: "GET", url: `${url}${index}`, handler: async () => ({}), ...each });
  });
}

test("a good route boots", async () => {
  const { app } = await boot("/thing", good);
  await app.close();
});

const { schema } = good;
const answering = (body: object) => ({
  ...good,
  schema: { ...schema, response: { ...schema.response, 200: answer("x", Type.Unsafe(body)) } },
});

test.each([
  ["no schema", { config: good.config }],
  ["no operationId", { ...good, schema: { ...schema, operationId: undefined } }],
  ["no summary", { ...good, schema: { ...schema, summary: "" } }],
  ["no tag", { ...good, schema: { ...schema, tags: [] } }],
  ["no action", { schema }],
  ["an unknown action", { ...good, config: { action: "peek" } }],
  ["no success", { ...good, schema: { ...schema, response: problems() } }],
  ["no problems", { ...good, schema: { ...schema, response: { 200: answer("x", Echo) } } }],
  [
    "a token's route with a public one's problems",
    { ...good, schema: { ...schema, response: { 200: answer("x", Echo), ...publicProblems() } } },
  ],
  [
    "a catch-all status",
    { ...good, schema: { ...schema, response: { ...schema.response, "2xx": answer("x", Echo) } } },
  ],
  ["anything", answering(Type.Any())],
  ["the unknown", answering(Fields({ deep: Type.Array(Type.Unknown()) }))],
  ["an open object", answering({ type: "object", properties: {} })],
  ["an object that says it is open", answering({ type: "object", additionalProperties: true })],
  ["an enum without a type", answering(Fields({ word: Type.Enum(["a", "b"]) }))],
  ["an open object among alternatives", answering({ anyOf: [{ type: "string" }, { type: "object" }] })],
  ["a reference to nothing", answering({ $ref: "Nothing#" })],
  ["a list of anything", answering({ type: "array" })],
  [
    "headers by pattern",
    { ...good, schema: { ...schema, headers: { type: "object", patternProperties: {} } } },
  ],
  ["an open query", { ...good, schema: { ...schema, querystring: Type.Object({}) } }],
])("%s stops the boot", async (_name, options) => {
  await expect(boot("/thing", options)).rejects.toThrow(/breaks the contract/);
});

test("an operationId that two routes have stops the boot", async () => {
  await expect(boot("/thing", good, [good])).rejects.toThrow(/operationId/);
});

test("the broker's own routes boot, and openapi.yaml tells all of them, the same each time", async () => {
  const [one, other] = await Promise.all([testApp(registerRoutes), testApp(registerRoutes)]);
  const text = await renderOpenapi(one.app);
  expect(await renderOpenapi(other.app)).toBe(text);
  expect((await one.app.inject({ url: "/openapi.yaml" })).payload).toBe(text);
  expect((await one.app.inject({ url: "/openapi.json" })).json()).toEqual(parse(text));
  const document = parse(text) as Node;
  const operations = Object.values(document["paths"] ?? {}).flatMap((methods) => Object.values(methods));
  expect(operations.length).toBeGreaterThan(40);
  for (const operation of operations) {
    const medias = [operation["requestBody"], ...Object.values(operation["responses"] ?? {})].flatMap(
      (part) => Object.values(part?.["content"] ?? {}),
    );
    for (const media of medias) {
      const examples = Object.values(media["examples"] ?? {}).map((example) => example["value"]);
      for (const example of "example" in media ? [media["example"]] : examples)
        expect(misfits(example, media["schema"], document)).toEqual([]);
      expect("example" in media || examples.length > 0).toBe(true);
    }
  }
  await Promise.all([one.app.close(), other.app.close()]);
});

/** Where a value does not fit a schema of the published dialect: just enough of it to check examples. */
function misfits(value: unknown, schema: Node | undefined, document: Node, at = ""): string[] {
  if (schema === undefined) return [`${at}: no schema`];
  const {
    $ref: reference,
    nullable,
    oneOf,
    type,
    items,
    properties,
    required,
    additionalProperties,
  } = schema;
  if (typeof reference === "string") {
    const name = (reference as string).split("/").at(-1) ?? "";
    return misfits(value, document["components"]?.["schemas"]?.[name], document, at);
  }
  if (value === null) return (nullable as unknown) === true ? [] : [`${at}: null`];
  const whole = Object.values(schema["allOf"] ?? {});
  if (whole.length > 0) return whole.flatMap((each) => misfits(value, each, document, at));
  if (oneOf !== undefined) {
    const fits = Object.values(oneOf).filter((each) => misfits(value, each, document, at).length === 0);
    return fits.length === 1 ? [] : [`${at}: fits ${fits.length} alternatives`];
  }
  const words = schema["enum"] as unknown as readonly unknown[] | undefined;
  if (words !== undefined && !words.includes(value)) return [`${at}: not in the list`];
  if (Array.isArray(value))
    return (type as unknown) === "array"
      ? value.flatMap((each) => misfits(each, items, document, `${at}/*`))
      : [`${at}: a list`];
  const kind = typeof value === "number" ? "integer" : typeof value;
  if (kind !== (type as unknown)) return [`${at}: is ${kind}`];
  if (typeof value !== "object") return [];
  const missing = Object.values(required ?? {})
    .map(String)
    .filter((name) => !(name in value));
  const inner = Object.entries(value).flatMap(([name, each]) => {
    if (properties?.[name] === undefined && (additionalProperties as unknown) === true) return [];
    const field =
      properties?.[name] ?? (typeof additionalProperties === "object" ? additionalProperties : undefined);
    return misfits(each, field, document, `${at}/${name}`);
  });
  return [...missing.map((name) => `${at}/${name}: missing`), ...inner];
}

test("the reference page has every operation and every code, and needs nothing from elsewhere", async () => {
  const { app } = await testApp(registerRoutes);
  const page = await app.inject({ url: "/docs" });
  expect(page.headers["content-security-policy"]).toMatch(/^default-src 'none'; style-src 'sha256-/);
  for (const code of Object.keys(PROBLEMS)) expect(page.payload).toContain(`id="${code}"`);
  expect(page.payload).toContain('id="listSettings"');
  expect(page.payload).not.toMatch(/<script|(?:src|href)="(?:https?:)?\/\//);
  expect(page.payload).not.toContain("undefined");
  await app.close();
});
