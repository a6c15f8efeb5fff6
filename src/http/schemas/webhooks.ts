// Webhooks and the stream of events: what clients send and what they are sent.
import { Type } from "./type.ts";
import { CHANGE_KINDS } from "../../domain/change-events.ts";
import {
  EXAMPLE,
  Id,
  IdInput,
  NextCursor,
  OwnerTypeOut,
  PathOrPrefix,
  Text,
  Time,
  TimeOrNull,
  paging,
} from "./common.ts";
import { Fields, List, Nullable, OneOf, OpenOneOf, component } from "./kit.ts";
import { address } from "./settings-input.ts";

const URL_LENGTH_MAX = 2_048;

const url = Text(
  URL_LENGTH_MAX,
  "Where messages are posted: `https`, or `http` to the broker's own machine.",
);
const description = Nullable(Text(1_024, "Plain text."));
const events = Type.Array(OneOf(CHANGE_KINDS), {
  maxItems: CHANGE_KINDS.length,
  uniqueItems: true,
  description: "What to be told of. Empty: nothing; it is then a hook for rotations alone.",
});

export const WebhookQuery = Fields(address);
export const WebhookPageQuery = Fields({ ...address, ...paging(100) });
export const DeliveryQuery = Fields({
  ...address,
  state: Type.Optional(
    OneOf(["pending", "delivered", "dead"], {
      description: "Only these; `dead`: given up, for you to replay.",
    }),
  ),
  ...paging(100),
});
export const WebhookParams = Fields({ webhook_id: IdInput("The webhook's id.", EXAMPLE.event) });
export const DeliveryParams = Fields({
  webhook_id: IdInput("The webhook's id.", EXAMPLE.event),
  delivery_id: IdInput("The delivery's id.", EXAMPLE.token),
});

const EXAMPLE_INPUT = {
  url: "https://hooks.example.com/coffer",
  description: "The deployment's",
  events: ["setting.version_added", "setting.rotation_due"],
};
export const WebhookBody = component(
  "WebhookBody",
  Fields(
    { url, description: Type.Optional(description), events },
    { description: "Whom to tell, and of what.", examples: [EXAMPLE_INPUT] },
  ),
);
export const PatchWebhookBody = component(
  "PatchWebhookBody",
  Fields(
    {
      url: Type.Optional(url),
      description: Type.Optional(description),
      events: Type.Optional(events),
      disabled: Type.Optional(
        Type.Boolean({
          description: "Whether nothing is sent: what is pending waits, what happens is not kept for it.",
        }),
      ),
    },
    { description: "What is to change.", examples: [{ disabled: true }] },
  ),
);

const EXAMPLE_WEBHOOK = {
  id: EXAMPLE.event,
  owner_type: "project",
  owner_id: EXAMPLE.project,
  ...EXAMPLE_INPUT,
  disabled: false,
  created_at: EXAMPLE.at,
  created_by: EXAMPLE.user,
  updated_at: EXAMPLE.at,
};
const fields = {
  id: Id("The webhook's id."),
  owner_type: OwnerTypeOut,
  owner_id: Id("Whose changes it is told of; an organization's hears of its projects too."),
  url: Type.String({ description: "Where messages are posted." }),
  description: Nullable(Type.String(), { description: "Plain text." }),
  events: List(OpenOneOf(CHANGE_KINDS), { description: "What it is told of." }),
  disabled: Type.Boolean({ description: "Whether nothing is sent." }),
  created_at: Time("When it was made."),
  created_by: Id("Who made it."),
  updated_at: Time("When it was last changed."),
};
export const Webhook = component(
  "Webhook",
  Fields(fields, { description: "Whom an owner has told of changes.", examples: [EXAMPLE_WEBHOOK] }),
);
// Not one that a scanner for secrets would take for somebody's.
export const CreatedWebhook = component(
  "CreatedWebhook",
  Fields(
    {
      ...fields,
      secret: Type.String({
        description:
          "What messages are signed with (Standard Webhooks): `whsec_` and base64. It is shown this once.",
      }),
    },
    {
      description: "A new webhook, with its secret.",
      examples: [{ ...EXAMPLE_WEBHOOK, secret: "whsec_ZXhhbXBsZS1ub3QtcmVhbA==" }],
    },
  ),
);
export const WebhookPage = component(
  "WebhookPage",
  Fields(
    { webhooks: List(Webhook), next_cursor: NextCursor },
    { description: "Webhooks.", examples: [{ webhooks: [EXAMPLE_WEBHOOK], next_cursor: null }] },
  ),
);

const EXAMPLE_DELIVERY = {
  id: EXAMPLE.token,
  event_id: EXAMPLE.event,
  type: "setting.version_added",
  state: "dead",
  attempts: 11,
  next_attempt_at: null,
  last_attempt_at: EXAMPLE.at,
  last_status: 500,
  last_flaw: "status",
  created_at: EXAMPLE.at,
};
const Delivery = component(
  "WebhookDelivery",
  Fields(
    {
      id: Id("The delivery's id."),
      event_id: Id("The event's id: the `webhook-id` of every attempt."),
      type: OpenOneOf(CHANGE_KINDS, { description: "What it tells of." }),
      state: OpenOneOf(["pending", "delivered", "dead"], { description: "`dead`: given up." }),
      attempts: Type.Integer({ minimum: 0, description: "How often it was sent." }),
      next_attempt_at: TimeOrNull("When it is sent next."),
      last_attempt_at: TimeOrNull("When it was last sent."),
      last_status: Nullable(Type.Integer(), { description: "The receiver's last status." }),
      last_flaw: Nullable(Type.String(), {
        description:
          "Why the last attempt failed: `status`, `redirect`, `time`, `connection`, `address`, `name`, ….",
      }),
      created_at: Time("When the change was made."),
    },
    { description: "One message to one webhook.", examples: [EXAMPLE_DELIVERY] },
  ),
);
export const DeliveryPage = component(
  "WebhookDeliveryPage",
  Fields(
    { deliveries: List(Delivery), next_cursor: NextCursor },
    { description: "Deliveries.", examples: [{ deliveries: [EXAMPLE_DELIVERY], next_cursor: null }] },
  ),
);

export const EventsQuery = Fields({
  ...address,
  path: Type.Optional(PathOrPrefix("Only what happens at or under it.")),
});
/** Open, since requests have other headers too. */
export const EventsHeaders = Type.Object({
  "Last-Event-ID": Type.Optional(
    Type.String({
      maxLength: 64,
      description: "The last `id` that was heard: what came since is told first.",
    }),
  ),
});
