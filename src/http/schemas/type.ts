// The builders of schemas, as TypeBox has them and typed by it: what they make is JSON Schema, and the same JSON as there.
// TypeBox itself is 373 files to load, some 150 ms of a start, for these seven (docs/decisions/0030). What else it marks
// a schema with is for tools that nothing here uses. test/http/schema-types.test.ts compares.
import type { Type as TypeBox } from "typebox";

type Builders = Pick<
  typeof TypeBox,
  "Array" | "Boolean" | "Integer" | "Object" | "Optional" | "String" | "Unsafe"
>;
type Options = Readonly<Record<string, unknown>>;

/** What TypeBox marks a schema with that an object may be without: hidden, so that it is no part of the JSON. */
const OPTIONAL = "~optional";

const optional = (schema: object): object => Object.defineProperty({ ...schema }, OPTIONAL, { value: true });

function objectOf(properties: Readonly<Record<string, object>>, options?: Options): object {
  const required = Object.keys(properties).filter((name) => !(OPTIONAL in (properties[name] as object)));
  return { type: "object", ...(required.length === 0 ? {} : { required }), properties, ...options };
}

/** The static types are TypeBox's word for what each makes; at run time that is plain data. */
export const Type = {
  Array: (items: object, options?: Options) => ({ type: "array", items, ...options }),
  Boolean: (options?: Options) => ({ type: "boolean", ...options }),
  Integer: (options?: Options) => ({ type: "integer", ...options }),
  Object: objectOf,
  Optional: optional,
  String: (options?: Options) => ({ type: "string", ...options }),
  Unsafe: (schema: object) => (OPTIONAL in schema ? optional(schema) : { ...schema }),
} as unknown as Builders;
