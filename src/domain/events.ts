// How an event is worded from a request: who, where, what was asked, and how it ended. Never what a value was.
import type { Action } from "./access.ts";
import type { Caller, Grant, Need, Who } from "./admission.ts";
import {
  type AuditEvent,
  INSTANCE_TENANT,
  type Outcome,
  type RequestContext,
  type Subject,
  ownerOf,
} from "./audit.ts";
import type { Clock, NewId, OwnerKey } from "./ports.ts";

/** What an event says beyond who and where. */
export type Report = {
  readonly subjects?: readonly Subject[];
  readonly target_id?: string | null;
  readonly details?: Readonly<Record<string, string>>;
};
export type EventReport = Report & {
  readonly path?: string;
  readonly reason?: string;
  readonly follows?: string;
};

export type Events = ReturnType<typeof createEvents>;

export function createEvents(newId: NewId, clock: Clock) {
  function eventOf(
    context: RequestContext,
    who: Who,
    what: Pick<AuditEvent, "action" | "path">,
    key: OwnerKey | null,
    outcome: Outcome,
    report: EventReport = {},
  ): AuditEvent {
    return {
      id: newId(),
      at: clock.now(),
      tenant_id: key?.tenant_id ?? INSTANCE_TENANT,
      ...who,
      action: what.action,
      operation: context.operation,
      outcome,
      ...ownerOf(key),
      path: what.path,
      settings: report.subjects ?? [],
      target_id: report.target_id ?? null,
      details: report.details ?? {},
      request_id: context.request_id,
      follows: report.follows ?? null,
      ip: context.ip,
      user_agent: context.user_agent,
      reason: report.reason ?? null,
      count: 1,
    };
  }

  function eventFor(
    caller: Caller,
    need: Need,
    grant: Grant,
    outcome: Outcome,
    report: EventReport = {},
    action: Action = need.ask.action,
  ): AuditEvent {
    const who = { principal_id: grant.principal.id, token_id: grant.token.id };
    // Where there is no such owner, the event is the instance's, and says what was asked for.
    const { place } = need;
    const asked =
      grant.key === null && place.kind === "owner"
        ? { asked: `${place.owner.owner_type}/${place.owner.owner_id}` }
        : {};
    const about = {
      target_id: grant.target?.principal_id ?? null,
      ...report,
      details: { ...asked, ...report.details },
    };
    const path = report.path ?? pathOf(need);
    return eventOf(caller.context, who, { action, path }, grant.key, outcome, about);
  }

  return { eventOf, eventFor, newId, clock };
}

function pathOf(need: Need): string | null {
  return "path" in need.ask ? need.ask.path : null;
}
