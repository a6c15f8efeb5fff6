// Members of organizations and projects: what clients send and what they are sent.
import { Type } from "./type.ts";
import { CreatedBy, EXAMPLE, Id, IdInput, KindOut, NextCursor, RoleInput, RoleOut, Time } from "./common.ts";
import { Fields, List, OpenOneOf, component } from "./kit.ts";

export const EXAMPLE_MEMBER = {
  owner_type: "project",
  owner_id: EXAMPLE.project,
  principal_id: EXAMPLE.serviceAccount,
  kind: "service_account",
  name: "trainer",
  role: "write",
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
};

export const Member = component(
  "Member",
  Fields(
    {
      owner_type: OpenOneOf(["organization", "project", "user"], { description: "Where the role is held." }),
      owner_id: Id("The organization or project."),
      principal_id: Id("The user or service account."),
      kind: KindOut,
      name: Type.String({ description: "The principal's name." }),
      role: RoleOut,
      created_at: Time("When the principal first had a role here."),
      created_by: CreatedBy,
    },
    { description: "A principal's role at an organization or project.", examples: [EXAMPLE_MEMBER] },
  ),
);
export const MemberPage = component(
  "MemberPage",
  Fields(
    { members: List(Member), next_cursor: NextCursor },
    { description: "Members.", examples: [{ members: [EXAMPLE_MEMBER], next_cursor: null }] },
  ),
);
export const PutMemberBody = component(
  "PutMemberBody",
  Fields({ role: RoleInput }, { description: "The role to give.", examples: [{ role: "write" }] }),
);

const principal_id = IdInput("The user's or service account's id.", EXAMPLE.serviceAccount);
export const OrganizationMemberParams = Fields({
  organization_id: IdInput("The organization's id.", EXAMPLE.organization),
  principal_id,
});
export const ProjectMemberParams = Fields({
  project_id: IdInput("The project's id.", EXAMPLE.project),
  principal_id,
});
