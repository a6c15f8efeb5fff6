// Organizations and projects: what clients send and what they are sent.
import { Type } from "./type.ts";
import { CreatedBy, EXAMPLE, Id, IdInput, Name, NextCursor, Time } from "./common.ts";
import { Fields, List, component } from "./kit.ts";

const made = { created_at: Time("When it was made."), created_by: CreatedBy };
export const EXAMPLE_ORGANIZATION = {
  id: EXAMPLE.organization,
  name: "acme",
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
};
export const EXAMPLE_PROJECT = {
  id: EXAMPLE.project,
  organization_id: EXAMPLE.organization,
  name: "vision",
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
};

export const Organization = component(
  "Organization",
  Fields(
    {
      id: Id("The organization's id; `owner_id` of what it owns."),
      name: Type.String({ description: "Unique in the instance." }),
      ...made,
    },
    {
      description: "An organization: owns settings, projects and service accounts.",
      examples: [EXAMPLE_ORGANIZATION],
    },
  ),
);
export const OrganizationPage = component(
  "OrganizationPage",
  Fields(
    { organizations: List(Organization), next_cursor: NextCursor },
    {
      description: "Organizations.",
      examples: [{ organizations: [EXAMPLE_ORGANIZATION], next_cursor: null }],
    },
  ),
);
export const Project = component(
  "Project",
  Fields(
    {
      id: Id("The project's id; `owner_id` of what it owns."),
      organization_id: Id("The organization that it belongs to."),
      name: Type.String({ description: "Unique in its organization." }),
      ...made,
    },
    { description: "A project of an organization: owns settings.", examples: [EXAMPLE_PROJECT] },
  ),
);
export const ProjectPage = component(
  "ProjectPage",
  Fields(
    { projects: List(Project), next_cursor: NextCursor },
    { description: "Projects.", examples: [{ projects: [EXAMPLE_PROJECT], next_cursor: null }] },
  ),
);

export const CreateOrganizationBody = component(
  "CreateOrganizationBody",
  Fields(
    {
      name: Name("acme"),
      owner_id: Type.Optional(
        IdInput("The user who becomes its owner; by default the caller.", EXAMPLE.user),
      ),
    },
    { description: "A new organization.", examples: [{ name: "acme", owner_id: EXAMPLE.user }] },
  ),
);
export const CreateProjectBody = component(
  "CreateProjectBody",
  Fields({ name: Name("vision") }, { description: "A new project.", examples: [{ name: "vision" }] }),
);
export const RenameBody = component(
  "RenameBody",
  Fields({ name: Name("vision-2") }, { description: "A new name.", examples: [{ name: "vision-2" }] }),
);

export const OrganizationParams = Fields({
  organization_id: IdInput("The organization's id.", EXAMPLE.organization),
});
export const ProjectParams = Fields({ project_id: IdInput("The project's id.", EXAMPLE.project) });
