// Schemas as the framework compiles them: each refers to nothing outside itself. Beside components that are shared, the
// framework checks every one of them again for each answer of each route, which was most of what a start took.
// What is published is written from the schemas as they are in schemas/, and never from these.
import { PUBLISHED } from "./schemas/kit.ts";

type Schema = Readonly<Record<string, unknown>>;

const LOCAL = "#/definitions/";
const nameIn = (reference: string): string => reference.replace(/#.*$/, "");

/** @param find a component, by its name */
export function createSelfContained(find: (id: string) => unknown) {
  // The validator compiles one object once: what routes share goes on being shared, and a HEAD has its GET's.
  const known = new WeakMap<Schema, Schema>();

  /** The same schema, with every component that it comes to among its own definitions, and without what is for readers. */
  function selfContained(schema: Schema): Schema {
    const definitions = new Map<string, unknown>();
    const copy = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(copy);
      if (!isSchema(value)) return value;
      const kept = Object.entries(value).filter(([keyword]) => keyword !== PUBLISHED && keyword !== "$id");
      return Object.fromEntries(
        kept.map(([keyword, inner]) =>
          keyword === "$ref" && typeof inner === "string" ? [keyword, define(inner)] : [keyword, copy(inner)],
        ),
      );
    };
    function define(reference: string): string {
      const name = nameIn(reference);
      if (!definitions.has(name)) {
        // Named before it is looked into: it may come back to itself.
        definitions.set(name, {});
        definitions.set(name, copy(find(name)));
      }
      return `${LOCAL}${name}`;
    }
    const { $ref: reference, ...beside } = schema;
    // The component itself in place of a bare reference to it.
    const isBare = typeof reference === "string" && Object.keys(beside).length === 0;
    const whole = copy(isBare ? find(nameIn(reference)) : schema) as Schema;
    return definitions.size === 0 ? whole : { ...whole, definitions: Object.fromEntries(definitions) };
  }

  function remembered(schema: Schema): Schema {
    const made = known.get(schema) ?? selfContained(schema);
    known.set(schema, made);
    known.set(made, made);
    return made;
  }

  /** Of an input or an answer: its own schema, or that of each media type. */
  return (declared: unknown): unknown => {
    if (!isSchema(declared)) return declared;
    if (!isSchema(declared["content"])) return remembered(declared);
    const medias = Object.entries(declared["content"]).map(([type, media]) => [
      type,
      isSchema(media) && isSchema(media["schema"])
        ? { ...media, schema: remembered(media["schema"]) }
        : media,
    ]);
    return { ...declared, content: Object.fromEntries(medias) };
  };
}

function isSchema(candidate: unknown): candidate is Schema {
  return typeof candidate === "object" && candidate !== null && !Array.isArray(candidate);
}
