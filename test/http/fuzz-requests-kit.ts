// Requests that the fuzz sends: made from a route's parameters and examples, and spoiled in part, by a seed.
import type { World } from "../harness/broker.ts";
import type { Media, Parameter, Route } from "./fuzz-document-kit.ts";
import { CONTENT_TYPES, HEADERS, HOSTILE_TEXT, HOSTILE_VALUES, RAW_BODIES } from "./fuzz-input-kit.ts";

export type Sent = {
  method: string;
  url: string;
  headers: Record<string, string | string[]>;
  body: Buffer | null;
};

export type Cast = {
  readonly world: World;
  /** Tokens, good ones and bad ones. */
  readonly callers: readonly string[];
  /** Ids that a request may well name: those of what a request may destroy are nobody's who calls. */
  readonly ids: {
    readonly safe: readonly string[];
    readonly expendable: readonly string[];
    readonly named: Readonly<Record<string, string>>;
  };
};

const UUID = /^[0-9a-f-]{36}$/;

/** mulberry32: small, seeded, good enough to pick with. */
export function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function encoded(value: string): string {
  try {
    return encodeURIComponent(value);
  } catch {
    // Half a surrogate pair, as CESU-8 has it.
    return "%ED%A0%80";
  }
}

export function generator(random: () => number, { world, callers, ids }: Cast) {
  /** How hostile the request at hand is: some are almost plain, or little would ever get past the first check. */
  let hostility = 1;
  let place = world.project;
  const chance = (share: number): boolean => random() < share;
  const spoils = (share: number): boolean => chance(share * hostility);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  const text = (): string =>
    chance(0.8)
      ? pick(HOSTILE_TEXT)
      : Array.from({ length: Math.floor(random() * 20) }, () =>
          String.fromCodePoint(Math.floor(random() * 0xd7ff)),
        ).join("");

  function idFor(route: Route): string {
    const destructive = route.method === "DELETE" || /users|service-accounts|tokens|members/.test(route.path);
    return pick(destructive && !route.path.startsWith("/settings") ? ids.expendable : ids.safe);
  }

  function plausible(route: Route, { name, schema, example }: Parameter): string {
    if (name === "owner_id") return place.id;
    if (name === "owner_type") return place.type;
    if (ids.named[name] !== undefined && route.method !== "DELETE") return ids.named[name];
    if (name === "path")
      return pick([
        "secret/Custom/a",
        "secret/Custom/a",
        "connect/S3/training-data",
        "secret/Custom",
        "connect/ContainerRegistry/new",
      ]);
    if (schema["format"] === "uuid") return idFor(route);
    if (Array.isArray(schema["enum"])) return String(pick(schema["enum"]));
    if (schema["type"] === "boolean") return pick(["true", "false"]);
    if (schema["type"] === "integer") return pick(["1", "2", "10"]);
    return typeof example === "string" ? example : text();
  }

  /** An example with some of it replaced. */
  function spoiled(value: unknown): unknown {
    if (typeof value === "string" && UUID.test(value))
      return spoils(0.25) ? text() : pick([...ids.safe, ...ids.expendable]);
    if (spoils(0.25)) return chance(0.5) ? text() : pick(HOSTILE_VALUES);
    if (Array.isArray(value)) return value.map(spoiled);
    if (typeof value !== "object" || value === null) return value;
    const fields = Object.entries(value)
      .filter(() => !spoils(0.1))
      .map(([name, inner]) => [name, spoiled(inner)]);
    if (spoils(0.1)) fields.push([text(), text()]);
    return Object.fromEntries(fields);
  }

  function bodyOf(content: Record<string, Media>): Buffer {
    if (spoils(0.15)) return Buffer.from(pick(RAW_BODIES) as string);
    const media = pick(Object.values(content));
    const shown = [media.example, ...Object.values(media.examples ?? {}).map(({ value }) => value)].filter(
      (each) => each !== undefined,
    );
    const example = pick(shown);
    return Buffer.from(JSON.stringify(spoiled(example)) ?? "");
  }

  return function next(route: Route): Sent {
    hostility = pick([0, 0.4, 1]);
    place = pick([world.project, world.project, world.organization, { type: "user", id: world.owner.id }]);
    const { parameters = [], requestBody } = route.operation;
    const query: string[] = [];
    let path = route.path;
    const headers: Sent["headers"] = {};
    for (const parameter of parameters) {
      const value = spoils(0.12) ? text() : plausible(route, parameter);
      // An empty segment would be another route's.
      if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, () => encoded(value) || "%20");
      else if (parameter.in === "query" && (parameter.required ? !spoils(0.04) : chance(0.3))) {
        query.push(`${parameter.name}=${encoded(value)}`);
        if (spoils(0.02)) query.push(`${parameter.name}=${encoded(value)}`);
      }
    }
    if (spoils(0.04)) query.push(`${encoded(text())}=${encoded(text())}`);
    if (spoils(0.02)) query.push(pick(["%", "%zz", "a=%ff", "&&", "=", "__proto__=1", "%00"]));
    for (let count = Math.floor(random() * 2.2 * hostility); count > 0; count--) {
      const [name, value] = pick(HEADERS);
      headers[name] = value;
    }
    const caller = pick(callers);
    if (caller !== "" && headers["authorization"] === undefined)
      headers["authorization"] = `Bearer ${caller}`;
    let body: Buffer | null = null;
    if (requestBody !== undefined ? !spoils(0.03) : spoils(0.04)) {
      body =
        requestBody === undefined ? Buffer.from(pick(RAW_BODIES) as string) : bodyOf(requestBody.content);
      headers["content-type"] = spoils(0.1) ? pick(CONTENT_TYPES) : "application/json";
    }
    return {
      method: route.method,
      url: query.length === 0 ? path : `${path}?${query.join("&")}`,
      headers,
      body,
    };
  };
}
