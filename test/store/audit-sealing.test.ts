// Sealing: every event comes under one seal of one chain, whoever commits late, seals beside or has a clock that steps back.
import { describe, expect, test } from "vitest";
import { openSealed } from "./audit-seal-kit.ts";
import { event } from "./fixture.ts";

describe("sealing", () => {
  test("one step seals all that is committed, and the log verifies", async () => {
    const { sealed, verify, driver } = await openSealed();
    await sealed(2_500);
    const verdict = await verify();
    expect(verdict.problem).toBeNull();
    expect(verdict).toMatchObject({ verified: { events: 2_500, unsealed: 0, dropped: 0 } });
    const { rows } = await driver.query("SELECT number::int, count FROM audit_seals ORDER BY number");
    expect(rows.reduce((sum, { count }) => sum + count, 0)).toBe(2_500);
    expect(rows.map(({ number }) => number)).toEqual(rows.map((_, index) => index + 1));
  });

  test("an event that commits late is sealed later, and none is left out", async () => {
    const { sealing, store, transact, key, verify } = await openSealed();
    const early = event(key);
    await transact(async (tx) => {
      await tx.record(early);
      await store.record(event(key));
      await sealing.seal();
    });
    expect(await verify()).toMatchObject({ verified: { events: 1, unsealed: 1 } });
    await sealing.seal();
    expect(await verify()).toMatchObject({ verified: { events: 2, unsealed: 0 } });
  });

  test("two replicas that seal under the writes of twenty make one chain with every event once", async () => {
    const { open, sealing, sealerOf, store, key, verify } = await openSealed();
    const other = open();
    const beside = sealerOf(other);
    const state = { writing: true };
    const seal = async (one: typeof sealing) => {
      while (state.writing) await one.seal();
    };
    const sealers = [seal(sealing), seal(beside)];
    const write = async () => {
      for (let count = 0; count < 20; count++) await store.record(event(key));
    };
    await Promise.all(Array.from({ length: 20 }, write));
    state.writing = false;
    await Promise.all(sealers);
    await sealing.seal();
    await other.close();
    expect(await verify()).toMatchObject({ problem: null, verified: { events: 400, unsealed: 0 } });
  });

  test("a counted refusal is sealed once its minute is over; what comes later is another event", async () => {
    const { sealing, store, time, verify } = await openSealed();
    time.now = new Date("2026-03-04T05:06:30Z");
    const refusal = () =>
      event(null, { action: "sign_in", outcome: "denied", reason: "unknown", at: time.now });
    await store.countRefusal(refusal());
    await store.countRefusal(refusal());
    await sealing.seal();
    expect(await verify()).toMatchObject({ verified: { events: 0, unsealed: 1 } });
    const late = refusal();
    time.now = new Date("2026-03-04T05:07:16Z");
    await sealing.seal();
    expect(await verify()).toMatchObject({ problem: null, verified: { events: 1, unsealed: 0 } });
    await store.countRefusal(late);
    expect(await verify()).toMatchObject({ problem: null, verified: { events: 1, unsealed: 1 } });
  });

  test("with nothing to seal, a minute later there is a seal that says so", async () => {
    const { sealing, sealed, time, verify } = await openSealed();
    await sealed(1);
    const first = await sealing.seal();
    expect(await sealing.seal()).toMatchObject({ number: first?.number });
    time.now = new Date(time.now.getTime() + 60_000);
    expect(await sealing.seal()).toMatchObject({ number: (first?.number ?? 0) + 1, count: 0 });
    expect(await verify()).toMatchObject({ problem: null, verified: { events: 1 } });
  });

  test("the newest seal comes as the very one that is known, where it is", async () => {
    const { sealed, sealing, seals } = await openSealed();
    await sealed(3);
    const known = await sealing.seal();
    expect(known).not.toBeNull();
    expect((await seals.state(known)).head).toBe(known);
    expect((await seals.state(null)).head).toMatchObject({ number: known?.number, hash: known?.hash });
  });

  test("a clock that steps back makes no seal that is older than the one before", async () => {
    const { sealed, time, verify, driver } = await openSealed();
    await sealed(1);
    time.now = new Date(time.now.getTime() - 3_600_000);
    await sealed(1);
    const { rows } = await driver.query(
      "SELECT bool_and(sealed_at >= before) AS ordered FROM (SELECT sealed_at, lag(sealed_at, 1, sealed_at) OVER (ORDER BY number) AS before FROM audit_seals) s",
    );
    expect(rows[0].ordered).toBe(true);
    expect((await verify()).problem).toBeNull();
  });

  test("what has its position does not change, even by the owner's own statement", async () => {
    const { sealed, driver } = await openSealed();
    await sealed(1);
    for (const change of ["count = count + 1", "position = NULL", "path = 'x'", "principal_id = NULL"])
      await expect(driver.query(`UPDATE audit_events SET ${change}`)).rejects.toMatchObject({
        code: "23001",
      });
  });
});
