// A replica seals what it recorded by what it remembers of it: that has to be what the database has, to the byte, and
// whatever was made of an event between its commit and its seal is found.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ACTIONS } from "../../src/domain/access.ts";
import { type AuditEvent, OUTCOMES } from "../../src/domain/audit.ts";
import { openSealed } from "./audit-seal-kit.ts";
import { event, newId, path, tokenRow } from "./fixture.ts";

const text = fc.string({ unit: "binary", maxLength: 40 });
const halves = fc.constantFrom("\0", "\ud800", "a\udc00b", "ß".repeat(2_000), "\u{1F511}".repeat(600), '"\\');
const anyText = fc.oneof(text, halves);
const maybe = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { nil: null });
const uuid = fc.uuid().chain((id) => fc.constantFrom(id, id.toUpperCase()));

const anyEvent: fc.Arbitrary<Partial<AuditEvent>> = fc.record({
  at: fc.date({ min: new Date(0), max: new Date("2100-01-01"), noInvalidDate: true }),
  principal_id: maybe(uuid),
  token_id: maybe(uuid),
  action: fc.constantFrom(...ACTIONS),
  operation: anyText,
  outcome: fc.constantFrom(...OUTCOMES),
  path: maybe(anyText),
  settings: fc.array(
    fc.record({ id: fc.uuid(), path: anyText, version: maybe(fc.integer({ min: 1, max: 9_999 })) }),
  ),
  target_id: maybe(uuid),
  details: fc.dictionary(anyText, anyText, { noNullPrototype: true, maxKeys: 5 }),
  request_id: anyText,
  follows: maybe(uuid),
  ip: maybe(anyText),
  user_agent: maybe(anyText),
  reason: maybe(anyText),
});

const isCounted = ({ action, outcome }: AuditEvent): boolean => action === "sign_in" && outcome === "denied";

describe("the hash of an event that is remembered", () => {
  test("is that of the event as the database has it, whatever is in it, recorded alone or with a change", async () => {
    const opened = await openSealed();
    const { store, hashes, maker, key, transact } = opened;
    await fc.assert(
      fc.asyncProperty(fc.array(anyEvent, { minLength: 1, maxLength: 20 }), async (fields) => {
        const events = fields.map((each) => event(key, each));
        await Promise.all(
          events.map((each, index) =>
            index % 2 === 0 ? store.record(each) : transact((tx) => tx.record(each)),
          ),
        );
      }),
      { numRuns: 40 },
    );
    const { items } = await opened.auditStream();
    let compared = 0;
    for await (const { kind, ...item } of items) {
      if (kind !== "event" || !("event" in item)) continue;
      const read = item.event;
      const remembered = hashes.get(read.id);
      if (isCounted(read)) expect(remembered).toBeNull();
      else {
        expect({ read, hash: remembered }).toEqual({ read, hash: maker.hashEvent(read) });
        compared += 1;
      }
    }
    expect(compared).toBeGreaterThan(40);
  });
});

describe("what is done to an event between its commit and its seal", () => {
  test("is found, where the replica that seals recorded it", async () => {
    const { store, sealing, attack, key, problem } = await openSealed();
    const [first, victim] = [event(key), event(key)];
    await store.record(first);
    await store.record(victim);
    await attack(`UPDATE audit_events SET path = 'secret/Custom/other' WHERE id = '${victim.id}'`);
    await sealing.seal();
    expect(await problem()).toMatchObject({ what: "changed", event_id: victim.id });
  });

  test("of a read that was found and recorded in one statement, too; and undisturbed it verifies", async () => {
    const { store, sealing, attack, key, problem, principal, member, setting, transact, hashes } =
      await openSealed();
    const { id } = await principal();
    await member(key, id);
    await setting(key, "connect/S3/a");
    const token = tokenRow(id, new Date("2026-03-04T05:06:07.089Z"));
    await transact((tx) => tx.insertToken(token));
    const read = () => {
      const worded = event(key, { action: "list", path: "connect/S3", operation: "\0listSettings" });
      return store.readAhead({
        presented: { kind: "api", hash: token.hash },
        owner: key,
        select: { kind: "at", path: path("connect/S3/a"), match: "auto" },
        action: "list",
        strict: false,
        limit: 1_000,
        event: worded,
      });
    };
    // The second and third are of a page that is kept.
    const found = [await read(), await read(), await read()];
    const ids = found.map((each) => each?.recorded?.id ?? "");
    expect(ids.map((each) => hashes.get(each))).not.toContain(null);
    await sealing.seal();
    expect(await problem()).toBeNull();
    expect(ids.map((each) => hashes.get(each))).toEqual([null, null, null]);

    const [last] = [await read()];
    await attack(`UPDATE audit_events SET settings = '[]' WHERE id = '${last?.recorded?.id}'`);
    await sealing.seal();
    expect(await problem()).toMatchObject({ what: "changed", event_id: last?.recorded?.id });
  });
});

describe("where nothing is remembered", () => {
  test("another replica seals all the same, in as many pieces as it takes, and nothing is left out", async () => {
    const { open, store, sealerOf, key, verify } = await openSealed();
    await Promise.all(Array.from({ length: 1_300 }, () => store.record(event(key, { request_id: newId() }))));
    const other = open();
    await sealerOf(other).seal();
    expect(await verify()).toMatchObject({ problem: null, verified: { events: 1_300, unsealed: 0 } });
    await other.close();
  });

  test("an event that names more than is read at once is sealed with those after it", async () => {
    const opened = await openSealed();
    const { open, store, sealerOf, key, verify } = opened;
    const settings = Array.from({ length: 1_000 }, (_, index) => ({
      id: newId(),
      path: `secret/Custom/${newId()}/${newId()}/${newId()}/${newId()}/${index}`,
      version: 1,
    }));
    for (let count = 0; count < 12; count++) await store.record(event(key, { settings }));
    const other = open();
    await sealerOf(other).seal();
    expect(await verify()).toMatchObject({ problem: null, verified: { events: 12, unsealed: 0 } });
    await other.close();
    expect((await opened.auditStream()).head?.count).toBeLessThan(12);
  });
});
