// Whether there is anything to do for whoever comes by now and then. Asked by the driver, outside of any transaction,
// since mostly there is nothing: a transaction is begun only for what there is, and Prisma's engine (27 MB) is not even
// loaded by a broker that has nothing of the kind to do.
import type { Reader } from "../domain/ports.ts";
import type { WaitingWork } from "../domain/lifecycle-ports.ts";
import type { Db, Param, Statement } from "./db.ts";
import { unsettledSecrets } from "./managed-secrets.ts";
import { movesLeft } from "./owner-managers.ts";
import { noticesDue } from "./rotations.ts";

const waits = (name: string, from: string): Statement => ({
  name: `waiting_${name}`,
  text: `SELECT EXISTS (${from}) AS waits`,
});

const statements: Readonly<Record<WaitingWork["kind"], Statement>> = {
  first_admin: waits("admin", "SELECT WHERE NOT EXISTS (SELECT FROM principals WHERE kind = 'user')"),
  first_signing_key: waits("signing_key", "SELECT WHERE NOT EXISTS (SELECT FROM signing_keys)"),
  // Locked as by whoever takes it: a server that takes no writes any more refuses that, row or no row, so that a broker
  // which nobody writes to finds it out and leaves it (client.ts).
  rotation: waits(
    "rotation",
    "SELECT FROM rotations WHERE next_at <= $1::timestamptz AND state = $2::text FOR UPDATE SKIP LOCKED",
  ),
  // In order: else a plan for any time goes through all settings, since a third of them might be due.
  purge: waits(
    "purge",
    "SELECT FROM settings WHERE purge_at <= $1::timestamptz ORDER BY purge_at FOR UPDATE SKIP LOCKED",
  ),
  notices: waits("notices", `${noticesDue} SELECT FROM fresh`),
  // These lock nothing: else whoever is to settle one setting's secrets just then, or to go on with a move, would pass over
  // the one that is looked at. In order, and the first alone, so that without statistics too the index of what is unsettled
  // is gone through and not all secrets: what stands in EXISTS itself has its order dropped where nothing is locked.
  unsettled_secret: waits(
    "unsettled_secret",
    `SELECT FROM (SELECT FROM ${unsettledSecrets} ORDER BY next_try_at LIMIT 1) AS first`,
  ),
  move: waits("move", `SELECT FROM ${movesLeft}`),
};

function paramsOf(work: WaitingWork): readonly Param[] {
  switch (work.kind) {
    case "rotation":
      return [work.now, work.state];
    case "purge":
      return [work.now];
    case "notices":
      return [work.now, work.expiringBefore];
    case "first_admin":
    case "first_signing_key":
    case "unsettled_secret":
    case "move":
      return [];
  }
}

export function waitingWork(db: Db): Pick<Reader, "isWaiting"> {
  return {
    async isWaiting(work) {
      const [row] = await db.query<{ waits: boolean }>(statements[work.kind], paramsOf(work));
      return row?.waits === true;
    },
  };
}
