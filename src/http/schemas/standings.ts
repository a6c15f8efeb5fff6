// Who the caller is, and what somebody may do: what clients send and what they are sent.
import { Type } from "./type.ts";
import { OWNER_TYPES } from "../../domain/address.ts";
import { OWNER_ACTIONS } from "../../domain/access.ts";
import {
  EXAMPLE,
  Id,
  IdInput,
  KindOut,
  OwnerTypeOut,
  PathOrPrefix,
  RoleOut,
  Scopes,
  TimeOrNull,
} from "./common.ts";
import { Fields, List, Nullable, OneOf, OpenOneOf, component } from "./kit.ts";

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

export const AccessQuery = Fields({
  owner_type: OneOf(OWNER_TYPES, { description: "What kind of owner.", examples: ["project"] }),
  owner_id: IdInput("The owner's id.", EXAMPLE.project),
  path: Type.Optional(PathOrPrefix("A path or prefix; absent: the owner as a whole.")),
  action: OneOf(OWNER_ACTIONS, { description: "What is to be done.", examples: ["decrypt"] }),
  principal_id: Type.Optional(
    IdInput("Whose right; by default the caller's own. Another's takes `manage`.", EXAMPLE.serviceAccount),
  ),
});
