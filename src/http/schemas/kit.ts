// How this API's schemas are written. One object validates, serializes and is published, in the dialect of
// OpenAPI 3.0 (no const, no type lists, `nullable` for null). Where the validator or the serializer needs what that
// dialect cannot say, the published form stands beside it under PUBLISHED, and `published` puts it in its place.
import type { Readable } from "node:stream";
import type { Static, TSchema, TUnsafe } from "typebox";
import { Type } from "./type.ts";

/** The keyword under which a schema carries what openapi.yaml says instead of it. */
export const PUBLISHED = "x-coffer-openapi";

type Extras = { readonly description?: string; readonly examples?: readonly unknown[] };
type Shown<Schema extends TSchema> = TUnsafe<Static<Schema>>;

/** A closed object: what is not named is refused on its way in and dropped on its way out. */
export function Fields<const Properties extends Record<string, TSchema>>(
  properties: Properties,
  extras: object = {},
) {
  return Type.Object(properties, { additionalProperties: false, ...extras });
}

/** The schema, or null. Ajv and fast-json-stringify know the keyword. */
export function Nullable<Schema extends TSchema>(
  schema: Schema,
  extras: Extras = {},
): TUnsafe<Static<Schema> | null> {
  const { [PUBLISHED]: shown } = schema as { readonly [PUBLISHED]?: object };
  const also = shown === undefined ? {} : { [PUBLISHED]: { ...shown, ...extras, nullable: true } };
  return Type.Unsafe<Static<Schema> | null>({ ...schema, ...extras, nullable: true, ...also });
}

/** One of a closed list of words; for what clients send. */
export function OneOf<const Word extends string>(words: readonly Word[], extras: object = {}): TUnsafe<Word> {
  return Type.Unsafe<Word>({ type: "string", enum: [...words], ...extras });
}

/** One of a list that may grow; for what clients are sent. The serializer does not check it. */
export function OpenOneOf<const Word extends string>(
  words: readonly Word[],
  { description, ...extras }: Extras = {},
) {
  const open = "An open list: accept members that you do not know.";
  return OneOf(words, {
    description: description === undefined ? open : `${description} ${open}`,
    ...extras,
  });
}

export function List<Item extends TSchema>(
  item: Item,
  extras: object = {},
): TUnsafe<readonly Static<Item>[]> {
  return Type.Unsafe<readonly Static<Item>[]>(Type.Array(item, { ...extras }));
}

/** What the validator or serializer works with, and what is published in its place. */
export function Instead<Schema extends TSchema>(working: Schema, shown: object): Shown<Schema> {
  return Type.Unsafe<Static<Schema>>({ ...working, [PUBLISHED]: shown });
}

/** A schema as openapi.yaml shows it. */
export function published(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(published);
  if (typeof schema !== "object" || schema === null) return schema;
  const entries = Object.entries(schema);
  const shown = entries.find(([key]) => key === PUBLISHED);
  if (shown !== undefined) return published(shown[1]);
  return Object.fromEntries(entries.map(([key, inner]) => [key, published(inner)]));
}

/** Every component, by its name in openapi.yaml. Filled while the files of this folder load, read by app.ts. */
export const COMPONENTS = new Map<string, TSchema>();

/** Gives a schema its name in openapi.yaml, and answers the reference to it. */
export function component<Schema extends TSchema>(name: string, schema: Schema): Shown<Schema> {
  if (COMPONENTS.has(name)) throw new Error(`two schemas are named ${name}`);
  COMPONENTS.set(name, Object.assign(schema, { $id: name }));
  return Type.Unsafe<Static<Schema>>({ $ref: `${name}#` });
}

type Headers = Readonly<
  Record<string, { readonly type: string; readonly description: string; readonly example?: string }>
>;
type Named = Readonly<Record<string, unknown>>;

type Told = { readonly headers?: Headers; readonly examples?: Named };

function responseOf(description: string, schema: TSchema, { headers, examples }: Told, media: object) {
  const shown = Object.fromEntries(Object.entries(examples ?? {}).map(([name, value]) => [name, { value }]));
  const json = { schema, ...(examples === undefined ? {} : { examples: shown }) };
  return {
    description,
    ...(headers === undefined ? {} : { headers }),
    content: { "application/json": json, ...media },
  };
}

/** An answer with a JSON body. The static type is the body's, so that a handler's answer is checked against it. */
export function answer<Schema extends TSchema>(
  description: string,
  schema: Schema,
  told: Told = {},
): Shown<Schema> {
  return Type.Unsafe<Static<Schema>>(responseOf(description, schema, told, {}));
}

/** The same, whose handler hands over the body's text: what is in it is up to the handler. */
export function answerWritten(description: string, schema: TSchema, told: Told = {}): TUnsafe<string> {
  return Type.Unsafe<string>(responseOf(description, schema, told, {}));
}

/** The same, also to be had as plain text. */
export function answerOrText<Schema extends TSchema>(
  description: string,
  schema: Schema,
  told: Told & { readonly text: string },
): TUnsafe<Static<Schema> | string> {
  const media = { "text/plain": { schema: { type: "string" }, example: told.text } };
  return Type.Unsafe<Static<Schema> | string>(responseOf(description, schema, told, media));
}

/** An answer that goes on: text, as it comes. What may be in it is up to the handler. */
export function stream(description: string, example: string): TUnsafe<Readable> {
  const media = { "text/event-stream": { schema: { type: "string" }, example } };
  return Type.Unsafe<Readable>({ description, content: media });
}

/** An answer without a body: 204, 304. */
export function empty(description: string, headers?: Headers): TUnsafe<undefined> {
  return Type.Unsafe<undefined>({ type: "null", description, ...(headers === undefined ? {} : { headers }) });
}

export const LOCATION: Headers = { Location: { type: "string", description: "Where the new object is." } };
export const ETAG: Headers = {
  ETag: {
    type: "string",
    description: "Stands for this very body. Give it back in If-None-Match, or in If-Match of a write.",
    example: '"01981c62-d3e0-7f45-9b07-c2d4e6f8091a.4.2.metadata"',
  },
};
