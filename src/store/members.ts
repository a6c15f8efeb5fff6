// Memberships: which principal holds which role at an organization or a project.
import type { Role } from "../domain/access.ts";
import type { Owner, OwnerType } from "../domain/address.ts";
import type { MemberView, Reader, Transaction } from "../domain/ports.ts";
import type { Db, Statement } from "./db.ts";
import { raced } from "./failures.ts";
import { holdOwner, holdPrincipal } from "./locks.ts";
import { afterId, toPage } from "./rows.ts";
import type { MembershipModel, PrincipalModel } from "./generated/models.ts";

const memberStatement: Statement = {
  name: "members",
  text: `SELECT m.*, p.kind, p.name FROM memberships m JOIN principals p ON p.id = m.principal_id
    WHERE m.owner_type = $1::text AND m.owner_id = $2::uuid
      AND ($3::uuid IS NULL OR m.principal_id = $3::uuid) AND ($4::uuid IS NULL OR m.principal_id > $4::uuid)
    ORDER BY m.principal_id LIMIT $5::int`,
};
type Row = MembershipModel & Pick<PrincipalModel, "kind" | "name">;

const toMemberView = (row: Row): MemberView => ({
  ...row,
  owner_type: row.owner_type as OwnerType,
  role: row.role as Role,
  kind: row.kind as MemberView["kind"],
});

export function memberReads(db: Db): Pick<Reader, "member" | "members"> {
  async function find(
    { owner_type, owner_id }: Owner,
    principal: string | null,
    after: string | null,
    limit: number,
  ) {
    const rows = await db.query<Row>(memberStatement, [owner_type, owner_id, principal, after, limit]);
    return rows.map(toMemberView);
  }
  return {
    member: async (owner, principalId) => (await find(owner, principalId, null, 1))[0] ?? null,
    async members(owner, page) {
      const { gt } = afterId(page);
      return toPage(await find(owner, null, gt ?? null, page.limit + 1), page);
    },
  };
}

export function memberWrites(db: Db): Pick<Transaction, "putMember" | "removeMember"> {
  const { prisma } = db;
  return {
    /** Of a member who is there, changes the role alone. */
    async putMember(row) {
      if (!(await holdOwner(db, row))) throw raced();
      await holdPrincipal(db, row.principal_id);
      const { owner_id, principal_id, role } = row;
      const where = { owner_id_principal_id: { owner_id, principal_id } };
      await prisma.membership.upsert({ where, create: row, update: { role } });
    },
    async removeMember({ owner_type, owner_id }, principal_id) {
      await prisma.membership.deleteMany({ where: { owner_type, owner_id, principal_id } });
    },
  };
}
