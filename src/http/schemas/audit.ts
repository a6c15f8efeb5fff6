// The audit log: what clients send and what they are sent. An event has no field that could hold a value.
import { Type } from "./type.ts";
import { OWNER_TYPES } from "../../domain/address.ts";
import { ACTIONS } from "../../domain/access.ts";
import { OUTCOMES } from "../../domain/audit.ts";
import { EXAMPLE, Id, IdInput, LIMIT_DEFAULT, NextCursor, Time, paging } from "./common.ts";
import { form } from "./forms.ts";
import { Fields, List, Nullable, OneOf, OpenOneOf, component } from "./kit.ts";

const PLACES = [...OWNER_TYPES, "instance"] as const;

export const EXAMPLE_EVENT = {
  id: EXAMPLE.event,
  at: EXAMPLE.at,
  principal_id: EXAMPLE.serviceAccount,
  token_id: EXAMPLE.token,
  action: "decrypt",
  operation: "listSettings",
  outcome: "allowed",
  owner_type: "project",
  owner_id: EXAMPLE.project,
  path: "connect/S3",
  settings: [{ id: EXAMPLE.setting, path: EXAMPLE.path, version: 2 }],
  target_id: null,
  details: {},
  request_id: "example-request-1",
  follows: null,
  ip: "203.0.113.7",
  user_agent: "coffer-python/1.0",
  reason: null,
  count: 1,
};

const text = (description: string) => Nullable(Type.String({ description }));

const AuditedSetting = component(
  "AuditedSetting",
  Fields(
    {
      id: Id("The setting's id."),
      path: Type.String({ description: "Its path." }),
      version: Nullable(Type.Integer(), {
        description: "The version; null where the whole setting was meant.",
      }),
    },
    { description: "A setting that an event is about.", examples: EXAMPLE_EVENT.settings },
  ),
);

export const AuditEvent = component(
  "AuditEvent",
  Fields(
    {
      id: Id("The event's id."),
      at: Time("When it happened."),
      principal_id: Nullable(Id("Who called; null when nobody was recognized.")),
      token_id: Nullable(Id("The token that was presented.")),
      action: OpenOneOf(ACTIONS, { description: "What was to be done." }),
      operation: Type.String({ description: "The operationId of the request." }),
      outcome: OpenOneOf(OUTCOMES, {
        description: "`allowed`: disclosure was permitted. `failed`: see `follows`.",
      }),
      owner_type: OpenOneOf(PLACES, { description: "What kind of owner; `instance` for what has none." }),
      owner_id: Nullable(Id("The owner.")),
      path: text("The path asked about."),
      settings: List(AuditedSetting, { description: "The settings that it was about." }),
      target_id: Nullable(Id("What else it was about: a principal, an organization, a project.")),
      details: Type.Unsafe<Readonly<Record<string, string>>>({
        type: "object",
        additionalProperties: { type: "string" },
        description:
          "A few plain facts: a role given or asked for, what a denial says was `required`. `asked`: the action that " +
          "`checkAccess` asked about, the owner that there is not, or both as `<action>:<owner_type>/<owner_id>`.",
      }),
      request_id: Type.String({ description: "The X-Request-ID of the request." }),
      follows: Nullable(Id("The event that said `allowed` where this one says that nothing came of it.")),
      ip: text("Where the request came from; for refused credentials the IPv4 address or the /64."),
      user_agent: text("What the client calls itself; null, too, where that looks as if it held a token."),
      reason: text("Why it was denied or failed."),
      count: Type.Integer({
        description:
          "How many times within the minute; 1 but for refused credentials. Of more than one, principal and token are " +
          "told where they are the same in all, and the rest is the first's.",
      }),
    },
    { description: "Who did what, and how it ended.", examples: [EXAMPLE_EVENT] },
  ),
);
export const AuditPage = component(
  "AuditPage",
  Fields(
    { events: List(AuditEvent), next_cursor: NextCursor },
    {
      description:
        "Events. Under `order=asc` `next_cursor` is never null: ask again with it for what comes next.",
      examples: [{ events: [EXAMPLE_EVENT], next_cursor: null }],
    },
  ),
);

const time = (description: string) =>
  Type.Optional(Type.String({ format: "date-time", description, examples: [EXAMPLE.at] }));

export const AuditQuery = Fields({
  owner_type: OneOf(PLACES, {
    description: "Whose log. An organization's holds its projects'; `instance` is for instance admins.",
    examples: ["project"],
  }),
  owner_id: Type.Optional(IdInput("The owner; absent for `instance`, needed otherwise.", EXAMPLE.project)),
  since: time("Events at or after this time."),
  until: time("Events before this time."),
  action: Type.Optional(OneOf(ACTIONS, { description: "Only this action." })),
  principal_id: Type.Optional(IdInput("Only what this principal did.", EXAMPLE.serviceAccount)),
  outcome: Type.Optional(OneOf(OUTCOMES, { description: "Only this outcome." })),
  path: Type.Optional(
    Type.String({
      maxLength: 512,
      pattern: form("^[A-Za-z0-9._@/-]+$", "must be a path or what paths lie under"),
      description: "Only what was about this path.",
      examples: [EXAMPLE.path],
    }),
  ),
  request_id: Type.Optional(
    Type.String({
      pattern: form("^[A-Za-z0-9._-]{1,128}$", "must have 1 to 128 letters, digits and the characters . _ -"),
      description: "Only this request.",
      examples: ["example-request-1"],
    }),
  ),
  order: Type.Optional(
    OneOf(["desc", "asc"], {
      default: "desc",
      description:
        "`desc`: the newest first. `asc`: the oldest first within a page; what commits late is on a later page.",
    }),
  ),
  ...paging(LIMIT_DEFAULT),
});
