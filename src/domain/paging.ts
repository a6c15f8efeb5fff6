// Cursors: where a page ended, opaque to clients. Keyset paging, so they survive inserts and deletes.
import { isSettingPath, isUuid } from "./address.ts";
import { badInput } from "./errors.ts";
import type { Page, PageQuery } from "./ports.ts";

const CURSOR = /^[A-Za-z0-9_-]{1,1024}$/;

export type PageInput = { readonly limit: number; readonly cursor?: string };

export function encodeCursor(lastKey: string): string {
  return Buffer.from(lastKey, "utf8").toString("base64url");
}

/** @throws BrokerError `invalid_request` for what `encodeCursor` never made */
export function decodeCursor(cursor: string): string {
  const key = CURSOR.test(cursor) ? Buffer.from(cursor, "base64url").toString("utf8") : "";
  if (key === "" || key.includes("\0") || encodeCursor(key) !== cursor) throw badCursor();
  return key;
}

/** Of a page that ended with a setting. @throws BrokerError `invalid_request` for what `encodeCursor` never made of a path */
export function decodePathCursor(cursor: string): string {
  const path = decodeCursor(cursor);
  if (!isSettingPath(path)) throw badCursor();
  return path;
}

/** The query for a page of things that are ordered by their UUID. @throws BrokerError `invalid_request` */
export function toPage({ limit, cursor }: PageInput): PageQuery {
  if (cursor === undefined) return { after: null, limit };
  const after = decodeCursor(cursor);
  if (!isUuid(after)) throw badCursor();
  return { after, limit };
}

/** The cursor of the next page; null when this one was the last. */
export function nextCursor<Row>(page: Page<Row>, keyOf: (row: Row) => string): string | null {
  const last = page.rows.at(-1);
  return page.more && last !== undefined ? encodeCursor(keyOf(last)) : null;
}

function badCursor(): Error {
  return badInput("invalid_request", "query", "/cursor", "This is no cursor of ours.");
}
