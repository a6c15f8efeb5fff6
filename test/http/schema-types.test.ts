// The builders of schemas are held against TypeBox's, by whose types they are known: whatever is put together of them is
// the same JSON, in the same order.
import fc from "fast-check";
import { type TSchema, Type as TypeBox } from "typebox";
import { expect, test } from "vitest";
import { Type } from "../../src/http/schemas/type.ts";

type Builders = typeof Type;
/** A schema as it is put together, by whichever builders. */
type Recipe = (by: Builders) => TSchema;

const options = fc.dictionary(
  fc.constantFrom("description", "minLength", "additionalProperties", "examples", "x-own"),
  fc.jsonValue({ maxDepth: 1 }),
  { noNullPrototype: true },
);
const { schema } = fc.letrec<{ schema: Recipe }>((tie) => ({
  schema: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    options.map(
      (given): Recipe =>
        (by) =>
          by.String(given),
    ),
    options.map(
      (given): Recipe =>
        (by) =>
          by.Integer(given),
    ),
    options.map(
      (given): Recipe =>
        (by) =>
          by.Boolean(given),
    ),
    fc.constantFrom<Recipe>(
      (by) => by.String(),
      (by) => by.Integer(),
      (by) => by.Boolean(),
    ),
    fc.tuple(tie("schema"), options).map(
      ([items, given]): Recipe =>
        (by) =>
          by.Array(items(by), given),
    ),
    tie("schema").map(
      (inner): Recipe =>
        (by) =>
          by.Optional(inner(by)),
    ),
    tie("schema").map(
      (inner): Recipe =>
        (by) =>
          by.Unsafe(inner(by)),
    ),
    // What this API's own helpers do: a copy of what is to be seen alone.
    fc.tuple(tie("schema"), options).map(
      ([inner, given]): Recipe =>
        (by) =>
          by.Unsafe({ ...inner(by), ...given }),
    ),
    fc.tuple(fc.dictionary(fc.stringMatching(/^[a-z_]{1,6}$/), tie("schema")), fc.option(options)).map(
      ([properties, given]): Recipe =>
        (by) =>
          by.Object(
            Object.fromEntries(Object.entries(properties).map(([name, each]) => [name, each(by)])),
            given ?? undefined,
          ),
    ),
  ),
}));

test("whatever is built is the JSON that TypeBox builds", () => {
  fc.assert(
    fc.property(schema, (recipe) => {
      expect(JSON.stringify(recipe(Type))).toBe(JSON.stringify(recipe(TypeBox)));
    }),
    { numRuns: 2_000 },
  );
});

test("some of it may be TypeBox's", () => {
  const pick = fc.infiniteStream(fc.constantFrom(Type, TypeBox));
  fc.assert(
    fc.property(schema, pick, (recipe, picked) => {
      const mixed = new Proxy(Type, {
        get: (_, name) => Reflect.get(picked.next().value as object, name) as unknown,
      });
      expect(JSON.stringify(recipe(mixed))).toBe(JSON.stringify(recipe(TypeBox)));
    }),
    { numRuns: 1_000 },
  );
});

test("what is optional in one place is not so in another", () => {
  const shared = Type.String();
  Type.Optional(shared);
  expect(Type.Object({ shared })).toMatchObject({ required: ["shared"] });
});

test("what is optional is no part of the schema, and of what is required neither", () => {
  const properties = { must: Type.String(), may: Type.Optional(Type.Integer({ minimum: 1 })) };
  expect(Type.Object(properties)).toEqual({
    type: "object",
    required: ["must"],
    properties: { must: { type: "string" }, may: { type: "integer", minimum: 1 } },
  });
});
