// References and renderings: what clients send and are sent.
import { Type } from "./type.ts";
import type { ErrorCode } from "../../domain/errors.ts";
import { RENDER_FORMATS } from "../../domain/render-formats.ts";
import { EXAMPLE, Id } from "./common.ts";
import { Fields, Instead, List, OneOf, OpenOneOf, component } from "./kit.ts";
import * as Input from "./settings-input.ts";
import { EXAMPLE_S3, ValueOrField } from "./values.ts";

const EXAMPLE_REF = `project/${EXAMPLE.project}/${EXAMPLE.path}`;

export const ResolveBody = component(
  "ResolveBody",
  Fields(
    {
      // How long one may be is not said here: text that is no reference is an error of its item alone.
      refs: Type.Array(
        Type.String({ description: "`[coffer://]<owner_type>/<owner_id>/<path>[?version=N][#field]`" }),
        { minItems: 1, maxItems: 100, description: "The references, at most 100." },
      ),
      explain: Type.Optional(
        Type.Boolean({ default: false, description: "Open nothing; say what each would resolve to." }),
      ),
    },
    {
      description: "References to resolve.",
      examples: [{ refs: [EXAMPLE_REF, `coffer://${EXAMPLE_REF}?version=2#secret_access_key`] }],
    },
  ),
);

/** What may become of one reference; the rest of the codes are the whole request's. */
const ITEM_CODES: readonly ErrorCode[] = [
  "invalid_reference",
  "forbidden",
  "not_found",
  "expired",
  "conflict",
  "destroyed",
  "invalid_value",
  "manager_failed",
  "unavailable",
];

const EXAMPLE_RESULTS = [
  { ref: EXAMPLE_REF, status: 200, value: EXAMPLE_S3, version: 2, setting_id: EXAMPLE.setting },
  {
    ref: `${EXAMPLE_REF}-old#secret_access_key`,
    status: 404,
    code: "not_found",
    detail: "There is no such thing here.",
  },
];

const ResolvedReference = component(
  "ResolvedReference",
  Fields(
    {
      ref: Type.String({ description: "The reference, as it was given." }),
      status: Type.Integer({
        description: "The status of a strict read of it: 200, or why there is no value.",
      }),
      value: Type.Optional(ValueOrField),
      version: Type.Optional(Type.Integer({ minimum: 1, description: "The version of the value." })),
      setting_id: Type.Optional(Id("The setting.")),
      code: Type.Optional(OpenOneOf(ITEM_CODES, { description: "What went wrong, for programs." })),
      detail: Type.Optional(Type.String({ description: "What went wrong, for people." })),
      reason: Type.Optional(
        OpenOneOf(["insufficient_role", "token_scope"], {
          description: "With 403: why the caller has not the right.",
        }),
      ),
      required: Type.Optional(
        Type.String({ description: "With 403: the action that the caller has no right to." }),
      ),
    },
    {
      description:
        "What became of one reference. A 200 always has its value, unless it was only to be explained.",
      examples: [EXAMPLE_RESULTS[0]],
    },
  ),
);

export const ResolveAnswer = component(
  "ResolveAnswer",
  Fields(
    { results: List(ResolvedReference) },
    {
      description: "One result for each reference, in their order.",
      examples: [{ results: EXAMPLE_RESULTS }],
    },
  ),
);

const { path, match, type, label, version } = Input.ListQuery.properties;

export const RenderQuery = Fields({
  ...Input.AddressQuery.properties,
  path,
  match,
  type,
  label,
  version,
  format: OneOf(RENDER_FORMATS, {
    description:
      "`env`: shell lines. `dotenv`, `json`: the same names. `dockerconfigjson`: for `container_registry`. " +
      "`aws_credentials`: for one `s3`. `k8s_secret`: a Secret. `comet`: where a cloud's manager holds it.",
  }),
  prefix: Type.Optional(
    Type.String({
      pattern: "^[A-Za-z_][A-Za-z0-9_]{0,63}$",
      description: "Goes before each name, where the format has names.",
      examples: ["TRAIN_"],
    }),
  ),
});

/** The text of a rendering is made in the domain and sent as it is: no serializer looks into it. */
const RenderedJson = Instead(
  Type.Unsafe<string>({ type: "object", additionalProperties: { type: "string" } }),
  {
    type: "object",
    additionalProperties: true,
    description: "What the format's consumer reads: variables, a Docker config, credentials, a manifest.",
  },
);

const EXAMPLE_VARIABLES = {
  AWS_ACCESS_KEY_ID: EXAMPLE_S3.access_key_id,
  AWS_SECRET_ACCESS_KEY: EXAMPLE_S3.secret_access_key,
};

export const Rendering = Type.Unsafe<string>({
  description: "The settings in their consumer's form. `env` and `dotenv` are text, the others are JSON.",
  content: {
    "text/plain": {
      schema: { type: "string" },
      example: Object.entries(EXAMPLE_VARIABLES)
        .map(([name, value]) => `export ${name}='${value}'\n`)
        .join(""),
    },
    "application/json": { schema: RenderedJson, example: EXAMPLE_VARIABLES },
  },
});
