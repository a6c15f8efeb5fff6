// The audit event: who did what to which settings, and how it ended. It has no field that could hold a value.
import type { Owner, OwnerType } from "./address.ts";
import type { Action } from "./access.ts";

export const OUTCOMES = ["allowed", "denied", "failed"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** A setting that an event is about; `version` null where the whole setting was meant. */
export type Subject = { readonly id: string; readonly path: string; readonly version: number | null };

/** The tenant of whatever belongs to no organization and no user. */
export const INSTANCE_TENANT = "00000000-0000-0000-0000-000000000000";

export type AuditEvent = {
  readonly id: string;
  readonly at: Date;
  /** Shard key: the organization, or the user whose own scope it is, or the instance. */
  readonly tenant_id: string;
  readonly principal_id: string | null;
  readonly token_id: string | null;
  readonly action: Action;
  /** The operationId in openapi.yaml. */
  readonly operation: string;
  readonly outcome: Outcome;
  readonly owner_type: OwnerType | "instance";
  readonly owner_id: string | null;
  readonly path: string | null;
  readonly settings: readonly Subject[];
  /** What else the event is about: a principal, a token, an organization. */
  readonly target_id: string | null;
  /** A few plain facts (a role given, a name changed); never a value. */
  readonly details: Readonly<Record<string, string>>;
  readonly request_id: string;
  /** The event that said `allowed` where this one says that it came to nothing. */
  readonly follows: string | null;
  readonly ip: string | null;
  readonly user_agent: string | null;
  readonly reason: string | null;
  /** How many times within its minute; 1 but for refused credentials. */
  readonly count: number;
};

/** Where a request came from, as the audit tells it. */
export type RequestContext = {
  readonly request_id: string;
  readonly operation: string;
  readonly ip: string | null;
  readonly user_agent: string | null;
};

/** Of an event that says no more than the rest of it; shared by all of those. */
export const NO_DETAILS: AuditEvent["details"] = Object.freeze({});

/** What an event says of the owner. A null owner is the instance. */
export function ownerOf(owner: Owner | null): Pick<AuditEvent, "owner_type" | "owner_id"> {
  return owner === null ? { owner_type: "instance", owner_id: null } : owner;
}

const ADDRESS_V4_MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** The unit in which refusals are counted: an IPv4 address, or the /64 of an IPv6 one. */
export function addressBlock(ip: string | null): string {
  if (ip === null) return "unknown";
  const mapped = ADDRESS_V4_MAPPED.exec(ip);
  if (mapped?.[1] !== undefined) return mapped[1];
  if (!ip.includes(":")) return ip;
  const [head = "", tail] = ip.split("%")[0]?.split("::") ?? [];
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const gap = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array.from({ length: gap }, () => "0"), ...right].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group || "0", 16).toString(16)).join(":")}::/64`;
}
