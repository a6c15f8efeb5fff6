// API tokens: what clients send and what they are sent. Only MadeToken ever holds a token's text.
import { Type } from "./type.ts";
import {
  CreatedBy,
  EXAMPLE,
  Id,
  IdInput,
  LIMIT_DEFAULT,
  Name,
  NextCursor,
  Scopes,
  ScopesInput,
  Time,
  TimeOrNull,
  paging,
} from "./common.ts";
import { Fields, List, Nullable, component } from "./kit.ts";

const token = {
  id: Id("The token's id; not a secret."),
  principal_id: Id("Who the token speaks for."),
  name: Type.String({ description: "What it is for." }),
  parent_id: Nullable(Id("The token that it is the child of, and dies with.")),
  scopes: Scopes,
  max_uses: Nullable(Type.Integer(), { description: "How many requests it is good for; null: any number." }),
  uses_left: Nullable(Type.Integer(), { description: "How many of them are left." }),
  allowed_cidrs: Nullable(List(Type.String()), { description: "Where it may be used from; null: anywhere." }),
  expires_at: TimeOrNull("When it expires; null: never."),
  last_used_at: TimeOrNull("When it was last used, give or take five minutes."),
  revoked_at: TimeOrNull("When it was revoked."),
  created_at: Time("When it was made."),
  created_by: CreatedBy,
};
export const EXAMPLE_TOKEN = {
  id: EXAMPLE.token,
  principal_id: EXAMPLE.serviceAccount,
  name: "training cluster",
  parent_id: null,
  scopes: [EXAMPLE.scope],
  max_uses: null,
  uses_left: null,
  allowed_cidrs: ["203.0.113.0/24"],
  expires_at: EXAMPLE.later,
  last_used_at: null,
  revoked_at: null,
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
};

export const Token = component(
  "Token",
  Fields(token, { description: "An API token, without its text.", examples: [EXAMPLE_TOKEN] }),
);
export const MadeToken = component(
  "MadeToken",
  Fields(
    {
      ...token,
      token: Type.String({ description: "What to send as `Authorization: Bearer`. Shown this once." }),
    },
    {
      description: "A new API token, with its text.",
      examples: [{ ...EXAMPLE_TOKEN, token: "cfr_example-token-not-real" }],
    },
  ),
);
export const TokenPage = component(
  "TokenPage",
  Fields(
    { tokens: List(Token), next_cursor: NextCursor },
    { description: "API tokens.", examples: [{ tokens: [EXAMPLE_TOKEN], next_cursor: null }] },
  ),
);

export const CreateTokenBody = component(
  "CreateTokenBody",
  Fields(
    {
      name: Name("training cluster"),
      principal_id: Type.Optional(
        IdInput(
          "A service account of an organization that the caller owns; by default the caller.",
          EXAMPLE.serviceAccount,
        ),
      ),
      expires_in_days: Type.Optional(
        // No `default` keyword: Ajv would fill it in, and what was not asked for is cut down instead of refused.
        Type.Integer({
          minimum: 1,
          maximum: 365,
          description: "Absent: 90, or for as long as the token that it is made with.",
        }),
      ),
      scopes: Type.Optional(ScopesInput),
      max_uses: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: 1_000_000,
          description: "How many requests it is to be good for.",
        }),
      ),
      allowed_cidrs: Type.Optional(
        Type.Array(Type.String({ maxLength: 64, examples: ["203.0.113.0/24"] }), {
          minItems: 1,
          maxItems: 32,
          uniqueItems: true,
          description: "Addresses or ranges `address/bits` that it may be used from.",
        }),
      ),
    },
    {
      description: "A new token.",
      examples: [
        {
          name: "training cluster",
          principal_id: EXAMPLE.serviceAccount,
          expires_in_days: 30,
          scopes: [EXAMPLE.scope],
        },
      ],
    },
  ),
);
export const EnrolBody = component(
  "EnrolBody",
  Fields(
    {
      code: Type.String({
        minLength: 1,
        maxLength: 256,
        description: "The enrolment code that the admin handed over.",
      }),
      name: Type.Optional(Name("my laptop")),
    },
    { description: "An enrolment code.", examples: [{ code: "example-enrolment-code", name: "my laptop" }] },
  ),
);

export const TokenParams = Fields({ token_id: IdInput("The token's id.", EXAMPLE.token) });
export const TokenQuery = Fields({
  principal_id: Type.Optional(IdInput("Whose tokens; by default the caller's own.", EXAMPLE.serviceAccount)),
  ...paging(LIMIT_DEFAULT),
});
export const RevokeQuery = Fields({
  made: Type.Optional(
    Type.Boolean({ default: false, description: "Revoke also those that it made for others." }),
  ),
});
