// Whoever can write to the database, and has no key, moves and edits rows: a read says 502 and which paths, says
// nothing of content, and nothing is silently missing; what was not touched stays readable with on_error=withhold.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  S3,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { type SettingsApi, attack, eventsOf, inSeconds, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let writer: SettingsApi;
let base: string;
let victim: string;
let other: string;
let runs = 0;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  writer = settingsOf(world.writer.api, world.project);
});
afterAll(() => broker.close());

/** A setting with two versions, and one beside it that nobody touches. */
beforeEach(async () => {
  base = `secret/Custom/t${(runs += 1)}`;
  victim = `${base}/victim`;
  other = `${base}/other`;
  await made(writer.put(victim, "old-content", { expires_at: inSeconds(3600) }));
  await made(writer.put(victim, "new-content"));
  await made(writer.put(other, "other-content"));
  await made(writer.put(other, "other-newer"));
});

const sql = (text: string, ...parameters: unknown[]) => attack(broker, text, parameters);
const idOf = "(SELECT id FROM settings WHERE path = $1)";

const CONTENT = /content|newer/;

async function expectFound(path = victim) {
  const list = await writer.open(base);
  expect([list.status, list.body.code, list.body.paths]).toEqual([502, "manager_failed", [path]]);
  expect(list.text).not.toMatch(CONTENT);
  const strict = await writer.value(path);
  expect([strict.status, strict.body.code, strict.body.paths]).toEqual([502, "manager_failed", [path]]);
  expect(strict.headers.get("etag")).toBeNull();
  const rendered = await world.writer.api.get(
    settingsUrl(world.project, path, { format: "json" }, "/settings/render"),
  );
  expect([rendered.status, rendered.body.paths]).toEqual([502, [path]]);
  const some = await writer.open(base, { on_error: "withhold" });
  expect(some.status).toBe(200);
  const rows = Object.fromEntries(some.body.settings.map((each: { path: string }) => [each.path, each]));
  expect(rows[path]).toMatchObject({ decrypted: false, value: null, withheld: "manager_failed" });
  expect(rows[other]).toMatchObject({ decrypted: true, value: "other-newer" });
  expect(broker.log()).not.toMatch(CONTENT);
}

describe("what an attacker did to the ciphertext", () => {
  test("flipped a bit", async () => {
    await sql(
      `UPDATE setting_versions SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) WHERE setting_id = ${idOf} AND version = 2`,
      victim,
    );
    await expectFound();
  });
  test("cut it short", async () => {
    await sql(
      `UPDATE setting_versions SET sealed = substring(sealed for 20) WHERE setting_id = ${idOf} AND version = 2`,
      victim,
    );
    await expectFound();
  });
  test("put another version's in its place", async () => {
    await sql(
      `UPDATE setting_versions v SET sealed = o.sealed FROM setting_versions o WHERE v.setting_id = ${idOf} AND v.version = 2 AND o.setting_id = v.setting_id AND o.version = 1`,
      victim,
    );
    await expectFound();
  });
  test("put another version's whole row in its place, its MAC too", async () => {
    await sql(
      `UPDATE setting_versions v SET sealed = o.sealed, mac = o.mac, data_key_id = o.data_key_id FROM setting_versions o WHERE v.setting_id = ${idOf} AND v.version = 2 AND o.setting_id = v.setting_id AND o.version = 1`,
      victim,
    );
    await expectFound();
  });
  test("put another setting's in its place, its MAC too", async () => {
    await sql(
      `UPDATE setting_versions v SET sealed = o.sealed, mac = o.mac FROM setting_versions o WHERE v.setting_id = ${idOf} AND v.version = 2 AND o.setting_id = (SELECT id FROM settings WHERE path = $2) AND o.version = 2`,
      victim,
      other,
    );
    await expectFound();
  });
  test("put another owner's in its place", async () => {
    const theirs = settingsOf(world.owner.api, world.organization);
    await made(theirs.put(victim, "their-content"));
    await sql(
      `UPDATE setting_versions v SET sealed = o.sealed, data_key_id = o.data_key_id, mac = o.mac FROM setting_versions o
       WHERE v.setting_id = (SELECT id FROM settings WHERE path = $1 AND owner_type = 'project') AND v.version = 2
       AND o.setting_id = (SELECT id FROM settings WHERE path = $1 AND owner_type = 'organization')`,
      victim,
    );
    await expectFound();
  });
  test("pointed it at a key that is not there", async () => {
    await sql(
      `UPDATE setting_versions SET data_key_id = gen_random_uuid() WHERE setting_id = ${idOf}`,
      victim,
    );
    await expectFound();
  });
  test("removed the version's row", async () => {
    await sql(`DELETE FROM setting_versions WHERE setting_id = ${idOf} AND version = 2`, victim);
    await expectFound();
    expect((await writer.list(base)).status).toBe(200);
  });
});

describe("what an attacker did to what decides over it", () => {
  test("made it never expire", async () => {
    await sql("UPDATE settings SET expires_at = NULL WHERE path = $1", victim);
    await expectFound();
  });
  test("made it expired", async () => {
    await sql("UPDATE settings SET expires_at = '2001-01-01Z' WHERE path = $1", victim);
    await expectFound();
  });
  test("called its version destroyed", async () => {
    await sql(
      `UPDATE setting_versions SET state = 'destroyed', sealed = NULL, data_key_id = NULL WHERE setting_id = ${idOf} AND version = 2`,
      victim,
    );
    await expectFound();
  });
  test("pointed current_version at the older one", async () => {
    await sql("UPDATE settings SET current_version = 1 WHERE path = $1", victim);
    await expectFound();
  });
  test("gave it another type", async () => {
    await sql("UPDATE settings SET type = 's3' WHERE path = $1", victim);
    await expectFound();
  });
  test("gave it another path", async () => {
    const moved = `${base}/moved`;
    await sql("UPDATE settings SET path = $2 WHERE path = $1", victim, moved);
    await expectFound(moved);
  });
  test("gave it to another owner", async () => {
    const { organization, owner } = world;
    await sql(
      "UPDATE settings SET owner_type = 'organization', owner_id = $2 WHERE path = $1",
      victim,
      organization.id,
    );
    const theirs = settingsOf(owner.api, organization);
    for (const answer of [await theirs.value(victim), await theirs.open(base)]) {
      expect([answer.status, answer.body.paths]).toEqual([502, [victim]]);
      expect(answer.text).not.toMatch(CONTENT);
    }
    await sql("DELETE FROM settings WHERE path = $1", victim);
  });
  test("soft-deleted it: an exact read says 502 and not 404", async () => {
    await sql(
      "UPDATE settings SET deleted_at = now(), purge_at = now() + interval '1 day' WHERE path = $1",
      victim,
    );
    const strict = await writer.value(victim);
    expect([strict.status, strict.body.paths]).toEqual([502, [victim]]);
    expect((await writer.list(victim, { match: "exact" })).status).toBe(502);
    expect((await writer.restore(victim)).status).toBe(502);
  });
});

describe("older versions", () => {
  test("an altered one is 502, named, and no way back", async () => {
    await sql(
      `UPDATE setting_versions SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) WHERE setting_id = ${idOf} AND version = 1`,
      victim,
    );
    for (const answer of [
      await writer.value(victim, { version: "1" }),
      await writer.open(victim, { version: "1" }),
      await writer.rollback(victim, 1),
    ])
      expect([answer.status, answer.body.paths]).toEqual([502, [victim]]);
    expect((await writer.value(victim)).body.value).toBe("new-content");
  });
  test("one that was called another's kind of storage is not signed as destroyed", async () => {
    const keeper = settingsOf(world.keeper.api, world.project);
    await sql(
      `UPDATE setting_versions SET manager = 'aws' WHERE setting_id = ${idOf} AND version = 1`,
      victim,
    );
    const refused = await keeper.destroy(victim, 1);
    expect([refused.status, refused.body.paths]).toEqual([502, [victim]]);
    await sql(
      `UPDATE setting_versions SET manager = 'local' WHERE setting_id = ${idOf} AND version = 1`,
      victim,
    );
  });
  test("one that was called destroyed, or whose row was removed, is 502 and not 410", async () => {
    await sql(
      `UPDATE setting_versions SET state = 'destroyed', sealed = NULL, data_key_id = NULL WHERE setting_id = ${idOf} AND version = 1`,
      victim,
    );
    for (const answer of [
      await writer.value(victim, { version: "1" }),
      await writer.open(victim, { version: "1" }),
      await writer.rollback(victim, 1),
    ])
      expect([answer.status, answer.body.paths]).toEqual([502, [victim]]);
    await made(writer.put(victim, "newest"));
    await sql(`DELETE FROM setting_versions WHERE setting_id = ${idOf} AND version = 2`, victim);
    expect((await writer.value(victim, { version: "2" })).status).toBe(502);
  });
});

describe("writes and tags", () => {
  test("a broker never signs anew what it did not sign: every write of an altered row is 502, but for a purge", async () => {
    await sql("UPDATE settings SET expires_at = NULL WHERE path = $1", victim);
    const writes = [
      await writer.put(victim, "1"),
      await writer.patch(victim, { description: "d" }),
      await writer.remove(victim),
      await writer.rollback(victim, 1),
    ];
    for (const { status, body } of writes)
      expect([status, body.code, body.paths]).toEqual([502, "manager_failed", [victim]]);
    expect((await settingsOf(world.keeper.api, world.project).purge(victim)).status).toBe(204);
  });

  test("an ETag held from before gives no 304 of an altered row", async () => {
    const tags = [await writer.open(victim), await writer.value(victim)].map(
      ({ headers }) => headers.get("etag") ?? "",
    );
    await sql("UPDATE settings SET expires_at = NULL WHERE path = $1", victim);
    const given = { "if-none-match": tags.join(", ") };
    expect((await writer.open(victim, {}, given)).status).toBe(502);
    expect((await writer.value(victim, {}, given)).status).toBe(502);
  });

  test("the failed event follows the allowed one, and names what was not disclosed", async () => {
    await sql("UPDATE settings SET expires_at = NULL WHERE path = $1", victim);
    const [allowed, failed] = await eventsOf(world, await writer.value(victim));
    expect(allowed).toMatchObject({ action: "decrypt", outcome: "allowed", path: victim });
    expect(failed).toMatchObject({
      action: "decrypt",
      outcome: "failed",
      reason: "manager_failed",
      follows: allowed.id,
    });
    const events = await eventsOf(world, await writer.open(base, { on_error: "withhold" }));
    expect(events).toHaveLength(2);
    expect(events[1]).toMatchObject({ outcome: "failed", follows: events[0].id });
    expect(events[1].settings.map(({ path }: { path: string }) => path)).toEqual([victim]);
  });

  test("a composite value is as safe", async () => {
    const path = `connect/S3/t${runs}`;
    await made(writer.put(path, S3));
    await sql("UPDATE settings SET path = $2, type = 'custom' WHERE path = $1", path, `${base}/leak`);
    const answer = await writer.value(`${base}/leak`);
    expect([answer.status, answer.text.includes(S3.secret_access_key)]).toEqual([502, false]);
  });
});
