// What use cases hand the gate and get from it: the steps of a read, of a change, and of the broker's own work.
import type { Action } from "./access.ts";
import type { Owner, SettingPath } from "./address.ts";
import type { Grant } from "./admission.ts";
import type { Happening } from "./change-events.ts";
import type { WaitingWork } from "./lifecycle-ports.ts";
import type { Report } from "./events.ts";
import type { Credential, OwnerKey, Reader, Transaction } from "./ports.ts";
import type { ReadingReader } from "./read-ahead.ts";
import type { Permit } from "./sealing-ports.ts";

/** For a change that has nothing to prepare, or nobody to queue behind. */
export const nothing = async (): Promise<null> => null;

/** Thrown by `apply` when what `prepare` saw is no longer so: the gate prepares and tries once more. */
export class Stale extends Error {}
/** Thrown where a change that may only share would have to wait for somebody: it goes the usual way, and waits there. */
export class Busy extends Stale {}

/**
 * The one setting that a write is of. `by`: who will be asked about; so they may be looked up with the rest. `only`: it
 * shares the commit of others or is not done at all, and waits for nobody's lock nor for a writer of its path.
 */
export type WritePlace = {
  readonly owner: Owner;
  readonly path: SettingPath;
  readonly by?: Credential;
  readonly only?: "shared" | undefined;
};
/** What a read is about to show. `action` words the event where it is not the ask's own. */
export type Found<Rows> = Report & {
  readonly found: Rows;
  readonly action?: Action;
  /** What else was asked for and is not given: each has an event of its own, on record with the read. */
  readonly withheld?: readonly Withholding[];
};
/** `path` where the need's own does not say which place it is. */
export type Withholding = Required<Pick<Report, "subjects">> & {
  readonly outcome: "denied" | "failed";
  readonly action: Action;
  readonly reason: string;
  readonly path?: string;
};
/** Settings whose disclosure was permitted and then did not happen. */
export type Undisclosed = Required<Pick<Report, "subjects">> & { readonly reason: string };
/** Fetches what a read is about. */
export type Find<Rows> = (grant: Grant, reader: ReadingReader) => Promise<Found<Rows>>;
/** Makes the answer, once it is on record that it is given. */
export type Answer<Rows, Result> = (
  found: Rows,
  permit: Permit,
  grant: Grant,
) => Promise<Result & { readonly undisclosed?: readonly Undisclosed[] }>;
/** Who signed in, and whose log says so. */
export type SignedIn<Result> = Done<Result> & {
  readonly principal_id: string;
  readonly token_id: string;
  readonly key: OwnerKey;
};
/** `happenings`: what listeners are told, where it is more than the event says by itself. */
export type Done<Result> = Report & { readonly result: Result; readonly happenings?: readonly Happening[] };
/** Work in a transaction of its own, ahead of the change: under the same lock, the right decided there as well. */
export type Stage<Locked> = <Staged>(
  work: (tx: Transaction, grant: Grant, locked: Locked) => Promise<Staged>,
) => Promise<Staged>;
/** What a change does before its transaction, and in it. */
export type ChangeSteps<Prepared, Locked, Result> = {
  /** Where all that is locked and changed is at one setting: such changes may share a commit. */
  readonly at?: WritePlace;
  readonly prepare: (grant: Grant, reader: Reader, permit: Permit, stage: Stage<Locked>) => Promise<Prepared>;
  /**
   * In place of `prepare`, where all that it would fetch may be in memory: asks nobody. `apply` throws Stale where it is
   * not, whereupon the change is prepared. The grant is of an earlier request.
   */
  readonly atOnce?: ((grant: Grant, permit: Permit) => Prepared) | undefined;
  readonly lock: (tx: Transaction, grant: Grant) => Promise<Locked>;
  readonly apply: (
    tx: Transaction,
    grant: Grant,
    prepared: Prepared,
    locked: Locked,
  ) => Promise<Done<Result>>;
};
/** The broker's own work with a network call in it: claimed in one transaction, finished in another. */
export type BackgroundSteps<Claimed, Worked, Result> = {
  /** What has to be there for it: looked for beforehand. */
  readonly waiting?: WaitingWork | undefined;
  readonly claim: (tx: Transaction, now: Date) => Promise<Claimed | null>;
  readonly work: (claimed: Claimed, permit: Permit) => Promise<Worked>;
  /** Null: there was nothing that the log should tell. */
  readonly finish: (
    tx: Transaction,
    now: Date,
    claimed: Claimed,
    worked: Worked,
  ) => Promise<(Done<Result> & { readonly key: OwnerKey | null }) | null>;
  /** What becomes of the claim when `work` or `finish` failed. */
  readonly giveUp: (tx: Transaction, now: Date, claimed: Claimed, error: unknown) => Promise<void>;
};
