// Settings in the form that their consumer reads: a shell, a .env file, Docker, an AWS SDK, Kubernetes. Pure: opened
// values in, one text out. Whatever a value holds, it comes out as that value and nothing more, or not at all; a name
// that would take over a process, or that two settings share, is an error before any text is made.
import { formatComet, noteOf } from "./comet.ts";
import { nameProblem } from "./env-names.ts";
import { BrokerError, type InputProblem } from "./errors.ts";
import type { ContainerRegistryValue, S3Value, SettingValue } from "./plaintext.ts";
import type { SettingRecord, SettingRow } from "./setting.ts";

export const RENDER_FORMATS = [
  "env",
  "dotenv",
  "json",
  "dockerconfigjson",
  "aws_credentials",
  "k8s_secret",
  "comet",
] as const;
export type RenderFormat = (typeof RENDER_FORMATS)[number];
/** The formats that hold values; `comet` says where one lies. */
export type ValueFormat = Exclude<RenderFormat, "comet">;

/** An opened setting: what is to be rendered. */
export type Rendered = { readonly setting: SettingRecord; readonly value: SettingValue };
export type RenderOptions = {
  /** Goes before each name. */
  readonly prefix: string;
  /** The place that was asked for; null for the owner as a whole. */
  readonly place: string | null;
};

type Variable = { readonly name: string; readonly value: string; readonly path: string };

/**
 * The text of a format.
 * @throws BrokerError `invalid_value` where a format does not fit a type, a name or a value, `conflict` naming all
 * names that clash
 */
export function renderAs(
  format: ValueFormat,
  items: readonly Rendered[],
  { prefix, place }: RenderOptions,
): string {
  switch (format) {
    case "env":
      return lines(variablesOf(items, prefix), ({ name, value }) => `export ${name}=${shellQuoted(value)}`);
    case "dotenv":
      return dotenv(variablesOf(items, prefix));
    case "json":
      return json(dataOf(variablesOf(items, prefix), (value) => value));
    case "dockerconfigjson":
      return json(authsOf(format, items));
    case "aws_credentials":
      return json(awsCredentials(items));
    case "k8s_secret":
      return json(kubernetesSecret(items, prefix, place));
  }
}

/**
 * The one note of where a setting's value lies, for Comet's SDK: of that version where it was asked for by number.
 * @throws BrokerError `invalid_value` for what is in no cloud's secret manager, or more than one setting
 */
export function renderComet(rows: readonly SettingRow[], pinned: boolean): string {
  const [only, ...more] = rows;
  if (only === undefined || more.length > 0) throw unfit("comet", undefined, "it takes exactly one setting");
  const { setting, version } = only;
  if (version.location === null)
    throw unfit("comet", setting, "its value is not in a cloud's secret manager");
  const note = noteOf(version.location, pinned || version.storage === "external");
  if (note === null) throw unfit("comet", setting, "Comet has no words for a regional secret");
  return formatComet(note);
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
const base64 = (text: string): string => Buffer.from(text, "utf8").toString("base64");

function lines(variables: readonly Variable[], line: (variable: Variable) => string): string {
  return variables.map((each) => `${line(each)}\n`).join("");
}

function dataOf(
  variables: readonly Variable[],
  text: (value: string) => string,
): Readonly<Record<string, string>> {
  return Object.fromEntries(variables.map(({ name, value }) => [name, text(value)]));
}

function unfit(
  format: RenderFormat,
  setting: Pick<SettingRecord, "path" | "type"> | undefined,
  why: string,
): BrokerError {
  const detail = setting === undefined ? `${format}: ${why}` : `${setting.path} (${setting.type}): ${why}`;
  return invalid(`The format ${format} does not fit.`, [{ in: "query", pointer: "/format", detail }]);
}

function invalid(detail: string, errors: readonly InputProblem[]): BrokerError {
  return new BrokerError("invalid_value", detail, { errors });
}

/** The variables of all settings, each name judged, no two alike. */
function variablesOf(items: readonly Rendered[], prefix: string): readonly Variable[] {
  const all = items.flatMap((item) =>
    ownVariables(item).map((each) => ({ ...each, name: prefix + each.name })),
  );
  const errors = all.flatMap(({ name, path }): InputProblem[] => {
    const why = nameProblem(name);
    return why === null ? [] : [{ in: "query", pointer: "/path", detail: `${path}: ${why}` }];
  });
  if (errors.length > 0) throw invalid("Some names cannot be rendered.", errors);
  assertDistinct(all.map(({ name, path }) => [name, path]));
  return all;
}

/** All clashes at once, so that they are mended at once. */
function assertDistinct(named: readonly (readonly [name: string, path: string])[]): void {
  const clashes = [...Map.groupBy(named, ([name]) => name)].filter(([, each]) => each.length > 1);
  if (clashes.length === 0) return;
  const told = clashes.map(([name, each]) => `${name} (${each.map(([, path]) => path).join(", ")})`);
  const paths = new Set(clashes.flatMap(([, each]) => each.map(([, path]) => path)));
  throw new BrokerError("conflict", `More than one setting would have the name: ${told.join("; ")}.`, {
    paths: [...paths],
  });
}

function ownVariables({ setting, value }: Rendered): readonly Variable[] {
  const { path, labels } = setting;
  const of = (pairs: readonly (readonly [string, string | undefined])[]): readonly Variable[] =>
    pairs.flatMap(([name, text]) => (text === undefined ? [] : [{ name, value: text, path }]));
  if (typeof value === "string") {
    const last = path.slice(path.lastIndexOf("/") + 1);
    return of([[labels["env_name"] ?? last.toUpperCase().replaceAll(/[^A-Z0-9_]/g, "_"), value]]);
  }
  if (isRegistry(value))
    return of([
      ["REGISTRY", value.registry],
      ["REGISTRY_USERNAME", value.username],
      ["REGISTRY_PASSWORD", value.password],
    ]);
  return of([
    ["AWS_ACCESS_KEY_ID", value.access_key_id],
    ["AWS_SECRET_ACCESS_KEY", value.secret_access_key],
    ["AWS_SESSION_TOKEN", value.session_token],
    ["AWS_DEFAULT_REGION", value.region],
    ["AWS_ENDPOINT_URL_S3", value.endpoint],
    ["S3_BUCKET", value.bucket],
  ]);
}

function isRegistry(value: S3Value | ContainerRegistryValue): value is ContainerRegistryValue {
  return "registry" in value;
}

/** POSIX: inside single quotes nothing is special but the single quote (XCU 2.2.2). */
function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function dotenv(variables: readonly Variable[]): string {
  const errors = variables.flatMap(({ value, path }): InputProblem[] => {
    if (dotenvQuoted(value) !== null) return [];
    const detail = `${path}: .env parsers would read this value differently; use format=env or json`;
    return [{ in: "query", pointer: "/format", detail }];
  });
  if (errors.length > 0) throw invalid("Some values do not fit the format dotenv.", errors);
  return lines(variables, ({ name, value }) => `${name}=${dotenvQuoted(value) ?? ""}`);
}

/**
 * A quoting that the usual parsers (Node's, dotenv's for Node and for Python, docker compose's) read back as it was;
 * null where there is none. Inside single quotes all is literal, but that Python's takes a backslash before a
 * backslash or the end for an escape, and looks for `${` everywhere; some make a line feed of a carriage return.
 */
function dotenvQuoted(text: string): string | null {
  if (text.includes("\r") || text.includes("${")) return null;
  if (!text.includes("'") && !/\\\\|\\$/.test(text)) return `'${text}'`;
  return /["\\$`]/.test(text) ? null : `"${text}"`;
}

/** What `docker login` calls Docker Hub, whatever the user did. */
const DOCKER_HUB = "https://index.docker.io/v1/";
const DOCKER_HUB_NAMES = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

/** `auths` as `docker login` writes it: base64 of `username:password` for each registry. */
function authsOf(format: ValueFormat, items: readonly Rendered[]) {
  const entries = items.map(({ setting, value }) => {
    if (typeof value === "string" || !isRegistry(value))
      throw unfit(format, setting, "it is no container_registry");
    const { registry, username, password, email } = value;
    // Docker splits at the first colon.
    if (username.includes(":"))
      throw unfit(format, setting, "a username with a colon cannot be told from its password");
    const key = DOCKER_HUB_NAMES.has(registry) ? DOCKER_HUB : registry;
    const auth = { username, password, ...(email === undefined ? {} : { email }) };
    return { key, auth: { ...auth, auth: base64(`${username}:${password}`) }, path: setting.path };
  });
  assertDistinct(entries.map(({ key, path }) => [key, path]));
  return { auths: Object.fromEntries(entries.map(({ key, auth }) => [key, auth])) };
}

/** What an AWS SDK expects of a `credential_process`, version 1. It asks anew when the credentials expire. */
function awsCredentials(items: readonly Rendered[]) {
  const [only, ...more] = items;
  if (only === undefined || more.length > 0)
    throw unfit("aws_credentials", undefined, "it takes exactly one s3 setting");
  const { setting, value } = only;
  if (typeof value === "string" || isRegistry(value)) throw unfit("aws_credentials", setting, "it is no s3");
  return {
    Version: 1,
    AccessKeyId: value.access_key_id,
    SecretAccessKey: value.secret_access_key,
    ...(value.session_token === undefined ? {} : { SessionToken: value.session_token }),
    ...(setting.expires_at === null ? {} : { Expiration: setting.expires_at.toISOString() }),
  };
}

/** One manifest: registries alone become an image pull secret, anything else an opaque one of variables. */
function kubernetesSecret(items: readonly Rendered[], prefix: string, place: string | null) {
  const [first] = items;
  // An empty one, applied, would take away what is there.
  if (first === undefined) throw unfit("k8s_secret", undefined, "there is no setting to render");
  const { owner_type, owner_id } = first.setting;
  const metadata = { name: objectName(place ?? `${owner_type}-${owner_id}`) };
  const manifest = { apiVersion: "v1", kind: "Secret", metadata };
  const registry = items.find(({ setting }) => setting.type === "container_registry");
  if (registry === undefined)
    return { ...manifest, type: "Opaque", data: dataOf(variablesOf(items, prefix), base64) };
  if (items.some(({ setting }) => setting.type !== "container_registry"))
    throw unfit("k8s_secret", registry.setting, "a registry and another type make two Secrets; give a type");
  const config = base64(JSON.stringify(authsOf("k8s_secret", items)));
  return { ...manifest, type: "kubernetes.io/dockerconfigjson", data: { ".dockerconfigjson": config } };
}

/** A name as RFC 1123 has it; the same place always has the same. */
function objectName(text: string): string {
  const plain = text.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  return plain.replace(/^-/, "").slice(0, 253).replace(/-$/, "") || "coffer";
}
