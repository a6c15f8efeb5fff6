// The command line: parses argv, prints, sets the exit code. No logic of its own.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { CLIENT_COMMANDS, runClientCommand } from "./client/commands.ts";
import { describeConfig } from "./config-describe.ts";
import { ConfigError, readConfig, readConfigWithoutKey } from "./config.ts";
import { type Given, type OptionTable, optionValues } from "./option-values.ts";
import { Misuse, asksForHelp, misuseOf, optionFault, usageOf, usageOfAll } from "./usage.ts";

const OPENAPI = fileURLToPath(new URL("../openapi.yaml", import.meta.url));

/** Loaded by the commands that are not a client's, each what it needs: without them a client starts in a quarter of the time. */
const keys = () => import("./compose-keys.ts");
const operator = () => import("./operate.ts");
const operations = () => import("./operations.ts");
const backups = () => import("./backup.ts");

type Command = {
  readonly usage: string;
  readonly does: string;
  readonly options?: OptionTable;
  readonly run: (given: Given) => Promise<number>;
};

/** By what is typed after `coffer`, in the order of the help. */
const COMMANDS: Readonly<Record<string, Command>> = {
  serve: {
    usage: "",
    does: "start the broker (what npm start does)",
    run: async () => (await import("./serve.ts")).serve(readConfig(), print),
  },
  token: {
    usage: "--admin | --principal ID [--name N] [--expires-in-days D]",
    does: "print a new API token, for an admin or a named principal",
    options: {
      admin: { type: "boolean" },
      principal: { type: "string" },
      name: { type: "string" },
      "expires-in-days": { type: "string" },
    },
    run: token,
  },
  "keys rotate-signing": {
    usage: "",
    does: "sign access tokens with a new key, and print its id",
    run: async () => {
      const { operate } = await operator();
      return print((await operate(readConfig(), (broker) => broker.rotateSigningKey())) ?? "");
    },
  },
  "audit verify": {
    usage: "[--export FILE [--public-key KEY]] [--head N:HASH,…]",
    does: "check the audit log, or an export of it, and name the first bad event",
    options: {
      export: { type: "string" },
      "public-key": { type: "string" },
      head: { type: "string" },
    },
    run: async ({ export: file, "public-key": publicKey, head }) => {
      const heads = typeof head === "string" ? head.split(",") : [];
      const input = { file: textOf(file), publicKey: textOf(publicKey), heads };
      return (await operations()).verifyAudit(readConfig, input, print);
    },
  },
  "audit export": {
    usage: "",
    does: "print the audit log with its seals, as JSON Lines",
    run: async () => (await operations()).exportAudit(readConfig(), process.stdout),
  },
  "audit head": {
    usage: "",
    does: "print the newest seal's number and hash, to be kept elsewhere for audit verify",
    run: async () => (await operations()).printAuditHead(readConfig(), print),
  },
  "audit key": {
    usage: "",
    does: "print the public key that exports are verified with",
    run: async () => (await operations()).printAuditKey(readConfig(), print),
  },
  "audit prune": {
    usage: "",
    does: "drop the months that COFFER_AUDIT_RETENTION_MONTHS does not keep, as the tables' owner",
    run: async () => (await operations()).pruneAudit(readConfig(), print),
  },
  migrate: {
    usage: "[--serving-role NAME]",
    does: "apply the migrations as the database's owner, and give the role that serves its rights",
    options: { "serving-role": { type: "string" } },
    run: async ({ "serving-role": role }) =>
      (await operations()).migrate(readConfigWithoutKey(), textOf(role), print),
  },
  backup: {
    usage: "[--output FILE] [--recipient RECIPIENT]",
    does: "write an encrypted backup of the database, for the master key or for a recipient",
    options: { output: { type: "string" }, recipient: { type: "string" } },
    run: async ({ output, recipient }) => {
      const input = { output: textOf(output) ?? null, recipient: textOf(recipient) ?? null };
      const config = input.recipient === null ? readConfig() : readConfigWithoutKey();
      return (await backups()).backup(config, input, process.stdout);
    },
  },
  restore: {
    usage: "--input FILE [--identity FILE] [--audit-export FILE]",
    does: "restore a backup into an empty database, and print a new admin token",
    options: { input: { type: "string" }, identity: { type: "string" }, "audit-export": { type: "string" } },
    run: async ({ input, identity, "audit-export": auditExport }) => {
      if (typeof input !== "string") throw new Misuse("coffer restore takes --input FILE.");
      const from = { input, identity: textOf(identity) ?? null, auditExport: textOf(auditExport) ?? null };
      return (await backups()).restore(readConfig(), from, print, tell);
    },
  },
  "backup keygen": {
    usage: "",
    does: "print a new recipient for backups, and the identity that opens them",
    run: async () => {
      const { recipient, identity } = (await backups()).generateBackupKey();
      return print(`${recipient}\n${identity}`);
    },
  },
  "keys rotate": {
    usage: "",
    does: "give each owner new keys at their next write",
    run: async () => {
      const { operate } = await operator();
      await operate(readConfig(), (broker) => broker.rotateKeys());
      return print("The keys are rotated. Old values stay readable; `coffer keys rewrap` moves them.");
    },
  },
  "keys rewrap": {
    usage: "[--grace-seconds N]",
    does: "move old values to the current keys, and remove the old keys",
    options: { "grace-seconds": { type: "string" } },
    run: async ({ "grace-seconds": grace }) =>
      (await operations()).rewrapKeys(readConfig, textOf(grace), print, tell),
  },
  "keys replace-master": {
    usage: "",
    does: "make the next master key the one that all is made under",
    run: async () => {
      const { operate } = await operator();
      await operate(readConfig(), (broker) => broker.replaceMasterKey());
      return print("The next master key is in force. Go on with `coffer keys rewrap`, with both keys given.");
    },
  },
  keygen: {
    usage: "",
    does: "print a new master key, for COFFER_MASTER_KEY_FILE",
    run: async () => print((await keys()).generateMasterKey()),
  },
  "check-config": {
    usage: "",
    does: "print the effective configuration, without secrets",
    run: async () => print(describeConfig(readConfig())),
  },
  openapi: {
    usage: "[--write | --check]",
    does: "print openapi.yaml, write it, or see that it is in step with the routes",
    options: { write: { type: "boolean" }, check: { type: "boolean" } },
    run: openapi,
  },
  help: { usage: "", does: "print this", run: async () => print(usageOfAll(ALL)) },
};

const ALL = { ...COMMANDS, ...CLIENT_COMMANDS };

const textOf = (given: string | boolean | undefined): string | undefined =>
  typeof given === "string" ? given : undefined;

function print(text: string): number {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  return 0;
}

function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function openapi({ write, check }: Given): Promise<number> {
  const { openapiDocument } = await import("./openapi-document.ts");
  const document = await openapiDocument(readConfig({}));
  if (write === true) {
    await writeFile(OPENAPI, document);
    return 0;
  }
  if (check !== true) return print(document);
  if ((await readFile(OPENAPI, "utf8").catch(() => "")) === document) return 0;
  process.stderr.write("openapi.yaml is not in step with the routes; npm run openapi writes it anew.\n");
  return 1;
}

const DAYS_DEFAULT = 90;
const DAYS_MAX = 365;
const NAME_LENGTH_MAX = 128;

async function token({
  admin,
  principal,
  name = "coffer token",
  "expires-in-days": days,
}: Given): Promise<number> {
  if ((admin === true) === (typeof principal === "string"))
    throw new Misuse("coffer token takes either --admin or --principal ID.");
  const expires_in_days = days === undefined ? DAYS_DEFAULT : Number(days);
  if (!/^[1-9][0-9]*$/.test(String(expires_in_days)) || expires_in_days > DAYS_MAX)
    throw new Misuse(`--expires-in-days is a whole number from 1 to ${DAYS_MAX}.`);
  if (typeof name !== "string" || !/^\S(?:[^\p{Cc}]*\S)?$/u.test(name) || name.length > NAME_LENGTH_MAX)
    throw new Misuse(`--name has 1 to ${NAME_LENGTH_MAX} characters, no blank at either end.`);
  if (typeof principal === "string" && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(principal))
    throw new Misuse("--principal is the id of a user or a service account.");
  const principal_id = typeof principal === "string" ? principal.toLowerCase() : null;
  const { operate } = await operator();
  const made = await operate(readConfig(), (broker) => {
    return broker.createOperatorToken({ principal_id, name, expires_in_days });
  });
  return print(made.token);
}

/**
 * Before anything but this file's own imports is loaded, and the same for all commands: V8 takes code that another process
 * compiled (NODE_COMPILE_CACHE) only under the very flags that it was loaded under there, and compiles it anew otherwise.
 */
function setFlags(): void {
  // V8 takes what lives long while a broker starts for what always does, and would put each request's caller among the
  // old objects, where it stays until a full collection (docs/decisions/0022).
  setFlagsFromString("--no-allocation-site-pretenuring");
  // What starting makes is not kept as room for young objects: an idle broker has 26 MB less. Under load it has to grow.
  setFlagsFromString("--semi-space-growth-factor=1");
}

async function main(): Promise<number> {
  setFlags();
  const argv = process.argv.slice(2);
  const [first = "", ...rest] = argv;
  const client = Object.hasOwn(CLIENT_COMMANDS, first) ? CLIENT_COMMANDS[first] : undefined;
  if (client !== undefined)
    return asksForHelp(rest, client.runs)
      ? print(usageOf(ALL, first))
      : runClientCommand(first, client, rest);
  if (first === "--version") return print(await version());
  const firstOption = argv.findIndex((each) => each.startsWith("-"));
  const words = firstOption < 0 ? argv : argv.slice(0, firstOption);
  const given = argv.slice(words.length);
  const name = words.length === 0 ? "help" : words.join(" ");
  const takes = name === "help" ? usageOfAll(ALL) : usageOf(ALL, name);
  if (takes !== "" && asksForHelp(given)) return print(takes);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined && takes !== "") throw new Misuse(`${name} is the first word of:\n\n${takes}`);
  if (command === undefined)
    throw new Misuse(`there is no command ${name}.\n\n${usageOf(ALL, first) || usageOfAll(ALL)}`);
  try {
    return await command.run(optionValues(given, command.options ?? {}));
  } catch (error) {
    const told = error instanceof Misuse ? error.message : optionFault(error);
    if (told === null) throw error;
    process.stderr.write(name === "help" ? `coffer: ${told}\n\n${takes}\n` : misuseOf(told, name, command));
    return 2;
  }
}

async function version(): Promise<string> {
  return (await import("../package.json", { with: { type: "json" } })).default.version;
}

try {
  process.exitCode = await main();
} catch (error) {
  const told = error instanceof Error ? error.message : "something that is no error was thrown";
  process.stderr.write(`coffer: ${told}\n`);
  process.exitCode = error instanceof ConfigError || error instanceof Misuse ? 2 : 1;
}
