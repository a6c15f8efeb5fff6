// The pieces that every noun's schemas share: ids, names, times, words, pages, and the ids that examples use.
// Text patterns keep out what PostgreSQL cannot hold (NUL, half a surrogate pair), so that it is 400 and not 500.
// Patterns that are only shown are the domain's rules, told to clients; the domain answers with the better words.
import { Type } from "./type.ts";
import { OWNER_TYPES } from "../../domain/address.ts";
import { ROLES } from "../../domain/access.ts";
import { form } from "./forms.ts";
import { Fields, Instead, List, Nullable, OneOf, OpenOneOf } from "./kit.ts";

/** Obviously made up, and the same throughout, so that the examples tell one story. */
export const EXAMPLE = {
  organization: "01981c5e-7a10-7d3b-8f21-5b9e0c4d2a11",
  project: "01981c5e-9c44-7e0a-b6d5-1f2a3b4c5d6e",
  user: "01981c5d-02f7-7a6c-9e13-aa04c7d9b0e2",
  serviceAccount: "01981c60-4b8d-7c19-8a52-6e7f80912a3b",
  setting: "01981c62-d3e0-7f45-9b07-c2d4e6f8091a",
  token: "01981c61-1a2b-7b3c-8d4e-5f60718293a4",
  event: "01981c63-0f1e-7d2c-9b3a-485766758493",
  at: "2026-01-15T09:30:00.000Z",
  later: "2026-04-15T09:30:00.000Z",
  path: "connect/S3/training-data",
  scope: "decrypt:project/01981c5e-9c44-7e0a-b6d5-1f2a3b4c5d6e/connect/S3",
} as const;

const UUID = form(
  "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
  "must be a UUID",
);
// Half a surrogate pair: no well-formed JSON has it, and most regular expressions outside JavaScript know no such thing.
const HALVES = "\\ud800-\\udfff";
const NO_CONTROLS = `\\u0000-\\u001f\\u007f-\\u009f${HALVES}`;
const SEGMENT = "[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}";

type TextRules = {
  readonly minLength?: number;
  readonly maxLength: number;
  readonly pattern: string;
  readonly description: string;
};

/** Text that is kept: half a surrogate pair is refused, and the published pattern does not speak of it. */
function kept({ pattern, ...rules }: TextRules, example: object) {
  const shown = { type: "string", ...rules, pattern: pattern.replaceAll(HALVES, ""), ...example };
  return Instead(Type.String({ ...rules, pattern }), shown);
}

/** Text whose grammar is the domain's to check. */
export function Spelled(rules: { readonly maxLength: number; readonly description: string }, shown: object) {
  return Instead(Type.String(rules), { type: "string", ...rules, ...shown });
}

/** An id on its way in. Ajv's own `uuid` also takes `urn:uuid:…`; a pattern beside `uuid` trips Python's clients. */
export function IdInput(description: string, example: string) {
  const shown = { type: "string", format: "uuid", description, example };
  return Instead(Type.String({ pattern: UUID, description }), shown);
}
/** An id on its way out. */
export function Id(description: string) {
  return Type.String({ format: "uuid", description });
}
export function Time(description: string) {
  return Type.String({ format: "date-time", description });
}
export function TimeOrNull(description: string) {
  return Nullable(Time(description));
}

export const CreatedBy = Nullable(Id("Who made it; null for the broker itself."));

/** Text of any kind that PostgreSQL can hold. */
export function Text(maxLength: number, description: string) {
  const pattern = form(`^[^\\u0000${HALVES}]*$`, "must be well-formed text without NUL");
  return kept({ maxLength, pattern, description }, {});
}

/** A name of something: no control characters, no blank at either end. */
export function Name(example: string) {
  return kept(
    {
      minLength: 1,
      maxLength: 128,
      pattern: form(
        `^[^\\s${NO_CONTROLS}]([^${NO_CONTROLS}]*[^\\s${NO_CONTROLS}])?$`,
        "must have no control characters, and no blank at either end",
      ),
      description: "1 to 128 characters; no control characters, no blank at either end.",
    },
    { example },
  );
}

export function Email(description: string) {
  const part = `[^\\s@${NO_CONTROLS}]+`;
  const pattern = form(`^${part}@${part}$`, "must be an e-mail address");
  return kept({ maxLength: 254, pattern, description }, { example: "ada@example.com" });
}

/** A setting's full path. */
export function FullPath(description: string) {
  return Spelled(
    { maxLength: 512, description },
    { pattern: `^${SEGMENT}(/${SEGMENT}){2,}$`, example: EXAMPLE.path },
  );
}

/** A path or what paths lie under; a trailing slash may say which. */
export function PathOrPrefix(description: string) {
  return Spelled(
    { maxLength: 513, description },
    { pattern: `^${SEGMENT}(/${SEGMENT})*/?$`, example: "connect/S3" },
  );
}

const ScopeInput = Spelled(
  { maxLength: 700, description: "What is allowed, where." },
  { pattern: "^[a-z]+:[a-z]+/[0-9a-fA-F-]{36}(/[A-Za-z0-9._@/-]+)?$", example: EXAMPLE.scope },
);
export const ScopesInput = Type.Array(ScopeInput, {
  minItems: 1,
  maxItems: 64,
  uniqueItems: true,
  description:
    "A ceiling, each `<action>:<owner_type>/<owner_id>[/<path>]`. Scopes only ever take rights away.",
});
export const Scopes = Nullable(List(Type.String()), {
  description: "The ceiling, each `<action>:<owner_type>/<owner_id>[/<path>]`; null where there is none.",
});

export const Disabled = Type.Boolean({ description: "Whether all its tokens are refused." });

export const RoleInput = OneOf(ROLES, { description: "The role to hold from now on." });
export const RoleOut = OpenOneOf(ROLES, { description: "The role held." });

export const OwnerTypeOut = OpenOneOf(OWNER_TYPES, { description: "What kind of owner it is." });
export const KindOut = OpenOneOf(["user", "service_account"], {
  description: "A person, or a workload's account.",
});

export const PurgeQuery = Fields({
  purge: Type.Optional(
    Type.Boolean({ default: false, description: "Destroy the settings that are still there, for ever." }),
  ),
});

const CURSOR = Type.String({
  minLength: 1,
  maxLength: 1024,
  pattern: form("^[A-Za-z0-9_-]+$", "must be the last page's next_cursor"),
  description: "The last page's `next_cursor`; absent for the first page.",
});
export const NextCursor = Nullable(
  Type.String({ description: "Give it as `cursor` for the next page; null when this page is the last." }),
);

/** The query parameters of a page. */
export function paging(limitDefault: number) {
  const limits = { minimum: 1, maximum: 1000, default: limitDefault };
  return {
    limit: Type.Optional(Type.Integer({ ...limits, description: "The most objects that a page may hold." })),
    cursor: Type.Optional(CURSOR),
  };
}

export const LIMIT_DEFAULT = 100;
export const PageQuery = Fields(paging(LIMIT_DEFAULT));
