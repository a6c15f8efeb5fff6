// `coffer report`: what is due and what is dead, as a table for people or as JSON. It shows no value.
import { parseArgs } from "node:util";
import { type Ask, createAsk, isJson } from "./calls.ts";
import { readClientConfig } from "./environment.ts";
import { Misused, Refused } from "./kinds.ts";
import { addressOf } from "./references.ts";

type Json = Readonly<Record<string, unknown>>;

const OPTIONS = {
  "within-days": { type: "string" },
  "unused-days": { type: "string" },
  json: { type: "boolean" },
} as const;

export async function report(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  const [given, ...more] = positionals;
  if (given === undefined || more.length > 0) throw new Misused("Exactly one owner is to be named.");
  const { path, ...owner } = addressOf(given.replace(/\/$/, ""));
  if (path !== "") throw new Misused("A report is on an owner as a whole: <owner_type>/<owner_id>.");
  const query = {
    ...owner,
    ...(values["within-days"] === undefined ? {} : { within_days: values["within-days"] }),
    ...(values["unused-days"] === undefined ? {} : { unused_days: values["unused-days"] }),
  };
  const whole = await wholeReport(createAsk(readClientConfig()), query);
  process.stdout.write(values.json === true ? `${JSON.stringify(whole, null, 2)}\n` : tableOf(whole));
  return 0;
}

/** All pages as one. */
async function wholeReport(ask: Ask, query: Readonly<Record<string, string>>): Promise<Json> {
  let whole: Json | null = null;
  for (let cursor: unknown = ""; typeof cursor === "string"; ) {
    const more = cursor === "" ? {} : { cursor };
    const page = await ask({ method: "GET", path: "/settings/report", query: { ...query, ...more } });
    if (!isJson(page) || !Array.isArray(page["settings"])) throw new Refused("The answer is no report.");
    const before: Json[] = whole === null ? [] : listOf(whole, "settings");
    whole = { ...page, settings: [...before, ...listOf(page, "settings")] };
    cursor = page["next_cursor"];
  }
  return whole ?? {};
}

function listOf(of: Json, name: string): Json[] {
  const list = of[name];
  return Array.isArray(list) ? list.filter(isJson) : [];
}

const text = (value: unknown): string =>
  typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
const day = (value: unknown): string => text(value).slice(0, 10);

function tableOf(whole: Json): string {
  const totals = isJson(whole["totals"]) ? whole["totals"] : {};
  const summary = Object.entries(totals).map(
    ([name, count]) => `${text(count)} ${name.replaceAll("_", " ")}`,
  );
  const settings = listOf(whole, "settings").map((each) => [
    `${text(each["owner_type"])}/${text(each["owner_id"])}/${text(each["path"])}`,
    text(each["version"]),
    findings(each),
    day(each["rotation_due_at"]),
    day(each["expires_at"]),
    day(each["last_accessed_at"]),
  ]);
  const readers = listOf(whole, "settings").flatMap((each) =>
    listOf(each, "pinned_readers").map((reader) => [
      text(each["path"]),
      text(reader["principal_id"]),
      text(reader["version"]),
      text(reader["last_read_at"]),
    ]),
  );
  const tokens = listOf(whole, "tokens").map((each) => [
    text(each["id"]),
    text(each["name"]),
    text(each["principal_id"]),
    findings(each),
    day(each["expires_at"]),
    day(each["last_used_at"]),
  ]);
  return [
    `${summary.join(", ")}\n`,
    aligned(["SETTING", "VERSION", "FINDINGS", "ROTATE BY", "EXPIRES", "LAST READ"], settings),
    aligned(["STILL READ AT AN OLD VERSION", "BY", "VERSION", "LAST"], readers),
    aligned(["TOKEN", "NAME", "OF", "FINDINGS", "EXPIRES", "LAST USED"], tokens),
  ].join("");
}

function findings(of: Json): string {
  const list = of["findings"];
  return Array.isArray(list) ? list.map((each) => text(each).replaceAll("_", " ")).join(", ") : "";
}

/** Nothing where there are no rows. Names are somebody's: what would move a terminal's cursor is left out. */
function aligned(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return "";
  const clean = rows.map((row) => row.map((cell) => cell.replaceAll(/\p{Cc}/gu, "")));
  const widths = head.map((title, column) =>
    Math.max(title.length, ...clean.map((row) => (row[column] ?? "").length)),
  );
  const line = (row: readonly string[]): string =>
    `${row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd()}\n`;
  return `\n${[head, ...clean].map(line).join("")}`;
}
