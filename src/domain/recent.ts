// What is kept in memory within a bound: what was not used lately goes first.
// A hit moves nothing. Put last again at each use, entries would wear a Map's table out: V8 makes a new one every so many
// changes, and the old one points on to it. One that has come to the old generation thus keeps all tables after it, and
// what was in them, until the next full collection.

export type Recent<Value> = ReturnType<typeof createRecent<Value>>;

type Entry<Value> = { readonly value: Value; isUsed: boolean };

const SECOND_CHANCES_MAX = 64;

/** @param weightMax what all together may weigh; without `weightOf` that is how many there may be */
export function createRecent<Value>(weightMax: number, weightOf: (value: Value) => number = () => 1) {
  // A Map keeps its order: the first was put there, or had its second chance, longest ago.
  const entries = new Map<string, Entry<Value>>();
  let weight = 0;

  function drop(key: string): void {
    const entry = entries.get(key);
    if (entry === undefined) return;
    weight -= weightOf(entry.value);
    entries.delete(key);
  }

  /** What was used since it was looked at last gets a second chance, but so many at a time: whoever puts waits for it. */
  function makeRoomFor(more: number): void {
    let chances = SECOND_CHANCES_MAX;
    for (const [key, entry] of entries) {
      if (weight + more <= weightMax) return;
      if (entry.isUsed && chances > 0) {
        chances -= 1;
        entry.isUsed = false;
        entries.delete(key);
        entries.set(key, entry);
      } else drop(key);
    }
  }

  return {
    get: (key: string): Value | undefined => {
      const entry = entries.get(key);
      if (entry === undefined) return undefined;
      entry.isUsed = true;
      return entry.value;
    },
    /** What weighs more than all may together is not kept. */
    put: (key: string, value: Value): void => {
      drop(key);
      const more = weightOf(value);
      if (more > weightMax) return;
      makeRoomFor(more);
      entries.set(key, { value, isUsed: false });
      weight += more;
    },
    drop,
    /** Whether nothing would have to go for it. */
    hasRoomFor: (more: number): boolean => weight + more <= weightMax,
    /** Drops all that it is true of. */
    dropWhere: (isGone: (value: Value) => boolean): void => {
      for (const [key, { value }] of entries) if (isGone(value)) drop(key);
    },
  };
}
