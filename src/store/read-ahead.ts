// Reads that come while others are under way share the next statement: one round trip and one flush of the disk for
// all of them. An idle store sends a read at the end of the turn it came in. A statement that takes its time keeps
// nobody waiting for long. A batch that fails for what is in it is sent again one by one, so that members fail singly.
import { ceilingCovers } from "../domain/access.ts";
import { rangeUnder } from "../domain/address.ts";
import type { AuditEvent } from "../domain/audit.ts";
import type { Store } from "../domain/ports.ts";
import { subjectOf } from "../domain/opening.ts";
import type { Ahead, FoundAhead } from "../domain/read-ahead.ts";
import type { AccessNotes } from "./access-notes.ts";
import type { SealedUpTo } from "./audit-place.ts";
import { type AuditObserver, cleanEvent } from "./audit-write.ts";
import { type Cell, type Written, arrayOf, writtenOf } from "./columns.ts";
import type { Db } from "./db.ts";
import { asBrokerError, isOfItsData } from "./failures.ts";
import { presentedCells } from "./lookups.ts";
import { type KnownPage, type KnownWho, createKept, weightOf } from "./kept.ts";
import { takeOverdue } from "./overdue.ts";
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

const batchMax = 32;
const statementsMax = 2;
/** A second goes beside the first once so many wait, or one has waited so long: fewer and fuller ones cost less. */
const besideFrom = 64;
const patienceMs = 20;
/** Bytes of memory for pages of rows that are kept, and for tokens and principals. */
const pagesWeightMax = 67_108_864;
const whoWeightMax = 8_388_608;

type Waiting = {
  readonly ahead: Ahead;
  /** As it will rest, but for who, whose log it is in, and which settings. */
  readonly event: AuditEvent;
  readonly presented: readonly Cell[];
  known: KnownWho | null;
  /** Which page it is. */
  readonly key: string;
  page: KnownPage | null;
  readonly since: number;
  readonly done: (found: FoundAhead | null) => void;
  readonly failed: (error: unknown) => void;
};

const pathOf = ({ select }: Ahead): string =>
  select.kind === "at" ? select.path : select.kind === "under" ? select.prefix : "";

function keyOf(ahead: Ahead): string {
  const { action, strict, owner, limit, select } = ahead;
  return `${action} ${select.kind} ${strict} ${Math.min(limit, ROWS_MAX)} ${owner.owner_type}/${owner.owner_id}/${pathOf(ahead)}`;
}

/** By what a token or a principal is found. */
const whoKeyOf = ([hash, token, principal]: readonly Cell[]): string => hash ?? token ?? principal ?? "";

/** Whether no ceiling hides any of what is asked for. One that cannot be made out is left to the gate, which says so. */
function coversAll({ token, principal }: KnownWho, ahead: Ahead): boolean {
  const covers = (scopes: readonly string[]): boolean =>
    ceilingCovers(scopes, ahead.action, ahead.owner, pathOf(ahead));
  try {
    return covers(principal.scopes) && (token === null || covers(token.scopes));
  } catch {
    return false;
  }
}

function cellsOf({ ahead, event, presented, known, page }: Waiting, n: number): readonly (Cell | Written)[] {
  const { select, action, strict, limit } = ahead;
  const path = pathOf(ahead);
  const range = select.kind === "at" && select.match === "exact" ? null : rangeUnder(path);
  return [
    String(n),
    ...presented,
    action,
    String(strict),
    select.kind === "at" ? path : null,
    range?.from ?? null,
    range?.before ?? null,
    String(Math.min(limit, ROWS_MAX)),
    known?.stamp ?? null,
    String(known !== null && coversAll(known, ahead)),
    page?.stamp ?? null,
    page?.subjectsWritten ?? null,
    ...EVENT.map(([, , of]) => of(event)),
  ];
}

export function createReadAhead(
  db: Db,
  notes: AccessNotes,
  sealed: SealedUpTo,
  observer: AuditObserver = {},
) {
  const pages = createKept<KnownPage>(pagesWeightMax);
  const whos = createKept<KnownWho>(whoWeightMax);
  const queue: Waiting[] = [];
  let underWay = 0;
  let isScheduled = false;
  let timer: NodeJS.Timeout | null = null;

  /** The reads of one turn of the event loop go together. */
  function schedule(): void {
    if (isScheduled || queue.length === 0 || underWay >= statementsMax) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      sendWaiting();
    });
  }

  function isTime(): boolean {
    const [oldest] = queue;
    if (oldest === undefined || underWay >= statementsMax) return false;
    return underWay === 0 || queue.length >= besideFrom || performance.now() - oldest.since >= patienceMs;
  }

  function sendWaiting(): void {
    while (isTime()) void send(queue.splice(0, batchMax));
    if (queue.length > 0 && underWay < statementsMax) timer ??= setTimeout(lookAgain, patienceMs).unref();
  }

  function lookAgain(): void {
    timer = null;
    sendWaiting();
  }

  /**
   * What waits meanwhile goes as soon as the database is free again, before the answers are seen to. The pool hands over
   * a connection in a tick of its own: handed out at once, all answers would be made before that tick comes.
   */
  async function send(batch: readonly Waiting[]): Promise<void> {
    underWay += 1;
    const handOut = await answersOf(batch);
    underWay -= 1;
    sendWaiting();
    process.nextTick(handOut);
  }

  /** What is left to do once the database has answered, or has not. */
  async function answersOf(batch: readonly Waiting[]): Promise<() => void> {
    let answers: readonly Answered[];
    try {
      for (const waiting of batch) waiting.known = whos.get(whoKeyOf(waiting.presented));
      const rows = batch.map(cellsOf);
      const columns = Array.from({ length: ASKED.length + EVENT.length }, (_, column) =>
        arrayOf(rows.map((row) => row[column] ?? null)),
      );
      answers = await db.query<Answered>(readAheadStatement, [...columns, sealed.position]);
    } catch (thrown) {
      const error = asBrokerError(thrown);
      if (!isOfItsData(error)) {
        observer.auditFailed?.();
        const all = [...batch, ...takeOverdue(queue)];
        return () => all.forEach(({ failed }) => failed(error));
      }
      if (batch.length === 1) return () => batch.forEach(({ done }) => done(null));
      for (const each of batch) (await answersOf([each]))();
      return () => undefined;
    }
    const byNumber = new Map(answers.map((each) => [each.n, each]));
    return () => {
      const recorded = batch.filter((waiting, n) => answer(waiting, byNumber.get(n))).length;
      const [first] = batch;
      if (first !== undefined && recorded > 0)
        observer.auditWritten?.(recorded, (performance.now() - first.since) / 1_000);
    };
  }

  /** Whether there is an event of it now. What is committed is never sent again, whatever is wrong with it. */
  function answer(waiting: Waiting, answered: Answered | undefined): boolean {
    if (answered?.outdated === true) {
      askAnew(waiting);
      return false;
    }
    try {
      const found = foundIn(waiting, answered);
      if (found.recorded !== null) observer.recorded?.(restingOf(waiting, found.recorded));
      waiting.done(found);
    } catch (error) {
      waiting.failed(asBrokerError(error));
    }
    return answered?.recorded === true;
  }

  function restingOf({ event }: Waiting, recorded: AuditEvent): AuditEvent {
    const { tenant_id, principal_id, token_id, settings } = recorded;
    return { ...event, tenant_id, principal_id, token_id, settings };
  }

  function askAnew(waiting: Waiting): void {
    pages.drop(waiting.key);
    waiting.page = null;
    queue.unshift(waiting);
    schedule();
  }

  function whoOf({ known, presented }: Waiting, json: string | null): KnownWho {
    if (json === null && known !== null) return known;
    const [stamp, tokenFacts, principalFacts] = JSON.parse(json ?? "") as WhoFacts;
    const principal = toPrincipal(principalFacts);
    const token = tokenFacts === null ? null : toToken(tokenFacts, principal.id);
    const who = { stamp, weight: weightOf(json?.length ?? 0, 1), token, principal };
    whos.put(whoKeyOf(presented), who);
    return who;
  }

  function pageOf(
    { ahead, key, page: known }: Waiting,
    tenantId: string,
    answered: Answered,
  ): KnownPage | null {
    const { rows: json, at_path, recorded, stamp } = answered;
    if (known !== null) return recorded ? known : null;
    if (json === null) return null;
    const facts = JSON.parse(json) as readonly RowFacts[];
    const isKept = recorded && facts.length > 0 && pages.isWanted(key);
    const rows = isKept
      ? toKeptRows(facts, tenantId, ahead)
      : facts.map((each) => toRow(each, tenantId, ahead));
    const subjects = rows.map(subjectOf);
    const page = {
      stamp: stamp ?? "",
      weight: weightOf(json.length, rows.length),
      page: { rows, more: false, exact: at_path },
      subjects,
      subjectsWritten: isKept ? writtenOf(JSON.stringify(subjects)) : null,
    };
    if (isKept) pages.put(key, page);
    return page;
  }

  function foundIn(waiting: Waiting, answered: Answered | undefined): FoundAhead {
    if (answered === undefined) return { admission: null, page: null, recorded: null };
    const { ahead } = waiting;
    const { tenant_id, role_at_owner, role_at_organization, recorded } = answered;
    const { principal, token: resting } = whoOf(waiting, answered.who);
    const token = resting === null ? null : notes.overlayToken(resting);
    const { owner, event, presented } = ahead;
    const standing = tenant_id === null ? null : { owner, tenant_id, role_at_owner, role_at_organization };
    const admission = { token, principal, standing, owns_an_organization: false };
    const found = tenant_id === null ? null : pageOf(waiting, tenant_id, answered);
    if (found === null || tenant_id === null || !recorded)
      return { admission, page: found?.page ?? null, recorded: null };
    const standIn = presented.kind === "access" ? presented.claims.id : null;
    const who = { principal_id: principal.id, token_id: token?.id ?? standIn };
    const recordedEvent = { ...event, ...who, tenant_id, settings: found.subjects };
    return { admission, page: found.page, recorded: recordedEvent };
  }

  const readAhead: Store["readAhead"] = (ahead) => {
    // A page of all that an owner has may be of any length.
    if (ahead.select.kind === "all") return Promise.resolve(null);
    return new Promise((done, failed) => {
      const [key, presented] = [keyOf(ahead), presentedCells(ahead.presented)];
      const [event, page] = [cleanEvent(ahead.event), pages.get(key)];
      queue.push({ ahead, event, presented, known: null, key, page, since: performance.now(), done, failed });
      schedule();
    });
  };
  return { readAhead };
}
