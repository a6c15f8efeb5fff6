// The composition root: a Config becomes a running service. The only file that names every implementation.
// What was started is stopped in the reverse order, also when a later part fails to start.
import { mkdir, open as openFile, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { v7 as newId } from "uuid";
import packageJson from "../package.json" with { type: "json" };
import { tokenMaker } from "./auth/api-token.ts";
import { createIdentityVerifier } from "./auth/foreign-identity.ts";
import { createRefusalLimit } from "./auth/refusals.ts";
import { createSigningKeys } from "./auth/signing-keys.ts";
import { keySourcesOf } from "./compose-keys.ts";
import { type Config, ConfigError, silenceGoogle } from "./config.ts";
import { type Broker, createBroker } from "./domain/broker.ts";
import type { IdentityVerifier } from "./domain/federation-ports.ts";
import type { Clock } from "./domain/ports.ts";
import { startEmbeddedPostgres } from "./embedded/postgres.ts";
import { type App, buildApp } from "./http/app.ts";
import { DEFAULT_LIMITS } from "./http/limits.ts";
import { createLogger } from "./http/logging.ts";
import { createMetrics } from "./http/metrics.ts";
import { renderOpenapi } from "./http/openapi.ts";
import { registerRoutes } from "./http/routes.ts";
import { repeat } from "./repeat.ts";
import { openMasterKeys } from "./sealing/key-source.ts";
import { createManagerHealth, openManagers } from "./sealing/managers.ts";
import { createSigningKeySealer } from "./sealing/signing-key-sealer.ts";
import { openVault } from "./sealing/open-vault.ts";
import type { VaultAlert } from "./sealing/vault.ts";
import { applyMigrations } from "./store/migrate.ts";
import { createStore } from "./store/store.ts";

const SWEEP_INTERVAL_MS = 60_000;
/** What a crash left in a manager is seen to soon after its lease has run out. */
const SETTLE_INTERVAL_MS = 2_000;
const SWEEP_BATCH = 100;
const DRAIN_SECONDS = 10;

export { createLogger } from "./http/logging.ts";
export { generateMasterKey } from "./sealing/master-key.ts";

export type Service = {
  readonly app: App;
  readonly broker: Broker;
  /** Where the first admin's token was written, when this was the first start. */
  readonly adminTokenFile: string | null;
  /** Lets what is in flight finish, then ends everything. May be called more than once. */
  close(): Promise<void>;
};

const clock: Clock = { now: () => new Date() };

/**
 * Starts all but the listening.
 * @throws Error whose message an operator can act on: a wrong or missing master key, a database that cannot be
 * reached or is of a newer Coffer, a home that another broker holds
 */
export async function compose(config: Config, logger: Logger): Promise<Service> {
  const started: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const stop of started.splice(0).toReversed()) await stop();
  };
  try {
    return { ...(await start(config, logger, started)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * The broker at work for who has the machine: without HTTP, and gone when `work` has ended.
 * @throws Error as `compose` does; when the home's own broker runs, one that says what to do
 */
export async function operate<Result>(
  config: Config,
  work: (broker: Broker) => Promise<Result>,
): Promise<Result> {
  const started: (() => Promise<void>)[] = [];
  try {
    // A database made up in a wrong folder would be nobody's.
    if (config.databaseUrl === null)
      await stat(join(config.home, "postgres")).catch(() => noBrokerAt(config.home));
    const { broker } = await open(config, createLogger("silent"), started).catch((error: unknown) => {
      throw config.databaseUrl === null ? withAdvice(error) : error;
    });
    return await work(broker);
  } finally {
    for (const stop of started.splice(0).toReversed()) await stop();
  }
}

function noBrokerAt(home: string): never {
  throw new Error(
    `No broker has ever run in ${home}. Set COFFER_HOME to its home, or DATABASE_URL to its database.`,
  );
}

function withAdvice(error: unknown): unknown {
  if (!(error instanceof Error && error.message.includes("is in use"))) return error;
  const advice = "Its embedded database is for one process: stop the broker, do this, and start it again.";
  return new Error(`${error.message}. ${advice}`, { cause: error });
}

async function start(
  config: Config,
  logger: Logger,
  started: (() => Promise<void>)[],
): Promise<Omit<Service, "close">> {
  const { broker, metrics, signingKeys, ping, managersHealth } = await open(config, logger, started);
  const adminTokenFile = join(config.home, "admin.token");
  const admin = await broker.createFirstAdmin((token) => keepPrivately(adminTokenFile, token));
  await broker.createFirstSigningKey();
  started.push(sweepRegularly(broker, logger));
  const app = await buildApp(
    {
      ...appSettings(config),
      broker,
      logger,
      metrics,
      signingKeys,
      health: async () => {
        const { audit } = await ping();
        const clouds = (await managersHealth()).map(([name, ok]) => [name, ok ? "ok" : "unavailable"]);
        // `local` is this process: it is well whenever it answers.
        const managers = { local: "ok" as const, ...Object.fromEntries(clouds) };
        return { database: "ok", audit: audit ? "ok" : "unavailable", managers };
      },
    },
    registerRoutes,
  );
  started.push(() => app.close());
  return { app, broker, adminTokenFile: admin === null ? null : adminTokenFile };
}

/** The broker and what it stands on, the database first. */
async function open(config: Config, logger: Logger, started: (() => Promise<void>)[]) {
  const verifier = createIdentityVerifier({
    clock,
    allowedPrivate: config.privateAddressesAllowed,
    onFetchFailure: (host, flaw) => logger.warn({ host, flaw }, "an identity provider's keys cannot be had"),
  });
  assertIssuers(config, verifier);
  const databaseUrl = await databaseOf(config, logger, started);
  await applyMigrations(databaseUrl);
  const metrics = createMetrics({ ofProcess: true });
  const onBackgroundError = (error: unknown): void =>
    logger.error({ err: error }, "a background task failed");
  const opened = createStore({
    databaseUrl,
    poolSize: config.databasePoolSize,
    clock,
    onBackgroundError,
  });
  started.push(() => opened.close());
  const { store, keys } = opened;
  const managers = await openManagers(config.clouds, {
    now: () => performance.now(),
    onCall: (event) => metrics.managerCall(event),
    onAway: (name, error) => logger.warn({ manager: name, err: error }, "a secret manager cannot be reached"),
    silenceGoogle,
  });
  started.push(async () => {
    for (const manager of managers.values()) await manager.close();
  });
  const masterKeys = await openMasterKeys(keySourcesOf(config, managers, newId), keys);
  const onAlert = (alert: VaultAlert): void => {
    metrics.alert(alert.kind);
    logger.error(alert, "ALERT: a stored record is damaged, or was altered outside the broker");
  };
  const vault = openVault({
    masterKeys,
    managers,
    keyStore: keys,
    clock,
    newId,
    onAlert,
    allow: config.externalAllow,
    cacheSeconds: config.valueCacheSeconds,
    defaults: { storage: config.storage, manager: config.manager },
    enabled: config.managersEnabled,
  });
  const sealer = createSigningKeySealer(masterKeys);
  const signingKeys = createSigningKeys(() => keys.signingKeys(), sealer, clock, newId);
  const broker = createBroker({
    store,
    vault,
    verifier,
    instanceIssuers: config.identityProviders,
    signingKeys,
    tokens: tokenMaker,
    refusals: createRefusalLimit(clock),
    clock,
    newId,
    recoveryDays: config.recoveryDays,
    onBackgroundError,
  });
  started.push(() => broker.drain());
  const managersHealth = createManagerHealth(managers, () => performance.now());
  return { broker, metrics, signingKeys, ping: () => opened.ping(), managersHealth };
}

/** An identity provider that could never vouch for anybody stops the start, and not each sign-in. */
function assertIssuers({ identityProviders }: Config, verifier: IdentityVerifier): void {
  const problems = identityProviders.flatMap((issuer, index) => {
    try {
      verifier.assertUsable(issuer);
      return [];
    } catch (error) {
      return [
        `COFFER_IDENTITY_PROVIDERS, entry ${index + 1}: ${error instanceof Error ? error.message : ""}`,
      ];
    }
  });
  if (problems.length > 0) throw new ConfigError(problems);
}

async function databaseOf(config: Config, logger: Logger, started: (() => Promise<void>)[]): Promise<string> {
  if (config.databaseUrl !== null) return config.databaseUrl.reveal();
  const quiet = {
    info: (message: string) => logger.debug(message),
    error: (message: string) => logger.error(message),
  };
  const postgres = await startEmbeddedPostgres({ home: config.home, logger: quiet });
  started.push(() => postgres.stop());
  return postgres.url;
}

/** Whole or not at all, for its owner's eyes alone, and on disk when it resolves. */
async function keepPrivately(path: string, text: string): Promise<void> {
  await mkdir(join(path, ".."), { recursive: true, mode: 0o700 });
  const aside = `${path}.${process.pid}`;
  const file = await openFile(aside, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(aside, path);
}

/** The broker's own work, now and then; replicas share it, since each takes only rows that no other holds. */
function sweepRegularly(broker: Broker, logger: Logger): () => Promise<void> {
  const every = (pauseMs: number, work: () => Promise<unknown>, failure: string) =>
    repeat(pauseMs, work, (error) => logger.error({ err: error }, failure));
  const stops = [
    every(SWEEP_INTERVAL_MS, () => broker.purgeDue(SWEEP_BATCH), "purging what is due failed"),
    every(SETTLE_INTERVAL_MS, () => broker.settleManagedSecrets(SWEEP_BATCH), "settling secrets failed"),
    every(SETTLE_INTERVAL_MS, () => broker.runMoves(), "moving values failed"),
  ];
  return async () => {
    await Promise.all(stops.map((stop) => stop()));
  };
}

/** What the app needs to know of the configuration. */
function appSettings(config: Config) {
  return {
    limits: { ...DEFAULT_LIMITS, unitsPerSecond: config.rateLimit },
    trustProxy: config.trustedProxies.length === 0 ? (false as const) : config.trustedProxies,
    version: packageJson.version,
    publicUrl: config.publicUrl,
    drainSeconds: DRAIN_SECONDS,
    clock,
    newId,
  };
}

function absent(): never {
  throw new Error("there is no key");
}

/** openapi.yaml's text, from routes that are never called. */
export async function openapiDocument(config: Config): Promise<string> {
  const broker = new Proxy({} as Broker, {
    get: () => () => Promise.reject(new Error("there is no broker")),
  });
  const app = await buildApp(
    {
      ...appSettings(config),
      broker,
      logger: createLogger("silent"),
      metrics: createMetrics({ ofProcess: false }),
      signingKeys: createSigningKeys(
        async () => [],
        { seal: absent, open: absent, reseal: absent },
        clock,
        newId,
      ),
      health: () => Promise.reject(new Error("there is no database")),
    },
    registerRoutes,
  );
  return renderOpenapi(app);
}
