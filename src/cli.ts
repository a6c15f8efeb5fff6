// The command line: parses argv, prints, sets the exit code. No logic of its own.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { compose, createLogger, generateMasterKey, openapiDocument } from "./compose.ts";
import { ConfigError, describeConfig, readConfig } from "./config.ts";

const OPENAPI = fileURLToPath(new URL("../openapi.yaml", import.meta.url));
const STOP_TIMEOUT_MS = 25_000;

const USAGE = `coffer: a secrets broker

  coffer serve             start the broker (what npm start does)
  coffer keygen            print a new master key, for COFFER_MASTER_KEY_FILE
  coffer check-config      print the effective configuration, without secrets
  coffer openapi [--check] print openapi.yaml, or see that the committed one is in step with the routes
  coffer help              print this

Configuration is by the environment alone; .env.example names all of it.`;

const commands: Readonly<Record<string, (check: boolean) => Promise<number>>> = {
  serve,
  keygen: async () => print(generateMasterKey()),
  "check-config": async () => print(describeConfig(readConfig())),
  openapi,
  help: async () => print(USAGE),
};

function print(text: string): number {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  return 0;
}

async function openapi(check: boolean): Promise<number> {
  const document = await openapiDocument(readConfig({}));
  if (!check) return print(document);
  if ((await readFile(OPENAPI, "utf8")) === document) return 0;
  process.stderr.write("openapi.yaml is not in step with the routes; npm run openapi writes it anew.\n");
  return 1;
}

async function serve(): Promise<number> {
  const config = readConfig();
  const logger = createLogger(config.logLevel);
  const stopped = stopSignal();
  const service = await compose(config, logger);
  try {
    const address = await service.app.listen({ host: config.host, port: config.port });
    logger.info({ address, public_url: config.publicUrl ?? address }, "coffer is ready");
    if (service.adminTokenFile !== null) welcome(address, service.adminTokenFile);
    logger.info({ signal: await stopped }, "stopping");
  } finally {
    // A part that does not end is not waited for: what was acknowledged is in the database by then.
    setTimeout(() => process.exit(1), STOP_TIMEOUT_MS).unref();
    await service.close();
  }
  logger.info("stopped");
  return 0;
}

/** Resolves at the first request to stop; later ones (a terminal's Ctrl-C reaches us more than once) change nothing. */
function stopSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => resolve(signal));
  });
}

function welcome(address: string, tokenFile: string): void {
  print(`
Coffer listens on ${address}
The first admin's token is in ${tokenFile}
Try it:

  curl -H "Authorization: Bearer $(cat ${quoted(tokenFile)})" ${address}/auth/me
`);
}

/** As one word for a shell, whatever is in it. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function main(): Promise<number> {
  const options = { check: { type: "boolean", default: false } } as const;
  const { positionals, values } = parseArgs({ allowPositionals: true, options });
  const [name = "help", ...rest] = positionals;
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined || rest.length > 0) {
    process.stderr.write(`${USAGE}\n`);
    return 2;
  }
  return command(values.check);
}

/** What parseArgs throws at an option that there is not. */
function isMisuse(error: unknown): boolean {
  return error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS_");
}

try {
  process.exitCode = await main();
} catch (error) {
  const told = error instanceof Error ? error.message : "something that is no error was thrown";
  process.stderr.write(`coffer: ${told}\n`);
  process.exitCode = error instanceof ConfigError || isMisuse(error) ? 2 : 1;
}
