// Reads the text of a .env file: what `format=dotenv` writes, and what people write by hand. Strict: a line that is
// neither an assignment, a comment nor empty is an error, told by its number and never by its content.
import { type InputProblem, badInput } from "./errors.ts";

const ASSIGNMENT = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=[ \t]*/;
const BLANK = /^\s*(#.*)?$/;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", '"': '"', "\\": "\\", $: "$" };

export type Assignment = { readonly name: string; readonly value: string };

/** @throws BrokerError `invalid_value` naming the line */
export function parseDotenv(text: string, pointer: string): readonly Assignment[] {
  const found: Assignment[] = [];
  // Lines are cut one by one, since a quoted value may span several.
  let rest = text.replaceAll("\r\n", "\n").replace(/^\u{FEFF}/u, "");
  let line = 1;
  while (rest !== "") {
    const end = rest.indexOf("\n");
    const head = end === -1 ? rest : rest.slice(0, end);
    const assignment = ASSIGNMENT.exec(head);
    if (assignment === null) {
      if (!BLANK.test(head)) throw bad(pointer, line, "is neither an assignment nor a comment");
      rest = end === -1 ? "" : rest.slice(end + 1);
      line += 1;
      continue;
    }
    const [before, name = ""] = assignment;
    const { value, length } = valueAt(rest.slice(before.length), pointer, line);
    found.push({ name, value });
    const taken = rest.slice(0, before.length + length);
    line += taken.split("\n").length;
    rest = rest.slice(taken.length + 1);
  }
  return found;
}

/** The value at the start of a text, and how much of the text is its line, without the line's end. */
function valueAt(text: string, pointer: string, line: number): { value: string; length: number } {
  const [quote = ""] = text;
  const lineEnd = (from: number): number => {
    const at = text.indexOf("\n", from);
    return at === -1 ? text.length : at;
  };
  if (quote !== "'" && quote !== '"') {
    const length = lineEnd(0);
    return {
      value: text
        .slice(0, length)
        // To the end in one step: with `.`, which stops at some line ends, each `#` would be tried in vain.
        .replace(/(^|\s)#[^]*$/, "")
        .trim(),
      length,
    };
  }
  let value = "";
  for (let at = 1; at < text.length; at++) {
    const letter = text.charAt(at);
    if (letter === quote) {
      const length = lineEnd(at);
      if (!BLANK.test(text.slice(at + 1, length)))
        throw bad(pointer, line, "goes on after its closing quote");
      return { value, length };
    }
    const escaped = quote === '"' && letter === "\\" ? ESCAPES[text.charAt(at + 1)] : undefined;
    value += escaped ?? letter;
    if (escaped !== undefined) at += 1;
  }
  throw bad(pointer, line, "has no closing quote");
}

function bad(pointer: string, line: number, rule: string) {
  const problem: InputProblem = { in: "body", pointer, detail: `Line ${line} ${rule}.` };
  return badInput("invalid_value", problem.in, problem.pointer, problem.detail);
}
