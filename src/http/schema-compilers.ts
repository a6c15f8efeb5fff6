// How schemas validate and serialize: by Fastify's own compilers, each asked at a schema's first use. There are some
// hundred routes, and a start that compiled them all took a fifth more time and 9 MB more memory. What a schema may be
// is looked at when its route is added (contract.ts), not here.
import { AjvCompiler } from "@fastify/ajv-compiler";
import { SerializerSelector } from "@fastify/fast-json-stringify-compiler";
import type { FastifyServerOptions } from "fastify";
import { PUBLISHED } from "./schemas/kit.ts";

/** What the schemas' validators take and tell. */
export const AJV_OPTIONS = {
  coerceTypes: false,
  removeAdditional: false,
  useDefaults: true,
  // Bounded by the body's size; faults.ts tells the first few.
  allErrors: true,
  keywords: [PUBLISHED, "example"],
};

type Route = { readonly schema: unknown };
type Check = ((data: unknown) => unknown) & { readonly errors?: unknown };
type Write = (document: unknown) => string;
type Compilers = NonNullable<NonNullable<FastifyServerOptions["schemaController"]>["compilersFactory"]>;
/** As Fastify calls them; the types of its compilers say less. */
type Factory<Made> = (...given: readonly unknown[]) => (route: Route) => Made;

/** For `Fastify({ schemaController: { compilersFactory } })`. An error of a compiler comes out at the first use. */
export function compilersAtFirstUse(): Compilers {
  const validators = AjvCompiler() as unknown as Factory<Check>;
  const serializers = SerializerSelector() as unknown as Factory<Write>;

  const buildValidator: Factory<Check> = (...given) => {
    const compiler = once(() => validators(...given));
    return (route) => {
      const check = once(() => compiler()(route));
      return (data) => check()(data) || { error: check().errors };
    };
  };
  const buildSerializer: Factory<Write> = (...given) => {
    const compiler = once(() => serializers(...given));
    return (route) => {
      const write = once(() => compiler()(route));
      return (document) => write()(document);
    };
  };
  return { buildValidator, buildSerializer } as unknown as Compilers;
}

function once<Made>(make: () => Made): () => Made {
  let made: Made | undefined;
  return () => (made ??= make());
}
