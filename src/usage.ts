// What the commands take, as it is printed: for help, and beside what a command was given that it does not take. It
// words the tables of commands, and has no words of its own for any; of what was typed it tells an option's name alone.

type Entry = { readonly usage: string; readonly does: string };
type Entries = Readonly<Record<string, Entry>>;

/** A command was given what it does not take. */
export class Misuse extends Error {
  override readonly name = "Misuse";
}

const lineOf = (name: string, { usage }: Entry): string => `coffer ${name}${usage === "" ? "" : ` ${usage}`}`;

/** The command of this name, and those whose names begin with it; "" when there is none. */
export function usageOf(commands: Entries, name: string): string {
  return blocks(
    Object.entries(commands).filter(([each]) => each === name || each.startsWith(`${name} `)),
  ).join("\n");
}

export function usageOfAll(commands: Entries): string {
  return [
    "coffer: a secrets broker\n",
    ...blocks(Object.entries(commands)),
    "\n`coffer COMMAND --help` prints what one command takes; `coffer --version`, the version.",
    "Configuration is by the environment alone; .env.example names all of it.",
  ].join("\n");
}

function blocks(entries: readonly (readonly [string, Entry])[]): string[] {
  return entries.map(([name, entry]) => `  ${lineOf(name, entry)}\n      ${entry.does}`);
}

/**
 * Help is asked for before `--`; with `runs`, where another command begins with the first word, before that. It is
 * never an option's value: whoever types it wants to read, and nothing is to happen.
 */
export function asksForHelp(args: readonly string[], runs = false): boolean {
  const end = args.findIndex((arg) => arg === "--" || (runs && !arg.startsWith("-")));
  return (end < 0 ? args : args.slice(0, end)).some((arg) => arg === "--help" || arg === "-h");
}

/** What is told of a misuse, with what the command takes. */
export function misuseOf(what: string, name: string, entry: Entry): string {
  return `coffer: ${what}\nUsage: ${lineOf(name, entry)}\n`;
}

/** What is wrong with the options, of an error that parseArgs has thrown; null of any other. */
export function optionFault(error: unknown): string | null {
  if (!(error instanceof TypeError && "code" in error)) return null;
  // Node's own words go on about positional arguments, and quote those.
  const [, option = "this"] = /'(?:-\w, )?(--?[^'\s=]+)/.exec(error.message) ?? [];
  switch (error.code) {
    case "ERR_PARSE_ARGS_UNKNOWN_OPTION":
      return `there is no option ${option}.`;
    case "ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL":
      return "there is an argument too many.";
    case "ERR_PARSE_ARGS_INVALID_OPTION_VALUE":
      return /does not take/.test(error.message)
        ? `${option} takes no value.`
        : `${option} takes a value; one that begins with a dash is written ${option}=….`;
    default:
      return null;
  }
}
