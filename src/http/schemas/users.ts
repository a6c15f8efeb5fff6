// Users: what clients send and what they are sent. An enrolment code is in CreatedUser alone.
import { Type } from "./type.ts";
import {
  CreatedBy,
  Disabled,
  EXAMPLE,
  Email,
  Id,
  IdInput,
  LIMIT_DEFAULT,
  Name,
  NextCursor,
  Time,
  paging,
} from "./common.ts";
import { Fields, List, Nullable, OpenOneOf, component } from "./kit.ts";

const user = {
  id: Id("The user's id; `owner_id` of the user's own settings."),
  kind: OpenOneOf(["user"]),
  name: Type.String({ description: "Need not be unique." }),
  email: Nullable(
    Type.String({ description: "In lower case; unique, and never a proof of who somebody is." }),
  ),
  admin: Type.Boolean({ description: "Whether an instance admin: no right to anybody's settings." }),
  disabled: Disabled,
  created_at: Time("When it was made."),
  created_by: CreatedBy,
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

export const CreateUserBody = component(
  "CreateUserBody",
  Fields(
    {
      name: Type.Optional(Name("Ada Example")),
      email: Type.Optional(Email("An email address; upper and lower case are the same.")),
    },
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
export const UserParams = Fields({ user_id: IdInput("The user's id.", EXAMPLE.user) });
export const UserQuery = Fields({
  email: Type.Optional(Email("An email address; upper and lower case are the same.")),
  ...paging(LIMIT_DEFAULT),
});
