// `coffer get`, `put`, `ls`, `explain`: values go to standard output or come from standard input or a file, never from
// an argument, which every process of the machine could read.
import { readFile } from "node:fs/promises";
import { isatty } from "node:tty";
import { parseArgs } from "node:util";
import { type Ask, createAsk, isJson } from "./calls.ts";
import { readClientConfig, splitEnvironment } from "./environment.ts";
import { Misused, Refused, codeOf } from "./kinds.ts";
import { addressOf, ask, resolveAll, textOf, told } from "./references.ts";

/** A value has 64 KiB at most; what is much larger is not even sent. */
const INPUT_BYTES_MAX = 256 * 1024;

function one(positionals: readonly string[], what: string, more = ""): string {
  const [first, ...others] = positionals;
  if (first === undefined || others.length > 0)
    throw new Misused(`Exactly one ${what} is to be named${more}.`);
  return first;
}

const asker = (): Ask => createAsk(readClientConfig());

export async function get(args: readonly string[]): Promise<number> {
  const options = { field: { type: "string" } } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const given = one(positionals, "reference");
  if (values.field !== undefined && given.includes("#"))
    throw new Misused("The reference names a field already.");
  const ref = values.field === undefined ? given : `${given}#${values.field}`;
  const found = await resolveAll(asker(), new Map([[told(ref), ref]]));
  for (const value of found.values()) process.stdout.write(textOf(value) + (isatty(1) ? "\n" : ""));
  return 0;
}

export async function put(args: readonly string[]): Promise<number> {
  const options = { file: { type: "string" }, json: { type: "boolean" }, trim: { type: "boolean" } } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const { path, ...owner } = addressOf(
    one(positionals, "setting", "; its value comes from standard input or --file"),
  );
  if (path === "") throw new Misused("A setting is <owner_type>/<owner_id>/<path>.");
  const text = await input(values.file);
  if (values.json !== true && values.trim !== true && text.endsWith("\n"))
    process.stderr.write(
      "coffer: the value ends with a newline, which is stored too; --trim leaves it out.\n",
    );
  const value =
    values.json === true ? jsonOf(text) : values.trim === true ? text.replace(/\r?\n$/, "") : text;
  const query = { ...owner, path };
  const setting = await asker()({ method: "PUT", path: "/settings", query, body: { value } });
  const version = isJson(setting) ? setting.version : undefined;
  process.stdout.write(`coffer://${owner.owner_type}/${owner.owner_id}/${path}?version=${String(version)}\n`);
  return 0;
}

async function input(file: string | undefined): Promise<string> {
  if (file === undefined && isatty(0))
    throw new Misused("The value comes from a pipe or --file: typed here, it would show.");
  const bytes = await (file === undefined ? piped() : readFile(file)).catch((error: unknown) => {
    throw error instanceof Refused ? error : new Refused(`The value cannot be read: ${codeOf(error)}.`);
  });
  if (bytes.length > INPUT_BYTES_MAX) throw new Refused("The value is too large.");
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused("The value is not UTF-8.");
  }
}

async function piped(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin) {
    bytes += chunk.length;
    if (bytes > INPUT_BYTES_MAX) throw new Refused("The value is too large.");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own words quote the value.
    throw new Refused("The value is not JSON.");
  }
}

export async function ls(args: readonly string[]): Promise<number> {
  const options = { json: { type: "boolean" } } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const { path, ...owner } = addressOf(
    one(positionals, "owner", ": <owner_type>/<owner_id>[/<path>]").replace(/^([^/]+\/[^/]+)\/$/, "$1"),
  );
  const asking = asker();
  let cursor: unknown = "";
  while (typeof cursor === "string") {
    const query = { ...owner, ...(path === "" ? {} : { path }), ...(cursor === "" ? {} : { cursor }) };
    const page = await asking({ method: "GET", path: "/settings", query });
    if (!isJson(page) || !Array.isArray(page.settings))
      throw new Refused("The answer is no list of settings.");
    for (const setting of page.settings.filter(isJson)) {
      const { path, type, version, updated_at } = setting;
      const line =
        values.json === true ? JSON.stringify(setting) : [path, type, version, updated_at].join("\t");
      process.stdout.write(`${line}\n`);
    }
    cursor = page.next_cursor;
  }
  return 0;
}

/** Without references: those of the environment, as `coffer run` would find them. */
export async function explain(args: readonly string[]): Promise<number> {
  const { positionals } = parseArgs({ args: [...args], options: {}, allowPositionals: true });
  const wanted: readonly (readonly [string, string])[] =
    positionals.length > 0 ? positionals.map((ref) => [told(ref), ref]) : [...splitEnvironment().references];
  if (wanted.length === 0) throw new Misused("There is no reference, neither here nor in the environment.");
  const results = await ask(
    asker(),
    wanted.map(([, ref]) => ref),
    true,
  );
  for (const [index, { status, version, setting_id, code, detail }] of results.entries()) {
    const outcome = status === 200 ? `version ${version} of ${setting_id}` : `${status} ${code}: ${detail}`;
    process.stdout.write(`${wanted[index]?.[0]}\t${outcome}\n`);
  }
  return results.every(({ status }) => status === 200) ? 0 : 1;
}
