// `coffer run`: a command with the references in its environment resolved. Values are in that environment alone, never
// in arguments or files; nothing is started unless all of them are had. Signals go to the command, and its end is ours.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { pipeline } from "node:stream/promises";
import { isatty } from "node:tty";
import { createAsk } from "./calls.ts";
import { readClientConfig, splitEnvironment } from "./environment.ts";
import { Misused, Refused, codeOf } from "./kinds.ts";
import { maskStream, needlesOf } from "./mask.ts";
import { resolveAll, textOf } from "./references.ts";

/** As env, timeout and docker have it; 125, that it was not even tried, is in commands.ts. */
const NOT_RUNNABLE = 126;
const NOT_FOUND = 127;

const FORWARDED = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"] as const;
/** A terminal sends these to the command as well as to us: passed on, they would come twice. */
const FROM_TERMINALS = new Set<string>(["SIGINT", "SIGQUIT"]);

export async function run(args: readonly string[]): Promise<number> {
  const { isMasking, command } = parse(args);
  const { references, others } = splitEnvironment();
  // Without a reference there is nobody to ask, and no token to ask with.
  const values =
    references.size === 0 ? new Map() : await resolveAll(createAsk(readClientConfig()), references);
  const resolved = [...values].map(([name, value]) => [name, textOf(value)] as const);
  const environment = { ...others, ...Object.fromEntries(resolved) };
  return start(command, environment, isMasking ? needlesOf(values.values()) : []);
}

function parse(args: readonly string[]) {
  const end = args.findIndex((each) => each === "--" || !each.startsWith("-"));
  const options = end < 0 ? args : args.slice(0, end);
  const command = end < 0 ? [] : args.slice(args[end] === "--" ? end + 1 : end);
  const unknown = options.find((each) => each !== "--mask");
  if (unknown !== undefined) throw new Misused(`there is no option ${unknown.split("=", 1)[0]}.`);
  const [file, ...rest] = command;
  if (file === undefined || file === "")
    throw new Misused("coffer run needs a command: coffer run -- command…");
  return { isMasking: options.includes("--mask"), command: { file, rest } };
}

type Command = { readonly file: string; readonly rest: readonly string[] };

async function start(
  { file, rest }: Command,
  env: Readonly<Record<string, string>>,
  needles: readonly Buffer[],
): Promise<number> {
  const piped = needles.length > 0 ? "pipe" : "inherit";
  const child = spawned(() => spawn(file, rest, { env, stdio: ["inherit", piped, piped] }));
  if (typeof child === "number") return child;
  forwardSignals(child);
  const outputs = [
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ] as const;
  const masked = outputs.map(async ([from, to]) => {
    // Whoever read our output has gone: then the command's writes fail, as they would without us.
    if (from !== null) await pipeline(from, maskStream(needles), to, { end: false }).catch(() => undefined);
  });
  try {
    const [code, signal] = await once(child, "close");
    await Promise.all(masked);
    return signal === null ? code : 128 + numberOf(signal);
  } catch (error) {
    return notRun(error);
  }
}

/** Some failures to start are thrown, the others come as an event. */
function spawned(start: () => ChildProcess): ChildProcess | number {
  try {
    return start();
  } catch (error) {
    return notRun(error);
  }
}

function notRun(error: unknown): number {
  const code = codeOf(error);
  const why = code === "E2BIG" ? "its environment and arguments are larger than the system allows" : code;
  process.stderr.write(`coffer: the command could not be run: ${why}\n`);
  return code === "ENOENT" ? NOT_FOUND : NOT_RUNNABLE;
}

function forwardSignals(child: ChildProcess): void {
  const atTerminal = isatty(0);
  for (const signal of FORWARDED)
    process.on(signal, () => {
      if (!(atTerminal && FROM_TERMINALS.has(signal))) child.kill(signal);
    });
}

function numberOf(signal: NodeJS.Signals): number {
  const number = constants.signals[signal];
  if (number === undefined) throw new Refused(`The command ended by ${signal}.`);
  return number;
}
