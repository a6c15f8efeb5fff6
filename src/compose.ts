// The composition root: a Config becomes a running service, HTTP on top of what compose-broker.ts puts together. These two
// are the only files that name every implementation.
// What was started is stopped in the reverse order, also when a later part fails to start.
import { join } from "node:path";
import type { Logger } from "pino";
import packageJson from "../package.json" with { type: "json" };
import { startBackground } from "./background.ts";
import { clock, openBroker } from "./compose-broker.ts";
import type { Config } from "./config.ts";
import type { Broker } from "./domain/broker.ts";
import { type App, buildApp } from "./http/app.ts";
import { DEFAULT_LIMITS } from "./http/limits.ts";
import { type Listening, listen } from "./http/listening.ts";
import { createMetrics } from "./http/metrics.ts";
import { registerRoutes } from "./http/routes.ts";
import { newId } from "./ids.ts";
import { sealRegularly } from "./sealer.ts";
import { keepPrivately } from "./private-file.ts";

const DRAIN_SECONDS = 10;

export type Service = {
  readonly app: App;
  readonly broker: Broker;
  /** Where the first admin's token was written, when this was the first start. */
  readonly adminTokenFile: string | null;
  /** Takes connections from now on. @returns where @throws Error when somebody else listens there */
  listen(): Promise<string>;
  /** Lets what is in flight finish, then ends everything. May be called more than once. */
  close(): Promise<void>;
};

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

async function start(
  config: Config,
  logger: Logger,
  started: (() => Promise<void>)[],
): Promise<Omit<Service, "close">> {
  const metrics = createMetrics({ ofProcess: true });
  const { broker, signingKeys, tools, ping, managersHealth, tracing, ...background } = await openBroker(
    config,
    logger,
    started,
    metrics,
  );
  const adminTokenFile = join(config.home, "admin.token");
  const admin = await broker.createFirstAdmin((token) => keepPrivately(adminTokenFile, token));
  await broker.createFirstSigningKey();
  const hasClouds = config.clouds.names.length > 0;
  started.push(startBackground({ ...background, broker, clock, logger, hasClouds }));
  started.push(sealRegularly(tools.sealing, () => broker.keepAudit(), metrics, logger));
  const app = await buildApp(
    {
      ...appSettings(config),
      broker,
      logger,
      metrics,
      signingKeys,
      trace: tracing.request,
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
  let listening: Promise<Listening> | undefined;
  let isClosed = false;
  started.push(async () => {
    isClosed = true;
    const begun = await listening?.catch(() => undefined);
    await (begun === undefined ? app.close() : begun.close());
  });
  return {
    app,
    broker,
    adminTokenFile: admin === null ? null : adminTokenFile,
    listen: async () => {
      if (isClosed) throw new Error("the service is closed");
      listening ??= listen(app, config);
      return (await listening).url;
    },
  };
}

/** What the app needs to know of the configuration. */
export function appSettings(config: Config) {
  return {
    limits: {
      ...DEFAULT_LIMITS,
      unitsPerSecond: config.rateLimit,
      addressPerSecond: config.limits.addressRequests,
    },
    shedding: config.limits,
    silenceSeconds: config.limits.silenceSeconds,
    trustProxy: config.trustedProxies.length === 0 ? (false as const) : config.trustedProxies,
    version: packageJson.version,
    publicUrl: config.publicUrl,
    drainSeconds: DRAIN_SECONDS,
    clock,
    newId,
  };
}
