// Masks values in a stream of bytes. What comes out does not depend on how the bytes were cut into chunks; no more is
// held back than the end of what might be the beginning of a value. It knows bytes, not text: binary passes unharmed.
import { Transform } from "node:stream";
import type { Value } from "./references.ts";

const STARS = Buffer.from("***");
/** A shorter line of a value that has several is `}` or `fi`: masking it hides nothing and garbles everything. */
const LINE_BYTES_MIN = 4;

/** What to look for: each text whole and as JSON writes it, and each line of it. */
export function needlesOf(values: Iterable<Value>): readonly Buffer[] {
  const needles = new Map<string, Buffer>();
  const add = (text: string, bytesMin: number): void => {
    const bytes = Buffer.from(text);
    if (bytes.length >= bytesMin) needles.set(text, bytes);
  };
  const addForms = (text: string): void => {
    add(text, 1);
    add(JSON.stringify(text).slice(1, -1), 1);
    const lines = text.split(/\r\n|\r|\n/);
    // Also of a value of one line that ends in a newline.
    if (lines.length > 1) for (const line of lines) add(line.trim(), LINE_BYTES_MIN);
  };
  for (const value of values) {
    if (typeof value === "string") addForms(value);
    if (typeof value !== "object") continue;
    add(JSON.stringify(value), 1);
    for (const part of Object.values(value)) if (typeof part === "string") addForms(part);
  }
  return [...needles.values()];
}

/** Of each beginning of the needle, how much of its end is a beginning again (Knuth, Morris, Pratt). */
function failuresOf(needle: Buffer): Int32Array {
  const failures = new Int32Array(needle.length + 1);
  let matched = 0;
  for (let at = 1; at < needle.length; at += 1) {
    while (matched > 0 && needle[at] !== needle[matched]) matched = failures[matched] ?? 0;
    if (needle[at] === needle[matched]) matched += 1;
    failures[at + 1] = matched;
  }
  return failures;
}

type Needle = { readonly bytes: Buffer; readonly failures: Int32Array };
type Span = { readonly from: number; to: number };

/** Calls `found` with the end of each occurrence; returns how much of the needle the text's end is a beginning of. */
function scan({ bytes, failures }: Needle, text: Buffer, from: number, found: (to: number) => void): number {
  let matched = 0;
  for (let at = from; at < text.length; at += 1) {
    while (matched > 0 && text[at] !== bytes[matched]) matched = failures[matched] ?? 0;
    if (text[at] === bytes[matched]) matched += 1;
    if (matched < bytes.length) continue;
    found(at + 1);
    matched = failures[matched] ?? 0;
  }
  return matched;
}

export class Mask {
  readonly #needles: readonly Needle[];
  #held: Buffer = Buffer.alloc(0);
  /** How many of the first bytes held belong to a value whose stars are out already. */
  #covered = 0;

  constructor(needles: readonly Buffer[]) {
    this.#needles = needles.map((bytes) => ({ bytes, failures: failuresOf(bytes) }));
  }

  push(chunk: Buffer): Buffer {
    const text = Buffer.concat([this.#held, chunk]);
    const { spans, begun } = this.#find(text);
    return this.#emit(text, spans, text.length - begun);
  }

  /** The rest: a beginning that nothing came after, and what stands in it. */
  end(): Buffer {
    return this.#emit(this.#held, this.#find(this.#held).spans, this.#held.length);
  }

  /** All occurrences, and how much of the text's end might be the beginning of one. */
  #find(text: Buffer): { readonly spans: readonly Span[]; readonly begun: number } {
    const spans: Span[] = [];
    let begun = 0;
    for (const needle of this.#needles) {
      const { length } = needle.bytes;
      const first = text.indexOf(needle.bytes);
      const from = first < 0 ? Math.max(0, text.length - length + 1) : first;
      begun = Math.max(
        begun,
        scan(needle, text, from, (to) => spans.push({ from: to - length, to })),
      );
    }
    return { spans: merged(spans, this.#covered), begun };
  }

  #emit(text: Buffer, spans: readonly Span[], until: number): Buffer {
    const parts: Buffer[] = [];
    const covered = this.#covered;
    let at = 0;
    // Nothing goes out: what was covered stays so.
    this.#covered = until === 0 ? covered : 0;
    for (const { from, to } of spans) {
      if (from >= until) break;
      parts.push(text.subarray(at, from));
      if (from > 0 || covered === 0) parts.push(STARS);
      at = Math.min(to, until);
      this.#covered = to - at;
    }
    parts.push(text.subarray(at, until));
    this.#held = text.subarray(until);
    return Buffer.concat(parts);
  }
}

/** In order, and those that overlap as one: values may begin or end inside each other. */
function merged(spans: readonly Span[], covered: number): readonly Span[] {
  const whole: Span[] = covered > 0 ? [{ from: 0, to: covered }] : [];
  for (const { from, to } of spans.toSorted((one, other) => one.from - other.from)) {
    const last = whole.at(-1);
    if (last !== undefined && from < last.to) last.to = Math.max(last.to, to);
    else whole.push({ from, to });
  }
  return whole;
}

export function maskStream(needles: readonly Buffer[]): Transform {
  const mask = new Mask(needles);
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => done(null, mask.push(chunk)),
    flush: (done) => done(null, mask.end()),
  });
}
