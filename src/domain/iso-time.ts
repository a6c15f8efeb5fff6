// Times as text (ISO 8601, in UTC, to the millisecond).

let writtenMs = Number.NaN;
let written = "";

/**
 * A time as `toISOString` writes it, which takes half a microsecond: of a busy log's events, one after another, most are
 * of the same millisecond.
 * @throws RangeError for what is no time
 */
export function isoOf(time: Date): string {
  const ms = time.getTime();
  if (ms !== writtenMs) written = time.toISOString();
  writtenMs = ms;
  return written;
}
