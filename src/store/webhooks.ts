// Webhooks, what was and is to be delivered to them, and the queue that all replicas share.
import type { OwnerType } from "../domain/address.ts";
import type { ChangeKind } from "../domain/change-events.ts";
import type {
  Attempt,
  DeliveryQueue,
  DeliveryRecord,
  DeliveryState,
  LifecycleReads,
  LifecycleWrites,
  WebhookRecord,
} from "../domain/lifecycle-ports.ts";
import type { Db, Statement } from "./db.ts";
import type { WebhookDeliveryModel, WebhookModel } from "./generated/models.ts";
import { raced } from "./failures.ts";
import { afterId, toPage } from "./rows.ts";

/** How many of one webhook, and of one tenant with all of its webhooks, are taken at once. */
const perWebhook = 4;
const perTenant = 16;

function toWebhook(row: WebhookModel): WebhookRecord {
  return { ...row, owner_type: row.owner_type as OwnerType, events: row.events as ChangeKind[] };
}
function toDelivery({ body: _body, ...row }: WebhookDeliveryModel): DeliveryRecord {
  return { ...row, kind: row.kind as ChangeKind, state: row.state as DeliveryState };
}
const webhookData = ({ sealed, events, ...row }: WebhookRecord) => ({
  ...row,
  events: [...events],
  sealed: new Uint8Array(sealed),
});

export function webhookReads({
  prisma,
}: Db): Pick<LifecycleReads, "webhook" | "webhooksOf" | "deliveriesOf"> {
  return {
    async webhook({ tenant_id, owner_type, owner_id }, id) {
      const row = await prisma.webhook.findUnique({ where: { tenant_id_id: { tenant_id, id } } });
      return row?.owner_id === owner_id && row.owner_type === owner_type ? toWebhook(row) : null;
    },
    async webhooksOf({ tenant_id, owner_type, owner_id }, page) {
      const where = { tenant_id, owner_type, owner_id, id: afterId(page) };
      const rows = await prisma.webhook.findMany({ where, orderBy: { id: "asc" }, take: page.limit + 1 });
      return toPage(rows.map(toWebhook), page);
    },
    async deliveriesOf({ tenant_id, id: webhook_id }, state, page) {
      const where = { tenant_id, webhook_id, ...(state === null ? {} : { state }), id: afterId(page) };
      const rows = await prisma.webhookDelivery.findMany({
        where,
        orderBy: { id: "asc" },
        take: page.limit + 1,
      });
      return toPage(rows.map(toDelivery), page);
    },
  };
}

export function webhookWrites({
  prisma,
}: Db): Pick<LifecycleWrites, "insertWebhook" | "updateWebhook" | "removeWebhook" | "replayDelivery"> {
  return {
    async insertWebhook(row) {
      await prisma.webhook.createMany({ data: webhookData(row) });
    },
    async updateWebhook(row) {
      const { tenant_id, id, ...data } = webhookData(row);
      const { count } = await prisma.webhook.updateMany({ where: { tenant_id, id }, data });
      if (count !== 1) throw raced();
    },
    async removeWebhook({ tenant_id, id }) {
      await prisma.webhook.deleteMany({ where: { tenant_id, id } });
      await prisma.webhookDelivery.deleteMany({ where: { tenant_id, webhook_id: id } });
    },
    async replayDelivery({ tenant_id, id: webhook_id }, id, now) {
      const fresh = { state: "pending", attempts: 0, next_attempt_at: now, ended_at: null };
      const where = { tenant_id, id, webhook_id, state: { not: "pending" } };
      const { count } = await prisma.webhookDelivery.updateMany({ where, data: fresh });
      if (count === 1) return "replayed";
      const found = await prisma.webhookDelivery.findFirst({ where: { tenant_id, id, webhook_id } });
      return found === null ? "absent" : "pending";
    },
  };
}

/**
 * From each webhook and tenant that is not busy a few that are due, the ones that waited longest first: who has many
 * webhooks that hang leaves room for others. Taking one is putting off its next attempt to the end of the lease: should
 * this replica die, another makes it then.
 */
const claimStatement: Statement = {
  name: "claim_deliveries",
  text: `WITH locked AS (
      SELECT d.tenant_id, d.id, w.url, w.sealed, d.next_attempt_at,
        row_number() OVER (PARTITION BY d.tenant_id ORDER BY d.next_attempt_at) AS place
      FROM webhooks w CROSS JOIN LATERAL (
        SELECT e.tenant_id, e.id, e.next_attempt_at FROM webhook_deliveries e
        WHERE e.tenant_id = w.tenant_id AND e.webhook_id = w.id AND e.state = 'pending'
          AND e.next_attempt_at <= $1::timestamptz
        ORDER BY e.next_attempt_at LIMIT ${perWebhook} FOR UPDATE SKIP LOCKED
      ) d
      WHERE w.disabled_at IS NULL AND NOT w.id = ANY($3::uuid[]) AND NOT w.tenant_id = ANY($4::uuid[])
        AND EXISTS (SELECT FROM instance WHERE encode(key_check, 'hex') = ANY($6::text[]))
    ), due AS (
      SELECT * FROM locked WHERE place <= ${perTenant} ORDER BY next_attempt_at LIMIT $5::int
    )
    UPDATE webhook_deliveries d SET next_attempt_at = $2::timestamptz, attempts = d.attempts + 1,
      last_attempt_at = $1::timestamptz
    FROM due WHERE d.tenant_id = due.tenant_id AND d.id = due.id
    RETURNING d.tenant_id, d.id AS delivery_id, d.webhook_id, d.event_id AS message_id, due.url, due.sealed, d.body, d.attempts`,
};
/** Only what is still this replica's: an attempt whose lease ran out is somebody else's to settle. */
const settleStatement: Statement = {
  name: "settle_delivery",
  text: `UPDATE webhook_deliveries SET state = $4::text, last_status = $5::int, last_flaw = $6::text,
      next_attempt_at = coalesce($7::timestamptz, next_attempt_at),
      ended_at = CASE WHEN $4::text = 'pending' THEN NULL ELSE $8::timestamptz END
    WHERE tenant_id = $1::uuid AND id = $2::uuid AND state = 'pending' AND attempts = $3::int`,
};

export function deliveryQueue(db: Db): DeliveryQueue {
  return {
    claim: ({ now, leaseUntil, limit, busyWebhooks, busyTenants, keyChecks }) =>
      db.query<Attempt>(claimStatement, [
        now,
        leaseUntil,
        [...busyWebhooks],
        [...busyTenants],
        limit,
        keyChecks.map((each) => Buffer.from(each).toString("hex")),
      ]),
    async settle({ tenant_id, delivery_id, attempts }, outcome, now) {
      const done = outcome.state === "delivered";
      await db.query(settleStatement, [
        tenant_id,
        delivery_id,
        attempts,
        outcome.state,
        outcome.status,
        done ? null : outcome.flaw,
        done ? null : outcome.next_attempt_at,
        now,
      ]);
    },
  };
}
