// How an event is worded from a request: who, where, what was asked, and how it ended. Never what a value was.
import type { Action } from "./access.ts";
import type { Caller, Denied, Grant, Need, Who } from "./admission.ts";
import {
  type AuditEvent,
  INSTANCE_TENANT,
  NO_DETAILS,
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
/** Handed on field by field, so that what is not said may be undefined. */
export type EventReport = { readonly [Name in keyof Report]: Report[Name] | undefined } & {
  readonly path?: string | null;
  readonly reason?: string | undefined;
  readonly follows?: string | undefined;
};

type Details = AuditEvent["details"];

export const SIGN_IN = { action: "sign_in", path: null } as const;

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
    const owner = ownerOf(key);
    // Field by field: with spreads among them it takes five times as long, and whatever else is in those comes along.
    return {
      id: newId(),
      at: clock.now(),
      tenant_id: key?.tenant_id ?? INSTANCE_TENANT,
      principal_id: who.principal_id,
      token_id: who.token_id,
      action: what.action,
      operation: context.operation,
      outcome,
      owner_type: owner.owner_type,
      owner_id: owner.owner_id,
      path: what.path,
      settings: report.subjects ?? [],
      target_id: report.target_id ?? null,
      details: report.details ?? NO_DETAILS,
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
    // Null says that there is none.
    const { target_id = need.asked?.target_id ?? grant.target?.principal_id ?? null } = report;
    const about = {
      subjects: report.subjects,
      target_id,
      details: detailsOf(need, grant, report.details),
      reason: report.reason,
      follows: report.follows,
    };
    const path = report.path ?? pathOf(need);
    return eventOf(caller.context, who, { action, path }, grant.key, outcome, about);
  }

  /** A denial of the whole need: an event for each path that was asked for, so that none goes unnamed. */
  function denialsFor(caller: Caller, need: Need, grant: Grant, denied: Denied): readonly AuditEvent[] {
    const { reason } = denied.decision;
    const paths = need.asked?.paths ?? [];
    return (paths.length === 0 ? [null] : paths).map((path) =>
      eventFor(caller, need, grant, "denied", { reason, path, details: { required: denied.required } }),
    );
  }

  return { eventOf, eventFor, denialsFor, newId, clock };
}

function pathOf({ ask, asked }: Need): string | null {
  const [path = null, ...more] = asked?.paths ?? [];
  if (path !== null && more.length === 0) return path;
  return "path" in ask ? ask.path : null;
}

/** Where there is no such owner, the event is the instance's, and says which was asked for. */
function detailsOf({ place, asked }: Need, grant: Grant, more: Details = NO_DETAILS): Details {
  const details = asked?.details ?? NO_DETAILS;
  if (grant.key !== null || place.kind !== "owner")
    return details === NO_DETAILS ? more : { ...details, ...more };
  const owner = `${place.owner.owner_type}/${place.owner.owner_id}`;
  const { asked: action } = details;
  return { ...details, asked: action === undefined ? owner : `${action}:${owner}`, ...more };
}
