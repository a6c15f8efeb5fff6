// Who has changed something at an owner lately. Such a change may begin in its transaction, without being admitted and
// prepared beforehand: there, all of it is found out anew. Of what is kept here nothing is believed but what to lock.
import type { Caller, Grant, Need } from "./admission.ts";
import type { Clock } from "./ports.ts";
import { createRecent } from "./recent.ts";

const WRITERS_MAX = 4_096;
/** For how long whoever had to prepare after all does so at first. */
const PUT_OFF_MS = 5_000;
/**
 * How many changes of one writer at an owner begin so at a time, each at another path. The others are admitted first: who
 * may no more is told so there, and nobody else waits behind them.
 */
const UNDER_WAY_MAX = 16;

type Writer = { grant: Grant; notBefore: number; readonly paths: Set<string> };
/** One change that begins with its transaction. Either of the two is to be called at its end. */
type Trial = {
  readonly grant: Grant;
  readonly done: () => void;
  /** @param isStale it has to be prepared after all */
  readonly failed: (isStale: boolean) => void;
};

export function createKnownWriters(clock: Clock) {
  const writers = createRecent<Writer>(WRITERS_MAX);

  return {
    /** Null for who is not known here, or is to be admitted first all the same. */
    begin(caller: Caller, need: Need): Trial | null {
      const name = nameOf(caller, need);
      const writer = name === null ? undefined : writers.get(name);
      const path = "path" in need.ask ? need.ask.path : null;
      if (name === null || writer === undefined || path === null) return null;
      const { grant, notBefore, paths } = writer;
      const isFree = paths.size < UNDER_WAY_MAX && !paths.has(path) && clock.now().getTime() >= notBefore;
      if (!isFree) return null;
      paths.add(path);
      return {
        grant,
        done: () => void paths.delete(path),
        failed: (isStale) => {
          paths.delete(path);
          if (isStale) writer.notBefore = clock.now().getTime() + PUT_OFF_MS;
          else if (writers.get(name) === writer) writers.drop(name);
        },
      };
    },

    /** A change went through. A token whose uses are counted is admitted first, each time. */
    note(caller: Caller, need: Need, grant: Grant): void {
      const name = nameOf(caller, need);
      if (name === null || grant.token.max_uses !== null) return;
      const known = writers.get(name);
      if (known === undefined) writers.put(name, { grant, notBefore: 0, paths: new Set() });
      else known.grant = grant;
    },
  };
}

function nameOf({ credential }: Caller, { place }: Need): string | null {
  if (place.kind !== "owner") return null;
  const { owner_type, owner_id } = place.owner;
  if (credential.kind === "api") return `${credential.hash.toString("base64")} ${owner_type}/${owner_id}`;
  return credential.kind === "access" ? `${credential.claims.id} ${owner_type}/${owner_id}` : null;
}
