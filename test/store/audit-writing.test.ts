// What writing to the audit log promises: an event is durable when its promise resolves, one bad event fails alone, and
// refused credentials are counted.
import pg from "pg";
import { describe, expect, test, vi } from "vitest";
import type { AuditEvent } from "../../src/domain/audit.ts";
import type { BrokerError } from "../../src/domain/errors.ts";
import { createRefusalCounter } from "../../src/store/audit-refusals.ts";
import { auditQuery, event, idsOf, newId, openFixture } from "./fixture.ts";

describe("writing events", () => {
  test("every event written together is durable when its promise resolves", async () => {
    const { store, organization, driver } = await openFixture();
    const { key } = await organization();
    await Promise.all(
      Array.from({ length: 700 }, async () => {
        const one = event(key);
        await store.record(one);
        const { rowCount } = await driver.query("SELECT FROM audit_events WHERE id = $1", [one.id]);
        expect(rowCount).toBe(1);
      }),
    );
  });

  test("an event comes back as it was handed in", async () => {
    const { store, organization } = await openFixture();
    const { key } = await organization();
    const settings = [
      { id: newId(), path: "connect/S3/a", version: 3 },
      { id: newId(), path: 'connect/S3/"b', version: null },
    ];
    const ids = { principal_id: newId(), token_id: newId(), target_id: newId(), follows: newId() };
    const one = event(key, {
      ...ids,
      settings,
      details: { "a,{}": 'x"\\y', n: "NULL" },
      path: "connect/S3",
      reason: "why",
      user_agent: "ü {,} \\ \"'",
    });
    await Promise.all([store.record(one), store.record(event(key))]);
    const { events } = await store.reader.audit(auditQuery(key));
    expect(events.find(({ id }) => id === one.id)).toEqual(one);
  });

  test("one event that cannot be written fails alone", async () => {
    const { store, organization } = await openFixture();
    const { orgKey } = await organization();
    const events = Array.from({ length: 20 }, () => event(orgKey));
    events[7] = event(orgKey, { principal_id: "no uuid" });
    const results = await Promise.allSettled(events.map((each) => store.record(each)));
    const failed = results.flatMap((result, index) =>
      result.status === "rejected" ? [[index, result.reason.code]] : [],
    );
    expect(failed).toEqual([[7, "unavailable"]]);
    expect(idsOf(await store.reader.audit(auditQuery(orgKey)))).toHaveLength(19);
  });

  test("an event that somebody's trigger leaves out is not said to be durable", async () => {
    const { store, organization, transact, driver } = await openFixture();
    const { key } = await organization();
    await driver.query(`CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.request_id = 'ghost' THEN RETURN NULL; END IF; RETURN NEW; END $$`);
    await driver.query(
      "CREATE TRIGGER leave_out BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION leave_out()",
    );
    const ghost = () => event(key, { request_id: "ghost" });
    await store.record(event(key));
    await expect(store.record(ghost())).rejects.toMatchObject({ code: "unavailable" });
    await expect(transact((tx) => tx.record(ghost()))).rejects.toMatchObject({ code: "unavailable" });
  });

  test("text that PostgreSQL cannot hold fails no event", async () => {
    const { store, organization, transact } = await openFixture();
    const { orgKey } = await organization();
    const hostile = "\0 \uD800 \uDFFF ".repeat(400);
    const text = {
      user_agent: hostile,
      request_id: hostile,
      ip: hostile,
      reason: hostile,
      path: hostile,
      operation: hostile,
    };
    const bad = () =>
      event(orgKey, {
        ...text,
        details: { [hostile]: hostile },
        settings: [{ id: newId(), path: hostile, version: 1 }],
      });
    await Promise.all([
      store.record(bad()),
      store.record(bad()),
      transact((tx) => tx.record(bad())),
      store.countRefusal(bad()),
    ]);
    expect(idsOf(await store.reader.audit(auditQuery(orgKey)))).toHaveLength(4);
  });

  test("an event of a transaction commits with it, or not at all", async () => {
    const { store, organization, transact } = await openFixture();
    const { orgKey } = await organization();
    const [kept, lost] = [event(orgKey), event(orgKey)];
    await transact((tx) => tx.record(kept));
    const fail = transact(async (tx) => {
      await tx.record(lost);
      throw new RangeError("its own");
    });
    await expect(fail).rejects.toThrow(RangeError);
    expect(idsOf(await store.reader.audit(auditQuery(orgKey)))).toEqual([kept.id]);
  });

  test("refused credentials are one event per address block, reason and minute, however many there are", async () => {
    const { store, open } = await openFixture();
    const other = open();
    const refusal = (ip: string, reason: string, at: string): AuditEvent =>
      event(null, { ip, reason, at: new Date(at), action: "sign_in", outcome: "denied" });
    const all = [
      ...Array.from({ length: 30 }, () => refusal("192.0.2.7", "unknown", "2026-03-04T05:06:00.000Z")),
      refusal("192.0.2.7", "unknown", "2026-03-04T05:06:59.999Z"),
      refusal("192.0.2.7", "unknown", "2026-03-04T05:07:00.000Z"),
      refusal("192.0.2.7", "expired", "2026-03-04T05:06:00.000Z"),
      refusal("2001:db8::1", "unknown", "2026-03-04T05:06:00.000Z"),
      refusal("2001:db8::ffff", "unknown", "2026-03-04T05:06:00.000Z"),
    ];
    await Promise.all(all.map((each, index) => (index % 2 === 0 ? store : other.store).countRefusal(each)));
    await other.close();
    const { events } = await store.reader.audit(auditQuery("instance"));
    const seen = events.map(({ ip, reason, count }) => `${ip} ${reason} ${count}`);
    expect(seen.toSorted()).toEqual([
      "192.0.2.7 expired 1",
      "192.0.2.7 unknown 1",
      "192.0.2.7 unknown 31",
      "2001:db8:0:0::/64 unknown 2",
    ]);
    expect(
      events.every(({ id }) =>
        /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id),
      ),
    ).toBe(true);
  });

  test("a counted event names nobody for what others were refused as well", async () => {
    const { store } = await openFixture();
    const at = new Date("2026-03-04T05:06:00.000Z");
    const [one, other] = [newId(), newId()];
    const refused = async (reason: string, ...principals: string[]): Promise<void> => {
      for (const principal_id of principals)
        await store.countRefusal(event(null, { ip: "192.0.2.7", reason, at, principal_id }));
    };
    await refused("revoked", one, one);
    await refused("expired", one, other, one);
    await Promise.all([refused("disabled", one), refused("disabled", one)]);
    await Promise.all([refused("address", one), refused("address", other), refused("address", one)]);
    const { events } = await store.reader.audit(auditQuery("instance"));
    const seen = events.map(({ reason, count, principal_id }) => `${reason} ${count} ${principal_id}`);
    expect(seen.toSorted()).toEqual([
      "address 3 null",
      `disabled 2 ${one}`,
      "expired 3 null",
      `revoked 2 ${one}`,
    ]);
  });

  test("refusals that come while others are written are written together, and each is counted before it is told", async () => {
    const { store, driver } = await openFixture();
    const refusal = () => event(null, { ip: "192.0.2.7", reason: "revoked", at: new Date() });
    const spy = vi.spyOn(pg.Query.prototype, "submit");
    let told = 0;
    await Promise.all(
      Array.from({ length: 500 }, async (_, index) => {
        if (index >= 250) await new Promise(setImmediate);
        await store.countRefusal(refusal());
        told += 1;
      }),
    );
    const writes = spy.mock.contexts.filter((query) => (query as { name?: string }).name === "count_refusal");
    spy.mockRestore();
    expect(writes.length).toBeLessThan(20);
    expect(told).toBe(500);
    const { rows } = await driver.query("SELECT sum(count)::int AS count FROM audit_events");
    expect(rows).toEqual([{ count: 500 }]);
  });

  test("where they cannot be written each of those that wait is told so, and the next ones are written", async () => {
    const { store, driver } = await openFixture();
    const refusal = () => event(null, { ip: "192.0.2.7", reason: "revoked", at: new Date() });
    await driver.query("ALTER TABLE audit_events ADD CONSTRAINT closed CHECK (FALSE) NOT VALID");
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, () => store.countRefusal(refusal())),
    );
    expect(outcomes.every((each) => each.status === "rejected" && each.reason.code === "unavailable")).toBe(
      true,
    );
    await driver.query("ALTER TABLE audit_events DROP CONSTRAINT closed");
    await store.countRefusal(refusal());
    const { rows } = await driver.query("SELECT sum(count)::int AS count FROM audit_events");
    expect(rows).toEqual([{ count: 1 }]);
  });

  test("who waits for a refusal's write that fails is told with it, and does not wait for a silent database once more", async () => {
    const writes: PromiseWithResolvers<never[]>[] = [];
    const count = createRefusalCounter({
      query: () => {
        const write = Promise.withResolvers<never[]>();
        writes.push(write);
        return write.promise;
      },
    });
    const refused = () =>
      count(event(null, { ip: "192.0.2.7", reason: "revoked", at: new Date(0) })).then(
        () => "counted",
        ({ code }: BrokerError) => code,
      );
    const first = refused();
    await vi.waitFor(() => expect(writes).toHaveLength(1));
    const others = [refused(), refused()];
    writes[0]?.reject(new Error("silent"));
    expect(await Promise.all([first, ...others])).toEqual(["unavailable", "unavailable", "unavailable"]);
    expect(writes).toHaveLength(1);
    void refused();
    await vi.waitFor(() => expect(writes).toHaveLength(2));
  });
});
