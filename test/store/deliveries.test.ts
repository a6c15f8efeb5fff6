// What a look for due deliveries takes: of each webhook and of each tenant its share, whoever waited longest first.
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { newId, openFixture } from "./fixture.ts";

test("a tenant with many webhooks that are due leaves room for the others", async () => {
  const f = await openFixture();
  const keyCheck = randomBytes(32);
  await f.driver.query("INSERT INTO instance (id, key_check, created_at) VALUES (1, $1, now())", [keyCheck]);
  const [crowd, other] = [(await f.organization()).org, (await f.organization()).org];
  const webhooks = async (tenant: string, count: number, due: string) => {
    for (let each = 0; each < count; each++) {
      const id = newId();
      await f.driver.query(
        `INSERT INTO webhooks (tenant_id, id, owner_type, owner_id, url, events, sealed, created_at, created_by, updated_at)
         VALUES ($1, $2, 'organization', $1, 'https://hooks.example/', '{}', '', now(), $2, now())`,
        [tenant, id],
      );
      await f.driver.query(
        `INSERT INTO webhook_deliveries (tenant_id, id, webhook_id, event_id, kind, body, state, next_attempt_at, created_at)
         SELECT $1, gen_random_uuid(), $2, gen_random_uuid(), 'setting.created', '{}', 'pending', $3, now()
         FROM generate_series(1, 10)`,
        [tenant, id, due],
      );
    }
  };
  await webhooks(crowd, 20, "2026-01-01T00:00:00Z");
  await webhooks(other, 1, "2026-02-01T00:00:00Z");
  const now = new Date("2026-03-01T00:00:00Z");
  const claimed = await f.deliveries.claim({
    now,
    leaseUntil: new Date(now.getTime() + 20_000),
    limit: 64,
    busyWebhooks: [],
    busyTenants: [],
    keyChecks: [keyCheck],
  });
  const of = (tenant: string) => claimed.filter(({ tenant_id }) => tenant_id === tenant);
  expect([of(crowd).length, of(other).length]).toEqual([16, 4]);
  const perWebhook = [...Map.groupBy(claimed, ({ webhook_id }) => webhook_id).values()].map(
    (each) => each.length,
  );
  expect(Math.max(...perWebhook)).toBeLessThanOrEqual(4);
});
