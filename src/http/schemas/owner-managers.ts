// Where an owner's new settings go, and how far the moving of its old ones is.
import { Type } from "./type.ts";
import { Id, OwnerTypeOut } from "./common.ts";
import { Fields, List, Nullable, OneOf, OpenOneOf, component } from "./kit.ts";
import { MANAGER_NAMES, STORAGE_NAMES } from "./settings.ts";

const Migration = component(
  "Migration",
  Fields(
    {
      state: OpenOneOf(["none", "running", "done", "failed"], {
        description: "`failed`: it has ended, and `failed` says what it could not move.",
      }),
      total: Type.Integer({ description: "Settings that have a value, wherever it is." }),
      done: Type.Integer({ description: "Settings that are where they should be." }),
      failed: List(
        Fields({
          owner_type: OwnerTypeOut,
          owner_id: Id("Whose setting: the owner's, or of one of its projects."),
          path: Type.String({ description: "The setting's path." }),
          code: Type.String({ description: "Why: an error code, or `too_many_versions`." }),
        }),
      ),
    },
    {
      description: "The moving of an owner's values to where its new ones go.",
      examples: [{ state: "running", total: 120, done: 40, failed: [] }],
    },
  ),
);

export const EXAMPLE_OWNER_MANAGER = {
  storage: "manager",
  manager: "aws",
  inherited_from: null,
  migration: { state: "none", total: 0, done: 0, failed: [] },
};

export const OwnerManager = component(
  "OwnerManager",
  Fields(
    {
      storage: OpenOneOf(STORAGE_NAMES, { description: "Where the values of new settings rest." }),
      manager: OpenOneOf(MANAGER_NAMES, { description: "Who guards them." }),
      // No enum: one beside null would have to name it, which makes unreadable members in some clients.
      inherited_from: Nullable(Type.String(), {
        description: "Who says so, `organization` or `instance`; null: the owner itself.",
      }),
      migration: Migration,
    },
    { description: "Where an owner's new settings go.", examples: [EXAMPLE_OWNER_MANAGER] },
  ),
);

export const OwnerManagerBody = component(
  "OwnerManagerBody",
  Fields(
    {
      storage: Type.Optional(
        OneOf(["envelope", "manager"], { description: "Where the values of new settings are to rest." }),
      ),
      manager: Type.Optional(OneOf(MANAGER_NAMES, { description: "Who is to guard them." })),
    },
    {
      minProperties: 1,
      description: "Where the owner's new settings are to go. What is there stays; `migrate` moves it.",
      examples: [{ storage: "manager", manager: "aws" }],
    },
  ),
);
