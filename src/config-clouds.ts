// The part of the configuration that is about clouds' secret managers. Credentials are none of it: each SDK finds them by
// its own standard chain. Pure: config.ts hands over the environment.
import { type ExternalAllow, isExternalPattern } from "./domain/external.ts";
import { isUuid } from "./domain/address.ts";
import type { CloudName } from "./domain/manager-ports.ts";
import type { ManagerName } from "./domain/setting.ts";

export type CloudSettings = {
  /** Those to connect to: what may be written to, and what else is configured, since values may still be there. */
  readonly names: readonly CloudName[];
  /** What our secrets' names begin with. */
  readonly prefix: string;
  readonly aws: { readonly region: string | null; readonly kmsKeyId: string | null };
  readonly gcp: {
    readonly project: string | null;
    readonly location: string | null;
    /** Regions; empty: Google's choice. */
    readonly replication: readonly string[];
    readonly kmsKey: string | null;
    /** Instead of Google's: a fake, an emulator. Spoken to without TLS or credentials. */
    readonly endpoint: { readonly host: string; readonly port: number } | null;
  };
};

type Text = (name: string) => string | null;
const ENDPOINT = /^(?<host>[A-Za-z0-9.-]+|\[[0-9a-f:]+\]):(?<port>\d{1,5})$/i;
const PREFIX = /^[A-Za-z][A-Za-z0-9_-]{0,62}$/;

export function cloudSettings(
  enabled: readonly ManagerName[],
  text: Text,
  problems: string[],
): CloudSettings {
  const [awsRegion, gcpProject] = [text("COFFER_AWS_REGION"), text("COFFER_GCP_PROJECT")];
  const isConfigured = { aws: awsRegion !== null, gcp: gcpProject !== null };
  const names = (["aws", "gcp"] as const).filter((name) => enabled.includes(name) || isConfigured[name]);
  const prefix = text("COFFER_SECRET_PREFIX") ?? "coffer";
  if (!PREFIX.test(prefix))
    problems.push("COFFER_SECRET_PREFIX has up to 63 letters, digits, - and _, and begins with a letter.");
  const endpoint = text("COFFER_GCP_ENDPOINT");
  const { host, port } = ENDPOINT.exec(endpoint ?? "")?.groups ?? {};
  if (endpoint !== null && (host === undefined || Number(port) > 65_535))
    problems.push("COFFER_GCP_ENDPOINT is host:port.");
  const [location, kmsKey] = [text("COFFER_GCP_LOCATION"), text("COFFER_GCP_KMS_KEY")];
  const replication = (text("COFFER_GCP_REPLICATION") ?? "")
    .split(",")
    .map((each) => each.trim())
    .filter((each) => each !== "");
  if (location !== null && replication.length > 0)
    problems.push("COFFER_GCP_LOCATION (regional secrets) and COFFER_GCP_REPLICATION exclude each other.");
  if (kmsKey !== null && replication.length > 1)
    problems.push(
      "COFFER_GCP_KMS_KEY is one region's key: it goes with one region in COFFER_GCP_REPLICATION, or none.",
    );
  return {
    names,
    prefix,
    aws: {
      region: awsRegion ?? text("AWS_REGION") ?? text("AWS_DEFAULT_REGION"),
      kmsKeyId: text("COFFER_AWS_KMS_KEY_ID"),
    },
    gcp: {
      project: gcpProject ?? text("GOOGLE_CLOUD_PROJECT"),
      location,
      replication,
      kmsKey,
      endpoint: host === undefined ? null : { host, port: Number(port) },
    },
  };
}

/** JSON: `{"<organization id>": ["arn:aws:secretsmanager:…:secret:shared/*", "projects/p/secrets/shared-*"]}`. */
export function externalAllowOf(json: string | null, problems: string[]): ExternalAllow {
  if (json === null) return new Map();
  try {
    const given: unknown = JSON.parse(json);
    if (typeof given === "object" && given !== null && !Array.isArray(given)) {
      const entries = Object.entries(given).map(([id, patterns]) => [id.toLowerCase(), patterns] as const);
      const good = entries.filter(
        (entry): entry is [string, string[]] => isUuid(entry[0]) && arePatterns(entry[1]),
      );
      if (good.length === entries.length) return new Map(good);
    }
  } catch {
    // Told below, without what was given.
  }
  problems.push(
    "COFFER_EXTERNAL_ALLOW is JSON that maps organization ids to lists of patterns, each a full ARN of AWS Secrets " +
      "Manager or projects/<project>/secrets/<name>, with * for any characters.",
  );
  return new Map();
}

function arePatterns(given: unknown): given is string[] {
  return Array.isArray(given) && given.every((each) => typeof each === "string" && isExternalPattern(each));
}

export function describeClouds({ prefix, aws, gcp }: CloudSettings): readonly (readonly [string, string])[] {
  const own = "(the SDK's own)";
  const { endpoint } = gcp;
  return [
    ["COFFER_SECRET_PREFIX", prefix],
    ["COFFER_AWS_REGION", aws.region ?? own],
    ["COFFER_AWS_KMS_KEY_ID", aws.kmsKeyId ?? "(AWS's own key)"],
    ["COFFER_GCP_PROJECT", gcp.project ?? own],
    ["COFFER_GCP_LOCATION", gcp.location ?? "(none: global secrets)"],
    ["COFFER_GCP_REPLICATION", gcp.replication.join(",") || "(automatic)"],
    ["COFFER_GCP_KMS_KEY", gcp.kmsKey ?? "(Google's own key)"],
    ["COFFER_GCP_ENDPOINT", endpoint === null ? "(Google's)" : `${endpoint.host}:${endpoint.port}`],
  ];
}

export function describeAllow(allow: ExternalAllow): string {
  return allow.size === 0 ? "(none)" : JSON.stringify(Object.fromEntries(allow));
}
