// Users, service accounts, and who one is: what clients send and what they are sent.
import { Type } from "@fastify/type-provider-typebox";
import { OWNER_TYPES } from "../../domain/address.ts";
import { OWNER_ACTIONS } from "../../domain/access.ts";
import * as common from "./common.ts";
import { Fields, List, Nullable, OneOf, OpenOneOf, component } from "./kit.ts";

const {
  CreatedBy,
  EXAMPLE,
  Id,
  IdInput,
  KindOut,
  Name,
  NextCursor,
  OwnerTypeOut,
  RoleOut,
  Scopes,
  ScopesInput,
} = common;
const { Time, TimeOrNull } = common;

const disabled = Type.Boolean({ description: "Whether all its tokens are refused." });
const made = { created_at: Time("When it was made."), created_by: CreatedBy };
const user = {
  id: Id("The user's id; `owner_id` of the user's own settings."),
  kind: OpenOneOf(["user"]),
  name: Type.String({ description: "Need not be unique." }),
  email: Nullable(
    Type.String({ description: "In lower case; unique, and never a proof of who somebody is." }),
  ),
  admin: Type.Boolean({ description: "Whether an instance admin: no right to anybody's settings." }),
  disabled,
  ...made,
};
export const EXAMPLE_USER = {
  id: EXAMPLE.user,
  kind: "user",
  name: "Ada Example",
  email: "ada@example.com",
  admin: false,
  disabled: false,
  created_at: EXAMPLE.at,
  created_by: null,
};
export const EXAMPLE_SERVICE_ACCOUNT = {
  id: EXAMPLE.serviceAccount,
  kind: "service_account",
  organization_id: EXAMPLE.organization,
  name: "trainer",
  scopes: [EXAMPLE.scope],
  disabled: false,
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
};

export const User = component("User", Fields(user, { description: "A person.", examples: [EXAMPLE_USER] }));
export const CreatedUser = component(
  "CreatedUser",
  Fields(
    {
      ...user,
      enrolment_code: Type.String({
        description: "For POST /auth/enrol: single use, 24 hours. Shown this once.",
      }),
    },
    {
      description: "A new user, with the code for the first token.",
      examples: [{ ...EXAMPLE_USER, enrolment_code: "example-enrolment-code" }],
    },
  ),
);
export const UserPage = component(
  "UserPage",
  Fields(
    { users: List(User), next_cursor: NextCursor },
    { description: "Users.", examples: [{ users: [EXAMPLE_USER], next_cursor: null }] },
  ),
);

export const ServiceAccount = component(
  "ServiceAccount",
  Fields(
    {
      id: Id("The service account's id."),
      kind: OpenOneOf(["service_account"]),
      organization_id: Nullable(Id("The organization that it belongs to.")),
      name: Type.String({ description: "Unique in its organization." }),
      scopes: Scopes,
      disabled,
      ...made,
    },
    { description: "What workers run as; belongs to an organization.", examples: [EXAMPLE_SERVICE_ACCOUNT] },
  ),
);
export const ServiceAccountPage = component(
  "ServiceAccountPage",
  Fields(
    { service_accounts: List(ServiceAccount), next_cursor: NextCursor },
    {
      description: "Service accounts.",
      examples: [{ service_accounts: [EXAMPLE_SERVICE_ACCOUNT], next_cursor: null }],
    },
  ),
);

const EMAIL =
  "^[^\\s@\\u0000-\\u001f\\u007f-\\u009f\\ud800-\\udfff]+@[^\\s@\\u0000-\\u001f\\u007f-\\u009f\\ud800-\\udfff]+$";
const Email = Type.String({
  maxLength: 254,
  pattern: EMAIL,
  description: "An email address; upper and lower case are the same.",
  examples: ["ada@example.com"],
});

export const CreateUserBody = component(
  "CreateUserBody",
  Fields(
    { name: Type.Optional(Name("Ada Example")), email: Type.Optional(Email) },
    {
      minProperties: 1,
      description: "A new user: a name, an email, or both. Without a name, the email is the name.",
      examples: [{ name: "Ada Example", email: "ada@example.com" }],
    },
  ),
);
export const PatchUserBody = component(
  "PatchUserBody",
  Fields(
    {
      admin: Type.Optional(Type.Boolean({ description: "Make or unmake an instance admin." })),
      disabled: Type.Optional(
        Type.Boolean({ description: "Refuse all of the user's tokens, or no longer." }),
      ),
      name: Type.Optional(Name("Ada Example")),
    },
    { minProperties: 1, description: "What is to change.", examples: [{ disabled: true }] },
  ),
);
export const CreateServiceAccountBody = component(
  "CreateServiceAccountBody",
  Fields(
    { name: Name("trainer"), scopes: Type.Optional(ScopesInput) },
    { description: "A new service account.", examples: [{ name: "trainer", scopes: [EXAMPLE.scope] }] },
  ),
);
export const PatchServiceAccountBody = component(
  "PatchServiceAccountBody",
  Fields(
    {
      name: Type.Optional(Name("trainer")),
      scopes: Type.Optional(Nullable(ScopesInput)),
      disabled: Type.Optional(disabled),
    },
    {
      minProperties: 1,
      description: "What is to change; `scopes: null` removes the ceiling.",
      examples: [{ scopes: [EXAMPLE.scope] }],
    },
  ),
);

const HeldRole = component(
  "HeldRole",
  Fields(
    { owner_type: OwnerTypeOut, owner_id: Id("The organization or project."), role: RoleOut },
    {
      description: "A role given at an organization or project.",
      examples: [{ owner_type: "project", owner_id: EXAMPLE.project, role: "write" }],
    },
  ),
);
const PresentedToken = component(
  "PresentedToken",
  Fields(
    {
      id: Id("The token's id."),
      kind: OpenOneOf(["api", "access"], { description: "An API token, or a short-lived access token." }),
      expires_at: TimeOrNull("When it expires; null: never."),
      scopes: Scopes,
      uses_left: Nullable(Type.Integer(), {
        description: "Requests still to come; null where they are not counted.",
      }),
    },
    {
      description: "The token that a request was made with.",
      examples: [
        { id: EXAMPLE.token, kind: "api", expires_at: EXAMPLE.later, scopes: null, uses_left: null },
      ],
    },
  ),
);
export const Me = component(
  "Me",
  Fields(
    {
      id: Id("The caller's id."),
      kind: KindOut,
      name: Type.String({ description: "The caller's name." }),
      admin: Type.Boolean({ description: "Whether an instance admin." }),
      organization_id: Nullable(Id("The organization of a service account; null for a user.")),
      roles: List(HeldRole, {
        description:
          "The roles given to the caller; what an organization's owner has in its projects is not here.",
      }),
      token: PresentedToken,
    },
    {
      description: "Who the caller is.",
      examples: [
        {
          id: EXAMPLE.serviceAccount,
          kind: "service_account",
          name: "trainer",
          admin: false,
          organization_id: EXAMPLE.organization,
          roles: [{ owner_type: "project", owner_id: EXAMPLE.project, role: "write" }],
          token: { id: EXAMPLE.token, kind: "api", expires_at: EXAMPLE.later, scopes: null, uses_left: null },
        },
      ],
    },
  ),
);
export const Access = component(
  "Access",
  Fields(
    {
      allowed: Type.Boolean({ description: "Whether the action would be allowed." }),
      reason: Nullable(Type.String(), {
        description:
          "Why not: `insufficient_role`, `token_scope`, or a word that is yet to come. Null when allowed.",
      }),
    },
    {
      description: "A decision, as it stands now.",
      examples: [{ allowed: false, reason: "insufficient_role" }],
    },
  ),
);

export const UserParams = Fields({ user_id: IdInput("The user's id.", EXAMPLE.user) });
export const ServiceAccountParams = Fields({
  service_account_id: IdInput("The service account's id.", EXAMPLE.serviceAccount),
});
export const UserQuery = Fields({ email: Type.Optional(Email), ...common.paging(common.LIMIT_DEFAULT) });
export const AccessQuery = Fields({
  owner_type: OneOf(OWNER_TYPES, { description: "What kind of owner.", examples: ["project"] }),
  owner_id: IdInput("The owner's id.", EXAMPLE.project),
  path: Type.Optional(
    Type.String({
      maxLength: 513,
      description: "A path or prefix; absent: the owner as a whole.",
      examples: [EXAMPLE.path],
    }),
  ),
  action: OneOf(OWNER_ACTIONS, { description: "What is to be done.", examples: ["decrypt"] }),
  principal_id: Type.Optional(
    IdInput("Whose right; by default the caller's own. Another's takes `manage`.", EXAMPLE.serviceAccount),
  ),
});
