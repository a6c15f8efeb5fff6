// The effective configuration as an operator may see it: whatever is secret is left out.
import { describeAllow, describeClouds } from "./config-clouds.ts";
import { describeLimits } from "./config-limits.ts";
import type { Config } from "./config.ts";

/** The effective configuration in the environment's names, without secrets, for `coffer check-config`. */
export function describeConfig(config: Config): string {
  const { masterKey, masterKeyNext } = config;
  const lines: readonly (readonly [string, string | number])[] = [
    ["COFFER_HOME", config.home],
    ["COFFER_HOST", config.host],
    ["COFFER_PORT", config.port],
    ["COFFER_PUBLIC_URL", config.publicUrl ?? "(the address that is listened on)"],
    ["DATABASE_URL", config.databaseUrl === null ? "(embedded PostgreSQL in COFFER_HOME)" : "[redacted]"],
    ["COFFER_DATABASE_POOL_SIZE", config.databasePoolSize],
    [
      "master key",
      masterKey.from === "environment"
        ? "[redacted]"
        : masterKey.from === "file"
          ? masterKey.path
          : masterKey.from === "manager"
            ? `a secret in the manager ${config.manager}`
            : "master.key in COFFER_HOME",
    ],
    [
      "next master key",
      masterKeyNext === null ? "(none)" : masterKeyNext.from === "file" ? masterKeyNext.path : "[redacted]",
    ],
    ["COFFER_MANAGER", config.manager],
    ["COFFER_STORAGE", config.storage],
    ["COFFER_MANAGERS_ENABLED", config.managersEnabled.join(",")],
    ...describeClouds(config.clouds),
    ["COFFER_AUDIT_EARLIER_KEYS", config.auditEarlierKeys.join(",") || "(none)"],
    ["COFFER_EXTERNAL_ALLOW", describeAllow(config.externalAllow)],
    ["COFFER_VALUE_CACHE_SECONDS", config.valueCacheSeconds],
    ["COFFER_RECOVERY_DAYS", config.recoveryDays],
    ["COFFER_AUDIT_RETENTION_MONTHS", config.auditRetentionMonths],
    ["COFFER_LOG_LEVEL", config.logLevel],
    ["COFFER_RATE_LIMIT", config.rateLimit],
    ...describeLimits(config.limits),
    [
      "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
      config.tracing === null ? "(no traces)" : withoutQuery(config.tracing.url),
    ],
    ["COFFER_TRUSTED_PROXIES", config.trustedProxies.join(",") || "(none)"],
    ["COFFER_IDENTITY_PROVIDERS", config.identityProviders.map(({ issuer }) => issuer).join(",") || "(none)"],
    ["COFFER_PRIVATE_ADDRESSES_ALLOWED", config.privateAddressesAllowed.join(",") || "(none)"],
  ];
  return lines.map(([name, effective]) => `${name}=${effective}`).join("\n");
}

/** Collectors take keys in a query, and in front of the host. */
function withoutQuery(text: string): string {
  const { protocol, host, pathname } = new URL(text);
  return `${protocol}//${host}${pathname}`;
}
