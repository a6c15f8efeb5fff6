// The values of a page that stays in memory, as one sealed piece. To open twenty values one by one is most of what
// reading them takes, and nearly all of that is not AES but what comes with each: once they were opened so, they are
// sealed again together, and open together from then on. No value is in clear that was not before: a piece opens only
// under a key that goes with the data key that its values rest under (key-cache.ts), and only for the very rows.
import { KeptRow } from "../domain/kept-row.ts";
import { Plaintext } from "../domain/plaintext.ts";
import type { Opened } from "../domain/sealing-ports.ts";
import type { SettingRow } from "../domain/setting.ts";
import { EnvelopeError, associatedData, openText, sealBytes } from "./envelope.ts";
import type { HeldKey } from "./key-cache.ts";
import type { Keyring } from "./keyring.ts";

type Piece = {
  readonly data_key_id: string;
  readonly sealed: Uint8Array;
  /** Where each value ends in the text, in UTF-16 code units. */
  readonly ends: readonly number[];
};

/** A piece is bound to its rows by where it is kept: it never rests, and is never handed on. */
const ASSOCIATED = associatedData("coffer page v1", []);

export function createOpenedPages(keyring: Pick<Keyring, "cached">) {
  return {
    /** Null: there is no such piece, or it does not open any more, since its key was dropped meanwhile. */
    open(rows: readonly SettingRow[]): readonly Opened[] | null {
      const page = KeptRow.pageOf(rows);
      const piece = (page?.opened ?? null) as Piece | null;
      const tenantId = rows[0]?.setting.tenant_id;
      if (page === null || piece === null || tenantId === undefined) return null;
      const held = keyring.cached(tenantId, piece.data_key_id);
      if (held === null) return null;
      const text = textOf(held, piece);
      if (text === null) {
        page.opened = null;
        return null;
      }
      let start = 0;
      return piece.ends.map((end, index) => {
        const { type } = (rows[index] as SettingRow).setting;
        const plaintext = new Plaintext(type, text.slice(start, end));
        start = end;
        return { kind: "opened", plaintext };
      });
    },

    /** To be called once they were opened, under one data key. A page of one opens as fast as it is. */
    keep(rows: readonly SettingRow[], data_key_id: string, held: HeldKey, opened: readonly Opened[]): void {
      const page = KeptRow.pageOf(rows);
      if (page === null || rows.length < 2 || opened.some(({ kind }) => kind !== "opened")) return;
      const values = opened.flatMap((each) => (each.kind === "opened" ? each.plaintext.bytes() : []));
      let end = 0;
      const ends = values.map((value) => (end += value.toString("utf8").length));
      const bytes = Buffer.concat(values);
      try {
        // In memory of its own: a piece of Node's pool would keep all 64 KB of that.
        const sealed = Uint8Array.from(sealBytes(held.pageKey(), ASSOCIATED, bytes));
        page.opened = { data_key_id, sealed, ends } satisfies Piece;
      } finally {
        for (const plain of [...values, bytes]) plain.fill(0);
      }
    },
  };
}

/** Null for a piece under an earlier page key. */
function textOf(held: HeldKey, { sealed }: Piece): string | null {
  try {
    return openText(held.pageKey(), ASSOCIATED, sealed);
  } catch (error) {
    if (error instanceof EnvelopeError) return null;
    throw error;
  }
}
