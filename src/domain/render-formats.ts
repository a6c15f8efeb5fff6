// Settings in the form that their consumer reads: a shell, a .env file, Docker, an AWS SDK, Kubernetes. Pure: opened
// values in, one text out. Whatever a value holds, it comes out as that value and nothing more; a name that would take
// over a process, or that two settings share, is an error before any text is made.
import { BrokerError, type InputProblem } from "./errors.ts";
import type { ContainerRegistryValue, S3Value, SettingValue } from "./plaintext.ts";
import type { SettingRecord } from "./setting.ts";

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

/** An opened setting: what is to be rendered. */
export type Rendered = { readonly setting: SettingRecord; readonly value: SettingValue };

type Variable = { readonly name: string; readonly value: string; readonly path: string };

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,254}$/;
/** Names by which a shell, a loader or an interpreter is taken over, in any case that some system folds together. */
const TAKES_OVER = new RegExp(
  `^(${[
    // Shells.
    "PATH|IFS|ENV|BASH_.*|BASHOPTS|SHELLOPTS|SHELL|PS[0-4]|PROMPT_COMMAND|CDPATH|GLOBIGNORE|HOME|TMPDIR|EDITOR|VISUAL|PAGER",
    // Loaders and the C library.
    "LD_.*|DYLD_.*|_RLD.*|LIBPATH|SHLIB_PATH|GCONV_PATH|LOCPATH|NLSPATH|MALLOC_.*|GLIBC_TUNABLES|TERMINFO(_DIRS)?",
    // Interpreters.
    "NODE_OPTIONS|NODE_PATH|NODE_EXTRA_CA_CERTS|NODE_TLS_REJECT_UNAUTHORIZED|NODE_REPL_.*|NPM_CONFIG_.*|PYTHON.*",
    "PERL5(LIB|OPT|DB)|PERLLIB|RUBY(OPT|LIB)|GEM_(HOME|PATH)|BUNDLE_GEMFILE|PHPRC|PHP_INI_SCAN_DIR|LUA_(INIT|PATH|CPATH).*",
    "CLASSPATH|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS",
    // Git runs what these name.
    "GIT_(SSH|SSH_COMMAND|ASKPASS|EXEC_PATH|CONFIG.*|EXTERNAL_DIFF|PAGER|EDITOR|TEMPLATE_DIR|PROXY_COMMAND)|SSH_ASKPASS",
  ].join("|")})$`,
  "i",
);

/**
 * The text of a format.
 * @throws BrokerError `invalid_value` where a format does not fit a type or a name is no good, `conflict` naming all
 * names that clash
 */
export function renderAs(format: RenderFormat, items: readonly Rendered[], prefix: string): string {
  switch (format) {
    case "env":
      return lines(variablesOf(items, prefix), ({ name, value }) => `export ${name}=${shellQuoted(value)}`);
    case "dotenv":
      return lines(
        variablesOf(items, prefix),
        ({ name, value, path }) => `${name}=${dotenvQuoted(value, path)}`,
      );
    case "json":
      return json(Object.fromEntries(variablesOf(items, prefix).map(({ name, value }) => [name, value])));
    case "dockerconfigjson":
      return dockerConfig(items);
    case "aws_credentials":
      return awsCredentials(items);
    case "k8s_secret":
      return kubernetesSecret(items, prefix);
    case "comet":
      throw unfit("comet", items[0]?.setting, "its value is not in a cloud's secret manager");
  }
}

/** The variables of all settings, each name judged, no two alike. */
function variablesOf(items: readonly Rendered[], prefix: string): readonly Variable[] {
  const all = items.flatMap((item) =>
    ownVariables(item).map((each) => ({ ...each, name: prefix + each.name })),
  );
  const bad: InputProblem[] = all
    .filter(({ name }) => !NAME.test(name) || TAKES_OVER.test(name))
    .map(({ name, path }) => {
      const why = NAME.test(name)
        ? `${name} would take over a process`
        : "the name is no environment variable's";
      return { in: "query", pointer: "/path", detail: `${path}: ${why}` };
    });
  if (bad.length > 0)
    throw new BrokerError("invalid_value", "Some names cannot be rendered.", { errors: bad });
  assertDistinct(all.map(({ name, path }) => [name, path]));
  return all;
}

/** All clashes at once, so that they are mended at once. */
function assertDistinct(named: readonly (readonly [name: string, path: string])[]): void {
  const paths = new Map<string, string[]>();
  for (const [name, path] of named) paths.set(name, [...(paths.get(name) ?? []), path]);
  const clashes = [...paths].filter(([, each]) => each.length > 1);
  if (clashes.length === 0) return;
  const told = clashes.map(([name, each]) => `${name} (${each.join(", ")})`).join("; ");
  throw new BrokerError("conflict", `More than one setting would have the name: ${told}.`, {
    paths: [...new Set(clashes.flatMap(([, each]) => each))],
  });
}

function ownVariables({ setting, value }: Rendered): readonly Variable[] {
  const { path, labels } = setting;
  const of = (pairs: readonly (readonly [string, string | undefined])[]): readonly Variable[] =>
    pairs.flatMap(([name, text]) => (text === undefined ? [] : [{ name, value: text, path }]));
  if (typeof value === "string") {
    const named = labels["env_name"];
    const last = path.slice(path.lastIndexOf("/") + 1);
    return of([[named ?? last.toUpperCase().replaceAll(/[^A-Z0-9_]/g, "_"), value]]);
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

const lines = (variables: readonly Variable[], line: (variable: Variable) => string): string =>
  variables.map((each) => `${line(each)}\n`).join("");
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

/** POSIX: inside single quotes nothing is special but the single quote (XCU 2.2.2). */
function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * A quoting that the usual parsers (dotenv for Node and for Python, docker compose) read back as it was. Inside single
 * quotes all is literal, but that Python's takes a backslash before a backslash or the end for an escape.
 */
function dotenvQuoted(text: string, path: string): string {
  if (text.includes("\r")) throw noDotenv(path, "a carriage return");
  if (!text.includes("'") && !/\\\\|\\$/.test(text)) return `'${text}'`;
  if (!/["\\$`\n]/.test(text)) return `"${text}"`;
  throw noDotenv(path, "its mix of quotes, backslashes and other special characters");
}

function noDotenv(path: string, what: string): BrokerError {
  const detail = `${path}: .env parsers disagree about a value with ${what}; use format=env or json`;
  return new BrokerError("invalid_value", "A value does not fit the format dotenv.", {
    errors: [{ in: "query", pointer: "/format", detail }],
  });
}

function unfit(format: RenderFormat, setting: SettingRecord | undefined, why: string): BrokerError {
  const detail = setting === undefined ? `${format}: ${why}` : `${setting.path} (${setting.type}): ${why}`;
  return new BrokerError("invalid_value", `The format ${format} does not fit.`, {
    errors: [{ in: "query", pointer: "/format", detail }],
  });
}

/** `auths` as `docker login` writes it: base64 of `username:password` for each registry. */
function authsOf(format: RenderFormat, items: readonly Rendered[]) {
  const entries = items.map(({ setting, value }) => {
    if (typeof value === "string" || !isRegistry(value))
      throw unfit(format, setting, "it is no container_registry");
    const { registry, username, password, email } = value;
    // Docker splits at the first colon.
    if (username.includes(":"))
      throw unfit(format, setting, "a username with a colon cannot be told from its password");
    const auth = Buffer.from(`${username}:${password}`, "utf8").toString("base64");
    return [
      registry,
      { username, password, ...(email === undefined ? {} : { email }), auth },
      setting.path,
    ] as const;
  });
  assertDistinct(entries.map(([registry, , path]) => [registry, path]));
  return { auths: Object.fromEntries(entries.map(([registry, auth]) => [registry, auth])) };
}

function dockerConfig(items: readonly Rendered[]): string {
  return json(authsOf("dockerconfigjson", items));
}

/** What an AWS SDK expects of a `credential_process`, version 1. */
function awsCredentials(items: readonly Rendered[]): string {
  const [only, ...more] = items;
  if (only === undefined || more.length > 0)
    throw unfit("aws_credentials", undefined, "it takes exactly one s3 setting");
  const { setting, value } = only;
  if (typeof value === "string" || isRegistry(value)) throw unfit("aws_credentials", setting, "it is no s3");
  return json({
    Version: 1,
    AccessKeyId: value.access_key_id,
    SecretAccessKey: value.secret_access_key,
    ...(value.session_token === undefined ? {} : { SessionToken: value.session_token }),
    ...(setting.expires_at === null ? {} : { Expiration: setting.expires_at.toISOString() }),
  });
}

/** One manifest: registries alone become an image pull secret, everything else an opaque one of variables. JSON is YAML. */
function kubernetesSecret(items: readonly Rendered[], prefix: string): string {
  const [first] = items;
  if (first === undefined) throw unfit("k8s_secret", undefined, "there is no setting to render");
  const base64 = (text: string): string => Buffer.from(text, "utf8").toString("base64");
  const manifest = (type: string, data: Record<string, string>): string =>
    json({ apiVersion: "v1", kind: "Secret", metadata: { name: objectName(items) }, type, data });
  const registries = items.filter(({ setting }) => setting.type === "container_registry");
  if (registries.length === items.length) {
    const config = JSON.stringify(authsOf("k8s_secret", items));
    return manifest("kubernetes.io/dockerconfigjson", { ".dockerconfigjson": base64(config) });
  }
  if (registries.length > 0)
    throw unfit("k8s_secret", registries[0]?.setting, "registries and other types make two Secrets");
  const variables = variablesOf(items, prefix);
  return manifest("Opaque", Object.fromEntries(variables.map(({ name, value }) => [name, base64(value)])));
}

/** A DNS subdomain name (RFC 1123) from the one setting's path, or from its owner. */
function objectName(items: readonly Rendered[]): string {
  const [first] = items;
  const text =
    items.length === 1 && first !== undefined
      ? first.setting.path
      : `coffer-${first?.setting.owner_id ?? ""}`;
  const plain = text
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]+/g, "-")
    .replaceAll(/\.+/g, ".");
  return plain.slice(0, 253).replaceAll(/(^|\.)[-.]+|[-.]+(\.|$)/g, "$1$2") || "coffer";
}
