// Reading the audit log: an owner's by whoever manages there, the instance's by its admins.
import type { Owner } from "./address.ts";
import { type Caller, type Need } from "./admission.ts";
import type { Gate } from "./gate.ts";
import { keyOf } from "./admission.ts";
import { decodeCursor, encodeCursor } from "./paging.ts";
import type { AuditQuery } from "./ports.ts";
import { type Event, toEvent } from "./views.ts";

export type AuditInput = Omit<AuditQuery, "place" | "after"> & {
  readonly owner: Owner | "instance";
  readonly cursor?: string;
};

export function createAuditRead(gate: Gate) {
  return {
    /** Under `asc` there is always a next cursor, and no event is ever passed over: a collector can tail. */
    audit(
      caller: Caller,
      input: AuditInput,
    ): Promise<{ events: readonly Event[]; next_cursor: string | null }> {
      const { owner, cursor, ...filters } = input;
      const need: Need =
        owner === "instance"
          ? { ask: { action: "administer" }, place: { kind: "instance" } }
          : { ask: { action: "manage", path: null, breadth: "whole" }, place: { kind: "owner", owner } };
      return gate.read(
        caller,
        need,
        async (grant, reader) => {
          const place = owner === "instance" ? "instance" : keyOf(grant);
          const after = cursor === undefined ? null : decodeCursor(cursor);
          return { found: await reader.audit({ ...filters, place, after }) };
        },
        async ({ events, next }) => ({
          events: events.map(toEvent),
          next_cursor: next === null ? null : encodeCursor(next),
        }),
      );
    },
  };
}
