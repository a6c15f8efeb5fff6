// What users and service accounts have in common as records.
import type { Grant } from "./admission.ts";
import type { PrincipalRecord } from "./ports.ts";

export function newPrincipal(
  id: string,
  kind: PrincipalRecord["kind"],
  name: string,
  grant: Grant,
  rest: Partial<PrincipalRecord>,
): PrincipalRecord {
  const blank = { email: null, admin: false, organization_id: null, scopes: [], disabled_at: null };
  return { id, kind, name, created_at: grant.at, created_by: grant.principal.id, ...blank, ...rest };
}

export function disabledAt(was: PrincipalRecord, disabled: boolean | undefined, now: Date): Date | null {
  if (disabled === undefined) return was.disabled_at;
  return disabled ? (was.disabled_at ?? now) : null;
}

/** A change's fields as an event's details: names, flags and scopes, never a value. */
export function changeDetails(change: Readonly<Record<string, unknown>>): Record<string, string> {
  const flat = Object.entries(change).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    flat.map(([name, value]) => [name, Array.isArray(value) ? value.join(" ") : String(value)]),
  );
}
