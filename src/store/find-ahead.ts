// The statement of read-ahead-sql.ts, asked for many reads at once: what it is told, and what is made of its answers. Who
// reads, where they stand and the page that they get are kept, for when the same is asked again (confirm.ts).
import { hash } from "node:crypto";
import { ceilingCovers } from "../domain/access.ts";
import { rangeUnder } from "../domain/address.ts";
import type { AuditEvent } from "../domain/audit.ts";
import { subjectOf } from "../domain/opening.ts";
import { ACCESS_NOTED_SECONDS } from "../domain/ports.ts";
import type { Ahead, FoundAhead } from "../domain/read-ahead.ts";
import type { SettingRow } from "../domain/setting.ts";
import type { SealedUpTo } from "./audit-place.ts";
import { cleanEvent } from "./audit-write.ts";
import { type Cell, arrayOf, writtenOf } from "./columns.ts";
import type { Confirmable } from "./confirm.ts";
import type { Db } from "./db.ts";
import {
  type KnownPage,
  type KnownStanding,
  type KnownWho,
  createKept,
  weightOf,
  whoWeightOf,
} from "./kept.ts";
import { presentedCells } from "./lookups.ts";
import {
  type Answered,
  type RowFacts,
  type WhoFacts,
  toKeptRows,
  toPrincipal,
  toRow,
  toToken,
} from "./read-ahead-rows.ts";
import { ASKED, EVENT, ROWS_MAX, readAheadStatement } from "./read-ahead-sql.ts";
import { seenIn } from "./recent-writes.ts";

/** Bytes of memory for pages of rows that are kept, for tokens and principals, and for who stands where. */
const pagesWeightMax = 100_663_296;
const whoWeightMax = 8_388_608;
const standingsWeightMax = 33_554_432;
const standingWeight = 1_024;
/** A page is found anew after so long: that a row was read by way of another replica is no write, and would never be seen. */
const pageMs = ACCESS_NOTED_SECONDS * 1_000;

/** So many settings are dearer to send, parse and pack than to copy from an event that names them. */
const NAMED_FROM = 5;

/** A read as it is asked for. */
export type Asked = {
  readonly ahead: Ahead;
  /** As it will rest, but for who, whose log it is in, and which settings. */
  readonly event: AuditEvent;
  readonly presented: readonly Cell[];
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
  const pageKey = `${action} ${select.kind} ${strict} ${Math.min(limit, ROWS_MAX)} ${place}/${nameOf(ahead)}`;
  const event = cleanEvent(ahead.event);
  return { ahead, event, presented, pageKey, whoKey, standingKey: `${action} ${place} ${whoKey}` };
}

/** Whether no ceiling hides any of what is asked for. One that cannot be made out is left to the gate, which says so. */
function coversAll({ token, principal }: KnownWho, ahead: Ahead): boolean {
  const covers = (scopes: readonly string[]): boolean =>
    ceilingCovers(scopes, ahead.action, ahead.owner, ahead.event.path);
  try {
    return covers(principal.scopes) && (token === null || covers(token.scopes));
  } catch {
    return false;
  }
}

function cellsOf({ ahead, event, presented }: Asked, n: number, known: KnownWho | null): readonly Cell[] {
  const { select, action, strict, limit } = ahead;
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
    String(Math.min(limit, ROWS_MAX)),
    known?.stamp ?? null,
    String(known !== null && coversAll(known, ahead)),
    ...EVENT.map(([, , of]) => of(event)),
  ];
}

const isPast = (end: Date | null, now: Date): boolean => end !== null && end <= now;

/** When the first of them expires; null: none does. */
function firstExpiry(rows: readonly SettingRow[]): Date | null {
  const ends = rows.flatMap(({ setting }) => setting.expires_at ?? []);
  return ends.reduce<Date | null>((first, end) => (first === null || end < first ? end : first), null);
}

export function createFinding(db: Db, sealed: SealedUpTo) {
  const pages = createKept<KnownPage>(pagesWeightMax);
  const whos = createKept<KnownWho>(whoWeightMax);
  const standings = createKept<KnownStanding>(standingsWeightMax);

  /** What is known of a read that would be put on record now, if nothing was written since; null: it is to be found. */
  function known({ ahead, event, presented, pageKey, standingKey }: Asked): Confirmable | null {
    const page = pages.get(pageKey);
    const standing = page === null ? null : standings.get(standingKey);
    if (page === null || standing === null || page.seen.server !== standing.seen.server) return null;
    if (performance.now() - Math.min(page.since, standing.since) >= pageMs) return null;
    const { token } = standing.who;
    if (isPast(token?.expires_at ?? null, event.at) || !coversAll(standing.who, ahead)) return null;
    if (ahead.action === "decrypt" && isPast(page.openUntil, event.at)) return null;
    const [, , , providerId, , standIn] = presented;
    return { event, standing, page, tokenId: token?.id ?? standIn ?? null, providerId: providerId ?? null };
  }

  /**
   * What turned out not to be so any more; what was found anew meanwhile stays. The page is not believed any more, and stays
   * until it was found anew: its rows may still be the same.
   */
  function forget({ pageKey, standingKey }: Asked, { page, standing }: Confirmable): void {
    if (pages.get(pageKey) === page) pages.put(pageKey, { ...page, since: Number.NEGATIVE_INFINITY });
    if (standings.get(standingKey) === standing) standings.drop(standingKey);
  }

  /** @returns what was found for the n-th of them */
  async function find(asks: readonly Asked[]): Promise<(n: number) => FoundAhead> {
    const knownWhos = asks.map(({ whoKey }) => whos.get(whoKey));
    const rows = asks.map((ask, n) => cellsOf(ask, n, knownWhos[n] ?? null));
    const columns = Array.from({ length: ASKED.length + EVENT.length }, (_, column) =>
      arrayOf(rows.map((row) => row[column] ?? null)),
    );
    const answers = await db.query<Answered>(readAheadStatement, [...columns, sealed.position]);
    // In any order; nothing comes of a credential that nobody has.
    const byNumber = new Map(answers.map((answered) => [answered.n, answered]));
    return (n) => foundIn(asks[n] as Asked, byNumber.get(n), knownWhos[n] ?? null);
  }

  function whoOf({ whoKey }: Asked, json: string | null, known: KnownWho | null): KnownWho {
    if (json === null && known !== null) return known;
    const [stamp, tokenFacts, principalFacts] = JSON.parse(json ?? "") as WhoFacts;
    const principal = toPrincipal(principalFacts);
    const token = tokenFacts === null ? null : toToken(tokenFacts, principal.id);
    const who = { stamp, weight: whoWeightOf(json?.length ?? 0), token, principal };
    whos.put(whoKey, who);
    return who;
  }

  function pageOf(
    { ahead, event, pageKey }: Asked,
    tenantId: string,
    answered: Answered,
  ): Pick<KnownPage, "page" | "subjects"> | null {
    const { rows: json, at_path, recorded, placed_by } = answered;
    if (json === null) return null;
    // Of all that a row's MACs are over, the tenant is in neither the text nor the page's key.
    const digest = hash("sha256", `${tenantId} ${json}`, "base64");
    const known = pages.get(pageKey);
    const same = known?.digest === digest ? known : null;
    const facts = same === null ? (JSON.parse(json) as readonly RowFacts[]) : [];
    const count = same?.page.rows.length ?? facts.length;
    const weight = weightOf(json.length, count) + answered.snapshot.length;
    const isKept = recorded && count > 0 && pages.isWanted(pageKey, weight);
    const make = (): readonly SettingRow[] =>
      isKept ? toKeptRows(facts, tenantId, ahead) : facts.map((each) => toRow(each, tenantId, ahead));
    // Rows that are the very same come with all that was found out of them, by whomever they are read.
    const rows = same?.page.rows ?? make();
    const subjects = same?.subjects ?? rows.map(subjectOf);
    const page = { page: { rows, more: false, exact: at_path }, subjects };
    if (isKept)
      pages.put(pageKey, {
        ...page,
        digest,
        seen: seenIn(answered),
        since: performance.now(),
        weight,
        named:
          placed_by === null || subjects.length < NAMED_FROM
            ? writtenOf(JSON.stringify(subjects))
            : { event_id: event.id, placed_by },
        openUntil: firstExpiry(rows),
      });
    else if (same === null) pages.drop(pageKey);
    return page;
  }

  function foundIn(ask: Asked, answered: Answered | undefined, known: KnownWho | null): FoundAhead {
    if (answered === undefined) return { admission: null, page: null, recorded: null };
    const { owner } = ask.ahead;
    const { tenant_id, role_at_owner, role_at_organization, recorded } = answered;
    const who = whoOf(ask, answered.who, known);
    if (tenant_id === null) return { admission: admissionOf(who, null), page: null, recorded: null };
    const standing = { owner, tenant_id, role_at_owner, role_at_organization };
    const admission = admissionOf(who, standing);
    const page = pageOf(ask, tenant_id, answered);
    if (page === null || !recorded) return { admission, page: page?.page ?? null, recorded: null };
    standings.put(ask.standingKey, {
      seen: seenIn(answered),
      since: performance.now(),
      // It holds on to who it is, also where that is dropped.
      weight: standingWeight + answered.snapshot.length + who.weight,
      who,
      standing,
    });
    return { admission, page: page.page, recorded: recordedOf(ask, who, tenant_id, page.subjects) };
  }

  /** What a read comes to whose answer was known, and is on record now. */
  function confirmed(ask: Asked, { standing: { who, standing }, page }: Confirmable): FoundAhead {
    return {
      admission: admissionOf(who, standing),
      page: page.page,
      recorded: recordedOf(ask, who, standing.tenant_id, page.subjects),
    };
  }

  return { known, forget, find, confirmed };
}

/** When the token was last of use is as it was then: a read of settings shows nothing of that. */
function admissionOf(
  { token, principal }: KnownWho,
  standing: KnownStanding["standing"] | null,
): NonNullable<FoundAhead["admission"]> {
  return { token, principal, standing, owns_an_organization: false };
}

/** The event as it rests. */
function recordedOf(
  { event, presented }: Asked,
  { token, principal }: KnownWho,
  tenant_id: string,
  settings: KnownPage["subjects"],
): AuditEvent {
  const [, , , , , standIn] = presented;
  const token_id = token?.id ?? standIn ?? null;
  return { ...event, principal_id: principal.id, token_id, tenant_id, settings };
}
