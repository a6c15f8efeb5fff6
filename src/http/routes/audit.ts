// The audit log, read by whoever manages there.
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import { badInput } from "../../domain/errors.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { given, idOf, pageOf } from "../input.ts";
import { timeOf } from "../parsing.ts";
import { problems } from "../problem.ts";
import { AuditPage, AuditQuery } from "../schemas/audit.ts";
import { answer } from "../schemas/kit.ts";

export function auditRoutes(app: App, broker: Broker): void {
  app.get(
    "/audit",
    {
      config: { action: "manage" },
      schema: {
        operationId: "listAuditEvents",
        tags: ["Audit"],
        summary: "Read the audit log",
        description:
          "Needs `manage` there; a user reads their own. A page may hold fewer than `limit`: only a null `next_cursor` " +
          "means the end. Under `order=asc` there is always a `next_cursor`, so that a collector can keep asking and " +
          "miss nothing.",
        querystring: AuditQuery,
        response: { 200: answer("The events.", AuditPage), ...problems() },
      },
    },
    async (request) => {
      const { query } = request;
      return broker.audit(callerOf(request), {
        owner: placeOf(query.owner_type, query.owner_id),
        since: query.since === undefined ? null : timeOf(query.since, "query", "/since"),
        until: query.until === undefined ? null : timeOf(query.until, "query", "/until"),
        action: query.action ?? null,
        principal_id: query.principal_id === undefined ? null : idOf(query.principal_id),
        outcome: query.outcome ?? null,
        path: query.path ?? null,
        request_id: query.request_id ?? null,
        order: query.order ?? "desc",
        ...given(pageOf(query)),
      });
    },
  );
}

/** @throws BrokerError `invalid_request` when the owner's id is missing, or given for the instance */
function placeOf(ownerType: string, ownerId: string | undefined) {
  if (ownerType !== "instance") return parseOwner(ownerType, ownerId ?? "");
  if (ownerId !== undefined)
    throw badInput("invalid_request", "query", "/owner_id", "The instance's log has no owner_id.");
  return "instance";
}
