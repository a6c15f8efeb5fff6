// The hashes of events as this process recorded them, until it seals them: so that the sealer need not fetch what was
// only just written. It also seals what was recorded, and not what has been made of it in the database meanwhile.
import type { AuditEvent } from "./audit.ts";
import type { SealJudge } from "./audit-chain.ts";

/** Two generations of so many are kept: what another replica sealed goes with the older one, as all ids do. */
const GENERATION = 16_384;

export type EventHashes = ReturnType<typeof createEventHashes>;

/** @param hashEvent an event's hash as a seal's leaf has it */
export function createEventHashes(hashEvent: SealJudge["hashEvent"]) {
  // Empty where it is sealed.
  let newer = new Map<string, string>();
  let older = new Map<string, string>();

  return {
    /** @param event as it rests in the database, and will for ever: refusals, which are counted up, are passed over */
    remember(event: AuditEvent): void {
      if (event.action === "sign_in" && event.outcome === "denied") return;
      if (newer.size >= GENERATION) [newer, older] = [new Map(), newer];
      newer.set(event.id, hashEvent(event));
    },
    /** Null where this process did not record it, or long ago, or has sealed it. */
    get(id: string): string | null {
      const text = newer.get(id) ?? older.get(id);
      return text === undefined || text === "" ? null : text;
    },
    /** Its id stays until its generation goes: deleting each would wear the table out (recent.ts). */
    forget(id: string): void {
      const generation = newer.has(id) ? newer : older;
      if (generation.has(id)) generation.set(id, "");
    },
  };
}
