// The arrows of docs/architecture.md, as an allow-list: who may import what, of our own files and of packages.
import { readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { globSync } from "node:fs";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const src = join(root, "src");

const LAYERS: Readonly<Record<string, readonly string[]>> = {
  domain: ["domain"],
  auth: ["auth", "domain"],
  sealing: ["sealing", "domain"],
  store: ["store", "domain"],
  embedded: ["embedded", "domain"],
  http: ["http", "domain", "auth"],
  "config.ts": ["config-clouds.ts", "config-issuers.ts", "config-limits.ts", "config-tracing.ts", "domain"],
  "config-clouds.ts": ["domain"],
  "config-issuers.ts": ["auth", "domain"],
  "config-limits.ts": [],
  "config-tracing.ts": [],
  // Loaded only where traces are asked for.
  tracing: ["tracing", "config-tracing.ts"],
  "config-describe.ts": ["config-clouds.ts", "config-limits.ts", "config.ts"],
  // `..`: package.json, for its version.
  "background.ts": ["domain", "repeat.ts"],
  "compose.ts": [
    "..",
    "background.ts",
    "compose-broker.ts",
    "config.ts",
    "domain",
    "http",
    "ids.ts",
    "private-file.ts",
    "sealer.ts",
  ],
  // Of http the types of metrics, and the logger: see "what an operator's command loads".
  "compose-broker.ts": [
    "..",
    "auth",
    "background.ts",
    "compose-keys.ts",
    "config.ts",
    "domain",
    "embedded",
    "http",
    "ids.ts",
    "observe.ts",
    "sealing",
    "store",
  ],
  "private-file.ts": [],
  "compose-keys.ts": ["config.ts", "domain", "sealing"],
  "ids.ts": [],
  "openapi-document.ts": ["auth", "compose.ts", "config.ts", "domain", "http"],
  "observe.ts": ["config-tracing.ts", "domain", "tracing"],
  "option-values.ts": [],
  "repeat.ts": [],
  "usage.ts": [],
  "sealer.ts": ["domain"],
  "operate.ts": ["compose-broker.ts", "config.ts", "domain"],
  "operations.ts": ["config.ts", "domain", "operate.ts", "sealing", "store", "usage.ts"],
  "backup.ts": ["config.ts", "domain", "operate.ts", "sealing", "store"],
  "serve.ts": ["compose-broker.ts", "compose.ts", "config.ts"],
  client: ["client", "usage.ts"],
  "cli.ts": [
    "..",
    "backup.ts",
    "client",
    "config-describe.ts",
    "option-values.ts",
    "config.ts",
    "compose-keys.ts",
    "openapi-document.ts",
    "operate.ts",
    "operations.ts",
    "serve.ts",
    "usage.ts",
  ],
};

/** Packages by who may import them; node: modules are named where a layer must do without some. */
const PACKAGES: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^(fastify|@fastify\/.*|typebox(\/.*)?|prom-client|yaml)$/, ["http"]],
  [/^(pg|@prisma\/.*)$/, ["store"]],
  [/^(@aws-sdk\/.*|@google-cloud\/.*)$/, ["sealing"]],
  [/^pino$/, ["http", "background.ts", "compose-broker.ts", "compose.ts", "observe.ts", "sealer.ts"]],
  [/^jose$/, ["auth"]],
  [/^age-encryption$/, ["client"]],
  [/^uuid$/, ["backup.ts"]],
];

/** Of Node's own modules the rules may use those that are pure. */
const PURE_NODE = new Set(["node:net", "node:util"]);

type Import = {
  readonly file: string;
  readonly layer: string;
  readonly from: string;
  /** As soon as the file is: neither for its types alone nor at a later call. */
  readonly isLoaded: boolean;
};

const layerOf = (path: string): string => path.split("/")[0] ?? path;

/** A statement of a file that has another loaded; they begin a line, as the formatter has it. */
const LOADING = /^(?:import|export)\b(?! type\b)(?:[^;"]*?\bfrom)?\s*"([^"]+)"/gm;

async function importsOf(file: string): Promise<readonly Import[]> {
  const text = await readFile(join(src, file), "utf8");
  const found = text.matchAll(/(?:\bfrom\s*|\bimport\s*\(\s*|^import\s+)"([^"]+)"/gm);
  const loaded = new Set([...text.matchAll(LOADING)].map(([, from]) => from));
  return [...found].map(([, from = ""]) => {
    return { file, layer: layerOf(file), from, isLoaded: loaded.has(from) };
  });
}

const files = globSync("**/*.ts", { cwd: src }).filter((file) => !file.includes("generated/"));
const imports = (await Promise.all(files.map(importsOf))).flat();

function targetLayer({ file, from }: Import): string {
  return layerOf(relative(src, join(src, dirname(file), from)));
}

/** The files and packages that are loaded with these files: not for types alone, nor later on. */
function loadedFrom(entries: readonly string[]): ReadonlySet<string> {
  const loaded = new Set(entries);
  // A Set gives what is added while it is gone through.
  for (const file of loaded)
    for (const each of imports)
      if (each.file === file && each.isLoaded)
        loaded.add(
          each.from.startsWith(".") ? relative(src, join(src, dirname(file), each.from)) : each.from,
        );
  return loaded;
}

describe("layers", () => {
  test("the check sees the tree: more than 25 files and 100 imports", () => {
    expect(files.length).toBeGreaterThan(25);
    expect(imports.length).toBeGreaterThan(100);
  });

  test("every file is in a layer that the table names", () => {
    expect(files.filter((file) => LAYERS[layerOf(file)] === undefined)).toEqual([]);
  });

  test("no file imports a layer that its own may not know", () => {
    const wrong = imports
      .filter(({ from }) => from.startsWith("."))
      .filter((each) => !LAYERS[each.layer]?.includes(targetLayer(each)))
      .map(({ file, from }) => `${file} → ${from}`);
    expect(wrong).toEqual([]);
  });

  test("a package is imported only where it belongs, and none is unlisted", () => {
    const wrong = imports
      .filter(({ from }) => !from.startsWith(".") && !from.startsWith("node:"))
      .filter(
        ({ from, layer }) => !PACKAGES.some(([name, layers]) => name.test(from) && layers.includes(layer)),
      )
      .map(({ file, from }) => `${file} → ${from}`);
    expect(wrong).toEqual([]);
  });

  test("what is loaded, at once or later, is a dependency of the broker's and not one for development", async () => {
    const { dependencies } = JSON.parse(await readFile(join(src, "../package.json"), "utf8"));
    const loaded = [
      ...imports.filter(({ isLoaded }) => isLoaded).map(({ from }) => from),
      ...(await laterOn()),
    ];
    const packages = loaded.flatMap((from) => /^(?!\.|node:)(@[^/]+\/)?[^/]+/.exec(from)?.[0] ?? []);
    expect(new Set(packages)).toContain("jose");
    expect(packages.filter((name) => !Object.hasOwn(dependencies, name))).toEqual([]);
  });

  test("what an operator's command loads has no server in it", () => {
    const loaded = loadedFrom(["operate.ts", "operations.ts", "backup.ts"]);
    expect(loaded.size).toBeGreaterThan(100);
    expect(loaded).toContain("pg");
    expect(
      [...loaded].filter((from) => /^(http\/|fastify|@fastify\/|ajv|typebox|prom-client|yaml)/.test(from)),
    ).toEqual(["http/logging.ts"]);
  });

  test("the domain uses nothing of Node that has an effect", () => {
    const wrong = imports
      .filter(({ layer, from }) => layer === "domain" && from.startsWith("node:") && !PURE_NODE.has(from))
      .map(({ file, from }) => `${file} → ${from}`);
    expect(wrong).toEqual([]);
  });

  test("the environment is read in config.ts alone, and by the client commands in one file of theirs", async () => {
    const readers = await filesWith(/process\.env/);
    expect(readers).toEqual(["client/environment.ts", "config.ts"]);
  });

  test("the clock and randomness reach the domain from outside", async () => {
    const users = await filesWith(/new Date\(\)|Date\.now\(|Math\.random|randomBytes|randomUUID/);
    expect(users.filter((file) => file.startsWith("domain/"))).toEqual([]);
  });

  test("a Permit is made in the gate alone", async () => {
    expect(await filesWith(/as Permit\b|as unknown as Permit/)).toEqual(["domain/gate.ts"]);
  });

  test("a path is locked in path-lock.ts alone, where the key to sign under comes along", async () => {
    const lockers = await filesWith(/\.lockPaths?\(/);
    expect(lockers.filter((file) => file.startsWith("domain/"))).toEqual(["domain/path-lock.ts"]);
  });

  test("AES-GCM is touched in sealing/envelope.ts alone", async () => {
    expect(await filesWith(/createCipheriv|createDecipheriv/)).toEqual(["sealing/envelope.ts"]);
  });

  test("nothing but the gate is handed the store's transactions", async () => {
    expect((await filesWith(/\.transact\(/)).filter((file) => file.startsWith("domain/"))).toEqual([
      "domain/gate-changes.ts",
    ]);
  });
});

/** What is loaded only when it is needed. */
async function laterOn(): Promise<string[]> {
  const texts = await Promise.all(files.map((file) => readFile(join(src, file), "utf8")));
  return texts.flatMap((text) =>
    [...text.matchAll(/(?<!typeof )\bimport\(\s*"([^"]+)"/g)].flatMap(([, from]) => from ?? []),
  );
}

async function filesWith(pattern: RegExp): Promise<string[]> {
  const texts = await Promise.all(
    files.map(async (file) => [file, await readFile(join(src, file), "utf8")] as const),
  );
  return texts
    .filter(([, text]) => pattern.test(text.replaceAll(/^\s*(\/\/|\*|\/\*).*$/gm, "")))
    .map(([file]) => file)
    .toSorted();
}
