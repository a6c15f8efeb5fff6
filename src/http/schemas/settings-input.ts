// Settings: what clients send. A value is for the domain to check, and a path's grammar too: here is what is said
// of a parameter or a field by itself.
import { Type } from "./type.ts";
import { OWNER_TYPES, SETTING_TYPES } from "../../domain/address.ts";
import { EXAMPLE, FullPath, IdInput, PathOrPrefix, Spelled, Text, paging } from "./common.ts";
import { form } from "./forms.ts";
import { Fields, Instead, Nullable, OneOf, component } from "./kit.ts";
import { MANAGER_NAMES, STORAGE_NAMES } from "./settings.ts";
import { EXAMPLE_S3, ValueInput } from "./values.ts";

const LABEL_KEY = "[A-Za-z0-9._/-]{1,64}";
const labelText = Text(256, "The label's value.");
const labelRules = "Keys of 1 to 64 characters `A-Z a-z 0-9 . _ / -`, values of up to 256.";

/** A map of labels. OpenAPI 3.0 has no word for the rule on keys, so the published one tells it in prose. */
function labelMap<Label extends string | null>(label: object, maxProperties: number, description: string) {
  const map = {
    type: "object",
    nullable: true,
    maxProperties,
    additionalProperties: label,
    description: `${description} ${labelRules}`,
  };
  return Instead(
    Type.Unsafe<Readonly<Record<string, Label>> | null>({
      ...map,
      propertyNames: { pattern: `^${LABEL_KEY}$` },
    }),
    { ...map, example: { team: "vision" } },
  );
}

export const metadata = {
  description: Type.Optional(Nullable(Text(1024, "Plain text; null clears it."))),
  expires_at: Type.Optional(
    Nullable(
      Type.String({ format: "date-time", description: "When the value stops being given out; null: never." }),
    ),
  ),
  rotate_after_days: Type.Optional(
    Nullable(
      Type.Integer({
        minimum: 1,
        maximum: 3650,
        description: "How long a value ought to live; null: no limit.",
      }),
    ),
  ),
};

const ExternalSecret = component(
  "ExternalSecret",
  Fields(
    {
      secret_id: Type.Optional(Text(2048, "AWS: the secret's name or ARN.")),
      resource: Type.Optional(Text(512, "GCP: `projects/<project>/secrets/<name>`.")),
      region: Type.Optional(Text(64, "AWS: the secret's region; by default the broker's own.")),
      version: Type.Optional(
        Instead(
          Type.Unsafe<string | number>({ anyOf: [{ type: "string", maxLength: 64 }, { type: "integer" }] }),
          {
            type: "string",
            description: "A version's id in the manager, to stay at it; else the newest is followed.",
          },
        ),
      ),
      json_field: Type.Optional(Text(256, "Where the secret is a JSON object: the field that is the value.")),
    },
    {
      description:
        "A secret in a cloud's manager that the broker did not make, and never writes to; needs `manage`.",
      examples: [
        { secret_id: "shared/model-registry", region: "eu-central-1", json_field: "password" },
        { resource: "projects/acme/secrets/model-registry", version: "3" },
      ],
    },
  ),
);

/** All the labels of a setting. */
export const labelled = Type.Optional(
  labelMap<string>(labelText, 64, "All the labels that there are to be; null clears them."),
);

export const PutSettingBody = component(
  "PutSettingBody",
  Fields(
    {
      value: Type.Optional(ValueInput),
      external: Type.Optional(ExternalSecret),
      ...metadata,
      labels: labelled,
      storage: Type.Optional(
        OneOf(STORAGE_NAMES, { description: "Where the value is to rest; needs `manage`." }),
      ),
      manager: Type.Optional(OneOf(MANAGER_NAMES, { description: "Who is to guard it; needs `manage`." })),
    },
    {
      description:
        "A value (or where an external one lies), and what metadata is to change. What is left out stays as it was; null clears.",
      examples: [
        { value: EXAMPLE_S3, description: "Read access to the training bucket", labels: { team: "vision" } },
      ],
    },
  ),
);

export const PatchSettingBody = component(
  "PatchSettingBody",
  Fields(
    {
      ...metadata,
      labels: Type.Optional(
        labelMap<string | null>(
          Nullable(labelText),
          128,
          "Laid over the labels that there are: null removes one, or all of them.",
        ),
      ),
    },
    {
      description: "A JSON merge patch (RFC 7396) of the metadata. It makes no version.",
      examples: [{ description: null, labels: { team: "speech", old: null }, rotate_after_days: 30 }],
    },
  ),
);

export const address = {
  owner_type: OneOf(OWNER_TYPES, { description: "What kind of owner.", examples: ["project"] }),
  owner_id: IdInput("Who owns the setting.", EXAMPLE.project),
};
const path = FullPath("The setting's full path, `<category>/<Type>/<name>`.");
const version = Type.Integer({
  minimum: 1,
  maximum: 2_147_483_647,
  description: "A version's number.",
  examples: [2],
});

/** The address of one setting, on every verb. */
export const AddressQuery = Fields({ ...address, path });
const dryRun = {
  dry_run: Type.Optional(
    Type.Boolean({ default: false, description: "Change nothing: answer who would miss it." }),
  ),
  days: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 3650,
      default: 90,
      description: "With `dry_run`: how far back to look for readers.",
    }),
  ),
};
export const DeleteQuery = Fields({
  ...address,
  path,
  ...dryRun,
  purge: Type.Optional(
    Type.Boolean({ default: false, description: "Destroy every value at once, for ever; needs `destroy`." }),
  ),
});
export const VersionQuery = Fields({ ...address, path, version });
export const DestroyQuery = Fields({ ...address, path, version, ...dryRun });
export const ValueQuery = Fields({
  ...address,
  path,
  version: Type.Optional(version),
  field: Type.Optional(
    Type.String({
      pattern: form("^[a-z_]{1,64}$", "must be a field's name: lower-case letters and _"),
      description: "One field of a composite value. Plain text needs it, but for `custom`.",
      examples: ["secret_access_key"],
    }),
  ),
});
export const ListQuery = Fields({
  ...address,
  path: Type.Optional(
    PathOrPrefix(
      "A full path, or what settings lie under; absent: all of the owner's. A trailing slash means `under`.",
    ),
  ),
  match: Type.Optional(
    OneOf(["auto", "exact", "under"], {
      default: "auto",
      description:
        "`exact`: this setting or 404. `under`: what lies under the path. `auto`: the setting, else what lies under.",
    }),
  ),
  decrypt: Type.Optional(
    Type.Boolean({ default: false, description: "Open the values that the caller may see." }),
  ),
  version: Type.Optional(version),
  type: Type.Optional(OneOf(SETTING_TYPES, { description: "Only settings of this type." })),
  label: Type.Optional(
    Type.String({
      pattern: form(`^${LABEL_KEY}:[^\\u0000]{0,256}$`, "must be a label, key:value"),
      description: "Only settings with this label, `key:value`.",
      examples: ["team:vision"],
    }),
  ),
  on_error: Type.Optional(
    OneOf(["fail", "withhold"], {
      default: "fail",
      description:
        "When a permitted value cannot be had: fail the request, or withhold that value and answer the rest.",
    }),
  ),
  include_deleted: Type.Optional(
    Type.Boolean({ default: false, description: "Show soft-deleted settings as well." }),
  ),
  ...paging(1000),
});

const TAG = '(W/)?"[!#-~]*"';
/** A list of entity tags (RFC 9110, section 8.8.3); parsing.ts reads it. */
const tags = (description: string) =>
  Type.Optional(
    Spelled(
      { maxLength: 4096, description },
      { pattern: `^(\\*|${TAG}(\\s*,\\s*${TAG})*)$`, example: '"2"' },
    ),
  );
/** Open, since requests have other headers too. */
export const ReadHeaders = Type.Object({
  "If-None-Match": tags("An ETag: 304 when the answer would be that body."),
});
export const WriteHeaders = Type.Object({
  "If-Match": tags('An ETag or `"<version>"`: 412 when it is not the current one.'),
  "If-None-Match": tags("`*`: 412 when the setting exists."),
});
