// Pages of settings as text. Most of what is written of a row that stays in memory is the same at each reading: it is
// written once, by the route's own serializer, with holes where a value and the time of the last disclosure go. So what
// is answered is what the schema says, to the byte, and costs a few pieces of text a setting.
import { randomUUID } from "node:crypto";
import type { FastifyReply } from "fastify";
import { KeptRow } from "../domain/kept-row.ts";
import { Plaintext } from "../domain/plaintext.ts";
import { type Setting, type SettingRow, type ShownRow, toSetting } from "../domain/setting.ts";

type Page<Row> = { readonly settings: readonly Row[]; readonly next_cursor: string | null };
/** Writes a page as its schema says. */
type WritePage = (page: Page<Setting>) => string;

/** The serializer of a route that answers pages of settings. */
export function writerOf(reply: FastifyReply): WritePage {
  const write: WritePage | undefined = reply.getSerializationFunction("200", "application/json");
  if (write === undefined) throw new Error("this route has a schema of its answer");
  return write;
}

/** The JSON of a page. */
export function pageText({ settings, next_cursor }: Page<ShownRow>, write: WritePage): string {
  const writeTime = timesWriter();
  let items = "";
  for (const shown of settings) {
    const text = keptText(shown, write, writeTime);
    if (text === null) return write({ settings: settings.map(toSetting), next_cursor });
    items += items === "" ? text : `,${text}`;
  }
  const [before, after] = around(write({ settings: [], next_cursor }));
  return before + items + after;
}

/** Of what is longer nothing is kept: a page in memory is weighed without it. */
const TEXT_LENGTH_MAX = 2_048;
const NONE: readonly string[] = [];

/** Null where nothing of it is kept. */
function keptText(
  { row, disclosure, accessed }: ShownRow,
  write: WritePage,
  writeTime: WriteTime,
): string | null {
  const texts = KeptRow.textsOf(row);
  if (texts === null || disclosure.kind === "withheld") return null;
  // Its entity tag is another whenever the value is.
  if (disclosure.kind === "opened" && disclosure.tag !== null) return null;
  const pieces = (texts[disclosure.kind] ??= piecesOf(row, disclosure.kind, write));
  if (pieces === NONE) return null;
  const [head, middle, tail] = pieces;
  const time = writeTime(accessed);
  if (disclosure.kind === "metadata") return `${head}${time}${middle}`;
  return `${head}${disclosure.plaintext.json()}${middle}${time}${tail}`;
}

type WriteTime = (time: Date | null) => string;

/** Writes times one after another: mostly they are the same, since a page is disclosed as a whole. */
function timesWriter(): WriteTime {
  let last = Number.NaN;
  let text = "";
  return (time) => {
    if (time === null) return "null";
    // JSON.stringify would take twice as long to write the same.
    if (time.getTime() !== last) text = `"${time.toISOString()}"`;
    last = time.getTime();
    return text;
  };
}

/** What no client can have put into a setting. */
const HOLE = randomUUID();

/** What is written of a row around its holes: that of an opened value, and that of the time. NONE: too much. */
function piecesOf(row: SettingRow, kind: "metadata" | "opened", write: WritePage): readonly string[] {
  const disclosure =
    kind === "metadata" ? { kind } : { kind, plaintext: new Plaintext("custom", HOLE), tag: null };
  const setting = { ...toSetting({ row, disclosure, accessed: null }), last_accessed_at: HOLE };
  const empty = around(write({ settings: [], next_cursor: null }));
  const whole = write({ settings: [setting], next_cursor: null });
  if (whole.length > TEXT_LENGTH_MAX) return NONE;
  const pieces = whole.slice(empty[0].length, -empty[1].length).split(`"${HOLE}"`);
  if (pieces.length !== (kind === "metadata" ? 2 : 3)) throw new Error("each hole is written once");
  return pieces;
}

/** An empty page in two, for what is to be between. */
function around(emptyPage: string): readonly [string, string] {
  const start = emptyPage.indexOf("[") + 1;
  return [emptyPage.slice(0, start), emptyPage.slice(start)];
}
