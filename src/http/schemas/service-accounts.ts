// Service accounts: what clients send and what they are sent.
import { Type } from "./type.ts";
import {
  CreatedBy,
  Disabled,
  EXAMPLE,
  Id,
  IdInput,
  Name,
  NextCursor,
  Scopes,
  ScopesInput,
  Time,
} from "./common.ts";
import { Fields, List, Nullable, OpenOneOf, component } from "./kit.ts";

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

export const ServiceAccount = component(
  "ServiceAccount",
  Fields(
    {
      id: Id("The service account's id."),
      kind: OpenOneOf(["service_account"]),
      organization_id: Nullable(Id("The organization that it belongs to.")),
      name: Type.String({ description: "Unique in its organization." }),
      scopes: Scopes,
      disabled: Disabled,
      created_at: Time("When it was made."),
      created_by: CreatedBy,
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
      disabled: Type.Optional(Disabled),
    },
    {
      minProperties: 1,
      description: "What is to change; `scopes: null` removes the ceiling.",
      examples: [{ scopes: [EXAMPLE.scope] }],
    },
  ),
);

export const ServiceAccountParams = Fields({
  service_account_id: IdInput("The service account's id.", EXAMPLE.serviceAccount),
});
