// Forms of text: a pattern, and the words in which a refusal says what it asks for.
const WORDS = new Map<string, string>();

/** Has a refusal by this pattern say so. @param words go on after the name of what was given: "must be …" */
export function form(pattern: string, words: string): string {
  WORDS.set(pattern, words);
  return pattern;
}

/** Undefined for a pattern that has none. */
export function wordsOf(pattern: unknown): string | undefined {
  return WORDS.get(String(pattern));
}
