// What became of settings, as listeners are told it: worded from the audit event of the change itself, so that no
// writer can forget to, and committed with it. An event names owner, path, version and who; it never holds a value.
import type { AuditEvent } from "./audit.ts";
import type { NewId, OwnerKey, Transaction } from "./ports.ts";

/** What listeners may ask for. */
export const CHANGE_KINDS = [
  "setting.created",
  "setting.version_added",
  "setting.changed",
  "setting.deleted",
  "setting.restored",
  "setting.purged",
  "setting.version_destroyed",
  "setting.rotation_pending",
  "setting.rotation_failed",
  "setting.rotation_due",
  "setting.expiring",
  "access.denied_burst",
] as const;
export type ChangeKind = (typeof CHANGE_KINDS)[number];
/** For the broker itself: somebody's rights may be other than they were. No listener is told. */
export const RIGHTS_CHANGED = "rights.changed";

export type ChangeEvent = {
  readonly tenant_id: string;
  readonly id: string;
  readonly at: Date;
  readonly kind: ChangeKind | typeof RIGHTS_CHANGED;
  readonly owner_type: AuditEvent["owner_type"];
  readonly owner_id: string;
  readonly setting_id: string | null;
  readonly path: string | null;
  readonly version: number | null;
  readonly principal_id: string | null;
  readonly details: Readonly<Record<string, string>>;
};

/** What an event is about and what became of it, where the change knows better than its audit event says. */
export type Happening = {
  readonly kind: ChangeKind;
  readonly id: string | null;
  readonly path: string | null;
  readonly version: number | null;
  readonly details?: Readonly<Record<string, string>>;
};

const KIND_OF_CHANGE: Readonly<Record<string, ChangeKind>> = {
  created: "setting.created",
  version_added: "setting.version_added",
  rolled_back: "setting.version_added",
  deleted: "setting.deleted",
  restored: "setting.restored",
  purged: "setting.purged",
  removed: "setting.purged",
  version_destroyed: "setting.version_destroyed",
};

/**
 * What a committed change is told as. A change of settings that says nothing of itself is `setting.changed`; whatever
 * else was changed may have changed rights.
 */
function changesOf(
  event: AuditEvent,
  happenings: readonly Happening[] | undefined,
  newId: NewId,
): readonly ChangeEvent[] {
  const { at, tenant_id, principal_id, owner_type } = event;
  const place = { tenant_id, at, owner_type, owner_id: event.owner_id ?? tenant_id, principal_id };
  const isOfSettings = event.action === "write" || event.action === "destroy" || event.action === "housekeep";
  // A write that found all as it should be changed nothing.
  if (isOfSettings && event.details["change"] === "none") return [];
  const kind = KIND_OF_CHANGE[event.details["change"] ?? ""] ?? "setting.changed";
  const told = happenings ?? event.settings.map((subject): Happening => ({ kind, ...subject }));
  const changes = told.map(
    ({ kind: each, id, path, version, details = {} }): ChangeEvent => ({
      ...place,
      id: newId(),
      kind: each,
      setting_id: id,
      path,
      version,
      details,
    }),
  );
  if (isOfSettings) return changes;
  const rights = { kind: RIGHTS_CHANGED, setting_id: null, path: null, version: null, details: {} } as const;
  return [{ ...place, id: newId(), ...rights }, ...changes];
}

/** A change is on record and in the outbox together: whoever listens is told of all that was committed. */
export async function recordChange(
  tx: Pick<Transaction, "record" | "announce">,
  event: AuditEvent,
  happenings: readonly Happening[] | undefined,
  newId: NewId,
): Promise<void> {
  await tx.record(event);
  const changes = changesOf(event, happenings, newId);
  if (changes.length > 0) await tx.announce(changes);
}

/** Whether an event is of an owner, or of a project of that organization. */
export function isAt(
  event: Pick<ChangeEvent, "tenant_id" | "owner_type" | "owner_id">,
  key: OwnerKey,
): boolean {
  if (event.tenant_id !== key.tenant_id) return false;
  return key.owner_type === "organization" || event.owner_id === key.owner_id;
}

/** What is sent of an event, to webhooks and streams alike: Standard Webhooks' `type`, `timestamp`, `data`. */
export function payloadOf(event: ChangeEvent) {
  const { id, at, kind, owner_type, owner_id, setting_id, path, version, principal_id, details } = event;
  return {
    type: kind,
    timestamp: at.toISOString(),
    data: { event_id: id, owner_type, owner_id, setting_id, path, version, principal_id, ...details },
  };
}
