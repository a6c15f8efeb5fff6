// Writing the audit log. Events that come while a write is under way share the next one, so that a busy broker pays
// for a flush of the disk once for many; an idle one writes at once. An event's promise resolves when it is durable.
// What could fail one event's row is taken out beforehand or fails that event alone.
import { type AuditEvent, NO_DETAILS } from "../domain/audit.ts";
import { unavailable } from "../domain/errors.ts";
import { isoOf } from "../domain/iso-time.ts";
import type { Store, Transaction } from "../domain/ports.ts";
import { type Column, arraysOf } from "./columns.ts";
import type { Db, Param, Statement } from "./db.ts";
import { asBrokerError, isOfItsData } from "./failures.ts";

const batchMax = 256;
const writesMax = 2;
const textLengthMax = 1_024;
const userAgentLengthMax = 512;

/** PostgreSQL holds no NUL, and in JSON no half of a surrogate pair. */
function clean(text: string, lengthMax = textLengthMax): string {
  if (text.length <= lengthMax && text.isWellFormed() && !text.includes("\0")) return text;
  return text.slice(0, lengthMax).toWellFormed().replaceAll("\0", "\u{FFFD}");
}
const cleanOrNull = (text: string | null, lengthMax?: number): string | null =>
  text === null ? null : clean(text, lengthMax);
const idOrNull = (id: string | null): string | null => (id === null ? null : id.toLowerCase());

/** An event as the database will have it: what is hashed of it later is the same, whether it was kept or is read. */
export function cleanEvent(event: AuditEvent): AuditEvent {
  const details = Object.entries(event.details).map(([name, text]) => [clean(name), clean(text)] as const);
  return {
    ...event,
    tenant_id: event.tenant_id.toLowerCase(),
    id: event.id.toLowerCase(),
    principal_id: idOrNull(event.principal_id),
    token_id: idOrNull(event.token_id),
    owner_id: idOrNull(event.owner_id),
    target_id: idOrNull(event.target_id),
    follows: idOrNull(event.follows),
    path: cleanOrNull(event.path),
    settings: event.settings.map(({ id, path, version }) => ({ id, path: clean(path), version })),
    details: details.length === 0 ? NO_DETAILS : Object.fromEntries(details),
    request_id: clean(event.request_id),
    operation: clean(event.operation),
    ip: cleanOrNull(event.ip),
    user_agent: cleanOrNull(event.user_agent, userAgentLengthMax),
    reason: cleanOrNull(event.reason),
  };
}

/** Each column with its type and what an event has for it. */
export const columns: readonly Column<AuditEvent>[] = [
  ["tenant_id", "uuid", (event) => event.tenant_id],
  ["id", "uuid", (event) => event.id],
  ["at", "timestamptz", (event) => isoOf(event.at)],
  ["principal_id", "uuid", (event) => event.principal_id],
  ["token_id", "uuid", (event) => event.token_id],
  ["action", "text", (event) => event.action],
  ["operation", "text", (event) => event.operation],
  ["outcome", "text", (event) => event.outcome],
  ["owner_type", "text", (event) => event.owner_type],
  ["owner_id", "uuid", (event) => event.owner_id],
  ["path", "text", (event) => event.path],
  ["settings", "jsonb", (event) => JSON.stringify(event.settings)],
  ["target_id", "uuid", (event) => event.target_id],
  ["details", "jsonb", (event) => JSON.stringify(event.details)],
  ["request_id", "text", (event) => event.request_id],
  ["follows", "uuid", (event) => event.follows],
  ["ip", "text", (event) => event.ip],
  ["user_agent", "text", (event) => event.user_agent],
  ["reason", "text", (event) => event.reason],
  ["count", "int", (event) => String(event.count)],
];
const names = columns.map(([name]) => name).join(", ");

const insertStatement: Statement = {
  name: "record",
  text: `INSERT INTO audit_events (${names})
    SELECT * FROM unnest(${columns.map(([, type], index) => `$${index + 1}::${type}[]`).join(", ")}) RETURNING id`,
};
/** Of one event, whose cells are parameters. */
export const insertOne = `INSERT INTO audit_events (${names}) VALUES (${columns.map(([, type], index) => `$${index + 1}::text::${type}`).join(", ")})`;
const insertOneStatement: Statement = { name: "record_one", text: `${insertOne} RETURNING id` };
/** Of `insertOne`. */
export const valuesOf = (event: AuditEvent): Param[] => columns.map(([, , of]) => of(event));

/** Told of what became of events. */
export type AuditObserver = {
  /** The event is durable, and rests as it is given here. */
  readonly recorded?: (event: AuditEvent) => void;
  readonly auditWritten?: (events: number, lagSeconds: number) => void;
  readonly auditFailed?: () => void;
};

type Waiting = {
  readonly event: AuditEvent;
  readonly since: number;
  readonly done: () => void;
  readonly failed: (error: unknown) => void;
};

export type AuditWriter = Pick<Store, "record"> & {
  /** Resolves when all that was handed in has been written, or has failed. */
  drain(): Promise<void>;
};

export function createAuditWriter(db: Db, observer: AuditObserver = {}): AuditWriter {
  const queue: Waiting[] = [];
  const writes = new Set<Promise<void>>();
  let isScheduled = false;

  /** The events of one turn of the event loop go together. */
  function schedule(): void {
    if (isScheduled || queue.length === 0 || writes.size >= writesMax) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      while (queue.length > 0 && writes.size < writesMax) {
        const write = writeBatch(queue.splice(0, batchMax)).finally(() => {
          writes.delete(write);
          schedule();
        });
        writes.add(write);
      }
    });
  }

  async function writeBatch(batch: readonly Waiting[]): Promise<void> {
    try {
      const events = batch.map(({ event }) => event);
      assertAll(events, await db.query(insertStatement, arraysOf(columns, events)));
      for (const { done } of batch) done();
      for (const { event } of batch) observer.recorded?.(event);
      const [first] = batch;
      if (first !== undefined)
        observer.auditWritten?.(batch.length, (performance.now() - first.since) / 1_000);
    } catch (thrown) {
      const error = asBrokerError(thrown);
      if (batch.length > 1 && isOfItsData(error)) for (const each of batch) await writeBatch([each]);
      else {
        observer.auditFailed?.();
        for (const { failed } of batch) failed(unwritten(error));
      }
    }
  }

  return {
    record(event) {
      return new Promise<void>((done, failed) => {
        queue.push({ event: cleanEvent(event), since: performance.now(), done, failed });
        schedule();
      });
    },

    async drain() {
      while (queue.length > 0 || writes.size > 0) {
        schedule();
        if (writes.size > 0) await Promise.all(writes);
        else await new Promise(setImmediate);
      }
    },
  };
}

/** The event commits with the transaction, or not at all. */
export function recordIn(db: Pick<Db, "query">): Transaction["record"] {
  return async (event) => {
    try {
      assertAll([event], await db.query(insertOneStatement, valuesOf(cleanEvent(event))));
    } catch (error) {
      throw unwritten(asBrokerError(error));
    }
  };
}

/** A trigger or a rule that somebody put there may leave events out without an error. */
function assertAll(events: readonly AuditEvent[], rows: readonly unknown[]): void {
  if (rows.length !== events.length) throw new Error("events were handed in that are not in the audit log");
}

export function unwritten({ cause }: Error) {
  return unavailable("The audit log cannot be written just now.", cause);
}
