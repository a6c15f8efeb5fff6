// The environment, read once into one frozen Config; every problem is reported at once. The only reader of
// process.env. What is secret (a database password, a master key) is held so that printing the Config never shows it.
import { resolve } from "node:path";
import { inspect } from "node:util";
import { type CloudSettings, cloudSettings, externalAllowOf } from "./config-clouds.ts";
import { issuersOf } from "./config-issuers.ts";
import { LIMIT_NAMES, type LimitSettings, limitSettings } from "./config-limits.ts";
import { type TracingSettings, tracingSettings } from "./config-tracing.ts";
import { areCidrs } from "./domain/cidr.ts";
import type { ExternalAllow } from "./domain/external.ts";
import type { TrustedIssuer } from "./domain/federation-ports.ts";
import { MASTER_KEY_FORM, masterKeyBytes } from "./domain/master-key-text.ts";
import { MANAGERS, type ManagerName, type Storage } from "./domain/setting.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Text that no print shows. */
export class Hidden {
  readonly #text: string;
  constructor(text: string) {
    this.#text = text;
  }
  reveal(): string {
    return this.#text;
  }
  toJSON(): string {
    return "[redacted]";
  }
  toString(): string {
    return "[redacted]";
  }
  [inspect.custom](): string {
    return "[redacted]";
  }
}

/** A master key from outside. */
export type GivenKey =
  | { readonly from: "file"; readonly path: string }
  | { readonly from: "environment"; readonly text: Hidden };

export type Config = {
  /** Absolute; holds the embedded database, master.key and admin.token. */
  readonly home: string;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** What clients are told; null: the address that is listened on. */
  readonly publicUrl: string | null;
  /** Null: the embedded PostgreSQL. */
  readonly databaseUrl: Hidden | null;
  readonly databasePoolSize: number;
  /** `home`: made up at the first start, beside the embedded database and nowhere else. */
  readonly masterKey:
    | { readonly from: "home" }
    /** Kept in the default manager, which is a cloud's. */
    | { readonly from: "manager" }
    | GivenKey;
  /** The master key that is to take the other one's place; null: none. */
  readonly masterKeyNext: GivenKey | null;
  readonly manager: ManagerName;
  readonly storage: Storage;
  readonly managersEnabled: readonly ManagerName[];
  readonly clouds: CloudSettings;
  /** Public keys of earlier master keys' seals over the audit log, as `coffer audit key` printed them. */
  readonly auditEarlierKeys: readonly string[];
  /** Which secrets of others' each organization may point at. */
  readonly externalAllow: ExternalAllow;
  /** 0: values from managers are never kept. */
  readonly valueCacheSeconds: number;
  readonly recoveryDays: number;
  /** Whole months of the audit log that are kept beside the one that runs; 0: all. */
  readonly auditRetentionMonths: number;
  readonly logLevel: LogLevel;
  /** Units a second that one token may cost. */
  readonly rateLimit: number;
  readonly limits: LimitSettings;
  /** Null: no traces. */
  readonly tracing: TracingSettings | null;
  /** Addresses or ranges whose X-Forwarded-For is believed; empty: nobody's. */
  readonly trustedProxies: readonly string[];
  /** Whose subjects may sign in as persons. */
  readonly identityProviders: readonly TrustedIssuer[];
  /** Private address ranges that keys of identity providers may be fetched from; empty: none. */
  readonly privateAddressesAllowed: readonly string[];
};

/** All that is wrong with the environment, a line each. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(
      `The configuration has ${problems.length} problem(s):\n${problems.map((each) => `  - ${each}`).join("\n")}`,
    );
    this.name = "ConfigError";
    this.problems = problems;
  }
}

const KNOWN = new Set<string>([
  ...LIMIT_NAMES,
  "COFFER_HOME",
  "COFFER_HOST",
  "COFFER_PORT",
  "COFFER_PUBLIC_URL",
  "COFFER_DATABASE_POOL_SIZE",
  "COFFER_MASTER_KEY",
  "COFFER_MASTER_KEY_FILE",
  "COFFER_MASTER_KEY_NEXT",
  "COFFER_MASTER_KEY_NEXT_FILE",
  "COFFER_MANAGER",
  "COFFER_STORAGE",
  "COFFER_MANAGERS_ENABLED",
  "COFFER_SECRET_PREFIX",
  "COFFER_AWS_REGION",
  "COFFER_AWS_KMS_KEY_ID",
  "COFFER_GCP_PROJECT",
  "COFFER_GCP_LOCATION",
  "COFFER_GCP_REPLICATION",
  "COFFER_GCP_KMS_KEY",
  "COFFER_GCP_ENDPOINT",
  "COFFER_AUDIT_EARLIER_KEYS",
  "COFFER_EXTERNAL_ALLOW",
  "COFFER_VALUE_CACHE_SECONDS",
  "COFFER_RECOVERY_DAYS",
  "COFFER_AUDIT_RETENTION_MONTHS",
  "COFFER_LOG_LEVEL",
  "COFFER_RATE_LIMIT",
  "COFFER_TRUSTED_PROXIES",
  "COFFER_IDENTITY_PROVIDERS",
  "COFFER_PRIVATE_ADDRESSES_ALLOWED",
]);

type Environment = Readonly<Record<string, string | undefined>>;

/** Names of the clients (src/client/), which do not belong in a broker's environment. */
const CLIENTS = /^COFFER_(URL|TOKEN|TOKEN_FILE|CLIENT_ID|SUBJECT_TOKEN_FILE|OWNER)$/;
/** What Kubernetes sets in each container for a Service that is named coffer. */
const SERVICE_LINK = /^COFFER_(SERVICE_|PORT_\d)/;

function unknownName(name: string): string {
  if (CLIENTS.test(name)) return `${name} is for clients: it does not belong in the broker's environment.`;
  if (SERVICE_LINK.test(name)) return `${name} is a Kubernetes service link: set enableServiceLinks: false.`;
  return `${name} is not a setting of Coffer.`;
}

/**
 * Reads a Config; an empty variable counts as unset.
 * @throws ConfigError naming every problem, and no secret's content
 */
export function readConfig(environment: Environment = process.env, needsKey = true): Config {
  const problems: string[] = [];
  const text = (name: string): string | null => environment[name]?.trim() || null;
  for (const name of Object.keys(environment))
    if (name.startsWith("COFFER_") && !KNOWN.has(name)) problems.push(unknownName(name));

  const whole = (name: string, fallback: number, least: number, most: number): number => {
    const given = text(name);
    if (given === null) return fallback;
    const number = Number(given);
    if (/^\d+$/.test(given) && number >= least && number <= most) return number;
    problems.push(`${name} is a whole number from ${least} to ${most}.`);
    return fallback;
  };
  const oneOf = <Choice extends string>(
    name: string,
    choices: readonly Choice[],
    fallback: Choice,
  ): Choice => {
    const given = text(name);
    const found = choices.find((each) => each === given);
    if (given !== null && found === undefined) problems.push(`${name} is one of ${choices.join(", ")}.`);
    return found ?? fallback;
  };
  const list = (name: string): string[] =>
    (text(name) ?? "")
      .split(",")
      .map((each) => each.trim())
      .filter((each) => each !== "");

  const publicKeys = (name: string): string[] => {
    const given = list(name);
    if (!given.every((each) => /^[A-Za-z0-9_-]{43}$/.test(each)))
      problems.push(`${name} lists public keys, as "coffer audit key" prints them, with commas.`);
    return given;
  };

  const ranges = (name: string): string[] => {
    const given = list(name);
    if (!areCidrs(given)) problems.push(`${name} lists IP addresses or ranges (address/bits), with commas.`);
    return given;
  };

  const home = resolve(text("COFFER_HOME") ?? ".coffer");
  const databaseUrl = text("DATABASE_URL");
  if (databaseUrl !== null && !/^postgres(ql)?:\/\//.test(databaseUrl))
    problems.push("DATABASE_URL starts with postgresql://.");
  const manager = oneOf("COFFER_MANAGER", MANAGERS, "local");
  const managersEnabled = list("COFFER_MANAGERS_ENABLED").map((given) => {
    const found = MANAGERS.find((each) => each === given);
    if (found === undefined) problems.push(`COFFER_MANAGERS_ENABLED lists ${MANAGERS.join(", ")}.`);
    return found ?? manager;
  });
  const enabled = [...new Set([manager, ...managersEnabled])];
  const storage = oneOf(
    "COFFER_STORAGE",
    ["envelope", "manager"],
    manager === "local" ? "envelope" : "manager",
  );
  if (storage === "manager" && manager === "local")
    problems.push("COFFER_STORAGE=manager needs COFFER_MANAGER=aws or gcp: local keeps keys, no values.");
  const publicUrl = text("COFFER_PUBLIC_URL");
  if (publicUrl !== null && !isHttpUrl(publicUrl)) problems.push(PUBLIC_URL_FORM);

  const privateAddressesAllowed = ranges("COFFER_PRIVATE_ADDRESSES_ALLOWED");

  const config: Config = {
    home,
    host: text("COFFER_HOST") ?? "127.0.0.1",
    port: whole("COFFER_PORT", 7420, 0, 65_535),
    publicUrl: publicUrl?.replace(/\/+$/, "") ?? null,
    databaseUrl: databaseUrl === null ? null : new Hidden(databaseUrl),
    databasePoolSize: whole("COFFER_DATABASE_POOL_SIZE", 10, 2, 200),
    masterKey: masterKeyOf(
      givenKey("COFFER_MASTER_KEY", text, problems),
      needsKey && databaseUrl !== null,
      manager,
      problems,
    ),
    masterKeyNext: givenKey("COFFER_MASTER_KEY_NEXT", text, problems),
    manager,
    storage,
    managersEnabled: enabled,
    clouds: cloudSettings(enabled, text, problems),
    auditEarlierKeys: publicKeys("COFFER_AUDIT_EARLIER_KEYS"),
    externalAllow: externalAllowOf(text("COFFER_EXTERNAL_ALLOW"), problems),
    valueCacheSeconds: whole("COFFER_VALUE_CACHE_SECONDS", 0, 0, 60),
    recoveryDays: whole("COFFER_RECOVERY_DAYS", 30, 1, 3650),
    auditRetentionMonths: whole("COFFER_AUDIT_RETENTION_MONTHS", 0, 0, 1200),
    logLevel: oneOf("COFFER_LOG_LEVEL", LOG_LEVELS, "info"),
    rateLimit: whole("COFFER_RATE_LIMIT", 2000, 1, 1_000_000),
    limits: limitSettings(whole),
    tracing: tracingSettings(text, problems),
    trustedProxies: ranges("COFFER_TRUSTED_PROXIES"),
    identityProviders: issuersOf(text("COFFER_IDENTITY_PROVIDERS"), privateAddressesAllowed, problems),
    privateAddressesAllowed,
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

/** The key itself under a name, or the file that holds it under the name with `_FILE`. */
function givenKey(name: string, text: (name: string) => string | null, problems: string[]): GivenKey | null {
  const [key, file] = [text(name), text(`${name}_FILE`)];
  if (key !== null && file !== null) problems.push(`${name} and ${name}_FILE exclude each other.`);
  if (file !== null) return { from: "file", path: resolve(file) };
  const bytes = key === null ? null : masterKeyBytes(key);
  if (key !== null && bytes === null)
    problems.push(`${name} is ${MASTER_KEY_FORM}; \`coffer keygen\` prints one.`);
  bytes?.fill(0);
  return key === null ? null : { from: "environment", text: new Hidden(key) };
}

function masterKeyOf(
  given: GivenKey | null,
  needed: boolean,
  manager: ManagerName,
  problems: string[],
): Config["masterKey"] {
  if (given !== null) return given;
  if (needed && manager !== "local") return { from: "manager" };
  // A key made up beside a database that others share would be lost with this machine, and all values with it.
  if (needed)
    problems.push(
      "With DATABASE_URL a master key is needed: set COFFER_MASTER_KEY_FILE (or COFFER_MASTER_KEY); `coffer keygen` " +
        "prints one. Or let a cloud keep it: COFFER_MANAGER=aws or gcp.",
    );
  return { from: "home" };
}

const PUBLIC_URL_FORM = "COFFER_PUBLIC_URL is an http(s) address, without a user, a query or a fragment.";
function isHttpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password, search, hash } = new URL(text);
  return /^https?:$/.test(protocol) && `${username}${password}${search}${hash}` === "";
}

/** What would have Google's client library print payloads goes from the environment, before it is loaded. */
export function silenceGoogle(): void {
  delete process.env["GOOGLE_SDK_NODE_LOGGING"];
}

/** For what opens nothing and so does without a master key. @throws ConfigError as `readConfig` does */
export function readConfigWithoutKey(): Config {
  return readConfig(process.env, false);
}
