// Fresh UUIDv7s (RFC 9562, section 5.7): in this process each is greater than the one before, also within a
// millisecond and after the clock was set back (section 6.2, method 1: a counter of 26 bits, begun anew at random).
// Randomness is fetched for many at once; no byte of it is used twice.
import { randomFillSync } from "node:crypto";

const TAIL_BYTES = 6;
const SEED_BYTES = 4;
const pool = Buffer.alloc(1_000 * (TAIL_BYTES + SEED_BYTES));
const COUNTER_MAX = 0x3ff_ffff;

let used = pool.length;
/** The pool's bytes as text: one piece of it an id, and not a call for each. */
let text = "";
let lastMs = 0;
/** `lastMs` as it stands in an id. */
let time = "";
let counter = 0;

export function newId(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    text = pool.toString("hex");
    used = 0;
  }
  const now = Date.now();
  counter += 1;
  if (now > lastMs || counter > COUNTER_MAX) {
    lastMs = Math.max(now, lastMs + 1);
    const digits = lastMs.toString(16).padStart(12, "0");
    time = `${digits.slice(0, 8)}-${digits.slice(8)}`;
    // Half of the counter's room stays free.
    counter = pool.readUInt32BE(used + TAIL_BYTES) & 0x1ff_ffff;
  }
  const tail = text.slice(2 * used, 2 * (used + TAIL_BYTES));
  used += TAIL_BYTES + SEED_BYTES;
  const high = (0x7000 | (counter >>> 14)).toString(16);
  const low = (0x8000 | (counter & 0x3fff)).toString(16);
  return `${time}-${high}-${low}-${tail}`;
}
