// A read as the statement of read-ahead-sql.ts is asked for it: by what it is known again, and a cell for each of the
// statement's columns.
import { hash } from "node:crypto";
import { ceilingCovers } from "../domain/access.ts";
import { rangeUnder } from "../domain/address.ts";
import type { AuditEvent } from "../domain/audit.ts";
import type { Ahead } from "../domain/read-ahead.ts";
import { cleanEvent } from "./audit-write.ts";
import type { Cell } from "./columns.ts";
import type { KnownWho } from "./kept.ts";
import { presentedCells } from "./lookups.ts";
import { EVENT, ROWS_MAX } from "./read-ahead-sql.ts";

/** A read as it is asked for. */
export type Asked = {
  readonly ahead: Ahead;
  /** As it will rest, but for who, whose log it is in, and which settings. */
  readonly event: AuditEvent;
  readonly presented: readonly Cell[];
  /** The rows that it may come to. */
  readonly most: number;
  /** By what its page, who reads it, and where they stand, are kept. */
  readonly pageKey: string;
  readonly whoKey: string;
  readonly standingKey: string;
};

/** What is asked for, as its page is kept by: short, however many paths there are, since keys are in no weight. */
function nameOf({ select }: Ahead): string {
  if (select.kind === "each") return hash("sha256", JSON.stringify(select.paths), "base64");
  return select.kind === "at" ? select.path : select.kind === "under" ? select.prefix : "";
}

/** With its event as it will rest, and its keys. */
export function askedOf(ahead: Ahead): Asked {
  const { action, strict, owner, limit, select } = ahead;
  const presented = presentedCells(ahead.presented);
  const [tokenHash, tokenId, ...others] = presented;
  const whoKey = tokenHash ?? tokenId ?? others.join(" ");
  const place = `${owner.owner_type}/${owner.owner_id}`;
  const most = select.kind === "at" && select.match === "exact" ? 1 : Math.min(limit, ROWS_MAX);
  const pageKey = `${action} ${select.kind} ${strict} ${most} ${place}/${nameOf(ahead)}`;
  const event = cleanEvent(ahead.event);
  return { ahead, event, presented, most, pageKey, whoKey, standingKey: `${action} ${place} ${whoKey}` };
}

/** Whether no ceiling hides any of what is asked for. One that cannot be made out is left to the gate, which says so. */
export function coversAll({ token, principal }: KnownWho, ahead: Ahead): boolean {
  const covers = (scopes: readonly string[]): boolean =>
    ceilingCovers(scopes, ahead.action, ahead.owner, ahead.event.path);
  try {
    return covers(principal.scopes) && (token === null || covers(token.scopes));
  } catch {
    return false;
  }
}

/**
 * A cell for each column of ASKED and EVENT, in their order.
 * @param n by which its answer is told from others'
 * @param known who reads, if anybody has found that out; believed by the statement of the very versions alone
 * @param isOnlyAdmitted nothing is to be found but who reads, and whether they may
 */
export function cellsOf(
  { ahead, event, presented, most }: Asked,
  n: number,
  known: KnownWho | null,
  isOnlyAdmitted: boolean,
): readonly Cell[] {
  const { select, action, strict } = ahead;
  const range =
    select.kind === "each" || (select.kind === "at" && select.match === "exact")
      ? null
      : rangeUnder(nameOf(ahead));
  return [
    String(n),
    ...presented,
    action,
    String(strict),
    select.kind === "at" ? select.path : null,
    range?.from ?? null,
    range?.before ?? null,
    select.kind === "each" ? JSON.stringify(select.paths) : null,
    String(most),
    known?.stamp ?? null,
    String(known !== null && coversAll(known, ahead)),
    String(isOnlyAdmitted),
    ...EVENT.map(([, , of]) => of(event)),
  ];
}
