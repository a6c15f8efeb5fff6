// From whatever was thrown to a BrokerError: the schemas' refusals, the framework's own errors, and the unknown.
// No message of any of them is passed on. What a refusal says is worded here from the rule that the schema holds;
// names that a client made up (a map's keys, unknown fields) are never repeated here, since they may be secrets too.
import type { FastifySchemaValidationError } from "fastify";
import { BrokerError, type ErrorCode, type InputProblem } from "../domain/errors.ts";
import { internalError } from "./problem.ts";
import { wordsOf } from "./schemas/forms.ts";

const PLACES: Readonly<Record<string, InputProblem["in"]>> = {
  body: "body",
  querystring: "query",
  params: "path",
  headers: "header",
};
const PROBLEMS_MAX = 16;

/** The rule behind each keyword, from the schema's side of the error alone. */
function ruleOf({ keyword, params }: FastifySchemaValidationError): string {
  switch (keyword) {
    case "required":
      return "is missing";
    case "additionalProperties":
    case "unevaluatedProperties":
      return "holds a name that is not known here";
    case "propertyNames":
      return "holds a name that is not allowed";
    case "type":
      return `must be ${[params["type"]].flat().map(withArticle).join(" or ")}`;
    case "enum":
      return `must be one of ${listed(params["allowedValues"])}`;
    case "const":
      return `must be ${listed(params["allowedValue"])}`;
    case "format":
      return FORMATS[String(params["format"])] ?? `must be a ${listed(params["format"])}`;
    case "pattern":
      return wordsOf(params["pattern"]) ?? "does not have the form that is asked for";
    case "minLength":
      if (params["limit"] === 1) return "must not be empty";
      return `must have at least ${listed(params["limit"])} characters`;
    case "maxLength":
      return `must have at most ${listed(params["limit"])} characters`;
    case "minItems":
    case "minProperties":
      if (params["limit"] === 1) return "must not be empty";
      return `must have at least ${listed(params["limit"])} entries`;
    case "maxItems":
    case "maxProperties":
      return `must have at most ${listed(params["limit"])} entries`;
    case "minimum":
    case "maximum":
    case "exclusiveMinimum":
    case "exclusiveMaximum":
      return `must be ${listed(params["comparison"])} ${listed(params["limit"])}`;
    case "uniqueItems":
      return "must not hold the same entry twice";
    default:
      return "does not have the form that is asked for";
  }
}

const FORMATS: Readonly<Record<string, string>> = {
  "date-time": "must be a time as RFC 3339 has it, such as 2026-01-15T09:30:00Z",
};

function withArticle(type: unknown): string {
  if (type === "null") return "null";
  return `${/^[aio]/.test(String(type)) ? "an" : "a"} ${String(type)}`;
}

/** Words of the schema; a list of them reads as one. */
function listed(words: unknown): string {
  return Array.isArray(words) ? words.map(String).join(", ") : String(words);
}

/**
 * Alternatives leave an error for each: what says least of the schema's inner workings is left out. What is empty is told
 * to be, and not that it has no form either.
 */
function isNoise(
  { keyword, instancePath }: FastifySchemaValidationError,
  all: readonly FastifySchemaValidationError[],
): boolean {
  if (
    keyword === "pattern" &&
    all.some((each) => each.keyword === "minLength" && each.instancePath === instancePath)
  )
    return true;
  return ["anyOf", "oneOf", "if", "nullable"].includes(keyword) && all.length > 1;
}

/** Tells a schema's refusal. `known` holds every name that some schema has, which alone may be repeated. */
export function refusalOf(
  errors: readonly FastifySchemaValidationError[],
  part: string,
  known: ReadonlySet<string>,
): BrokerError {
  const place = PLACES[part] ?? "body";
  const problems = new Map<string, InputProblem>();
  for (const error of errors) {
    if (isNoise(error, errors)) continue;
    const missing = error.keyword === "required" ? `/${String(error.params["missingProperty"])}` : "";
    const pointer = `${error.instancePath}${missing}`.split("/").map(shown).join("/");
    const rule = ruleOf(error);
    problems.set(`${pointer} ${rule}`, { in: place, pointer, detail: sentence(place, pointer, rule) });
    if (problems.size === PROBLEMS_MAX) break;
  }
  const [first] = problems.values();
  const detail =
    first === undefined ? `The ${place} does not have the form that is asked for.` : first.detail;
  return new BrokerError("invalid_request", detail, { errors: [...problems.values()] });

  function shown(segment: string): string {
    return segment === "" || known.has(segment) || /^[0-9]{1,5}$/.test(segment) ? segment : "*";
  }
}

function sentence(place: InputProblem["in"], pointer: string, rule: string): string {
  return `${pointer === "" ? `The ${place}` : pointer.slice(1)} ${rule}.`;
}

/** What the framework refuses by itself, by its code. */
const FRAMEWORK: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  FST_ERR_BAD_URL: ["invalid_request", "The URL is not well-formed."],
  FST_ERR_MAX_PARAM_LENGTH: ["invalid_request", "The URL is too long."],
  FST_ERR_CTP_BODY_TOO_LARGE: ["too_large", "The body has more than 256 KiB."],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ["invalid_request", "The body is not as long as Content-Length says."],
};

type Thrown = {
  readonly code?: unknown;
  readonly validation?: readonly FastifySchemaValidationError[];
  readonly validationContext?: string;
};

/** The BrokerError to answer for anything that was thrown; `internal`, with its cause, for the unknown. */
export function faultOf(thrown: unknown, known: ReadonlySet<string>): BrokerError {
  if (thrown instanceof BrokerError) return thrown;
  if (typeof thrown !== "object" || thrown === null) return internalError(thrown);
  const { code, validation, validationContext } = thrown as Thrown;
  if (code === "FST_ERR_VALIDATION" && validation !== undefined)
    return refusalOf(validation, validationContext ?? "body", known);
  const refused = typeof code === "string" ? FRAMEWORK[code] : undefined;
  return refused === undefined ? internalError(thrown) : new BrokerError(refused[0], refused[1]);
}
