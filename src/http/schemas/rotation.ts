// Rotation: what clients send and what they are sent. Of a generated key pair the public half alone is ever shown here.
import { Type } from "./type.ts";
import { EXAMPLE, Id, IdInput, Time, TimeOrNull } from "./common.ts";
import { Fields, List, Nullable, OneOf, OpenOneOf, component } from "./kit.ts";
import { EXAMPLE_SETTING, Setting } from "./settings.ts";
import { ValueInput } from "./values.ts";

const YEAR_SECONDS = 31_536_000;
const DAY_SECONDS = 86_400;
export const KINDS = ["password", "hex", "base64", "uuid", "ed25519", "ecdsa", "rsa"] as const;
export const CLASSES = ["lower", "upper", "digits", "symbols"] as const;
export const CURVES = ["P-256", "P-384", "P-521"] as const;

const Generator = component(
  "Generator",
  Fields(
    {
      kind: OneOf(KINDS, {
        description:
          "`ed25519`, `ecdsa` and `rsa` make a key pair: the private half, as PKCS #8 PEM, is the value.",
      }),
      length: Type.Optional(
        Type.Integer({
          minimum: 8,
          maximum: 1024,
          description: "`password`: its characters; 32 unless given.",
        }),
      ),
      classes: Type.Optional(
        Type.Array(OneOf(CLASSES), {
          minItems: 1,
          maxItems: 4,
          uniqueItems: true,
          description: "`password`: what it is made of, at least one of each; all four unless given.",
        }),
      ),
      bytes: Type.Optional(
        Type.Integer({
          minimum: 16,
          maximum: 1024,
          description: "`hex`, `base64`: how many; 32 unless given.",
        }),
      ),
      curve: Type.Optional(OneOf(CURVES, { description: "`ecdsa`: `P-256` unless given." })),
      bits: Type.Optional(
        Type.Integer({
          minimum: 2048,
          maximum: 4096,
          multipleOf: 1024,
          description: "`rsa`: 3072 unless given.",
        }),
      ),
    },
    { description: "How to make a value.", examples: [{ kind: "password", length: 40 }] },
  ),
);

export const RotateBody = component(
  "RotateBody",
  Fields(
    {
      generator: Type.Optional(Generator),
      value: Type.Optional(ValueInput),
      overlap_seconds: Type.Optional(
        Type.Integer({
          minimum: 0,
          maximum: YEAR_SECONDS,
          default: DAY_SECONDS,
          description:
            "How long the old version has to have been unread before it is destroyed, if it is to be. Seven minutes are added, since other replicas may tell of a read so much later; with 0 it goes at once.",
        }),
      ),
      destroy_old: Type.Optional(
        Type.Boolean({
          default: false,
          description:
            "Destroy the old version once nobody has read it for a whole overlap; needs `destroy`.",
        }),
      ),
      hook: Type.Optional(
        Fields(
          {
            webhook_id: IdInput("A webhook of the owner, or of the organization above.", EXAMPLE.event),
            confirm_within_seconds: Type.Optional(
              Type.Integer({
                minimum: 10,
                maximum: 604_800,
                default: 3_600,
                description: "When the rotation falls back, if the hook has not confirmed by then.",
              }),
            ),
          },
          { description: "Who has to confirm before the new version becomes current." },
        ),
      ),
    },
    {
      description: "Exactly one of `generator` and `value`.",
      examples: [{ generator: { kind: "password", length: 40 }, destroy_old: true }],
    },
  ),
);

const VersionNumber = (description: string) => Type.Integer({ minimum: 1, description });
const EXAMPLE_ROTATION = {
  id: EXAMPLE.event,
  state: "overlap",
  old_version: 1,
  new_version: 2,
  overlap_seconds: DAY_SECONDS,
  destroy_old: true,
  public_key: null,
  webhook_id: null,
  confirm_by: null,
  attempts: 0,
  reason: null,
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
  activated_at: EXAMPLE.at,
  ended_at: null,
};
const Rotation = component(
  "Rotation",
  Fields(
    {
      id: Id("The rotation's id; also the `webhook-id` of what its hook is sent."),
      state: OpenOneOf(["pending", "overlap", "done", "fallen_back"], {
        description:
          "`pending`: the new version waits for the hook, and the old one is current. `overlap`: the new one is " +
          "current, and the old one is to go. `fallen_back`: the new one is destroyed; see `reason`.",
      }),
      old_version: VersionNumber("What was current."),
      new_version: VersionNumber("What takes its place."),
      overlap_seconds: Type.Integer({ minimum: 0, description: "As asked for." }),
      destroy_old: Type.Boolean({ description: "As asked for." }),
      public_key: Nullable(Type.String(), {
        description: "The public half of a generated key pair, as PEM.",
      }),
      webhook_id: Nullable(Id("Who has to confirm.")),
      confirm_by: TimeOrNull("When it falls back without."),
      attempts: Type.Integer({ minimum: 0, description: "How often the hook was asked." }),
      reason: Nullable(Type.String(), {
        description: "Why it fell back, or why the hook's last answer was none: one word.",
      }),
      created_at: Time("When it began."),
      created_by: Id("Who began it."),
      activated_at: TimeOrNull("When the new version became current."),
      ended_at: TimeOrNull("When there was nothing more to do."),
    },
    { description: "A rotation of a setting.", examples: [EXAMPLE_ROTATION] },
  ),
);
export const RotateAnswer = component(
  "RotateAnswer",
  Fields(
    { rotation: Rotation, setting: Setting },
    {
      description: "The rotation, and the setting as it is now. The value is not here.",
      examples: [{ rotation: EXAMPLE_ROTATION, setting: EXAMPLE_SETTING }],
    },
  ),
);
export const RotationList = component(
  "RotationList",
  Fields(
    { rotations: List(Rotation, { description: "Newest first, at most 100." }) },
    { description: "A setting's rotations.", examples: [{ rotations: [EXAMPLE_ROTATION] }] },
  ),
);
