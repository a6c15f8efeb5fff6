// Webhooks: whom an owner has told of changes. Their owners manage them; a secret is shown once. What could not be
// delivered is kept, listed, and sent again on demand, under the same id.
import type { Owner } from "./address.ts";
import { type Caller, type Grant, type Need, about, keyOf } from "./admission.ts";
import type { ChangeKind } from "./change-events.ts";
import { conflict, notFound } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { DeliveryRecord, DeliveryState, WebhookRecord, WebhookSender } from "./lifecycle-ports.ts";
import { type PageInput, nextCursor, toPage } from "./paging.ts";
import type { Vault } from "./sealing-ports.ts";
import type { NewId, Reader } from "./ports.ts";
import { nothing } from "./steps.ts";

const WEBHOOKS_MAX = 20;

export type WebhookInput = {
  readonly url: string;
  readonly description: string | null;
  readonly events: readonly ChangeKind[];
};
export type WebhookPatch = Partial<WebhookInput> & { readonly disabled?: boolean };
export type Webhook = Owner &
  WebhookInput & {
    readonly id: string;
    readonly disabled: boolean;
    readonly created_at: string;
    readonly created_by: string;
    readonly updated_at: string;
  };
export type Delivery = {
  readonly id: string;
  readonly event_id: string;
  readonly type: ChangeKind;
  readonly state: DeliveryState;
  readonly attempts: number;
  readonly next_attempt_at: string | null;
  readonly last_attempt_at: string | null;
  readonly last_status: number | null;
  readonly last_flaw: string | null;
  readonly created_at: string;
};

/** Where deliveries go is power over others' eyes: to say so takes a credential without scopes. */
const managed = (owner: Owner): Need => ({
  ask: { action: "manage", path: null, breadth: "whole", unscoped: true },
  place: { kind: "owner", owner },
});
const seen = (owner: Owner): Need => ({
  ask: { action: "manage", path: null, breadth: "whole" },
  place: { kind: "owner", owner },
});

export function createWebhooks(
  gate: Gate,
  sender: Pick<WebhookSender, "assertUsable" | "newSecret">,
  vault: Pick<Vault, "signUnder">,
  newId: NewId,
) {
  return {
    createWebhook(
      caller: Caller,
      owner: Owner,
      input: WebhookInput,
    ): Promise<Webhook & { readonly secret: string }> {
      return gate.change(caller, managed(owner), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(owner),
        apply: async (tx, grant) => {
          sender.assertUsable(input.url);
          const key = keyOf(grant);
          const { rows } = await tx.webhooksOf(key, { after: null, limit: WEBHOOKS_MAX });
          if (rows.length >= WEBHOOKS_MAX) throw conflict(`An owner has at most ${WEBHOOKS_MAX} webhooks.`);
          const id = newId();
          // Held to the end: its secret rests under the master key that the database names.
          vault.signUnder(await tx.heldKeyCheck());
          const { secret, sealed } = sender.newSecret(id);
          const stamp = { created_at: grant.at, created_by: grant.principal.id, updated_at: grant.at };
          const record: WebhookRecord = { ...key, id, ...input, sealed, disabled_at: null, ...stamp };
          await tx.insertWebhook(record);
          return {
            result: { ...toView(record), secret },
            target_id: id,
            details: { change: "webhook_created" },
          };
        },
      });
    },

    webhooks(caller: Caller, owner: Owner, page: PageInput) {
      return gate.read(
        caller,
        seen(owner),
        async (grant, reader) => ({ found: await reader.webhooksOf(keyOf(grant), toPage(page)) }),
        async (found) => ({
          webhooks: found.rows.map(toView),
          next_cursor: nextCursor(found, ({ id }) => id),
        }),
      );
    },

    webhook(caller: Caller, owner: Owner, id: string): Promise<Webhook> {
      return gate.read(
        caller,
        about(seen(owner), id),
        async (grant, reader) => ({ found: await webhookAt(reader, grant, id) }),
        async (found) => toView(found),
      );
    },

    patchWebhook(caller: Caller, owner: Owner, id: string, patch: WebhookPatch): Promise<Webhook> {
      return gate.change(caller, about(managed(owner), id), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(owner),
        apply: async (tx, grant) => {
          const was = await webhookAt(tx, grant, id);
          const { disabled, ...fields } = patch;
          if (fields.url !== undefined) sender.assertUsable(fields.url);
          const disabled_at = disabled === undefined ? was.disabled_at : disabled ? grant.at : null;
          const record = { ...was, ...fields, disabled_at, updated_at: grant.at };
          await tx.updateWebhook(record);
          return { result: toView(record), details: { change: "webhook_changed" } };
        },
      });
    },

    removeWebhook(caller: Caller, owner: Owner, id: string): Promise<void> {
      return gate.change(caller, about(managed(owner), id), {
        prepare: nothing,
        lock: (tx) => tx.lockOwner(owner),
        apply: async (tx, grant) => {
          await tx.removeWebhook(await webhookAt(tx, grant, id));
          return { result: undefined, details: { change: "webhook_removed" } };
        },
      });
    },

    deliveries(caller: Caller, owner: Owner, id: string, state: DeliveryState | null, page: PageInput) {
      return gate.read(
        caller,
        about(seen(owner), id),
        async (grant, reader) => {
          const webhook = await webhookAt(reader, grant, id);
          return { found: await reader.deliveriesOf(webhook, state, toPage(page)) };
        },
        async (found) => ({
          deliveries: found.rows.map(toDelivery),
          next_cursor: nextCursor(found, ({ id: last }) => last),
        }),
      );
    },

    /** 409 for one that has not ended: it is sent anyway. */
    replayDelivery(caller: Caller, owner: Owner, id: string, deliveryId: string): Promise<void> {
      return gate.change(caller, about(managed(owner), id), {
        prepare: nothing,
        lock: nothing,
        apply: async (tx, grant) => {
          const webhook = await webhookAt(tx, grant, id);
          const outcome = await tx.replayDelivery(webhook, deliveryId, grant.at);
          if (outcome === "absent") throw notFound("There is no such delivery.");
          if (outcome === "pending") throw conflict("The delivery has not ended: it is sent anyway.");
          const details = { change: "delivery_replayed", delivery_id: deliveryId };
          return { result: undefined, details };
        },
      });
    },
  };
}

async function webhookAt(reader: Pick<Reader, "webhook">, grant: Grant, id: string): Promise<WebhookRecord> {
  const found = await reader.webhook(keyOf(grant), id);
  if (found === null) throw notFound("There is no such webhook.");
  return found;
}

function toView(record: WebhookRecord): Webhook {
  const { owner_type, owner_id, id, url, description, events, disabled_at, created_by } = record;
  return {
    owner_type,
    owner_id,
    id,
    url,
    description,
    events,
    disabled: disabled_at !== null,
    created_at: record.created_at.toISOString(),
    created_by,
    updated_at: record.updated_at.toISOString(),
  };
}

function toDelivery(record: DeliveryRecord): Delivery {
  const { id, event_id, kind, state, attempts, last_status, last_flaw } = record;
  return {
    id,
    event_id,
    type: kind,
    state,
    attempts,
    next_attempt_at: state === "pending" ? record.next_attempt_at.toISOString() : null,
    last_attempt_at: record.last_attempt_at?.toISOString() ?? null,
    last_status,
    last_flaw,
    created_at: record.created_at.toISOString(),
  };
}
