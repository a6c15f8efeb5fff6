// Many settings at once, and settings on their way to another owner: what clients send and what they are sent.
import { Type } from "./type.ts";
import { OWNER_TYPES } from "../../domain/address.ts";
import { CONFLICT_POLICIES } from "../../domain/import-items.ts";
import { EXAMPLE, FullPath, IdInput, PathOrPrefix, Text } from "./common.ts";
import { Fields, List, OneOf, OpenOneOf, component } from "./kit.ts";
import { address, labelled, metadata } from "./settings-input.ts";
import { EXAMPLE_S3, ValueInput } from "./values.ts";

const SETTINGS_MAX = 500;
const TEXT_MAX = 200_000;

export const ImportQuery = Fields({
  ...address,
  dry_run: Type.Optional(
    Type.Boolean({ default: false, description: "Change nothing: answer what would happen." }),
  ),
  conflict: Type.Optional(
    OneOf(CONFLICT_POLICIES, {
      default: "fail",
      description:
        "Where a live setting is in the way: refuse the whole import, leave it, or give it a new version.",
    }),
  ),
});

const ImportedSetting = component(
  "ImportedSetting",
  Fields(
    {
      path: FullPath("Where it goes."),
      value: ValueInput,
      ...metadata,
      labels: labelled,
    },
    {
      description:
        "One setting of an import. Metadata that is left out stays as it was; an `expires_at` that is over by then is 422.",
      examples: [{ path: EXAMPLE.path, value: EXAMPLE_S3, labels: { team: "vision" } }],
    },
  ),
);
export const ImportBody = component(
  "ImportBody",
  Fields(
    {
      settings: Type.Optional(
        Type.Array(ImportedSetting, { minItems: 1, maxItems: SETTINGS_MAX, description: "The settings." }),
      ),
      dotenv: Type.Optional(Text(TEXT_MAX, "Instead of `settings`: the text of a `.env` file.")),
      under: Type.Optional(
        PathOrPrefix(
          "With `dotenv`: where its names go, as `secret/Custom/…`; `secret/Custom` unless given.",
        ),
      ),
    },
    {
      description: "Exactly one of `settings` and `dotenv`.",
      examples: [{ settings: [{ path: EXAMPLE.path, value: EXAMPLE_S3 }] }],
    },
  ),
);

const EXAMPLE_ANSWER = {
  dry_run: false,
  results: [{ path: EXAMPLE.path, outcome: "created", version: 1 }],
};
export const ImportAnswer = component(
  "ImportAnswer",
  Fields(
    {
      dry_run: Type.Boolean({ description: "Whether nothing was done." }),
      results: List(
        Fields({
          path: Type.String({ description: "The setting's path." }),
          outcome: OpenOneOf(["created", "overwritten", "unchanged", "skipped", "conflict"], {
            description: "What became of it, or would; `conflict` only in a dry run.",
          }),
          version: Type.Integer({ minimum: 0, description: "Its current version then; 0: none yet." }),
        }),
        { description: "In the order of the paths." },
      ),
    },
    { description: "What an import did.", examples: [EXAMPLE_ANSWER] },
  ),
);

const TARGET = { owner_type: "project", owner_id: EXAMPLE.project, path: EXAMPLE.path };
export const TransferBody = component(
  "TransferBody",
  Fields(
    {
      to: Fields(
        {
          owner_type: OneOf(OWNER_TYPES, { description: "What kind of owner." }),
          owner_id: IdInput("The owner who gets it.", EXAMPLE.project),
          path: FullPath("Its path there; of the same type."),
        },
        { description: "Where it goes." },
      ),
      overwrite: Type.Optional(
        Type.Boolean({
          default: false,
          description: "Where a setting is there already: give it a new version.",
        }),
      ),
    },
    { description: "Where a setting is copied or moved to.", examples: [{ to: TARGET }] },
  ),
);
