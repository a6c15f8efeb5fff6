// JSON that has one reading only: an object in well-formed UTF-8, no member named twice at any level, not nested
// deeper than 32. Two parsers that disagree about a token are how one gets past a check.
// Its failures are null and say nothing: what was parsed may be a token.
const DEPTH_MAX = 32;
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],]/g;

// A byte order mark is not swallowed, so that it is the error that JSON calls it.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The object that the bytes are the JSON of; null when they are anything else. */
export function parseStrictObject(bytes: Uint8Array): Readonly<Record<string, unknown>> | null {
  try {
    const text = utf8.decode(bytes);
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return null;
    return isUnambiguous(text) ? (parsed as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Of a text that is JSON: strings, brackets and commas are all there is to see, and none can be mistaken. */
function isUnambiguous(text: string): boolean {
  // The names that each object around has had so far; null for a list.
  const around: (Set<string> | null)[] = [];
  let isName = false;
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === "{" || token === "[") {
      if (around.push(token === "{" ? new Set() : null) > DEPTH_MAX) return false;
      isName = token === "{";
    } else if (token === "}" || token === "]") around.pop();
    else if (token === ",") isName = around.at(-1) !== null;
    else if (isName) {
      const names = around.at(-1);
      // Decoded, for "sub" can be written as "s\u0075b" too.
      const name = JSON.parse(token) as string;
      if (names?.has(name) !== false) return false;
      names.add(name);
      isName = false;
    }
  }
  return true;
}
