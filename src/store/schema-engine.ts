// Prisma's schema engine as WebAssembly, run over the driver: the native one would have to be downloaded.
// Loaded only where a schema is changed or compared; never on the way of a request.
import { readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PrismaPg } from "@prisma/adapter-pg";
import {
  ColumnTypeEnum,
  type SqlDriverAdapter,
  bindMigrationAwareSqlAdapterFactory,
} from "@prisma/driver-adapter-utils";
import type { MigrationList, SchemaEngine } from "@prisma/schema-engine-wasm";
import pg from "pg";

const prismaFolder = fileURLToPath(new URL("../../prisma", import.meta.url));
export const migrationsFolder = join(prismaFolder, "migrations");
/** Fixed numbers of PostgreSQL's catalogue. */
const charTypeId = 18;
const charArrayTypeId = 1002;

const schemaPath = join(prismaFolder, "schema.prisma");

export type Engine = AsyncDisposable & {
  /** Runs one command; a failure is the database's own message where it had one. */
  run<T>(command: (engine: SchemaEngine) => Promise<T>): Promise<T>;
};

/** Opens the engine on a pool that the caller keeps; shadow databases are made beside it and dropped again. */
export async function openEngine(pool: pg.Pool): Promise<Engine> {
  let failure: unknown;
  const remember = (error: unknown) => {
    failure ??= error;
  };
  const factory = new PrismaPg(pool);
  const connect = factory.connect.bind(factory);
  factory.connect = async () => wholeScripts(await connect(), remember);
  factory.connectToShadowDb = async () => {
    const name = `coffer_shadow_${crypto.randomUUID().replaceAll("-", "")}`;
    await pool.query(`CREATE DATABASE ${name}`);
    const shadowPool = new pg.Pool({ ...pool.options, database: name, ...withDatabase(pool, name) });
    ignoreLateErrors(shadowPool);
    const adapter = wholeScripts(await new PrismaPg(shadowPool).connect(), remember);
    adapter.dispose = async () => {
      await shadowPool.end();
      await pool.query(`DROP DATABASE ${name}`);
    };
    return adapter;
  };
  const engine = await (await loadEngine()).new(
    { datamodels: [[schemaPath, await readFile(schemaPath, "utf8")]] },
    () => undefined,
    bindMigrationAwareSqlAdapterFactory(factory),
  );
  return {
    run: async (command) => {
      failure = undefined;
      try {
        return await command(engine);
      } catch (error) {
        throw failure ?? error;
      }
    },
    [Symbol.asyncDispose]: async () => engine.free(),
  };
}

/**
 * A pool's end() does not wait for its sockets. A server that is stopped, or a database dropped, meanwhile makes the
 * closing connection emit an error that nobody listens for any more, which would end the process.
 */
export function ignoreLateErrors(pool: pg.Pool): void {
  pool.on("error", () => undefined);
  pool.on("connect", (client) => client.on("error", () => undefined));
}

/**
 * The adapter cuts a script at every semicolon, also inside strings and function bodies, and sends the pieces over
 * any connections of the pool. PostgreSQL takes a script whole, and then all of it or nothing happens.
 */
function wholeScripts<Adapter extends SqlDriverAdapter & { underlyingDriver(): pg.Pool }>(
  adapter: Adapter,
  remember: (error: unknown) => void,
): Adapter {
  const pool = adapter.underlyingDriver();
  allowChar(adapter, pool);
  adapter.executeScript = async (script) => {
    try {
      await pool.query(script);
    } catch (error) {
      remember(error);
      throw error;
    }
  };
  return adapter;
}

/**
 * The catalogue has columns of the type "char", which the engine needs and the adapter refuses. They travel through
 * it as the type's array, which it knows and the engine never asks for.
 */
function allowChar(adapter: SqlDriverAdapter, pool: pg.Pool): void {
  const query: (...args: unknown[]) => Promise<pg.QueryResult> = pool.query.bind(pool);
  const retyped = async (...args: unknown[]) => {
    const result = await query(...args);
    for (const field of result.fields ?? []) {
      if (field.dataTypeID === charTypeId) field.dataTypeID = charArrayTypeId;
    }
    return result;
  };
  Object.assign(pool, { query: retyped });
  const queryRaw = adapter.queryRaw.bind(adapter);
  adapter.queryRaw = async (statement) => {
    const result = await queryRaw(statement);
    const columnTypes = result.columnTypes.map((type) =>
      type === ColumnTypeEnum.CharacterArray ? ColumnTypeEnum.Character : type,
    );
    return { ...result, columnTypes };
  };
}

function withDatabase(pool: pg.Pool, name: string): { connectionString?: string } {
  if (!pool.options.connectionString) return {};
  const url = new URL(pool.options.connectionString);
  url.pathname = `/${name}`;
  return { connectionString: url.href };
}

/** What Node's types leave out. */
declare const WebAssembly: {
  instantiate(
    bytes: Uint8Array,
    imports: object,
  ): Promise<{ instance: { exports: { __wbindgen_start(): void } } }>;
};

let loading: Promise<typeof SchemaEngine> | undefined;

/** Once per process: the package's bindings are global, and a second instance would read the first one's memory. */
function loadEngine(): Promise<typeof SchemaEngine> {
  loading ??= instantiate();
  return loading;
}

/** By hand, because importing the module as the package does prints a warning that it is experimental. */
async function instantiate(): Promise<typeof SchemaEngine> {
  // Where the bindings put the words of a panic; without it, a panic is "unreachable".
  Object.assign(globalThis, { PRISMA_WASM_PANIC_REGISTRY: { set_message: throwPanic } });
  const bindings = await import("@prisma/schema-engine-wasm/schema_engine_bg");
  const entry = createRequire(import.meta.url).resolve("@prisma/schema-engine-wasm/schema_engine_bg");
  const bytes = await readFile(join(dirname(entry), "schema_engine_bg.wasm"));
  const { instance } = await WebAssembly.instantiate(bytes, {
    "./schema_engine_bg.js": { ...bindings, ...patientTimers(bindings) },
  });
  bindings.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
  return bindings.SchemaEngine;
}

/** The engine never takes a timer back (its lock's runs for 10 s); none is to keep a process that has stopped. */
function patientTimers(bindings: object): Record<string, unknown> {
  const names = Object.keys(bindings).filter((name) => name.startsWith("__wbg_setTimeout_"));
  return Object.fromEntries(
    names.map((name) => [name, (work: () => void, ms: number) => setTimeout(work, ms).unref()]),
  );
}

function throwPanic(message: string): never {
  throw new Error(`Prisma's schema engine panicked: ${message}`);
}

/** The migrations folder as the engine wants it. */
export async function readMigrationList(folder = migrationsFolder): Promise<MigrationList> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  const lockfile = join(folder, "migration_lock.toml");
  return {
    baseDir: folder,
    lockfile: { path: "migration_lock.toml", content: await readFile(lockfile, "utf8").catch(() => null) },
    shadowDbInitScript: "",
    migrationDirectories: await Promise.all(
      names.toSorted().map(async (name) => ({
        path: name,
        migrationFile: {
          path: "migration.sql",
          content: { tag: "ok" as const, value: await readFile(join(folder, name, "migration.sql"), "utf8") },
        },
      })),
    ),
  };
}

/** The schema file as the engine wants it. */
export async function readSchema(): Promise<{ files: { path: string; content: string }[] }> {
  return { files: [{ path: schemaPath, content: await readFile(schemaPath, "utf8") }] };
}
