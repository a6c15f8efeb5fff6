// Rotations, and what comes with time: a rotation that is due, an expiry, a burst of denials. Each is taken by one
// replica, which finds its row locked or marked otherwise.
import type { OwnerType } from "../domain/address.ts";
import type {
  DeniedBurst,
  DueNotice,
  LifecycleReads,
  LifecycleWrites,
  RotationRecord,
  RotationState,
} from "../domain/lifecycle-ports.ts";
import type { Db, Statement } from "./db.ts";
import { raced } from "./failures.ts";
import type { RotationModel } from "./generated/models.ts";

function toRotation(row: RotationModel): RotationRecord {
  return { ...row, owner_type: row.owner_type as OwnerType, state: row.state as RotationState };
}
const dataOf = ({ public_part, ...row }: RotationRecord) => ({
  ...row,
  public_part: public_part === null ? null : new Uint8Array(public_part),
});

const dueStatement: Statement = {
  name: "lock_due_rotation",
  text: `SELECT * FROM rotations WHERE next_at <= $1::timestamptz AND state = $2::text
    ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED`,
};

// A rotation's length is 24-hour days, as in the contract's rotation_due_at. `rotate_due_at` is for the index: what is due
// is due by what the row's MAC covers. The first of several replicas to insert a mark tells it.
export const noticesDue = `WITH due AS (
      SELECT s.tenant_id, s.id, s.owner_type, s.owner_id, s.path, s.current_version, 'setting.rotation_due' AS kind,
        s.current_version::text AS marker, s.current_since + s.rotate_after_days * interval '24 hours' AS due_at
      FROM settings s WHERE s.rotate_after_days IS NOT NULL AND s.deleted_at IS NULL
        AND s.rotate_due_at <= $1::timestamptz
        AND s.current_since + s.rotate_after_days * interval '24 hours' <= $1::timestamptz
      UNION ALL
      SELECT s.tenant_id, s.id, s.owner_type, s.owner_id, s.path, s.current_version, 'setting.expiring',
        extract(epoch FROM s.expires_at)::text, s.expires_at
      FROM settings s WHERE s.expires_at IS NOT NULL AND s.deleted_at IS NULL AND s.expires_at <= $2::timestamptz
        AND s.expires_at > $1::timestamptz
    ), fresh AS (
      SELECT due.* FROM due WHERE NOT EXISTS (SELECT FROM lifecycle_notices n WHERE n.tenant_id = due.tenant_id
        AND n.subject_id = due.id AND n.kind = due.kind AND n.marker = due.marker)
    )`;
const noticeStatement: Statement = {
  name: "take_notices",
  text: `${noticesDue}, picked AS (
      SELECT * FROM fresh WHERE (tenant_id, owner_id) = (SELECT tenant_id, owner_id FROM fresh ORDER BY 1, 2 LIMIT 1)
      ORDER BY id, kind LIMIT $3::int
    ), marked AS (
      INSERT INTO lifecycle_notices (tenant_id, subject_id, kind, marker, at)
      SELECT tenant_id, id, kind, marker, $1::timestamptz FROM picked
      ON CONFLICT DO NOTHING RETURNING tenant_id, subject_id, kind
    )
    SELECT f.tenant_id, f.owner_type, f.owner_id, f.kind, f.id, f.path, f.current_version AS version, f.due_at
    FROM picked f JOIN marked m ON m.tenant_id = f.tenant_id AND m.subject_id = f.id AND m.kind = f.kind
    ORDER BY f.path, f.kind`,
};
/**
 * An owner of whom it was told lately is passed over. Tenants take turns, the owner with most denials first: none with
 * many owners keeps another's from being told of. Counted first: with each denial looked for among the marks, many of
 * both took longer than a statement may.
 */
const burstsStatement: Statement = {
  name: "denied_bursts",
  text: `WITH counted AS MATERIALIZED (
      SELECT a.tenant_id, a.owner_type, a.owner_id, sum(a.count)::int AS denied FROM audit_events a
      WHERE a.outcome = 'denied' AND a.owner_type <> 'instance' AND a.at > $1::timestamptz
      GROUP BY a.tenant_id, a.owner_type, a.owner_id HAVING sum(a.count) >= $2::int
    )
    SELECT c.* FROM counted c
    WHERE NOT EXISTS (SELECT FROM lifecycle_notices n WHERE n.tenant_id = c.tenant_id AND n.subject_id = c.owner_id
      AND n.kind = 'access.denied_burst' AND n.at > $1::timestamptz)
    ORDER BY row_number() OVER (PARTITION BY c.tenant_id ORDER BY c.denied DESC, c.owner_id), c.denied DESC, c.owner_id
    LIMIT $3::int`,
};
/** The first of several replicas to mark one tells it. */
const burstStatement: Statement = {
  name: "take_burst",
  text: `INSERT INTO lifecycle_notices AS n (tenant_id, subject_id, kind, marker, at)
      VALUES ($1::uuid, $2::uuid, 'access.denied_burst', 'last', $4::timestamptz)
      ON CONFLICT (tenant_id, subject_id, kind, marker) DO UPDATE SET at = EXCLUDED.at
        WHERE n.at <= $3::timestamptz
      RETURNING tenant_id`,
};

export function rotationReads(db: Db): Pick<LifecycleReads, "rotationsOf" | "deniedBursts"> {
  const { prisma } = db;
  return {
    deniedBursts: (since, least, limit) => db.query<DeniedBurst>(burstsStatement, [since, least, limit]),
    async rotationsOf({ tenant_id, id: setting_id }, limit) {
      const where = { tenant_id, setting_id };
      return (await prisma.rotation.findMany({ where, orderBy: { id: "desc" }, take: limit })).map(
        toRotation,
      );
    },
  };
}

type RotationWrites = Pick<
  LifecycleWrites,
  "insertRotation" | "updateRotation" | "rotation" | "lockDueRotation" | "takeDueNotices" | "takeDeniedBurst"
>;

export function rotationWrites(db: Db): RotationWrites {
  const { prisma } = db;
  return {
    async insertRotation(row) {
      await prisma.rotation.createMany({ data: dataOf(row) });
    },
    async updateRotation(row) {
      const { tenant_id, id, ...data } = dataOf(row);
      const { count } = await prisma.rotation.updateMany({ where: { tenant_id, id }, data });
      if (count !== 1) throw raced();
    },
    async rotation(tenant_id, id) {
      const row = await prisma.rotation.findUnique({ where: { tenant_id_id: { tenant_id, id } } });
      return row === null ? null : toRotation(row);
    },
    async lockDueRotation(state, now) {
      const [row] = await db.query<RotationModel>(dueStatement, [now, state]);
      return row === undefined ? null : toRotation(row);
    },
    takeDueNotices: (now, expiringBefore, limit) =>
      db.query<DueNotice>(noticeStatement, [now, expiringBefore, limit]),
    async takeDeniedBurst({ tenant_id, owner_id }, since, now) {
      return (await db.query(burstStatement, [tenant_id, owner_id, since, now])).length === 1;
    },
  };
}
