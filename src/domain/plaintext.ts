// Plaintext holds a secret's value on its way between client and sealer.
// However it is printed, interpolated, inspected or serialized it says [redacted]; `reveal` and `json` are the ways to
// the value and `bytes` the one way to what is sealed. Nothing else in the tree may hold a bare value.
import type { SettingType } from "./address.ts";
import { BrokerError, type InputProblem } from "./errors.ts";

export type S3Value = {
  access_key_id: string;
  secret_access_key: string;
  session_token?: string;
  region?: string;
  bucket?: string;
  endpoint?: string;
  force_path_style?: boolean;
};
export type ContainerRegistryValue = { registry: string; username: string; password: string; email?: string };
export type SettingValue = string | S3Value | ContainerRegistryValue;

/** 64 KiB: the most that AWS and GCP secret managers hold in one version. */
export const VALUE_BYTES_MAX = 65_536;

const REDACTED = "[redacted]";

export class Plaintext {
  readonly #type: SettingType;
  readonly #canonical: string;

  constructor(type: SettingType, canonical: string) {
    this.#type = type;
    this.#canonical = canonical;
  }

  /** The value as clients see it. Call it only where an answer is being made. */
  reveal(): SettingValue {
    return this.#type === "custom" ? this.#canonical : (JSON.parse(this.#canonical) as SettingValue);
  }

  /**
   * The value as clients see it, as JSON. A composite one is that already: to parse it and write it again took a
   * twentieth of a read of twenty. Call it only where an answer is being made.
   */
  json(): string {
    return this.#type === "custom" ? JSON.stringify(this.#canonical) : this.#canonical;
  }

  /** The canonical UTF-8 bytes: a custom value as it is, the others as JSON with their fields in table order. */
  bytes(): Buffer {
    return Buffer.from(this.#canonical, "utf8");
  }

  get byteLength(): number {
    return Buffer.byteLength(this.#canonical, "utf8");
  }

  equals(other: Plaintext): boolean {
    return this.#type === other.#type && this.#canonical === other.#canonical;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return REDACTED;
  }
}

type Field = { readonly name: string; readonly kind: "string" | "boolean"; readonly required: boolean };

const text = (name: string, required: boolean): Field => ({ name, kind: "string", required });

/** The fields of each composite type, in canonical order. */
export const FIELDS: Readonly<Record<Exclude<SettingType, "custom">, readonly Field[]>> = {
  s3: [
    text("access_key_id", true),
    text("secret_access_key", true),
    text("session_token", false),
    text("region", false),
    text("bucket", false),
    text("endpoint", false),
    { name: "force_path_style", kind: "boolean", required: false },
  ],
  container_registry: [
    text("registry", true),
    text("username", true),
    text("password", true),
    text("email", false),
  ],
};

/** An unknown field is named where its name is like ours, and a few are: any other may be a misplaced secret. */
const FIELD_NAME = /^(?=.{1,32}$)[a-z]+(?:_[a-z]+)*$/;
const NAMED_MAX = 3;

function textProblem(candidate: unknown): string | null {
  if (typeof candidate !== "string") return "must be a string";
  if (candidate === "") return "must not be empty";
  if (candidate.includes("\0")) return "must not hold a NUL character";
  if (!candidate.isWellFormed()) return "must be well-formed Unicode";
  return null;
}

function fieldProblems(fields: readonly Field[], candidate: Record<string, unknown>): InputProblem[] {
  const problems: InputProblem[] = [];
  const add = (name: string, rule: string): number =>
    problems.push({ in: "body", pointer: `/value/${name}`, detail: `${name} ${rule}` });
  const known = fields.map((field) => field.name);
  const others = Object.keys(candidate).filter((name) => !known.includes(name));
  for (const name of others.filter((each) => FIELD_NAME.test(each)).slice(0, NAMED_MAX))
    add(name, "is no field of this type");
  if (others.length > 0) {
    const detail = `value has an unknown field; the known ones are ${known.join(", ")}`;
    problems.push({ in: "body", pointer: "/value", detail });
  }
  for (const field of fields) {
    const given = Object.hasOwn(candidate, field.name) ? candidate[field.name] : undefined;
    if (given === undefined) {
      if (field.required) add(field.name, "is missing");
    } else if (field.kind === "boolean") {
      if (typeof given !== "boolean") add(field.name, "must be a boolean");
    } else {
      const problem = textProblem(given);
      if (problem !== null) add(field.name, problem);
    }
  }
  return problems;
}

/**
 * Checks a value against its type.
 * @throws BrokerError `invalid_value` naming each bad field, never its content; `too_large` over 64 KiB.
 */
export function checkValue(type: SettingType, candidate: unknown): Plaintext {
  const plaintext = new Plaintext(type, canonicalOf(type, candidate));
  if (plaintext.byteLength > VALUE_BYTES_MAX)
    throw new BrokerError("too_large", `A value has at most ${VALUE_BYTES_MAX} bytes.`);
  return plaintext;
}

function canonicalOf(type: SettingType, candidate: unknown): string {
  const fail = (errors: InputProblem[]): never => {
    throw new BrokerError("invalid_value", `The value is not valid for the type ${type}.`, { errors });
  };
  if (type === "custom") {
    const problem = candidate === undefined ? "is missing" : textProblem(candidate);
    if (problem !== null) return fail([{ in: "body", pointer: "/value", detail: `value ${problem}` }]);
    return candidate as string;
  }
  if (typeof candidate !== "object" || candidate === null || Array.isArray(candidate)) {
    const rule = candidate === undefined ? "is missing" : "must be an object";
    return fail([{ in: "body", pointer: "/value", detail: `value ${rule}` }]);
  }
  const given = candidate as Record<string, unknown>;
  const problems = fieldProblems(FIELDS[type], given);
  if (problems.length > 0) return fail(problems);
  const ordered = FIELDS[type].filter((field) => given[field.name] !== undefined);
  return JSON.stringify(Object.fromEntries(ordered.map((field) => [field.name, given[field.name]])));
}
