// The staging labels of one secret: what AWS keeps a version for. Each version of ours that must stay readable carries a
// label `coffer-01` … `coffer-18`; with AWSCURRENT and AWSPREVIOUS that makes the 20 that a secret may have.
// Pure: what is where, and which label to take next.

/** Version ids with their labels, as DescribeSecret gives them; versions without a label are not in it. */
export type Stages = ReadonlyMap<string, ReadonlySet<string>>;

export const LABELS_MAX = 18;
export const CURRENT = "AWSCURRENT";
const PREVIOUS = "AWSPREVIOUS";
const LABELS = Array.from({ length: LABELS_MAX }, (_, at) => `coffer-${String(at + 1).padStart(2, "0")}`);

const isOurs = (label: string): boolean => LABELS.includes(label);

export const stagesFrom = (given: Readonly<Record<string, readonly string[]>>): Stages =>
  new Map(Object.entries(given).map(([id, labels]) => [id, new Set(labels)]));

export function holderOf(stages: Stages, label: string): string | null {
  for (const [id, labels] of stages) if (labels.has(label)) return id;
  return null;
}

/** The label of ours that a version has. */
export function labelOf(stages: Stages, id: string): string | null {
  return [...(stages.get(id) ?? [])].find(isOurs) ?? null;
}

/**
 * The label for one more version: a free one, else one of a version that need not be kept; null where there is neither.
 * None is ever taken from a version that is kept: what is being written may yet come to nothing.
 */
export function freeLabel(stages: Stages, kept: readonly string[]): string | null {
  const free = LABELS.find((label) => holderOf(stages, label) === null);
  if (free !== undefined) return free;
  return LABELS.find((label) => !kept.includes(holderOf(stages, label) ?? "")) ?? null;
}

/** How things are once a label has been moved to a version, or off (null). AWSPREVIOUS follows AWSCURRENT. */
export function moved(stages: Stages, label: string, to: string | null): Stages {
  const from = holderOf(stages, label);
  const next = new Map([...stages].map(([id, labels]) => [id, new Set(labels)]));
  if (from !== null) next.get(from)?.delete(label);
  if (to !== null) next.set(to, (next.get(to) ?? new Set()).add(label));
  if (label !== CURRENT || from === null || from === to) return next;
  return moved(next, PREVIOUS, from);
}

/** The labels to take off, so that nothing but `keep` is held. AWSCURRENT can be moved but not taken off. */
export function strays(stages: Stages, keep: readonly string[]): readonly string[] {
  return [...stages]
    .filter(([id]) => !keep.includes(id))
    .flatMap(([, labels]) => [...labels].filter((label) => label !== CURRENT));
}
