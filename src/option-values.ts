// What an operator's command was given, by its table of options. What the client's commands take begins with no dash.
import { parseArgs } from "node:util";

export type OptionTable = Readonly<Record<string, { readonly type: "string" | "boolean" }>>;
export type Given = Readonly<Record<string, string | boolean | undefined>>;

/**
 * What comes after an option that takes a value is its value, also when it starts with a dash (as with getopt_long; one
 * public key in 64 does), unless it is an option of the same command: then the value was forgotten.
 * @throws TypeError with a code ERR_PARSE_ARGS_… at what the table does not have, and at a value left out
 */
export function optionValues(args: readonly string[], options: OptionTable): Given {
  const takesValue = (arg: string) => optionOf(arg, options)?.type === "string";
  const isOption = (arg: string) => optionOf(arg.split("=", 1)[0] ?? "", options) !== undefined;
  const joined: string[] = [];
  for (let at = 0; at < args.length; at += 1) {
    const [arg = "", next] = args.slice(at, at + 2);
    const isItsValue = takesValue(arg) && next?.startsWith("-") && !isOption(next);
    joined.push(isItsValue ? `${arg}=${next}` : arg);
    if (isItsValue) at += 1;
  }
  return parseArgs({ args: joined, options }).values;
}

function optionOf(arg: string, options: OptionTable) {
  const name = arg.startsWith("--") ? arg.slice(2) : "";
  return Object.hasOwn(options, name) ? options[name] : undefined;
}
