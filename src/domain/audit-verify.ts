// Verifying the audit log against its seals, as a stream and in constant memory: the items come in the order of the
// chain, from a live database or from an export, and the first one that does not fit is named. Whoever lacks the
// signing key can make none of this fit: a changed event has another hash, a removed one leaves its leaf, and a seal
// that is changed, left out or made up is not signed as the next of its chain.
import type { AuditEvent } from "./audit.ts";
import { type Leaf, type Seal, type SealJudge, sameBytes, timeOfId, unpackLeaves } from "./audit-chain.ts";

/** A seal is followed by the events under it, in order of position; at the end come those that no seal covers yet. */
export type ChainItem =
  | { readonly kind: "seal"; readonly seal: Seal }
  | { readonly kind: "event"; readonly position: number | null; readonly event: AuditEvent };

export type Problem = {
  readonly what:
    | "changed"
    | "removed"
    | "reordered"
    | "inserted"
    | "left_out"
    | "seal_forged"
    | "seal_removed"
    | "truncated";
  readonly seal: number | null;
  readonly position: number | null;
  readonly event_id: string | null;
  readonly at: Date | null;
  readonly detail: string;
};
export type Verified = {
  readonly head: Pick<Seal, "number" | "hash" | "sealed_at"> | null;
  readonly seals: number;
  readonly events: number;
  /** Gone by retention, under seals that are there. */
  readonly dropped: number;
  /** Not sealed yet. */
  readonly unsealed: number;
};
export type Verdict = { readonly problem: Problem } | { readonly problem: null; readonly verified: Verified };

/** A head that somebody wrote down: the chain must have it. */
export type KnownHead = { readonly number: number; readonly hash: Uint8Array };

/**
 * An event is sealed within a second of its commit; its id may be older by a slow transaction, and a counted refusal
 * waits for its minute. What is older than this at the time of a seal, and in none, was kept out.
 */
const LEFT_OUT_AFTER_MS = 180_000;

/** @param keptFrom what the newest seal says of retention; the newest seal is held to it at the end */
export async function verifyChain(
  items: AsyncIterable<ChainItem>,
  judge: SealJudge,
  { keptFrom, known = [] }: { readonly keptFrom: Date | null; readonly known?: readonly KnownHead[] },
): Promise<Verdict> {
  let seal: Seal | null = null;
  let leaves: readonly Leaf[] = [];
  let next = 0;
  let [seals, events, dropped, unsealed] = [0, 0, 0, 0];

  const leafProblem = (what: Problem["what"], leaf: Leaf, detail: string): Problem =>
    problemOf(what, seal, leaf.position, leaf.id, detail);

  /** The leaves before `until` have no event: only retention explains that. */
  function passOver(until: (leaf: Leaf) => boolean): Problem | null {
    for (let leaf = leaves[next]; leaf !== undefined && !until(leaf); leaf = leaves[++next]) {
      if (keptFrom === null || timeOfId(leaf.id) >= keptFrom)
        return leafProblem("removed", leaf, "The event is gone.");
      dropped += 1;
    }
    return null;
  }

  function takeSeal(given: Seal): Problem | null {
    const gone = passOver(() => false);
    if (gone !== null) return gone;
    if (!judge.isGenuine(given))
      return problemOf("seal_forged", given, null, null, "It is not signed by this instance's key as it is.");
    const under = given.leaves === null ? [] : unpackLeaves(given.leaves);
    const flaw = sealFlaw(seal, given, under);
    if (flaw !== null) return flaw;
    const noted = known.find(({ number }) => number === given.number);
    if (noted !== undefined && !sameBytes(noted.hash, given.hash))
      return problemOf("seal_forged", given, null, null, "It is not the seal that was written down.");
    seals += 1;
    seal = given;
    next = 0;
    leaves = under;
    if (given.leaves === null && given.count > 0) {
      if (keptFrom === null || given.sealed_at >= keptFrom)
        return problemOf("removed", given, given.first_position, null, "All under this seal is gone.");
      dropped += given.count;
    }
    return null;
  }

  function takeEvent(position: number | null, event: AuditEvent): Problem | null {
    if (
      position === null ||
      (seal === null && position > 0) ||
      (seal !== null && position > seal.last_position)
    ) {
      // What is left over is read after the last seal, and only then.
      const gone = passOver(() => false);
      if (gone !== null) return gone;
      unsealed += 1;
      const late = seal !== null && seal.sealed_at.getTime() - timeOfId(event.id).getTime();
      if (late === false || late < LEFT_OUT_AFTER_MS) return null;
      return problemOf("left_out", null, position, event.id, "It is older than the seals that left it out.");
    }
    const gone = passOver((leaf) => leaf.position >= position);
    if (gone !== null) return gone;
    const leaf = leaves[next];
    if (leaf === undefined || leaf.position !== position || leaf.id !== event.id) {
      const elsewhere = leaves.some(({ id }) => id === event.id);
      const detail = elsewhere ? "It stands where another was sealed." : "No seal has it.";
      return problemOf(elsewhere ? "reordered" : "inserted", seal, position, event.id, detail);
    }
    next += 1;
    events += 1;
    if (judge.hashEvent(event) === leaf.hash) return null;
    return leafProblem("changed", leaf, "It is not what was sealed.");
  }

  for await (const item of items) {
    const problem = item.kind === "seal" ? takeSeal(item.seal) : takeEvent(item.position, item.event);
    if (problem !== null) return { problem };
  }
  const problem = passOver(() => false) ?? endFlaw(seal, keptFrom, known);
  if (problem !== null) return { problem };
  const head: Seal | null = seal;
  return { problem: null, verified: { head, seals, events, dropped, unsealed } };
}

function problemOf(
  what: Problem["what"],
  seal: Seal | null,
  position: number | null,
  event_id: string | null,
  detail: string,
): Problem {
  const at = event_id === null ? (seal?.sealed_at ?? null) : timeOfId(event_id);
  return { what, seal: seal?.number ?? null, position, event_id, at, detail };
}

/** Why a genuine seal is not the one that comes after `before`. */
function sealFlaw(before: Seal | null, seal: Seal, leaves: readonly Leaf[]): Problem | null {
  const flaw = (what: Problem["what"], detail: string, position: number | null = null): Problem =>
    problemOf(what, seal, position, null, detail);
  const number = (before?.number ?? 0) + 1;
  if (seal.number !== number) return flaw("seal_removed", `Seal ${number} should come here.`);
  if (!sameBytes(seal.previous, before?.hash ?? null))
    return flaw("seal_forged", "It follows another seal than the one before it.");
  // The first of all says itself where the log begins: that of an older version may begin later.
  const first = before === null ? seal.first_position : before.last_position + 1;
  if (seal.first_position !== first)
    return flaw("seal_removed", `Position ${first} should come here.`, first);
  if (before !== null && (before.kept_from ?? 0) > (seal.kept_from ?? 0))
    return flaw("seal_forged", "What retention has taken is not given back.");
  let expected = first;
  for (const { position } of leaves) {
    if (position !== expected) return flaw("removed", "The event was gone before it was sealed.", expected);
    expected += 1;
  }
  return null;
}

function endFlaw(head: Seal | null, keptFrom: Date | null, known: readonly KnownHead[]): Problem | null {
  const missing = known.find(({ number }) => number > (head?.number ?? 0));
  if (missing !== undefined)
    return problemOf(
      "truncated",
      head,
      null,
      null,
      `Seal ${missing.number} was written down, and is not here.`,
    );
  if ((head?.kept_from?.getTime() ?? null) === (keptFrom?.getTime() ?? null)) return null;
  return problemOf(
    "seal_removed",
    head,
    null,
    null,
    "The newest seal is not the one that retention is taken from.",
  );
}
