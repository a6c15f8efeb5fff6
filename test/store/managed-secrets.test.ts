// Whoever settles a secret is told whether a call that nobody waits for may arrive in its manager yet.
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import type { OwnerKey } from "../../src/domain/ports.ts";
import { newId, openFixture, path } from "./fixture.ts";

async function opened() {
  const { transact, driver } = await openFixture();
  const tenant_id = newId();
  const key: OwnerKey = { tenant_id, owner_type: "organization", owner_id: tenant_id };
  const [id, setting_id] = [newId(), newId()];
  const secret = {
    id,
    setting_id,
    manager: "aws",
    address: { secret_id: "s", region: "r" },
    mac: randomBytes(32),
  } as const;
  await transact((tx) => tx.insertSettingSecret({ key, path: path("secret/Custom/a") }, secret, new Date()));
  const lease = async (seconds: number) => {
    const lease_id = newId();
    expect(await transact((tx) => tx.leaseSecret(tenant_id, id, { lease_id, seconds }))).toBe(true);
    return lease_id;
  };
  return {
    lease,
    end: (lease_id: string) => transact((tx) => tx.endLease(tenant_id, id, lease_id)),
    giveUp: (lease_id: string, isInFlight: boolean) =>
      transact(async (tx) => {
        if (isInFlight) await tx.noteInFlight(tenant_id, id);
        return tx.giveUpLease(tenant_id, id, lease_id);
      }),
    unsettle: () => transact((tx) => tx.unsettle(tenant_id, setting_id)),
    /** Claims the secret and lets it go again, as whoever could not settle it. */
    look: () =>
      transact(async (tx) => {
        const term = { lease_id: newId(), seconds: 60 };
        const claimed = await tx.claimUnsettled({ tenant_id, setting_id }, term);
        if (claimed !== null) await tx.settled(claimed, term.lease_id, { kind: "later", seconds: 0 });
        return claimed === null ? null : claimed.in_flight;
      }),
    /** As if a minute had passed. */
    later: () =>
      driver.query("UPDATE managed_secrets SET in_flight_until = in_flight_until - interval '61 seconds'"),
  };
}

test("none, where a lease was ended, or given up after an answer", async () => {
  const { lease, end, giveUp, look } = await opened();
  expect(await end(await lease(60))).toBe(true);
  expect(await look()).toBeNull();
  expect(await giveUp(await lease(60), false)).toBe(true);
  expect(await look()).toBe(false);
});

test("one, for a minute, where it was given up without an answer, however often it is looked at meanwhile", async () => {
  const { lease, giveUp, look, unsettle, later } = await opened();
  await giveUp(await lease(60), true);
  for (let times = 0; times < 3; times++) {
    expect(await look()).toBe(true);
    await unsettle();
  }
  await later();
  expect(await look()).toBe(false);
});

test("one, where the lease ran out: its holder was killed, or stood still", async () => {
  const { lease, look, later } = await opened();
  await lease(0);
  expect(await look()).toBe(true);
  expect(await look()).toBe(true);
  await later();
  expect(await look()).toBe(false);
});

test("one, where another writer took over a lease that ran out, and ended well", async () => {
  const { lease, end, look } = await opened();
  await lease(0);
  expect(await end(await lease(60))).toBe(true);
  expect(await look()).toBe(true);
});
