// The broker and what it stands on, without HTTP: what serves, and what an operator's command works with. Of the HTTP layer
// the logger alone is loaded from here: the rest is most of what a start loads.
import type { Logger } from "pino";
import packageJson from "../package.json" with { type: "json" };
import { tokenMaker } from "./auth/api-token.ts";
import { createIdentityVerifier } from "./auth/foreign-identity.ts";
import { createValueGenerator } from "./auth/generated-values.ts";
import { askDns } from "./auth/outbound.ts";
import { createRefusalLimit } from "./auth/refusals.ts";
import { createSigningKeys } from "./auth/signing-keys.ts";
import { createWebhookSender } from "./auth/webhook-sender.ts";
import { createWake } from "./background.ts";
import { keySourcesOf, sealSeedsOf } from "./compose-keys.ts";
import { type Config, silenceGoogle } from "./config.ts";
import type { SealMaker } from "./domain/audit-chain.ts";
import { type SealAlert, type Sealing, createSealing } from "./domain/audit-sealing.ts";
import { createEventHashes } from "./domain/event-hashes.ts";
import { createBroker } from "./domain/broker.ts";
import { createDeliveries } from "./domain/deliver.ts";
import type { Clock } from "./domain/ports.ts";
import { startEmbeddedPostgres } from "./embedded/postgres.ts";
import type { Metrics } from "./http/metrics.ts";
import { newId } from "./ids.ts";
import { openTracing, tracedStore } from "./observe.ts";
import { createSealMaker, hashEvent } from "./sealing/audit-seal.ts";
import { openMasterKeys } from "./sealing/key-source.ts";
import { createLifecycleSealer } from "./sealing/lifecycle-sealer.ts";
import { createManagerHealth, openManagers } from "./sealing/managers.ts";
import type { MasterKeys } from "./sealing/master-key.ts";
import { createSigningKeySealer } from "./sealing/signing-key-sealer.ts";
import { openVault } from "./sealing/open-vault.ts";
import type { VaultAlert } from "./sealing/vault.ts";
import { applyMigrations } from "./store/migrate.ts";
import { type OpenStore, createStore } from "./store/store.ts";

export { createLogger } from "./http/logging.ts";

export const clock: Clock = { now: () => new Date() };
const ticks = (): number => performance.now();

/** What who has the machine needs beside the broker. */
export type Tools = Pick<OpenStore, "auditStream"> & {
  readonly maker: SealMaker;
  readonly sealing: Sealing;
  readonly keys: MasterKeys;
  readonly databaseUrl: string;
};

/** Who is told of what the broker does, where anybody is: the metrics. */
export type BrokerObserver = Partial<
  Pick<
    Metrics,
    "alert" | "auditFailed" | "auditWritten" | "keyLookedFor" | "managerCall" | "recorded" | "watchPool"
  >
>;

/**
 * The broker and what it stands on, the database first.
 * @param started takes how to stop each part, as it is started
 * @throws Error as `compose` does
 */
export async function openBroker(
  config: Config,
  logger: Logger,
  started: (() => Promise<void>)[],
  observer: BrokerObserver = {},
) {
  const verifier = createIdentityVerifier({
    clock,
    allowedPrivate: config.privateAddressesAllowed,
    onFetchFailure: (host, flaw) => logger.warn({ host, flaw }, "an identity provider's keys cannot be had"),
  });
  const databaseUrl = await databaseOf(config, logger, started);
  await applyMigrations(databaseUrl);
  const tracing = await openTracing(config.tracing, packageJson.version, logger);
  started.push(() => tracing.close());
  const onBackgroundError = (error: unknown): void =>
    logger.error({ err: error }, "a background task failed");
  const wake = createWake();
  const hashes = createEventHashes(hashEvent);
  const opened = createStore({
    databaseUrl,
    poolSize: config.databasePoolSize,
    clock,
    onBackgroundError,
    onAnnounced: wake.announced,
    observer: {
      ...observer,
      recorded: (event) => {
        observer.recorded?.(event);
        hashes.remember(event);
      },
    },
  });
  observer.watchPool?.(() => opened.pool());
  started.push(() => opened.close());
  const { keys } = opened;
  const store = tracedStore(tracing, opened.store);
  const managers = await openManagers(config.clouds, {
    now: ticks,
    onCall: (event) => {
      observer.managerCall?.(event);
      tracing.called(event);
    },
    onAway: (name, error) => logger.warn({ manager: name, err: error }, "a secret manager cannot be reached"),
    silenceGoogle,
  });
  started.push(async () => {
    for (const manager of managers.values()) await manager.close();
  });
  const masterKeys = await openMasterKeys(keySourcesOf(config, managers, newId), keys);
  const onAlert = (alert: VaultAlert | SealAlert): void => {
    observer.alert?.(alert.kind);
    logger.error(alert, "ALERT: what is stored is damaged, or was altered outside the broker");
  };
  const maker = createSealMaker(sealSeedsOf(masterKeys), config.auditEarlierKeys);
  const sealing = createSealing({ seals: opened.seals, maker, hashes, keys: masterKeys, clock, onAlert });
  const vault = openVault({
    masterKeys,
    managers,
    keyStore: keys,
    clock,
    newId,
    versionNow: ({ setting, version }) => store.reader.version(setting, version.version),
    onAlert,
    onKeyLookedFor: (found) => observer.keyLookedFor?.(found),
    allow: config.externalAllow,
    cacheSeconds: config.valueCacheSeconds,
    defaults: { storage: config.storage, manager: config.manager },
    enabled: config.managersEnabled,
  });
  const sealer = createSigningKeySealer(masterKeys);
  const signingKeys = createSigningKeys(() => keys.signingKeys(), sealer, clock, newId);
  const lifecycle = createLifecycleSealer(masterKeys);
  const webhookSender = createWebhookSender({
    clock,
    rules: { allowedPrivate: config.privateAddressesAllowed, resolve: askDns },
    sealer: lifecycle.webhookSecret,
  });
  const made = createBroker({
    store,
    changes: opened.changes,
    values: createValueGenerator(lifecycle.publicPart),
    webhookSender,
    lifecycle,
    vault,
    verifier,
    instanceIssuers: config.identityProviders,
    signingKeys,
    tokens: tokenMaker,
    refusals: createRefusalLimit(clock),
    clock,
    newId,
    auditRetention: { seals: opened.seals, maker, months: config.auditRetentionMonths },
    recoveryDays: config.recoveryDays,
    ticks,
    quotas: { settings: config.limits.settingsMax, versions: config.limits.versionsMax },
    onBackgroundError,
  });
  const broker = tracing.around("broker", made);
  started.push(() => broker.drain());
  const managersHealth = createManagerHealth(managers, ticks);
  const deliveries = createDeliveries({
    queue: opened.deliveries,
    sender: webhookSender,
    clock,
    random: Math.random,
    keyChecks: () => masterKeys.all().map(({ keyCheck }) => keyCheck),
    onError: onBackgroundError,
    onEnded: wake.delivered,
  });
  const tools: Tools = {
    auditStream: () => opened.auditStream(),
    maker,
    sealing,
    keys: masterKeys.current(),
    databaseUrl,
  };
  return {
    broker,
    signingKeys,
    tools,
    managersHealth,
    tracing,
    deliveries,
    wake,
    changes: opened.changes,
    forgetWrites: () => opened.forgetWrites(),
    ping: () => opened.ping(),
  };
}

export async function databaseOf(
  config: Config,
  logger: Logger,
  started: (() => Promise<void>)[],
): Promise<string> {
  if (config.databaseUrl !== null) return config.databaseUrl.reveal();
  const postgres = await startEmbeddedPostgres({ home: config.home, logger });
  started.push(() => postgres.stop());
  return postgres.url;
}
