// Who has changed something at an owner lately. Such a change may begin in its transaction, without being admitted and
// prepared beforehand: there, all of it is found out anew. Of what is kept here nothing is believed but what to lock.
import type { Caller, Grant, Place } from "./admission.ts";
import type { Clock } from "./ports.ts";
import { createRecent } from "./recent.ts";

const WRITERS_MAX = 4_096;
/** For how long whoever had to prepare after all does so at first. */
const PUT_OFF_MS = 60_000;

type Writer = { grant: Grant; notBefore: number };

export function createKnownWriters(clock: Clock) {
  const writers = createRecent<Writer>(WRITERS_MAX);

  return {
    /** What was found of them then, where it is worth beginning with; null otherwise. */
    grantOf(caller: Caller, place: Place): Grant | null {
      const name = nameOf(caller, place);
      const known = name === null ? undefined : writers.get(name);
      return known === undefined || clock.now().getTime() < known.notBefore ? null : known.grant;
    },

    /** A change went through. A token whose uses are counted is admitted first, each time. */
    note(caller: Caller, place: Place, grant: Grant): void {
      const name = nameOf(caller, place);
      if (name === null || grant.token.max_uses !== null) return;
      const known = writers.get(name);
      if (known === undefined) writers.put(name, { grant, notBefore: 0 });
      else known.grant = grant;
    },

    /** It came to nothing. @param isStale it has to be prepared after all, and so it is at first for a while */
    failed(caller: Caller, place: Place, isStale: boolean): void {
      const name = nameOf(caller, place);
      const known = name === null ? undefined : writers.get(name);
      if (name === null || known === undefined) return;
      if (isStale) known.notBefore = clock.now().getTime() + PUT_OFF_MS;
      else writers.drop(name);
    },
  };
}

function nameOf({ credential }: Caller, place: Place): string | null {
  if (place.kind !== "owner") return null;
  const { owner_type, owner_id } = place.owner;
  if (credential.kind === "api") return `${credential.hash.toString("base64")} ${owner_type}/${owner_id}`;
  return credential.kind === "access" ? `${credential.claims.id} ${owner_type}/${owner_id}` : null;
}
