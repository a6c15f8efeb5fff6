// Settings and their versions: what clients are sent. schemas/settings-input.ts has what they send.
import { Type } from "./type.ts";
import { SETTING_TYPES } from "../../domain/address.ts";
import type { Labels } from "../../domain/setting.ts";
import { EXAMPLE, Id, NextCursor, OwnerTypeOut, Time, TimeOrNull } from "./common.ts";
import { Fields, List, Nullable, OpenOneOf, component } from "./kit.ts";
import { EXAMPLE_S3, ValueOrField, ValueOrNull } from "./values.ts";

export const STORAGE_NAMES = ["envelope", "manager", "external"] as const;
export const MANAGER_NAMES = ["local", "aws", "gcp"] as const;
const StorageOut = OpenOneOf(STORAGE_NAMES, { description: "Where the value rests." });
const ManagerOut = OpenOneOf(MANAGER_NAMES, { description: "Who guards it." });
const Location = component(
  "Location",
  Fields(
    {
      secret_id: Type.Optional(
        Type.String({ description: "AWS: the secret's name; for an external one its ARN." }),
      ),
      region: Type.Optional(Type.String({ description: "AWS: the region." })),
      resource: Type.Optional(Type.String({ description: "GCP: the secret's resource name." })),
      version_id: Type.String({
        description: "The manager's own id of the version; `latest` follows the newest.",
      }),
      json_field: Type.Optional(
        Type.String({ description: "The field of the secret's JSON that is the value." }),
      ),
    },
    {
      description: "Where a value lies in a cloud's secret manager; absent for one in an envelope.",
      examples: [
        {
          secret_id: "coffer/01981c62-d3e0-7f45-9b07-c2d4e6f8091a",
          region: "eu-central-1",
          version_id: "01981c62-d3e0-7f45-9b07-c2d4e6f8091b",
        },
      ],
    },
  ),
);
const VersionNumber = Type.Integer({
  minimum: 1,
  description: "Counts up from 1; never given twice at one path.",
});

export const EXAMPLE_SETTING = {
  id: EXAMPLE.setting,
  ref: `project/${EXAMPLE.project}/${EXAMPLE.path}`,
  owner_type: "project",
  owner_id: EXAMPLE.project,
  path: EXAMPLE.path,
  name: "training-data",
  type: "s3",
  description: "Read access to the training bucket",
  labels: { team: "vision" },
  storage: "envelope",
  manager: "local",
  version: 2,
  etag: `"${EXAMPLE.setting}.4.2.metadata"`,
  decrypted: false,
  value: null,
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
  updated_at: EXAMPLE.at,
  updated_by: EXAMPLE.user,
  last_accessed_at: null,
  expires_at: null,
  rotate_after_days: 90,
  rotation_due_at: EXAMPLE.later,
  deleted_at: null,
  purge_at: null,
};
export const EXAMPLE_WITHHELD = {
  ...EXAMPLE_SETTING,
  etag: `"${EXAMPLE.setting}.4.2.insufficient_role"`,
  withheld: "insufficient_role" as const,
};
export const EXAMPLE_OPENED = {
  ...EXAMPLE_SETTING,
  etag: `"${EXAMPLE.setting}.4.2.opened"`,
  decrypted: true,
  value: EXAMPLE_S3,
};

export const EXAMPLE_VALUE = { path: EXAMPLE.path, type: "s3", version: 2, value: EXAMPLE_S3 };
export const EXAMPLE_FIELD = { ...EXAMPLE_VALUE, value: EXAMPLE_S3.secret_access_key };

export const Setting = component(
  "Setting",
  Fields(
    {
      id: Id("Stays the same until a purge."),
      ref: Type.String({ description: "`<owner_type>/<owner_id>/<path>`, for use in configuration." }),
      owner_type: OwnerTypeOut,
      owner_id: Id("Who owns it."),
      path: Type.String({ description: "`<category>/<Type>/<name>`; the name may have more segments." }),
      name: Type.String({ description: "The path's last segment." }),
      type: OpenOneOf(SETTING_TYPES, { description: "The type of the value; the path's prefix fixes it." }),
      description: Nullable(Type.String(), { description: "Plain text." }),
      labels: Type.Unsafe<Labels>({
        type: "object",
        additionalProperties: { type: "string" },
        description: "Up to 64 labels of the owner's own.",
      }),
      storage: StorageOut,
      manager: ManagerOut,
      location: Type.Optional(Location),
      version: VersionNumber,
      etag: Type.String({ description: "Changes with anything here but `last_accessed_at`; for If-Match." }),
      decrypted: Type.Boolean({ description: "Whether `value` holds the value." }),
      value: ValueOrNull,
      withheld: Type.Optional(
        OpenOneOf(["insufficient_role", "token_scope", "expired", "deleted", "destroyed", "manager_failed"], {
          description: "Why a value that was asked for is not here.",
        }),
      ),
      created_at: Time("When the setting was made."),
      created_by: Id("Who made it."),
      updated_at: Time("When anything of it last changed."),
      updated_by: Id("Who changed it."),
      last_accessed_at: TimeOrNull("When a value was last disclosed, give or take ten minutes."),
      expires_at: TimeOrNull("From then on the value is withheld."),
      rotate_after_days: Nullable(Type.Integer(), { description: "How long a value ought to live." }),
      rotation_due_at: TimeOrNull("When the current value has lived that long."),
      deleted_at: TimeOrNull("When it was soft-deleted."),
      purge_at: TimeOrNull("When a soft-deleted setting is destroyed."),
    },
    {
      description: "One secret: its metadata and, where asked for and permitted, its value.",
      examples: [EXAMPLE_SETTING],
    },
  ),
);

export const SettingPage = component(
  "SettingPage",
  Fields(
    { settings: List(Setting), next_cursor: NextCursor },
    {
      description: "Settings in the order of their paths.",
      examples: [{ settings: [EXAMPLE_SETTING], next_cursor: null }],
    },
  ),
);

export const OpenedValue = component(
  "OpenedValue",
  Fields(
    {
      path: Type.String({ description: "The setting's path." }),
      type: OpenOneOf(SETTING_TYPES),
      version: VersionNumber,
      value: ValueOrField,
    },
    {
      description: "One value, opened.",
      examples: [EXAMPLE_VALUE],
    },
  ),
);

export const Version = component(
  "Version",
  Fields(
    {
      version: VersionNumber,
      state: OpenOneOf(["enabled", "destroying", "destroyed"], {
        description: "`destroying`: no longer readable, and its manager has not confirmed yet.",
      }),
      created_at: Time("When it was written."),
      created_by: Id("Who wrote it."),
      last_accessed_at: TimeOrNull("When its value was last disclosed."),
      storage: StorageOut,
      manager: ManagerOut,
      location: Type.Optional(Location),
    },
    {
      description: "One version of a setting's value; the value itself is not here.",
      examples: [
        {
          version: 2,
          state: "enabled",
          created_at: EXAMPLE.at,
          created_by: EXAMPLE.user,
          last_accessed_at: null,
          storage: "envelope",
          manager: "local",
        },
      ],
    },
  ),
);

export const VersionList = component(
  "VersionList",
  Fields({ versions: List(Version) }, { description: "All versions of a setting." }),
);
