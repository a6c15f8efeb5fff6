// One unambiguous encoding of a purpose and its fields, for associated data and for row MACs.
// Two lists of text, numbers and nothing encode to the same bytes only when purpose, order, kinds and contents are all the
// same: every field is its kind, its length in bytes and its content, so nothing can slide from one field into the next.
// With a list, an object or a truth value among them (`kindOf`) they never encode to the bytes of some without. What rests was
// authenticated with exactly these bytes: they never change; a new need gets a new purpose.
export type Field = string | number | null;

/** What a key is used for. The version in each label stands for the fields and their order. */
export type Purpose =
  | "coffer value v1"
  | "coffer page v1"
  | "coffer data key v1"
  | "coffer kek v1"
  | "coffer setting row v1"
  | "coffer version row v1"
  | "coffer version row v2"
  | "coffer managed secret row v1"
  | "coffer entity tag v1"
  | "coffer signing key v1"
  | "coffer audit event v1"
  | "coffer audit seal v1"
  | "coffer audit export v1"
  | "coffer backup chunk v1"
  | "coffer webhook secret v1"
  | "coffer public part v1";

/**
 * The purpose and the fields as netstrings, each after one letter for its kind: `s5:local,n12:170000000000,z0:,`.
 * Text is well-formed Unicode (PostgreSQL holds nothing else), so its UTF-8 is its own alone. A number is its
 * shortest decimal text; NaN and infinities have one too, so that a row made unfit by somebody else is found
 * untrue and does not throw.
 */
export function encodeFields(purpose: Purpose, fields: readonly Field[]): Buffer {
  return Buffer.from(encodedText(purpose, fields), "utf8");
}

/** The same as text, whose UTF-8 it is: for what is hashed as text at a lower price. */
export function encodedText(purpose: Purpose, fields: readonly Field[]): string {
  // Mostly all of it is ASCII, with as many bytes as characters; that it was is seen by the length of the whole.
  const short = joined(purpose, fields, (text) => text.length);
  if (Buffer.byteLength(short, "utf8") === short.length) return short;
  return joined(purpose, fields, (text) => Buffer.byteLength(text, "utf8"));
}

/**
 * A field's kind. A JSON column may hold a list, an object or a truth value, whatever the types say. That is a kind of
 * its own, without content, and nothing of it is ever signed: `["7"]` prints as "7" does, and some objects do not print.
 */
function kindOf(field: unknown): "z" | "n" | "s" | "x" {
  if (field === null) return "z";
  if (typeof field === "number") return "n";
  return typeof field === "object" || typeof field === "boolean" ? "x" : "s";
}

function joined(purpose: Purpose, fields: readonly Field[], lengthOf: (text: string) => number): string {
  let text = `s${purpose.length}:${purpose},`;
  for (const field of fields) {
    const kind = kindOf(field);
    const content = kind === "n" || kind === "s" ? String(field) : "";
    text += `${kind}${lengthOf(content)}:${content},`;
  }
  return text;
}
