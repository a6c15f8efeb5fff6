// What reading the audit log promises: pages and filters that miss and repeat nothing, whose events are whose, and a
// collector that tails misses nothing.
import { describe, expect, test } from "vitest";
import type { AuditPage, AuditQuery, OwnerKey } from "../../src/domain/ports.ts";
import { auditQuery, event, idsOf, newId, openFixture } from "./fixture.ts";

describe("reading events", () => {
  test("newest first, in pages that miss and repeat nothing", async () => {
    const { store, organization } = await openFixture();
    const { key } = await organization();
    const events = Array.from({ length: 7 }, () => event(key));
    for (const each of events) await store.record(each);
    const seen: string[] = [];
    let after: string | null = null;
    do {
      const page: AuditPage = await store.reader.audit(auditQuery(key, { limit: 3, after }));
      seen.push(...idsOf(page));
      after = page.next;
    } while (after !== null);
    expect(seen).toEqual(events.map(({ id }) => id).toReversed());
  });

  test("a page of events that name a thousand settings each ends early, in either order, and nothing is missed", async () => {
    const { store, organization } = await openFixture();
    const { key } = await organization();
    const about = Array.from({ length: 1_000 }, (_, index) => ({
      id: newId(),
      path: `secret/Custom/${Array.from({ length: 7 }, () => "x".repeat(60)).join("/")}/n${index}`,
      version: 1,
    }));
    const events = Array.from({ length: 60 }, () => event(key, { settings: about }));
    for (const each of events) await store.record(each);
    for (const order of ["desc", "asc"] as const) {
      const seen: string[] = [];
      for (let after: string | null = null; ; ) {
        const page: AuditPage = await store.reader.audit(auditQuery(key, { limit: 1_000, order, after }));
        expect(JSON.stringify(page.events).length).toBeLessThan(16_777_216);
        seen.push(...idsOf(page));
        after = page.next;
        if (after === null || page.events.length === 0) break;
      }
      const ids = events.map(({ id }) => id);
      expect(seen).toEqual(order === "asc" ? ids : ids.toReversed());
    }
  });

  test("an organization's log has its projects', a project's only its own, and a stranger's nothing of them", async () => {
    const { store, organization } = await openFixture();
    const [{ key, orgKey }, stranger] = [await organization(), await organization()];
    const [ofOrg, ofProject, ofInstance] = [event(orgKey), event(key), event(null)];
    for (const each of [ofOrg, ofProject, ofInstance]) await store.record(each);
    const ids = async (place: AuditQuery["place"]) => idsOf(await store.reader.audit(auditQuery(place)));
    expect(await ids(orgKey)).toEqual([ofProject.id, ofOrg.id]);
    expect(await ids(key)).toEqual([ofProject.id]);
    expect(await ids(stranger.orgKey)).toEqual([]);
    expect(await ids("instance")).toEqual([ofInstance.id]);
  });

  test("filters hold, and a path's is segment by segment, over the place and over each setting", async () => {
    const { store, organization } = await openFixture();
    const { key } = await organization();
    const who = newId();
    const subject = (path: string) => ({
      settings: [
        { id: newId(), path: "secret/Custom/z", version: 1 },
        { id: newId(), path, version: 1 },
      ],
    });
    const at = (text: string) => new Date(`2026-03-04T05:${text}:00Z`);
    const events = {
      one: event(key, { path: "connect/S3/a", principal_id: who, at: at("01") }),
      two: event(key, { path: "connect/S3/a/b", outcome: "denied", at: at("02") }),
      three: event(key, { path: "connect/S3/a-b", action: "write", at: at("03") }),
      four: event(key, { path: "connect", ...subject("connect/S3/a"), request_id: "q", at: at("04") }),
      five: event(key, { path: null, ...subject("connect/S30/a"), at: at("05") }),
    };
    for (const each of Object.values(events)) await store.record(each);
    const names = async (over: Partial<AuditQuery>) => {
      const ids = idsOf(await store.reader.audit(auditQuery(key, over)));
      return Object.entries(events).flatMap(([name, { id }]) => (ids.includes(id) ? [name] : []));
    };
    expect(await names({ path: "connect/S3/a" })).toEqual(["one", "two", "four"]);
    expect(await names({ path: "connect/S3" })).toEqual(["one", "two", "three", "four"]);
    expect(await names({ path: "connect/S_" })).toEqual([]);
    expect(await names({ principal_id: who })).toEqual(["one"]);
    expect(await names({ outcome: "denied" })).toEqual(["two"]);
    expect(await names({ action: "write" })).toEqual(["three"]);
    expect(await names({ request_id: "q" })).toEqual(["four"]);
    expect(await names({ since: at("02"), until: at("04") })).toEqual(["two", "three"]);
  });

  test("a removed owner's log is the instance's", async () => {
    const { store, organization, transact } = await openFixture();
    const [{ orgKey, key }, kept] = [await organization(), await organization()];
    const events = [event(orgKey), event(key)];
    for (const each of [...events, event(kept.orgKey)]) await store.record(each);
    await transact((tx) => tx.removeOwner(orgKey));
    for (const order of ["asc", "desc"] as const)
      expect(idsOf(await store.reader.audit(auditQuery("instance", { order }))).toSorted()).toEqual(
        events.map(({ id }) => id).toSorted(),
      );
  });

  test("who tails the instance's misses nothing of an owner that is removed meanwhile, and hears of nothing twice", async () => {
    const { store, organization, transact } = await openFixture();
    const record = async (...keys: (OwnerKey | null)[]) => {
      const events = keys.map((each) => event(each));
      for (const each of events) await store.record(each);
      return events.map(({ id }) => id);
    };
    for (const limit of [1, 2, 1000]) {
      const heard: string[] = [];
      let after: string | null = null;
      const tail = async () => {
        for (;;) {
          const page: AuditPage = await store.reader.audit(
            auditQuery("instance", { order: "asc", after, limit }),
          );
          heard.push(...idsOf(page));
          after = page.next;
          if (page.events.length === 0) return;
        }
      };
      const [one, two] = [await organization(), await organization()];
      const before = await record(one.orgKey, null, two.key, one.key, null);
      // The owners' own collectors have read theirs, which have positions by then: those of the second to go before the first's.
      for (const { orgKey } of [two, one]) await store.reader.audit(auditQuery(orgKey, { order: "asc" }));
      await tail();
      await transact((tx) => tx.removeOwner(one.orgKey));
      // Nothing may have happened in between.
      const between = limit === 2 ? [] : await record(null);
      await tail();
      await transact((tx) => tx.removeOwner(two.orgKey));
      await tail();
      const last = await record(null);
      await tail();
      expect(heard.length).toBe(new Set(heard).size);
      for (const id of [...before, ...between, ...last]) expect(heard).toContain(id);
    }
  });

  test.each([
    "x",
    "1~1",
    "~1~1",
    "1~1~99999999999999999999",
    "",
    "-1",
    "1.5",
    "99999999999999999999",
    "12345678-1234-1234-1234-12345678901",
    "' OR 1=1",
  ])("a cursor that is none of ours (%j) is the caller's mistake", async (after) => {
    const { store } = await openFixture();
    for (const order of ["asc", "desc"] as const) {
      const answer = store.reader.audit(auditQuery("instance", { order, after }));
      await expect(answer).rejects.toMatchObject({ code: "invalid_request" });
    }
  });
});

describe("tailing", () => {
  test("an event that commits late is not missed by a collector that is past its id", async () => {
    const { store, organization, transact } = await openFixture();
    const { key, orgKey } = await organization();
    const [early, late] = [event(key), event(key)];
    const tail = (after: string | null) => store.reader.audit(auditQuery(orgKey, { order: "asc", after }));
    let passed: string | null = null;
    await transact(async (tx) => {
      await tx.record(early);
      await store.record(late);
      const page = await tail(null);
      expect(idsOf(page)).toEqual([late.id]);
      passed = page.next;
    });
    const page = await tail(passed);
    expect(idsOf(page)).toEqual([early.id]);
    expect(idsOf(await tail(page.next))).toEqual([]);
  });

  test("there is always a next cursor, from an empty log on", async () => {
    const { store, organization } = await openFixture();
    const { orgKey } = await organization();
    const tail = (after: string | null) => store.reader.audit(auditQuery(orgKey, { order: "asc", after }));
    expect(await tail(null)).toEqual({ events: [], next: "0" });
    const one = event(orgKey);
    await store.record(one);
    const page = await tail("0");
    expect(idsOf(page)).toEqual([one.id]);
    expect((await tail(page.next)).next).toBe(page.next);
  });

  test("two collectors and twenty writers at once: both collectors see every event once", async () => {
    const { store, organization, transact, open } = await openFixture();
    const other = open();
    const { key, orgKey } = await organization();
    const written: string[] = [];
    let isDone = false;
    const collect = async (reader: typeof store.reader, limit: number) => {
      const seen: string[] = [];
      for (let after: string | null = null; ; ) {
        const wasDone = isDone;
        const page: AuditPage = await reader.audit(auditQuery(orgKey, { order: "asc", after, limit }));
        seen.push(...idsOf(page));
        if (wasDone && page.events.length === 0) return seen;
        after = page.next;
      }
    };
    const write = async () => {
      for (let count = 0; count < 10; count++) {
        const [one, two] = [event(key), event(orgKey)];
        // The id is older than the commit by a round trip or more.
        await transact(async (tx) => {
          await tx.record(one);
          await store.record(two);
        });
        written.push(one.id, two.id);
      }
    };
    const collectors = [collect(store.reader, 7), collect(other.store.reader, 1000)];
    await Promise.all(Array.from({ length: 20 }, write));
    isDone = true;
    for (const seen of await Promise.all(collectors)) expect(seen.toSorted()).toEqual(written.toSorted());
    await other.close();
  });

  test("a counted refusal is given once its minute is over; what comes later still is another event", async () => {
    const { store, time } = await openFixture();
    const refusal = () =>
      event(null, {
        action: "sign_in",
        outcome: "denied",
        reason: "unknown",
        at: new Date("2026-03-04T05:06:10Z"),
      });
    const tail = async (after: string | null) => {
      const { events, next } = await store.reader.audit(auditQuery("instance", { order: "asc", after }));
      return { counts: events.map(({ count }) => count), next };
    };
    await store.countRefusal(refusal());
    await store.countRefusal(refusal());
    time.now = new Date("2026-03-04T05:06:59Z");
    expect(await tail(null)).toEqual({ counts: [], next: "0" });
    time.now = new Date("2026-03-04T05:07:16Z");
    const page = await tail(null);
    expect(page.counts).toEqual([2]);
    await store.countRefusal(refusal());
    await store.countRefusal(refusal());
    expect((await tail(page.next)).counts).toEqual([]);
    time.now = new Date("2026-03-04T05:08:16Z");
    expect((await tail(page.next)).counts).toEqual([2]);
  });

  test("a long log that nobody tailed is caught up with page by page", async () => {
    const { store, organization, driver } = await openFixture();
    const { orgKey } = await organization();
    await driver.query(
      `INSERT INTO audit_events (tenant_id, id, at, action, operation, outcome, owner_type, owner_id, settings, details, request_id)
       SELECT $1, gen_random_uuid(), now(), 'list', 'x', 'allowed', 'organization', $1, '[]', '{}', 'r' FROM generate_series(1, 23000)`,
      [orgKey.owner_id],
    );
    const seen = new Set<string>();
    for (let after: string | null = null; ; ) {
      const page: AuditPage = await store.reader.audit(
        auditQuery(orgKey, { order: "asc", after, limit: 1000 }),
      );
      for (const id of idsOf(page)) seen.add(id);
      if (page.events.length === 0) break;
      after = page.next;
    }
    expect(seen.size).toBe(23_000);
  });
});
