// `coffer export` and `coffer import`: an owner's settings with their values, as JSON or as a .env file. Values go to
// standard output or into an encrypted file, never into a plain one; what is missing is an error, and never left out.
import { readFile } from "node:fs/promises";
import { isatty } from "node:tty";
import { parseArgs } from "node:util";
import { type Ask, createAsk, isJson } from "./calls.ts";
import { readClientConfig } from "./environment.ts";
import { Misused, Refused, codeOf } from "./kinds.ts";
import { addressOf } from "./references.ts";
import { type Lock, identitiesIn, isSealed, openSealed, passphraseIn, writeSealed } from "./sealed-file.ts";

/** What the broker takes in one request: an import is whole or not at all, so it is not sent in parts. */
const IMPORT_BYTES_MAX = 250_000;
const FORMATS = ["json", "dotenv"] as const;
type Format = (typeof FORMATS)[number];

const FIELDS = ["description", "labels", "expires_at", "rotate_after_days"] as const;

export async function exportSettings(args: readonly string[]): Promise<number> {
  const options = {
    format: { type: "string" },
    out: { type: "string" },
    recipient: { type: "string", multiple: true },
    "passphrase-file": { type: "string" },
  } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const format = formatOf(values.format);
  const { path, ...owner } = addressOf(one(positionals).replace(/^([^/]+\/[^/]+)\/$/, "$1"));
  const query = { ...owner, ...(path === "" ? {} : { path }) };
  const lock = await lockOf(values.recipient, values["passphrase-file"]);
  if ((values.out === undefined) !== (lock === null))
    throw new Misused("--out writes an encrypted file: it goes with --recipient or --passphrase-file.");
  const ask = createAsk(readClientConfig());
  const text = format === "json" ? await asJson(ask, query) : await asDotenv(ask, query);
  if (values.out === undefined || lock === null) process.stdout.write(text);
  else await writeSealed(values.out, text, lock);
  return 0;
}

/** @throws Refused naming each setting whose value is withheld, and why */
async function asJson(ask: Ask, query: Readonly<Record<string, string>>): Promise<string> {
  const settings: Readonly<Record<string, unknown>>[] = [];
  for (let cursor: unknown = ""; typeof cursor === "string"; ) {
    const more = cursor === "" ? {} : { cursor };
    const asked = { ...query, ...more, decrypt: "true" };
    const page = await ask({ method: "GET", path: "/settings", query: asked });
    if (!isJson(page) || !Array.isArray(page["settings"]))
      throw new Refused("The answer is no list of settings.");
    settings.push(...page["settings"].filter(isJson));
    cursor = page["next_cursor"];
  }
  const withheld = settings.filter(({ decrypted }) => decrypted !== true);
  if (withheld.length > 0)
    throw new Refused(
      `Not all may be exported:\n${withheld.map(({ path, withheld: why }) => `${String(path)}: ${String(why)}`).join("\n")}`,
    );
  const exported = settings.map(({ path, value, ...rest }) => ({
    path,
    value,
    ...Object.fromEntries(FIELDS.map((name) => [name, rest[name]]).filter(([, field]) => isGiven(field))),
  }));
  return `${JSON.stringify({ settings: exported }, null, 2)}\n`;
}

const isGiven = (field: unknown): boolean =>
  field !== null && field !== undefined && !(isJson(field) && Object.keys(field).length === 0);

async function asDotenv(ask: Ask, query: Readonly<Record<string, string>>): Promise<string> {
  const rendered = await ask({
    method: "GET",
    path: "/settings/render",
    query: { ...query, format: "dotenv" },
    isText: true,
  });
  if (typeof rendered !== "string") throw new Refused("The answer is no .env file.");
  return rendered;
}

export async function importSettings(args: readonly string[]): Promise<number> {
  const options = {
    format: { type: "string" },
    file: { type: "string" },
    under: { type: "string" },
    conflict: { type: "string" },
    "dry-run": { type: "boolean" },
    "identity-file": { type: "string" },
    "passphrase-file": { type: "string" },
  } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const format = formatOf(values.format);
  const { path, ...owner } = addressOf(one(positionals).replace(/\/$/, ""));
  if (path !== "")
    throw new Misused("An import goes to an owner; the settings' paths are in it, or --under.");
  const bytes = await input(values.file);
  const identity = values["identity-file"];
  const passphrase = values["passphrase-file"];
  const clear = isSealed(bytes)
    ? await openSealed(bytes, {
        identities: identity === undefined ? [] : await identitiesIn(identity),
        passphrase: passphrase === undefined ? null : await passphraseIn(passphrase),
      })
    : bytes;
  const answer = await createAsk(readClientConfig())({
    method: "POST",
    path: "/settings/import",
    query: {
      ...owner,
      ...(values.conflict === undefined ? {} : { conflict: values.conflict }),
      ...(values["dry-run"] === true ? { dry_run: "true" } : {}),
    },
    body: bodyOf(format, utf8(clear), values.under),
  });
  const results = isJson(answer) && Array.isArray(answer["results"]) ? answer["results"].filter(isJson) : [];
  for (const { path: at, outcome, version } of results)
    process.stdout.write(`${String(outcome)}\t${String(at)}\t${String(version)}\n`);
  return 0;
}

function bodyOf(format: Format, text: string, under: string | undefined): unknown {
  if (format === "dotenv") return { dotenv: text, ...(under === undefined ? {} : { under }) };
  if (under !== undefined) throw new Misused("--under is for --format dotenv.");
  try {
    const given: unknown = JSON.parse(text);
    if (isJson(given) && Array.isArray(given["settings"])) return { settings: given["settings"] };
  } catch {
    // Told below: the parser's own words quote a value.
  }
  throw new Refused('The input is no JSON of the form {"settings": [{"path": …, "value": …}]}.');
}

function one(positionals: readonly string[]): string {
  const [first, ...more] = positionals;
  if (first === undefined || more.length > 0) throw new Misused("Exactly one owner is to be named.");
  return first;
}

function formatOf(given = "json"): Format {
  const format = FORMATS.find((each) => each === given);
  if (format === undefined) throw new Misused(`--format is one of ${FORMATS.join(", ")}.`);
  return format;
}

async function lockOf(
  recipients: readonly string[] | undefined,
  passphraseFile: string | undefined,
): Promise<Lock | null> {
  if (recipients !== undefined && passphraseFile !== undefined)
    throw new Misused("--recipient and --passphrase-file exclude each other.");
  if (recipients !== undefined) return { kind: "recipients", recipients };
  if (passphraseFile === undefined) return null;
  return { kind: "passphrase", passphrase: await passphraseIn(passphraseFile) };
}

async function input(file: string | undefined): Promise<Uint8Array> {
  if (file === undefined && isatty(0)) throw new Misused("The settings come from a pipe or --file.");
  const bytes = await (file === undefined ? piped() : readFile(file)).catch((error: unknown) => {
    throw error instanceof Refused ? error : new Refused(`The input cannot be read: ${codeOf(error)}.`);
  });
  if (bytes.length > IMPORT_BYTES_MAX)
    throw new Refused(
      "The input is too large for one import (250 kB); split it, each part is whole or not at all.",
    );
  return bytes;
}

async function piped(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin) {
    bytes += chunk.length;
    if (bytes > IMPORT_BYTES_MAX)
      throw new Refused("The input is too large for one import (250 kB); split it.");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function utf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Refused("The input is not UTF-8.");
  }
}
