// The Store: every port of domain/ports.ts that rests in PostgreSQL, put together from a file a noun. All failures of
// the database come out as BrokerErrors that quote nothing of it.
import type { AuditEvent } from "../domain/audit.ts";
import type { SealStore } from "../domain/audit-chain.ts";
import type { ChangeLog, DeliveryQueue } from "../domain/lifecycle-ports.ts";
import type { Clock, OwnerKey, Reader, Store, Transaction } from "../domain/ports.ts";
import type { KeyStore } from "../domain/sealing-ports.ts";
import { Stale } from "../domain/steps.ts";
import { type AccessNotes, createAccessNotes } from "./access-notes.ts";
import { admitTogether, admitWith, standingReads } from "./admission.ts";
import { type Within, auditRead } from "./audit.ts";
import { auditMonths, dropAuditMonths } from "./audit-months.ts";
import type { SealedUpTo } from "./audit-place.ts";
import { auditSeals } from "./audit-seals.ts";
import { type AuditStream, auditStream } from "./audit-stream.ts";
import { createRefusalCounter } from "./audit-refusals.ts";
import { type AuditObserver, cleanEvent, createAuditWriter, recordIn } from "./audit-write.ts";
import { announceIn, changeLog } from "./changes.ts";
import { openClient } from "./client.ts";
import { type Db, type Statement, poolDb } from "./db.ts";
import { type Spot, ownerManagersMany, settingMany } from "./lookups.ts";
import { rethrow, translated } from "./failures.ts";
import { federationReads, federationWrites, trustedProvidersMany, workloadsMany } from "./federation.ts";
import { keyReads, keyWrites } from "./key-rotation.ts";
import { keyStore } from "./keys.ts";
import { managedSecretReads, managedSecretWrites } from "./managed-secrets.ts";
import { memberReads, memberWrites } from "./members.ts";
import { ownerManagerReads, ownerManagerWrites } from "./owner-managers.ts";
import { ownerReads, ownerWrites } from "./owners.ts";
import { principalReads, principalWrites } from "./principals.ts";
import { type PageTurn, createPageTurns, pagesInTurn } from "./page-turns.ts";
import { createReadAhead } from "./read-ahead.ts";
import { forgetWritesIn } from "./recent-writes.ts";
import { reportReads } from "./report.ts";
import { rotationReads, rotationWrites } from "./rotations.ts";
import { resealRows } from "./reseal.ts";
import { settingReads } from "./settings.ts";
import { settingWrites } from "./settings-write.ts";
import { createShared } from "./shared-transactions.ts";
import { tokenReads, tokenWrites, usesWith } from "./tokens.ts";
import { createTogether } from "./together.ts";
import { createDriverTransact, createTransact, createTurns } from "./transactions.ts";
import { waitingWork } from "./waiting-work.ts";
import { deliveryQueue, webhookReads, webhookWrites } from "./webhooks.ts";

export type StoreOptions = {
  readonly databaseUrl: string;
  readonly poolSize?: number;
  readonly clock: Clock;
  /** Told of what fails where nobody waits: a lost idle connection, a note that could not be written. */
  readonly onBackgroundError: (error: unknown) => void;
  /** Told of each transaction of this store that was committed and announced something, with how many deliveries. */
  readonly onAnnounced?: (deliveries: number) => void;
  readonly observer?: AuditObserver;
};

export type OpenStore = {
  readonly store: Store;
  readonly keys: KeyStore;
  readonly seals: SealStore;
  /** The audit log and its seals, for verifying and exporting. */
  auditStream(): Promise<AuditStream>;
  readonly changes: ChangeLog;
  readonly deliveries: DeliveryQueue;
  /**
   * Whether the audit can be written: this server takes writes, and this role may make them.
   * @throws BrokerError `unavailable` when the database cannot be had
   */
  ping(): Promise<{ readonly audit: boolean }>;
  pool(): { readonly total: number; readonly idle: number; readonly waiting: number };
  /** Forgets which writes there were long ago, called now and then. */
  forgetWrites(): Promise<void>;
  /** Writes what is noted and handed in, then lets the connections go. */
  close(): Promise<void>;
};

const poolSizeDefault = 10;

const pingStatement: Statement = {
  name: "ping",
  text: `SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'
    AND has_table_privilege('audit_events', 'INSERT') AS audit`,
};

function readerOf(
  db: Db,
  notes: AccessNotes,
  within: Within,
  clock: Clock,
  sealed: SealedUpTo,
  inTurn: PageTurn = (_tenant, read) => read(),
): Reader {
  return {
    ...settingReads(db, notes),
    ...standingReads(db),
    ...ownerReads(db),
    ...principalReads(db),
    ...memberReads(db),
    ...tokenReads(db, notes),
    ...federationReads(db),
    ...managedSecretReads(db),
    ...ownerManagerReads(db),
    ...reportReads(db, notes),
    ...webhookReads(db),
    ...rotationReads(db),
    ...waitingWork(db),
    ...keyReads(db),
    audit: auditRead(db, within, clock.now, sealed, inTurn),
  };
}

/** What every write looks up before its transaction, and a workload that signs in: those that wait share a statement. */
function lookupsTogether(
  db: Db,
  notes: AccessNotes,
): Pick<Reader, "setting" | "ownerManagers" | "trustedProviders" | "workload"> {
  const setting = createTogether((asks: readonly Spot[]) => settingMany(db, notes, asks));
  return {
    setting: (key, path) => setting({ key, path }),
    ownerManagers: createTogether((keys: readonly OwnerKey[]) => ownerManagersMany(db, keys)),
    trustedProviders: createTogether((ids: readonly string[]) => trustedProvidersMany(db, ids)),
    workload: createTogether((ids: readonly string[]) => workloadsMany(db, ids)),
  };
}

function transactionOf(
  db: Db,
  notes: AccessNotes,
  clock: Clock,
  sealed: SealedUpTo,
): Omit<Transaction, "announce"> {
  return {
    ...readerOf(db, notes, (work) => work(db), clock, sealed),
    ...settingWrites(db),
    ...ownerWrites(db),
    ...principalWrites(db),
    ...memberWrites(db),
    ...tokenWrites(db),
    ...federationWrites(db),
    ...managedSecretWrites(db),
    ...ownerManagerWrites(db),
    ...webhookWrites(db),
    ...rotationWrites(db),
    ...keyWrites(db),
    ...resealRows(db),
    admit: admitWith(db, notes),
    record: recordIn(db),
    dropAuditMonths: (before, make) => dropAuditMonths(db, before, make),
  };
}

/** Connects at the first query. The schema must be there: store/migrate.ts. */
export function createStore(options: StoreOptions): OpenStore {
  const { databaseUrl, clock, onBackgroundError, poolSize = poolSizeDefault, observer = {} } = options;
  const { pool, prisma } = openClient({ databaseUrl, poolSize, onBackgroundError });
  const db = poolDb(pool, prisma);
  const turns = createTurns(poolSize);
  const transact = createTransact(prisma, turns);
  /** For work of the store's own: its failures are told apart from errors that must pass as they are. */
  const within: Within = (work, tenant) => transact((tx) => work(tx).catch(rethrow), tenant);
  const notes = createAccessNotes(db, onBackgroundError);
  const audit = createAuditWriter(db, observer);
  const sealed: SealedUpTo = { position: 0 };

  const shared = createShared({
    pool,
    turns,
    notes,
    methods: new Set(Object.keys(transactionOf(db, notes, clock, sealed))),
    onBackgroundError,
    onCommitted: committed,
  });

  function committed(events: readonly AuditEvent[], deliveries: number | null): void {
    if (deliveries !== null) options.onAnnounced?.(deliveries);
    for (const event of events) observer.recorded?.(cleanEvent(event));
  }

  const alone = async <Result>(
    work: (tx: Transaction) => Promise<Result>,
    tenant: string | null,
  ): Promise<Result> => {
    let announced: number | null = null;
    let recorded: AuditEvent[] = [];
    const result = await transact((tx, onFailure) => {
      recorded = [];
      const whole = transactionOf(tx, notes, clock, sealed);
      const announceAll = announceIn(tx);
      const announce: Transaction["announce"] = async (changes) => {
        announced = (announced ?? 0) + (await announceAll(changes));
      };
      const record: Transaction["record"] = async (event) => {
        await whole.record(event);
        recorded.push(event);
      };
      return work(translated({ ...whole, announce, record }, onFailure));
    }, tenant);
    committed(recorded, announced);
    return result;
  };

  const pageTurn = createPageTurns(poolSize);
  const reader = readerOf(db, notes, within, clock, sealed, pageTurn);
  const pages = pagesInTurn(reader, pageTurn, clock);
  const store: Store = {
    reader: translated({ ...reader, ...pages, ...lookupsTogether(db, notes) }),
    ...translated({
      admit: admitTogether(db, notes),
      ...usesWith(db),
      ...createReadAhead(db, sealed, observer),
    }),
    transact(work, { place, tenant = null } = {}) {
      if (place === undefined) return alone(work, tenant);
      return shared(place, work, () =>
        place.only === "shared" ? Promise.reject(new Stale()) : alone(work, tenant),
      );
    },
    record: (event) => audit.record(event),
    countRefusal: createRefusalCounter(db, observer),
    lastAccess: (row) => notes.lastAccess(row),
    noteAccess: (rows, at, principalId) => notes.noteAccess(rows, at, principalId),
    noteTokenUse: (tokenId, at) => notes.noteTokenUse(tokenId, at),
  };

  return {
    store,
    keys: translated(keyStore(db, within, clock.now)),
    seals: {
      ...translated({
        ...auditSeals(db, within, createDriverTransact(pool, turns), clock.now, sealed),
        ...auditMonths(db),
      }),
      goOnAfter(position) {
        sealed.position = position;
      },
    },
    auditStream: () =>
      auditStream({ ...db, query: (...query) => db.query(...query).catch(rethrow) as never }),
    changes: translated(changeLog(db, within)),
    deliveries: translated(deliveryQueue(db)),
    forgetWrites: forgetWritesIn(db),
    async ping() {
      const [row] = await db.query<{ audit: boolean }>(pingStatement, []).catch(rethrow);
      return { audit: row?.audit === true };
    },
    pool: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    async close() {
      await audit.drain();
      await notes.close();
      await prisma.$disconnect();
      await pool.end();
    },
  };
}
