// openapi.json as the fuzz reads it, and what is wrong with an answer, going by it.
import { createRequire } from "node:module";

type Schema = { readonly [keyword: string]: unknown };
export type Parameter = {
  readonly name: string;
  readonly in: string;
  readonly required: boolean;
  readonly schema: Schema;
  readonly example?: unknown;
};
export type Media = {
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
export type Document = {
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: {
    readonly responses: Record<string, Response>;
    readonly schemas: Record<string, Schema>;
  };
};
export type Route = { readonly method: string; readonly path: string; readonly operation: Operation };
export type Got = { status: number; headers: Record<string, string | string[] | undefined>; text: string };
type Validate = ((data: unknown) => boolean) & { readonly errors?: unknown };
type Compile = (part: { readonly schema: Schema }) => Validate;
type Compiler = () => (schemas: Record<string, Schema>, options: object) => Compile;

/** Finds the validator of a place in the document, by the framework's own Ajv. */
export function validators(document: Document): (at: string) => Validate {
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
export function flawOf(
  document: Document,
  route: Route,
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
