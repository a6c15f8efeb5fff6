// Webhooks of an owner, and what was sent to them.
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { given, idOf, pageOf } from "../input.ts";
import { problems } from "../problem.ts";
import { LOCATION, answer, empty } from "../schemas/kit.ts";
import * as S from "../schemas/webhooks.ts";

const tags = ["Webhooks"];
const config = { action: "manage" } as const;

type Addressed = { readonly query: { readonly owner_type: string; readonly owner_id: string } };
const ownerOf = ({ query }: Addressed) => parseOwner(query.owner_type, query.owner_id);

export function webhooksRoutes(app: App, broker: Broker): void {
  app.post(
    "/webhooks",
    {
      config,
      schema: {
        operationId: "createWebhook",
        tags,
        summary: "Have somebody told of changes",
        description:
          "Messages are signed by the Standard Webhooks scheme and delivered at least once, under an id that stays the " +
          "same. They name settings and hold no value. Takes a token without scopes.",
        querystring: S.WebhookQuery,
        body: S.WebhookBody,
        response: {
          201: answer("The webhook, with its secret: shown once.", S.CreatedWebhook, { headers: LOCATION }),
          ...problems(409, 413, 415, 422),
        },
      },
    },
    async (request, reply) => {
      const { url, description, events } = request.body;
      const input = { url, description: description ?? null, events };
      const made = await broker.createWebhook(callerOf(request), ownerOf(request), input);
      return reply.code(201).header("location", `/webhooks/${made.id}`).send(made);
    },
  );

  app.get(
    "/webhooks",
    {
      config,
      schema: {
        operationId: "listWebhooks",
        tags,
        summary: "List an owner's webhooks",
        querystring: S.WebhookPageQuery,
        response: { 200: answer("The webhooks.", S.WebhookPage), ...problems() },
      },
    },
    async (request) => broker.webhooks(callerOf(request), ownerOf(request), pageOf(request.query)),
  );

  app.get(
    "/webhooks/:webhook_id",
    {
      config,
      schema: {
        operationId: "getWebhook",
        tags,
        summary: "Get a webhook",
        params: S.WebhookParams,
        querystring: S.WebhookQuery,
        response: { 200: answer("The webhook.", S.Webhook), ...problems(404) },
      },
    },
    async (request) => broker.webhook(callerOf(request), ownerOf(request), idOf(request.params.webhook_id)),
  );

  app.patch(
    "/webhooks/:webhook_id",
    {
      config,
      schema: {
        operationId: "patchWebhook",
        tags,
        summary: "Change a webhook",
        consumes: ["application/json", "application/merge-patch+json"],
        params: S.WebhookParams,
        querystring: S.WebhookQuery,
        body: S.PatchWebhookBody,
        response: { 200: answer("The webhook as it is now.", S.Webhook), ...problems(404, 413, 415, 422) },
      },
    },
    async (request) => {
      const id = idOf(request.params.webhook_id);
      return broker.patchWebhook(callerOf(request), ownerOf(request), id, given(request.body));
    },
  );

  app.delete(
    "/webhooks/:webhook_id",
    {
      config,
      schema: {
        operationId: "removeWebhook",
        tags,
        summary: "Remove a webhook",
        description: "With what was not delivered to it yet. A rotation that waits for it falls back.",
        params: S.WebhookParams,
        querystring: S.WebhookQuery,
        response: { 204: empty("Removed."), ...problems(404, 413, 415) },
      },
    },
    async (request, reply) => {
      await broker.removeWebhook(callerOf(request), ownerOf(request), idOf(request.params.webhook_id));
      return reply.code(204).send();
    },
  );

  app.get(
    "/webhooks/:webhook_id/deliveries",
    {
      config,
      schema: {
        operationId: "listWebhookDeliveries",
        tags,
        summary: "List what was sent, is to be sent, or was given up",
        description: "What has ended is kept for seven days.",
        params: S.WebhookParams,
        querystring: S.DeliveryQuery,
        response: { 200: answer("The deliveries.", S.DeliveryPage), ...problems(404) },
      },
    },
    async (request) => {
      const { state = null, ...page } = request.query;
      const id = idOf(request.params.webhook_id);
      return broker.deliveries(callerOf(request), ownerOf(request), id, state, pageOf(page));
    },
  );

  app.post(
    "/webhooks/:webhook_id/deliveries/:delivery_id/replay",
    {
      config,
      schema: {
        operationId: "replayWebhookDelivery",
        tags,
        summary: "Send something once more",
        description:
          "From the beginning, under the same `webhook-id`. For what has ended, dead or delivered.",
        params: S.DeliveryParams,
        querystring: S.WebhookQuery,
        response: { 204: empty("It is sent at once."), ...problems(404, 409, 413, 415) },
      },
    },
    async (request, reply) => {
      const { webhook_id, delivery_id } = request.params;
      const ids = [idOf(webhook_id), idOf(delivery_id)] as const;
      await broker.replayDelivery(callerOf(request), ownerOf(request), ...ids);
      return reply.code(204).send();
    },
  );
}
