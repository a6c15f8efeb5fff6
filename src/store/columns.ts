// Rows as PostgreSQL takes many of them at once: an array a column, for `unnest`. The arrays are written here as text,
// and not by the driver, which goes through each of their elements several times.
export type Cell = string | null;
/** A text as it goes into the array, for what is sent again and again. */
export type Written = { readonly written: string };
export type Column<Row> = readonly [name: string, type: string, of: (row: Row) => Cell];

function literal(cell: Cell | Written): string {
  if (cell === null) return "NULL";
  if (typeof cell !== "string") return cell.written;
  const isPlain = !cell.includes('"') && !cell.includes("\\");
  return isPlain ? `"${cell}"` : `"${cell.replaceAll(/["\\]/g, "\\$&")}"`;
}

export const writtenOf = (text: string): Written => ({ written: literal(text) });

/** An array of cells. */
export function arrayOf(cells: readonly (Cell | Written)[]): string {
  let text = "";
  // What is the same in one row after another (an action, an outcome) is written once.
  let last: Cell | Written = null;
  let lastText = literal(last);
  for (const cell of cells) {
    if (cell !== last) lastText = literal(cell);
    last = cell;
    text += text === "" ? lastText : `,${lastText}`;
  }
  return `{${text}}`;
}

export function arraysOf<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string[] {
  return columns.map(([, , of]) => arrayOf(rows.map(of)));
}

/** `unnest` of such arrays, the first of them the statement's parameter after `before`. */
export function unnested(
  columns: readonly (readonly [name: string, type: string, ...rest: unknown[]])[],
  before = 0,
): string {
  return `unnest(${columns.map(([, type], index) => `$${before + index + 1}::${type}[]`).join(", ")})`;
}

export const namesOf = (columns: readonly (readonly [name: string, ...rest: unknown[]])[]): string =>
  columns.map(([name]) => `"${name}"`).join(", ");

export const bytesCell = (bytes: Uint8Array): string =>
  `\\x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")}`;
export const timeCell = (time: Date | null): Cell => (time === null ? null : time.toISOString());
