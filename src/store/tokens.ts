// API tokens: found, made, used up, revoked. A token whose maker is being revoked is not made: making one holds the
// token it is made with, and revoking goes on until it finds no more.
import type { Reader, Store, TokenRecord, Transaction } from "../domain/ports.ts";
import type { AccessNotes } from "./access-notes.ts";
import type { Db, Statement } from "./db.ts";
import { raced } from "./failures.ts";
import { holdPrincipal } from "./locks.ts";
import { afterId, toPage } from "./rows.ts";

const withoutHash = { hash: true } as const;

export function tokenReads({ prisma }: Db, notes: AccessNotes): Pick<Reader, "token" | "tokensOf"> {
  return {
    async token(id) {
      const row = await prisma.token.findUnique({ where: { id }, omit: withoutHash });
      return row === null ? null : notes.overlayToken(row);
    },
    async tokensOf(principal_id, page) {
      const rows: TokenRecord[] = await prisma.token.findMany({
        where: { principal_id, id: afterId(page) },
        orderBy: { id: "asc" },
        take: page.limit + 1,
        omit: withoutHash,
      });
      return toPage(
        rows.map((row) => notes.overlayToken(row)),
        page,
      );
    },
  };
}

const takeUseStatement: Statement = {
  name: "take_use",
  text: "UPDATE tokens SET uses = uses + 1 WHERE id = $1::uuid AND uses < max_uses RETURNING uses",
};

const returnUseStatement: Statement = {
  name: "return_use",
  text: "UPDATE tokens SET uses = uses - 1 WHERE id = $1::uuid AND uses > 0",
};

export function usesWith(db: Db): Pick<Store, "takeUse" | "returnUse"> {
  return {
    takeUse: async (tokenId) => (await db.query(takeUseStatement, [tokenId])).length === 1,
    async returnUse(tokenId) {
      await db.query(returnUseStatement, [tokenId]);
    },
  };
}

const holdMakersStatement: Statement = {
  name: "hold_makers",
  text: `SELECT revoked_at FROM tokens WHERE id IN ($1::uuid, $2::uuid) ORDER BY id FOR SHARE`,
};
const revokeStatement: Statement = {
  name: "revoke_tokens",
  text: `WITH RECURSIVE doomed (id) AS (
      SELECT $1::uuid
      UNION
      SELECT child.id FROM doomed CROSS JOIN LATERAL (
        SELECT t.id FROM tokens t WHERE t.parent_id = doomed.id
        UNION ALL
        SELECT t.id FROM tokens t WHERE $2::boolean AND t.made_with = doomed.id
      ) child
    )
    UPDATE tokens SET revoked_at = $3::timestamptz
    WHERE id IN (SELECT id FROM doomed) AND revoked_at IS NULL RETURNING id`,
};

export function tokenWrites(db: Db): Pick<Transaction, "insertToken" | "revokeToken"> {
  return {
    async insertToken(row) {
      await holdPrincipal(db, row.principal_id);
      const makers = [...new Set([row.parent_id, row.made_with])].filter((id) => id !== null);
      if (makers.length > 0) {
        const [one = null, other = null] = makers;
        const found = await db.query<{ revoked_at: Date | null }>(holdMakersStatement, [one, other]);
        if (found.length < makers.length || found.some(({ revoked_at }) => revoked_at !== null))
          throw raced();
      }
      const { hash, scopes, allowed_cidrs, ...rest } = row;
      const data = {
        ...rest,
        hash: new Uint8Array(hash),
        scopes: [...scopes],
        allowed_cidrs: [...allowed_cidrs],
      };
      await db.prisma.token.createMany({ data });
    },

    async revokeToken(id, made, now) {
      // A child made just before its parent was revoked shows only once that is locked: hence again, until none does.
      for (let revoked = 0; ; ) {
        const rows = await db.query(revokeStatement, [id, made, now]);
        if (rows.length === 0) return revoked;
        revoked += rows.length;
      }
    },
  };
}
