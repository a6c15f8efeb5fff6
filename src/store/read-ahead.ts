// Reads that come while others are under way share the next statement: one round trip and one flush of the disk for
// all of them. An idle store sends a read at the end of the turn it came in. A statement that takes its time keeps
// nobody waiting for long. Those whose answer is known go together, and so do those that are to be found; one setting does
// not wait for all the pages before it. A batch that fails for what is in it is sent again one by one, so that members fail
// singly.
import type { Store } from "../domain/ports.ts";
import type { Ahead, FoundAhead } from "../domain/read-ahead.ts";
import { type Asked, askedOf } from "./asked-ahead.ts";
import type { SealedUpTo } from "./audit-place.ts";
import type { AuditObserver } from "./audit-write.ts";
import { type Confirmable, confirmReads } from "./confirm.ts";
import type { Db } from "./db.ts";
import { asBrokerError, isOfItsData } from "./failures.ts";
import { type Known, createFinding, nothingKnown } from "./find-ahead.ts";
import { takeOverdue } from "./overdue.ts";
import { ROWS_MAX } from "./read-ahead-sql.ts";

/** A page of all that an owner has may be of any length. */
const isBounded = (select: Ahead["select"]): boolean =>
  select.kind === "each" ? select.paths.length <= ROWS_MAX : select.kind !== "all";

const batchMax = 32;
/** In all of a batch. Answers are handed out together, and making them takes the loop. */
const rowsMax = 800;
const statementsMax = 2;
/** A second goes beside the first once so many wait, or one has waited so long: fewer and fuller ones cost less. */
const besideFrom = 64;
const patienceMs = 20;

type Waiting = {
  readonly ask: Asked;
  readonly known: Known;
  readonly since: number;
  readonly done: (found: FoundAhead | null) => void;
  readonly failed: (error: unknown) => void;
};
type Queue = Waiting[];
/** What became of the n-th of a batch; what is known of it now, where it has to be asked again. */
type Answers = (n: number) => FoundAhead | Known;

/** `isAway`: there is nothing to be had of the database. */
type Left = { readonly isAway: boolean; readonly handOut: () => void };

/** As many as go together, the first at least. */
function takeBatch(queue: Queue): Waiting[] {
  let rows = 0;
  const end = queue.findIndex((each, n) => {
    rows += each.known.rows;
    return n === batchMax || (n > 0 && rows > rowsMax);
  });
  return queue.splice(0, end < 0 ? queue.length : end);
}

export function createReadAhead(db: Db, sealed: SealedUpTo, observer: AuditObserver = {}) {
  const finding = createFinding(db, sealed);
  /** What is one row at most and its answer known, what is several, and the same of what is to be found. */
  const queues: readonly Queue[] = [[], [], [], []];
  let lastSent = 0;
  let underWay = 0;
  let isScheduled = false;
  let timer: NodeJS.Timeout | null = null;

  const many = (): number => queues.reduce((sum, { length }) => sum + length, 0);

  function queueOf(waiting: Waiting): Queue {
    const isKnown = waiting.known.whole !== null;
    return queues[(isKnown ? 0 : 2) + (waiting.known.rows > 1 ? 1 : 0)] as Queue;
  }

  /** The reads of one turn of the event loop go together. */
  function schedule(): void {
    if (isScheduled || many() === 0 || underWay >= statementsMax) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      sendWaiting();
    });
  }

  function isTime(oldest: Waiting | undefined): boolean {
    if (oldest === undefined || underWay >= statementsMax) return false;
    return underWay === 0 || many() >= besideFrom || performance.now() - oldest.since >= patienceMs;
  }

  /** The next in turn whose time has come, to be sent now. */
  function nextQueue(): Queue | undefined {
    for (let step = 1; step <= queues.length; step++) {
      const next = (lastSent + step) % queues.length;
      if (!isTime(queues[next]?.[0])) continue;
      lastSent = next;
      return queues[next];
    }
    return undefined;
  }

  function sendWaiting(): void {
    for (let queue = nextQueue(); queue !== undefined; queue = nextQueue()) void send(takeBatch(queue));
    if (many() > 0 && underWay < statementsMax) timer ??= setTimeout(lookAgain, patienceMs).unref();
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
    const { handOut } = await answersOf(batch);
    underWay -= 1;
    sendWaiting();
    process.nextTick(handOut);
  }

  /** What is left to do once the database has answered, or has not. @param behind wait for these alone */
  async function answersOf(batch: readonly Waiting[], behind: readonly Waiting[] = []): Promise<Left> {
    let answers: Answers;
    try {
      answers = await askedTogether(batch);
    } catch (thrown) {
      const error = asBrokerError(thrown);
      if (!isOfItsData(error)) {
        observer.auditFailed?.();
        const all = [...batch, ...behind, ...queues.flatMap(takeOverdue)];
        return { isAway: true, handOut: () => all.forEach(({ failed }) => failed(error)) };
      }
      const [only, ...others] = batch;
      if (only !== undefined && others.length === 0) {
        if (only.known.whole !== null) finding.forget(only.ask, only.known.whole);
        return { isAway: false, handOut: () => only.done(null) };
      }
      return eachAlone(batch);
    }
    return {
      isAway: false,
      handOut: () => {
        const outcomes = batch.map((waiting, n) => answer(waiting, answers, n));
        askAgain(outcomes.filter((outcome) => typeof outcome === "object"));
        const recorded = outcomes.filter((outcome) => outcome === "recorded").length;
        const [first] = batch;
        if (first !== undefined && recorded > 0)
          observer.auditWritten?.(recorded, (performance.now() - first.since) / 1_000);
      },
    };
  }

  /** A database that falls silent meanwhile is not waited for by one after the other. */
  async function eachAlone(batch: readonly Waiting[]): Promise<Left> {
    for (const [n, each] of batch.entries()) {
      const left = await answersOf([each], batch.slice(n + 1));
      if (left.isAway) return left;
      left.handOut();
    }
    return { isAway: false, handOut: () => undefined };
  }

  /** All of a batch are known as a whole, or none. */
  async function askedTogether(batch: readonly Waiting[]): Promise<Answers> {
    const wholes = batch.flatMap(({ known }) => known.whole ?? []);
    if (wholes.length < batch.length) return finding.find(batch);
    const recorded = await confirmReads(db, wholes, sealed.position);
    return (n) => {
      const [{ ask }, whole] = [batch[n] as Waiting, wholes[n] as Confirmable];
      if (recorded === null || recorded.has(ask.event.id)) return finding.confirmed(ask, whole);
      finding.forget(ask, whole);
      return nothingKnown(whole.page.subjects.length);
    };
  }

  /** What is committed is never sent again, whatever is wrong with it. */
  function answer(waiting: Waiting, answers: Answers, n: number): "recorded" | "told" | Waiting {
    try {
      const found = answers(n);
      if ("whole" in found) return { ...waiting, known: found };
      if (found.recorded !== null) observer.recorded?.(found.recorded);
      waiting.done(found);
      return found.recorded === null ? "told" : "recorded";
    } catch (error) {
      waiting.failed(asBrokerError(error));
      return "told";
    }
  }

  /** Before all others: nearly all of those came later. */
  function askAgain(all: readonly Waiting[]): void {
    for (const each of all.toReversed()) queueOf(each).unshift(each);
    schedule();
  }

  const readAhead: Store["readAhead"] = (ahead) => {
    if (!isBounded(ahead.select)) return Promise.resolve(null);
    return new Promise((done, failed) => {
      const ask = askedOf(ahead);
      const waiting = { ask, known: finding.known(ask), since: performance.now(), done, failed };
      queueOf(waiting).push(waiting);
      schedule();
    });
  };
  return { readAhead };
}
