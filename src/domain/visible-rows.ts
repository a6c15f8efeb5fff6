// A page of rows that are known by their ids, of which a caller's scopes may hide some.
import type { PrincipalFacts } from "./access.ts";
import type { Page, PageQuery } from "./ports.ts";

/** How many rows are looked through at once. */
const LOOKED_AT = 1000;

/** Hidden rows are passed over, so that a cursor names none, and every page but the last is full. */
export async function visibleRows<Row extends { readonly id: string }>(
  { ceilings }: Pick<PrincipalFacts, "ceilings">,
  query: PageQuery,
  look: (page: PageQuery) => Promise<Page<Row>>,
  isVisible: (row: Row) => boolean,
): Promise<Page<Row>> {
  if (ceilings.length === 0) return look(query);
  const { after, limit } = query;
  const rows: Row[] = [];
  for (let from = after; ; ) {
    const found = await look({ after: from, limit: LOOKED_AT });
    rows.push(...found.rows.filter(isVisible));
    if (rows.length > limit) return { rows: rows.slice(0, limit), more: true };
    const last = found.rows.at(-1);
    if (!found.more || last === undefined) return { rows, more: false };
    from = last.id;
  }
}
