// The statement of read-ahead-sql.ts, asked for many reads at once: what it is told, and what is made of its answers. Who
// reads, where they stand and the page that they get are kept, for when the same is asked again (confirm.ts).
import { hash } from "node:crypto";
import type { AuditEvent } from "../domain/audit.ts";
import { subjectOf } from "../domain/opening.ts";
import { ACCESS_NOTED_SECONDS } from "../domain/ports.ts";
import type { FoundAhead } from "../domain/read-ahead.ts";
import { createRecent } from "../domain/recent.ts";
import type { SettingRow } from "../domain/setting.ts";
import { type Asked, cellsOf, coversAll } from "./asked-ahead.ts";
import type { SealedUpTo } from "./audit-place.ts";
import { arrayOf, writtenOf } from "./columns.ts";
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
import {
  type Answered,
  type RowFacts,
  type WhoFacts,
  toKeptRows,
  toPrincipal,
  toRow,
  toToken,
} from "./read-ahead-rows.ts";
import { ASKED, EVENT, readAheadStatement } from "./read-ahead-sql.ts";
import { seenIn } from "./recent-writes.ts";

/** Bytes of memory for pages of rows that are kept, for tokens and principals, and for who stands where. */
const pagesWeightMax = 100_663_296;
const whoWeightMax = 8_388_608;
const standingsWeightMax = 33_554_432;
const standingWeight = 1_024;
const tooLongMax = 4_096;
const deniedMax = 4_096;
/** A page is found anew after so long: that a row was read by way of another replica is no write, and would never be seen. */
const pageMs = ACCESS_NOTED_SECONDS * 1_000;

/**
 * So many settings are dear to send, parse and pack. An event that names them copies the list from one that did; and where
 * the page is known and its reader is not, two statements that move none of them cost less than one that does.
 */
const MANY = 5;

/**
 * `whole`: the answer, to be confirmed. Null: it is to be found, or, where its page is known, or known to be more than is
 * read ahead, who reads it alone.
 */
export type Known = {
  readonly whole: Confirmable | null;
  readonly isPageKnown: boolean;
  readonly isTooLong: boolean;
  /** That it comes to, or may come to: none where nothing but who reads is to be found, or was to be had lately. */
  readonly rows: number;
};

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
  /**
   * By page, when it was last found to be more than is read ahead, or than was asked for: looking for it is in vain for a
   * while, whatever is written meanwhile.
   */
  const tooLong = createRecent<number>(tooLongMax);
  /** By standing, when its role last gave nothing: it counts as no rows, and is found out anew each time. */
  const denied = createRecent<number>(deniedMax);

  /** What is known of a read that may be put on record now, if nothing was written since. */
  function known(ask: Asked): Known {
    const page = knownPage(ask);
    if (page === null) {
      const isTooLong = isLately(tooLong.get(ask.pageKey));
      return { whole: null, isPageKnown: false, isTooLong, rows: isTooLong || isDenied(ask) ? 0 : ask.most };
    }
    const standing = knownStanding(ask);
    const whole = standing === null ? null : confirmable(ask, page, standing);
    const many = page.subjects.length;
    const isOnlyAdmitted = whole === null && (many >= MANY || isDenied(ask));
    return { whole, isPageKnown: many >= MANY, isTooLong: false, rows: isOnlyAdmitted ? 0 : many };
  }

  const isDenied = ({ standingKey }: Asked): boolean => isLately(denied.get(standingKey));
  const isLately = (since: number | undefined): boolean =>
    since !== undefined && performance.now() - since < pageMs;

  /** Null where the two were seen on two servers. */
  function confirmable(
    { event, presented }: Asked,
    page: KnownPage,
    standing: KnownStanding,
  ): Confirmable | null {
    if (page.seen.server !== standing.seen.server) return null;
    const [, , , providerId, , standIn] = presented;
    const tokenId = standing.who.token?.id ?? standIn ?? null;
    return { event, standing, page, tokenId, providerId: providerId ?? null };
  }

  function knownPage({ ahead, event, pageKey }: Asked): KnownPage | null {
    const page = pages.get(pageKey);
    if (page === null || performance.now() - page.since >= pageMs) return null;
    return ahead.action === "decrypt" && isPast(page.openUntil, event.at) ? null : page;
  }

  function knownStanding({ ahead, event, standingKey }: Asked): KnownStanding | null {
    const standing = standings.get(standingKey);
    if (standing === null || performance.now() - standing.since >= pageMs) return null;
    const { who } = standing;
    return isPast(who.token?.expires_at ?? null, event.at) || !coversAll(who, ahead) ? null : standing;
  }

  /**
   * What turned out not to be so any more; what was found anew meanwhile stays. The page is not believed any more, and stays
   * until it was found anew: its rows may still be the same.
   */
  function forget({ pageKey, standingKey }: Asked, { page, standing }: Confirmable): void {
    if (pages.get(pageKey) === page) pages.put(pageKey, { ...page, since: Number.NEGATIVE_INFINITY });
    if (standings.get(standingKey) === standing) standings.drop(standingKey);
  }

  /**
   * @param asks where the page is known, or too long, nothing is found but who reads, and whether they may
   * @returns what was found for the n-th of them, or what is known of it now
   */
  async function find(
    asks: readonly { readonly ask: Asked; readonly known: Known }[],
  ): Promise<(n: number) => FoundAhead | Known> {
    const knownWhos = asks.map(({ ask }) => whos.get(ask.whoKey));
    const rows = asks.map(({ ask, known }, n) =>
      cellsOf(ask, n, knownWhos[n] ?? null, known.isPageKnown || known.isTooLong),
    );
    const columns = Array.from({ length: ASKED.length + EVENT.length }, (_, column) =>
      arrayOf(rows.map((row) => row[column] ?? null)),
    );
    const answers = await db.query<Answered>(readAheadStatement, [...columns, sealed.position]);
    // In any order; nothing comes of a credential that nobody has.
    const byNumber = new Map(answers.map((answered) => [answered.n, answered]));
    return (n) => {
      const { ask, known } = asks[n] as (typeof asks)[number];
      return foundIn(ask, known, byNumber.get(n), knownWhos[n] ?? null);
    };
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
          placed_by === null || subjects.length < MANY
            ? writtenOf(JSON.stringify(subjects))
            : { event_id: event.id, placed_by },
        openUntil: firstExpiry(rows),
      });
    else if (same === null) pages.drop(pageKey);
    return page;
  }

  function foundIn(
    ask: Asked,
    { isPageKnown, isTooLong }: Known,
    answered: Answered | undefined,
    knownWho: KnownWho | null,
  ): FoundAhead | Known {
    if (answered === undefined) return { admission: null, page: null, recorded: null };
    const { owner } = ask.ahead;
    const { tenant_id, role_at_owner, role_at_organization, allowed, recorded } = answered;
    const who = whoOf(ask, answered.who, knownWho);
    if (tenant_id === null) return { admission: admissionOf(who, null), page: null, recorded: null };
    const standing = { owner, tenant_id, role_at_owner, role_at_organization };
    const page = pageOf(ask, tenant_id, answered);
    // By role: what a ceiling hides is one path and not another.
    if (!allowed && page === null && coversAll(who, ask.ahead))
      denied.put(ask.standingKey, performance.now());
    else denied.drop(ask.standingKey);
    if (allowed && page === null && !isPageKnown && !isTooLong) tooLong.put(ask.pageKey, performance.now());
    if (recorded || (allowed && isPageKnown)) {
      const seen = seenIn(answered);
      // It holds on to who it is, also where that is dropped.
      const weight = standingWeight + answered.snapshot.length + who.weight;
      const stands = { seen, since: performance.now(), weight, who, standing };
      standings.put(ask.standingKey, stands);
      if (isPageKnown) {
        // Not as it was when the read came: it may have been found anew meanwhile, or not be believed any more.
        const newest = knownPage(ask);
        const whole = newest === null ? null : confirmable(ask, newest, stands);
        return nothingKnown(newest?.subjects.length ?? ask.most, whole);
      }
    }
    const admission = admissionOf(who, standing);
    if (page === null || !recorded) return { admission, page: page?.page ?? null, recorded: null };
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

/** All of it is to be found, unless the whole is known. @param rows as many as it may come to */
export const nothingKnown = (rows: number, whole: Known["whole"] = null): Known => ({
  whole,
  isPageKnown: false,
  isTooLong: false,
  rows,
});

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
