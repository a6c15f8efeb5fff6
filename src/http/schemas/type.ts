// The builders of schemas, as TypeBox has them and typed by it: what they make is JSON Schema, and the same JSON as there.
// TypeBox itself is 373 files to load, a fifth of a broker's start, for these seven; all else in it is for tools that ask
// a schema of which type it is, which nothing here does (docs/decisions/0030). test/http/schema-types.test.ts compares.
import type { Type as TypeBox } from "typebox";

type Builders = Pick<
  typeof TypeBox,
  "Array" | "Boolean" | "Integer" | "Object" | "Optional" | "String" | "Unsafe"
>;
type Options = Readonly<Record<string, unknown>>;

/** Those that an object may be without. A copy is one only where it is made here. */
const optional = new WeakSet<object>();

function copyOf(schema: object, isOptional = optional.has(schema)): object {
  const copy = { ...schema };
  if (isOptional) optional.add(copy);
  return copy;
}

function objectOf(properties: Readonly<Record<string, object>>, options?: Options): object {
  const required = Object.keys(properties).filter((name) => !optional.has(properties[name] as object));
  return { type: "object", ...(required.length === 0 ? {} : { required }), properties, ...options };
}

/** The static types are TypeBox's word for what each makes; at run time that is plain data. */
export const Type = {
  Array: (items: object, options?: Options) => ({ type: "array", items, ...options }),
  Boolean: (options?: Options) => ({ type: "boolean", ...options }),
  Integer: (options?: Options) => ({ type: "integer", ...options }),
  Object: objectOf,
  Optional: (schema: object) => copyOf(schema, true),
  String: (options?: Options) => ({ type: "string", ...options }),
  Unsafe: (schema: object) => copyOf(schema),
} as unknown as Builders;
