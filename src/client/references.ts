// Resolving: many references, one call; a value for each, or the reasons why some have none. A reference is never
// handed back as a value, and none is shown that is not well-formed: somebody may have put a value there.
import { type Ask, isJson } from "./calls.ts";
import { Misused, Refused } from "./kinds.ts";

const REFS_PER_CALL_MAX = 100;
const UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
const WELL_FORMED = new RegExp(
  `^(?:coffer://)?(organization|project|user)/(${UUID})(?:/([A-Za-z0-9_.@/-]+))?(\\?version=\\d+)?(#\\w+)?$`,
);

export type Value = string | boolean | Readonly<Record<string, unknown>>;
export type Result = {
  readonly ref: string;
  readonly status: number;
  readonly value: Value | null;
  readonly version: number | null;
  readonly setting_id: string;
  readonly code: string;
  readonly detail: string;
};

/** One result for each reference, in order. What is away just now is asked for again, with all the others. */
export async function ask(
  ask: Ask,
  references: readonly string[],
  explain: boolean,
): Promise<readonly Result[]> {
  const refs = [...new Set(references)];
  const found = new Map<string, Result>();
  for (let start = 0; start < refs.length; start += REFS_PER_CALL_MAX) {
    const part = refs.slice(start, start + REFS_PER_CALL_MAX);
    const body = { refs: part, ...(explain ? { explain } : {}) };
    const isPassing = (body: unknown): boolean =>
      itemsOf(body).some((item) => item.status === 503 || item.status === 429);
    const items = itemsOf(await ask({ method: "POST", path: "/settings/resolve", body, isPassing }));
    for (const [index, ref] of part.entries()) found.set(ref, resultOf(ref, items[index]));
  }
  return references.map((ref) => found.get(ref) ?? resultOf(ref, undefined));
}

function itemsOf(body: unknown): readonly Readonly<Record<string, unknown>>[] {
  return isJson(body) && Array.isArray(body.results) ? body.results.filter(isJson) : [];
}

function resultOf(ref: string, item: Readonly<Record<string, unknown>> = {}): Result {
  const { status, value, version, setting_id, code, detail } = item;
  return {
    ref,
    status: typeof status === "number" ? status : 0,
    value: isValue(value) ? value : null,
    version: typeof version === "number" ? version : null,
    setting_id: typeof setting_id === "string" ? setting_id : "",
    code: typeof code === "string" ? code : "unknown",
    detail: typeof detail === "string" ? detail : "The broker gave no value.",
  };
}

function isValue(value: unknown): value is Value {
  return typeof value === "string" || typeof value === "boolean" || isJson(value);
}

/** As text: a composite value is JSON. */
export function textOf(value: Value): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The values, as text. @throws Refused naming each that has none, by `names`, and why */
export async function resolveAll(
  asker: Ask,
  references: ReadonlyMap<string, string>,
): Promise<Map<string, Value>> {
  const names = [...references.keys()];
  const results = await ask(asker, [...references.values()], false);
  const values = new Map<string, Value>();
  const problems: string[] = [];
  for (const [index, name] of names.entries()) {
    const result = results[index];
    if (result?.status === 200 && result.value !== null) values.set(name, result.value);
    else problems.push(`${name}: ${result?.status} ${result?.code}: ${result?.detail}`);
  }
  if (problems.length > 0) throw new Refused(problems.join("\n"));
  return values;
}

/** A reference as it may be shown. */
export function told(ref: string): string {
  return WELL_FORMED.test(ref) || /^_SECRET_-[A-Za-z0-9+/=]+$/.test(ref)
    ? ref
    : "[not a well-formed reference]";
}

/** Where a setting is, from `[coffer://]<owner_type>/<owner_id>[/<path>]`. @throws Misused */
export function addressOf(text: string) {
  const [, owner_type = "", owner_id = "", path = "", version = "", field = ""] =
    WELL_FORMED.exec(text) ?? [];
  if (owner_type === "") throw new Misused("A setting is <owner_type>/<owner_id>/<path>.");
  if (version !== "" || field !== "") throw new Misused("Neither a version nor a field may be named here.");
  return { owner_type, owner_id, path };
}
