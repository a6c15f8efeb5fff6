// Refused credentials in the audit log: those of one address, reason and minute are one event with a count. Those that
// come while it is written are counted by the next write of it: however many are refused, of one event it is one write at a time.
import { createHash } from "node:crypto";
import { type AuditEvent, addressBlock } from "../domain/audit.ts";
import { unavailable } from "../domain/errors.ts";
import type { Store } from "../domain/ports.ts";
import { type AuditObserver, cleanEvent, insertOne, unwritten, valuesOf } from "./audit-write.ts";
import type { Db, Statement } from "./db.ts";
import { asBrokerError } from "./failures.ts";

const minuteMs = 60_000;
/** A refusal is counted at most this many doublings after its minute: by then it is a day late. */
const latenessMax = 11;

const ifTheSame = (name: string): string =>
  `${name} = CASE WHEN audit_events.${name} = EXCLUDED.${name} THEN EXCLUDED.${name} END`;
/** What has its position is frozen: a count that comes later is not added. Nobody is named for what others did as well. */
const countStatement: Statement = {
  name: "count_refusal",
  text: `${insertOne}
    ON CONFLICT (tenant_id, id) DO UPDATE SET count = audit_events.count + EXCLUDED.count,
      ${["principal_id", "token_id"].map(ifTheSame).join(", ")}
    WHERE audit_events.position IS NULL RETURNING id`,
};

/** `written`: when all that is counted in the event by then is durable. */
type Waiting = { event: AuditEvent; readonly written: Promise<void> };

export function createRefusalCounter(
  db: Pick<Db, "query">,
  observer: Pick<AuditObserver, "recorded"> = {},
): Store["countRefusal"] {
  const waiting = new Map<string, Waiting>();
  const underWay = new Map<string, Promise<void>>();

  async function write(event: AuditEvent): Promise<void> {
    try {
      for (let late = 0; late <= latenessMax; late++) {
        // Its minute may be over for everybody else, where this replica's clock is behind: then a later one's event.
        const at = new Date(event.at.getTime() + (2 ** late - 1) * minuteMs);
        const counted = { ...event, id: refusalId(event.ip, event.reason, at), at };
        if ((await db.query(countStatement, valuesOf(counted))).length === 0) continue;
        observer.recorded?.(counted);
        return;
      }
    } catch (error) {
      throw unwritten(asBrokerError(error));
    }
    throw unavailable("The audit log cannot be written just now: this replica's clock is far behind.");
  }

  return (event) => {
    const one = cleanEvent({ ...event, ip: addressBlock(event.ip) });
    const key = refusalId(one.ip, one.reason, one.at);
    const known = waiting.get(key);
    if (known !== undefined) {
      known.event = together(known.event, one);
      return known.written;
    }
    const begin = (): Promise<void> => {
      waiting.delete(key);
      const written = write(next.event).finally(() => {
        if (underWay.get(key) === written) underWay.delete(key);
      });
      underWay.set(key, written);
      return written;
    };
    // Whoever waits for a write that fails fails with it: nobody waits twice for a database that is away.
    const fail = (error: unknown): never => {
      waiting.delete(key);
      throw error;
    };
    const next: Waiting = { event: one, written: Promise.resolve(underWay.get(key)).then(begin, fail) };
    waiting.set(key, next);
    return next.written;
  };
}

/** Two refusals as one event, that names nobody for what others did as well. */
function together(one: AuditEvent, more: AuditEvent): AuditEvent {
  return {
    ...one,
    principal_id: one.principal_id === more.principal_id ? one.principal_id : null,
    token_id: one.token_id === more.token_id ? one.token_id : null,
    count: one.count + more.count,
  };
}

/** The same UUIDv7 for the same address, reason and minute, on every replica: its time, then bits of a hash. */
function refusalId(block: string | null, reason: string | null, at: Date): string {
  const minute = Math.floor(at.getTime() / minuteMs) * minuteMs;
  const hash = createHash("sha256")
    .update(JSON.stringify([block, reason, minute]))
    .digest();
  const id = Buffer.alloc(16);
  id.writeUIntBE(minute, 0, 6);
  hash.copy(id, 6, 0, 10);
  id.writeUInt8((id.readUInt8(6) & 0x0f) | 0x70, 6);
  id.writeUInt8((id.readUInt8(8) & 0x3f) | 0x80, 8);
  return id.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
