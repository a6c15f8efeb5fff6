// What the seals promise: whatever is done to the stored log by somebody without the signing key is found, and the
// first event that it was done to is named.
import { describe, expect, test } from "vitest";
import { newMaker, openSealed } from "./audit-seal-kit.ts";
import { event, newId } from "./fixture.ts";

describe("somebody with the database and without the key", () => {
  const COLUMNS = [
    "at = at + interval '1 second'",
    "principal_id = gen_random_uuid()",
    "token_id = gen_random_uuid()",
    "action = 'write'",
    "operation = 'x'",
    "outcome = 'denied'",
    "owner_type = 'organization'",
    "owner_id = gen_random_uuid()",
    "path = 'secret/Custom/other'",
    'settings = \'[{"id": "x", "path": "y", "version": 1}]\'',
    "target_id = gen_random_uuid()",
    'details = \'{"role": "owner"}\'',
    "request_id = 'x'",
    "follows = gen_random_uuid()",
    "ip = '192.0.2.2'",
    "user_agent = NULL",
    "reason = 'x'",
    "count = 2",
  ];
  test("changes any column of an event, and the event is named", async () => {
    const { sealed, attack, problem } = await openSealed();
    const events = await sealed(COLUMNS.length + 1);
    // From the last to the first, so that each is the first that verify comes to.
    for (const [index, change] of [...COLUMNS.entries()].toReversed()) {
      const victim = events[index];
      await attack(`UPDATE audit_events SET ${change} WHERE id = '${victim?.id}'`);
      expect({ change, ...(await problem()) }).toMatchObject({
        change,
        what: "changed",
        event_id: victim?.id,
      });
    }
  });

  test.each([
    ["the first", 0],
    ["one within", 4],
    ["the last", 9],
  ])("removes %s event, and it is named", async (_which, index) => {
    const { sealed, attack, problem } = await openSealed();
    const events = await sealed(10);
    await attack(`DELETE FROM audit_events WHERE id = '${events[index]?.id}'`);
    expect(await problem()).toMatchObject({
      what: "removed",
      event_id: events[index]?.id,
      position: index + 1,
    });
  });

  test("removes an event and moves those after it up, and it is named", async () => {
    const { sealed, attack, problem } = await openSealed();
    const events = await sealed(10);
    await attack(
      `DELETE FROM audit_events WHERE id = '${events[3]?.id}'`,
      "UPDATE audit_events SET position = position - 1 WHERE position > 4",
    );
    expect(await problem()).toMatchObject({ what: "reordered", event_id: events[4]?.id, position: 4 });
  });

  test("swaps two events, and the first of them is named", async () => {
    const { sealed, attack, problem } = await openSealed();
    const events = await sealed(10);
    await attack(
      `UPDATE audit_events SET position = CASE position WHEN 3 THEN 7 ELSE 3 END WHERE position IN (3, 7)`,
    );
    expect(await problem()).toMatchObject({ what: "reordered", event_id: events[6]?.id, position: 3 });
  });

  const copyOf = (id: string | undefined, position: number | null, as: string, tenant = "tenant_id") =>
    `INSERT INTO audit_events SELECT (e).* FROM (
      SELECT jsonb_populate_record(a, jsonb_build_object('id', '${as}', 'position', ${position}, 'tenant_id', ${tenant})) AS e
      FROM audit_events a WHERE id = '${id}') x`;

  test("inserts an event among the sealed ones, at a position that is taken or that is none, and it is named", async () => {
    const { sealed, attack, problem } = await openSealed();
    const events = await sealed(10);
    for (const position of [5, 0, -7]) {
      const forged = newId();
      await attack(copyOf(events[2]?.id, position, forged));
      expect(await problem()).toMatchObject({
        what: "inserted",
        event_id: forged,
        position,
      });
      await attack(`DELETE FROM audit_events WHERE id = '${forged}'`);
    }
    expect(await problem()).toBeNull();
    // The same event once more, in somebody else's log.
    await attack(copyOf(events[2]?.id, 3, events[2]?.id ?? "", "gen_random_uuid()"));
    expect(await problem()).toMatchObject({ event_id: events[2]?.id });
  });

  test("keeps an event out of the seals, as an open count, and it is named once they have gone on without it", async () => {
    const { sealed, attack, problem, time, sealing, store, key } = await openSealed();
    await sealed(3);
    const hidden = event(key);
    await store.record(hidden);
    await attack(
      `UPDATE audit_events SET action = 'sign_in', outcome = 'denied', at = now() + interval '9 years' WHERE id = '${hidden.id}'`,
    );
    await sealing.seal();
    expect(await problem()).toBeNull();
    time.now = new Date(time.now.getTime() + 300_000);
    await sealing.seal();
    expect(await problem()).toMatchObject({ what: "left_out", event_id: hidden.id });
  });

  test("gives an event a position far off, and the gap before it is named", async () => {
    const { sealed, attack, problem, sealing, store, key } = await openSealed();
    await sealed(3);
    await store.record(event(key));
    await attack("UPDATE audit_events SET position = 10000000 WHERE position IS NULL");
    await sealing.seal();
    await sealed(3);
    expect(await problem()).toMatchObject({ what: "removed", position: 7 });
  });

  test("removes an event that has its position and no seal yet, and the gap is named", async () => {
    const { sealed, store, key, seals, attack, problem, sealing } = await openSealed();
    await sealed(3);
    const [one, two] = [event(key), event(key)];
    await store.record(one);
    await store.record(two);
    await seals.place();
    await attack(`DELETE FROM audit_events WHERE id = '${one.id}'`);
    await sealing.seal();
    expect(await problem()).toMatchObject({ what: "removed", position: 4 });
  });

  test("changes any column of a seal, and the seal is named", async () => {
    const { sealed, attack, problem, driver } = await openSealed();
    for (let round = 0; round < 3; round++) await sealed(2);
    const { rows } = await driver.query("SELECT * FROM audit_seals WHERE number = 2");
    const names = Object.keys(rows[0]).filter((name) => name !== "number");
    for (const name of names) {
      const other = `(SELECT ${name} FROM audit_seals WHERE number = 3)`;
      const change = /^(kept_from|sealed_at)$/.test(name)
        ? "now() + interval '1 day'"
        : name === "key_id"
          ? "'x'"
          : name === "count"
            ? "1"
            : other;
      await attack(`UPDATE audit_seals SET ${name} = ${change} WHERE number = 2`);
      expect({ name, ...(await problem()) }).toMatchObject({ name, seal: 2 });
      await driver.query(`UPDATE audit_seals SET ${name} = $1 WHERE number = 2`, [rows[0][name]]);
      expect(await problem()).toBeNull();
    }
    await attack("UPDATE audit_seals SET leaves = NULL WHERE number = 2");
    expect(await problem()).toMatchObject({ what: "removed", seal: 2 });
  });

  test("removes a seal, with its events or without, and it is named", async () => {
    const { sealed, attack, problem } = await openSealed();
    for (let round = 0; round < 4; round++) await sealed(2);
    await attack("DELETE FROM audit_seals WHERE number = 2");
    expect(await problem()).toMatchObject({ what: "seal_removed", seal: 3 });
    await attack("DELETE FROM audit_events WHERE position IN (3, 4)");
    expect(await problem()).toMatchObject({ what: "seal_removed", seal: 3 });
  });

  test("removes the beginning of the log, seals and all, and that is named", async () => {
    const { sealed, attack, problem } = await openSealed();
    for (let round = 0; round < 3; round++) await sealed(2);
    await attack("DELETE FROM audit_seals WHERE number = 1", "DELETE FROM audit_events WHERE position <= 2");
    expect(await problem()).toMatchObject({ what: "seal_removed", seal: 2 });
  });

  test("seals with a key of their own, and the first such seal is named", async () => {
    const { sealed, attack, problem, driver } = await openSealed();
    await sealed(2);
    const foreign = newMaker();
    const forged = foreign.seal(
      { number: 1, previous: null, first_position: 1, kept_from: null, sealed_at: new Date() },
      [],
    );
    await attack("DELETE FROM audit_events", "DELETE FROM audit_seals");
    await driver.query("INSERT INTO audit_seals VALUES (1, NULL, 1, 0, 0, $1, '', NULL, $2, $3, $4, $5)", [
      forged.events_hash,
      forged.sealed_at,
      forged.key_id,
      forged.hash,
      forged.signature,
    ]);
    expect(await problem()).toMatchObject({ what: "seal_forged", seal: 1 });
  });

  test.each([
    "signature = '\\x00'",
    "leaves = '\\x00'",
    "last_position = 3",
    "sealed_at = now() - interval '1 day'",
  ])("changes the newest seal (%s): a replica that runs raises an alarm", async (change) => {
    const { sealed, attack, alerts, sealing } = await openSealed();
    await sealed(2);
    await sealing.seal();
    expect(alerts).toEqual([]);
    await attack(`UPDATE audit_seals SET ${change}`);
    await sealing.seal();
    expect(alerts).toEqual([{ kind: "audit_seal_forged", seal: 1 }]);
  });

  test.each([
    ["a byte behind them", "leaves || '\\x00'"],
    ["half a leaf behind them", "leaves || substring(leaves FOR 28)"],
    ["a leaf twice", "leaves || leaves"],
    ["one leaf fewer", "substring(leaves FOR 56)"],
    ["another hash in the first", "overlay(leaves PLACING sha256('x') FROM 25)"],
  ])("changes a seal's leaves (%s), and it is named", async (_, leaves) => {
    const { sealed, attack, problem } = await openSealed();
    await sealed(2);
    expect(await problem()).toBeNull();
    await attack(`UPDATE audit_seals SET leaves = ${leaves}`);
    expect(await problem()).toMatchObject({ what: "seal_forged", seal: 1 });
  });

  test("cuts off the tail, seals and all: a replica that runs raises an alarm, and the hole stays for ever", async () => {
    const { sealed, attack, problem, alerts, sealing } = await openSealed();
    for (let round = 0; round < 4; round++) await sealed(2);
    await attack(
      "DELETE FROM audit_seals WHERE number > 2",
      "DELETE FROM audit_events WHERE position > 4",
      "UPDATE audit_tail SET position = 4",
    );
    expect(await problem()).toBeNull();
    await sealing.seal();
    await sealed(2);
    expect(alerts).toEqual([{ kind: "audit_cut_back", seal: 4 }]);
    expect(await problem()).toMatchObject({ what: "seal_removed", seal: 5 });
  });

  test("cuts off the tail while no replica runs: whoever wrote down a head finds it gone", async () => {
    const { sealed, attack, verify, sealing } = await openSealed();
    for (let round = 0; round < 4; round++) await sealed(2);
    const head = await sealing.seal();
    const known = head === null ? [] : [head];
    expect((await verify(known)).problem).toBeNull();
    await attack("DELETE FROM audit_seals WHERE number > 2", "DELETE FROM audit_events WHERE position > 4");
    expect((await verify(known)).problem).toMatchObject({ what: "truncated", seal: 2 });
  });

  test("puts a forged seal at the end: it is told, and the true chain goes on", async () => {
    const { sealed, attack, problem, alerts } = await openSealed();
    await sealed(2);
    await attack(
      "INSERT INTO audit_seals SELECT 2, hash, 3, 2, 0, events_hash, '', NULL, now(), key_id, hash, signature FROM audit_seals",
    );
    await sealed(2);
    expect(alerts).toEqual([{ kind: "audit_seal_forged", seal: 2 }]);
    expect(await problem()).toMatchObject({ what: "seal_forged", seal: 2 });
  });
});
