// Moving an owner's values to where its new ones go: in the background, by whichever replica has the lease, one setting
// after the other. A move that is cut off goes on where it was.
import { formatRef } from "./address.ts";
import { BrokerError, unavailable } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { ManagedSecrets } from "./managed-secrets.ts";
import type { LeaseTerm, MoveRecord } from "./manager-store-ports.ts";
import type { Clock, NewId, Transaction } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import type { Placement, SettingRecord } from "./setting.ts";
import { type Beat, createSettingMover } from "./setting-mover.ts";

const LEASE_SECONDS = 60;
const PAGE = 50;
/** More failures than these are counted, and not listed. */
const FAILED_MAX = 1_000;
/** How often a manager that is away is waited for before the setting is passed over. */
const TRIES_MAX = 10;
const TRY_PAUSE_SECONDS = 2;
const LATER = Symbol("later");

export type Moves = ReturnType<typeof createMoves>;
export type MovesDeps = {
  readonly gate: Gate;
  readonly vault: Vault;
  readonly managed: ManagedSecrets;
  readonly clock: Clock;
  readonly newId: NewId;
  readonly onBackgroundError: (error: unknown) => void;
};

export function createMoves({ gate, vault, managed, clock, newId, onBackgroundError }: MovesDeps) {
  const { moveSetting } = createSettingMover({ gate, vault, managed });
  let underWay: Promise<void> | null = null;
  const stopping = new AbortController();
  /** By setting: how often it could not be moved, and is to be tried again. */
  const tries = new Map<string, number>();

  /** What could not be moved, null, or that it is worth another try later: others' moves have their turn till then. */
  async function moveOrTell(
    found: SettingRecord,
    target: Placement,
    beat: Beat,
  ): Promise<string | null | typeof LATER> {
    try {
      const code = await moveSetting(found, target, beat);
      tries.delete(found.id);
      return code;
    } catch (error) {
      const code = error instanceof BrokerError ? error.code : "internal";
      const count = (tries.get(found.id) ?? 0) + 1;
      tries.set(found.id, count);
      if (stopping.signal.aborted || (code === "unavailable" && count < TRIES_MAX)) return LATER;
      tries.delete(found.id);
      onBackgroundError(error);
      return code;
    }
  }

  /** Works on one move until it has ended, or somebody else has it. False when there was none. */
  async function runOne(): Promise<boolean> {
    const term: LeaseTerm = { lease_id: newId(), seconds: LEASE_SECONDS };
    let move: MoveRecord | null = null;
    const claim = async (tx: Transaction): Promise<null> => {
      vault.assertInForce(await tx.keyCheckNow());
      move = await tx.claimMove(term);
      return null;
    };
    await gate.housekeep("claimMove", claim, () => ({ kind: "move" }));
    if (move === null) return false;
    for (let row: MoveRecord = move; !stopping.signal.aborted; ) {
      const { next, goesOn } = await step(row, term);
      if (!goesOn) return true;
      row = next;
    }
    return true;
  }

  /** The next settings of a move, each noted when it is done. */
  async function step(row: MoveRecord, term: LeaseTerm): Promise<{ next: MoveRecord; goesOn: boolean }> {
    let page: readonly SettingRecord[] = [];
    await gate.housekeep("readMove", async (tx) => {
      page = await tx.settingsToMove(row, row.cursor, PAGE);
      return null;
    });
    const progress: { -readonly [Field in keyof MoveRecord]: MoveRecord[Field] } = { ...row };
    const beat: Beat = async () => {
      if (stopping.signal.aborted || !(await noted(progress, term, null)))
        throw unavailable("Another goes on with the move.");
    };
    let failures = row.failed.length;
    for (const setting of page) {
      const code = await moveOrTell(setting, row, beat);
      // Whoever has the move next begins with this setting.
      if (code === LATER) {
        await noted(progress, { ...term, seconds: TRY_PAUSE_SECONDS }, null);
        return { next: progress, goesOn: false };
      }
      const { owner_type, owner_id, path } = setting;
      if (code === null) progress.done += 1;
      else if ((failures += 1) <= FAILED_MAX)
        progress.failed = [...progress.failed, { owner_type, owner_id, path, code }];
      progress.total = Math.max(progress.total, progress.done + progress.failed.length);
      progress.cursor = formatRef(setting, path);
      if (!(await noted(progress, term, null))) return { next: progress, goesOn: false };
    }
    if (page.length > 0) return { next: progress, goesOn: true };
    const state = progress.failed.length === 0 ? "done" : "failed";
    const ended = { ...progress, state, finished_at: clock.now() } as const;
    await noted(ended, term, {
      change: "migration_ended",
      done: String(ended.done),
      failed: String(ended.failed.length),
    });
    return { next: ended, goesOn: false };
  }

  async function noted(
    row: MoveRecord,
    term: LeaseTerm,
    details: Readonly<Record<string, string>> | null,
  ): Promise<boolean> {
    let isOurs = false;
    await gate.housekeep("moveSettings", async (tx) => {
      isOurs = await tx.updateMove(row, term);
      return isOurs && details !== null ? { result: null, key: row, details } : null;
    });
    return isOurs;
  }

  return {
    /** Works on moves until there are none that nobody works on. One at a time in this process. */
    run(): Promise<void> {
      underWay ??= (async () => {
        while (!stopping.signal.aborted && (await runOne())) {
          // The next one.
        }
      })().finally(() => {
        underWay = null;
      });
      return underWay;
    },
    soon(): void {
      void this.run().catch(onBackgroundError);
    },
    /** Ends after the setting under way. */
    async stop(): Promise<void> {
      stopping.abort();
      await underWay?.catch(onBackgroundError);
    },
  };
}
