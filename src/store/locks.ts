// Who waits for whom. Whatever is put under an owner or a principal holds that row against removal until it commits;
// whoever removes, or checks what must hold to the end, takes the row for itself. Order: organization, project, path.
import type { Owner } from "../domain/address.ts";
import type { OwnerKey } from "../domain/ports.ts";
import type { Db, Statement } from "./db.ts";
import { raced } from "./failures.ts";

const tables = {
  organization: "organizations",
  project: "projects",
  user: "principals",
  principal: "principals",
} as const;
type Locked = keyof typeof tables;

const lock = (what: Locked, how: "FOR UPDATE" | "FOR KEY SHARE"): Statement => ({
  name: `lock_${what}_${how === "FOR UPDATE" ? "own" : "hold"}`,
  text: `SELECT id FROM ${tables[what]} WHERE id = $1::uuid ${how}`,
});

/** Keeps the row from being removed until the transaction ends; false when it is gone. */
export async function hold(db: Db, what: Locked, id: string): Promise<boolean> {
  return (await db.query(lock(what, "FOR KEY SHARE"), [id])).length === 1;
}

/** Keeps everybody else's `hold` and `own` waiting until the transaction ends; false when the row is gone. */
export async function own(db: Db, { owner_type, owner_id }: Owner): Promise<boolean> {
  return (await db.query(lock(owner_type, "FOR UPDATE"), [owner_id])).length === 1;
}

/** Holds an owner with all that it belongs to; false when one of them is gone. */
export async function holdOwner(db: Db, { owner_type, owner_id, tenant_id }: OwnerKey): Promise<boolean> {
  if (owner_type === "project" && !(await hold(db, "organization", tenant_id))) return false;
  return hold(db, owner_type, owner_id);
}

/** @throws BrokerError `unavailable`, whereupon the transaction is run again, when the principal is gone */
export async function holdPrincipal(db: Db, id: string): Promise<void> {
  if (!(await hold(db, "principal", id))) throw raced();
}
