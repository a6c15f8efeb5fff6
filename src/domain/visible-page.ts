// A page of settings as one caller sees it, where a ceiling may hide most of what is there.
import type { Grant } from "./admission.ts";
import type { Reader, SettingPage, SettingQuery } from "./ports.ts";

/** How many rows are looked through at once. */
const LOOKED_AT = 1000;

/**
 * A page of what the caller may know of. A page that ends among other rows ends with the last one before them, so that
 * its cursor names none of those; one without any is passed over, so that every page gets on. There is a next page where
 * it has a row that the caller may know of.
 */
export async function visiblePage(
  grant: Grant,
  reader: Pick<Reader, "settings">,
  query: SettingQuery,
): Promise<SettingPage> {
  if (grant.principal.ceilings.length === 0) return reader.settings(query);
  let found: SettingPage | null = null;
  for (let { after } = query; ; ) {
    // Whether there is more is told by its paths.
    const sealed_bytes_max = found === null ? query.sealed_bytes_max : null;
    const page = await reader.settings({ ...query, after, limit: LOOKED_AT, sealed_bytes_max });
    if (page.exact) return page;
    const rows = page.rows.filter(({ setting }) => grant.decide("list", setting.path).verdict === "allow");
    if (found !== null && rows.length > 0) return { ...found, more: true };
    if (rows.length > query.limit) return { rows: rows.slice(0, query.limit), more: true, exact: false };
    if (rows.length > 0) found = { rows, more: false, exact: false };
    const last = page.rows.at(-1);
    if (!page.more || last === undefined) return found ?? { rows: [], more: false, exact: false };
    after = last.setting.path;
  }
}
