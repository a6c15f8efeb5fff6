// Who wrote a moment ago begins with the transaction (domain/known-writers.ts): nothing that has changed since then is
// passed over, and all of it is found out there alone.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { type Api, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { attack, eventsOf, instanceEvents, settingsOf } from "./settings-kit.ts";
import { until } from "../harness/until.ts";
import { narrower, organizationOf, projectOf } from "./rights-kit.ts";

let broker: TestBroker;
let beside: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  beside = await startBroker({ beside: broker });
  world = await furnish(broker);
});
afterAll(async () => {
  await beside.close();
  await broker.close();
});

let count = 0;
const nextPath = (): string => `secret/Custom/again/${(count += 1)}`;

/** A token of the writer's that has just written twice: the second time without being admitted beforehand. */
async function whoHasWritten(given: Record<string, unknown> = {}) {
  const { api, id } = await narrower(broker, world.writer.api, given);
  const settings = settingsOf(api, world.project);
  const path = nextPath();
  for (const value of ["1", "2"]) await made(settings.put(path, value));
  return { api, id, settings, path };
}

type Sent = { readonly name: string; readonly connection: unknown };

/** The statements that are sent meanwhile, by whomever: the log is sealed beside it. */
async function statementsOf(work: () => Promise<unknown>): Promise<Sent[]> {
  const sent: Sent[] = [];
  const { submit } = pg.Query.prototype;
  const spy = vi.spyOn(pg.Query.prototype, "submit").mockImplementation(function (
    this: pg.Query,
    connection,
  ) {
    const { name, text } = this as unknown as { readonly name?: string; readonly text: string };
    sent.push({ name: name ?? text, connection });
    return submit.call(this, connection);
  });
  onTestFinished(() => spy.mockRestore());
  await work();
  spy.mockRestore();
  return sent;
}

describe("who wrote a moment ago", () => {
  test("asks nothing outside of the transaction, and nothing twice", async () => {
    const { settings, path } = await whoHasWritten();
    const sent = await statementsOf(() => made(settings.put(path, "3")));
    const lookUps = sent.filter(({ name }) => name === "admit_many" || name === "setting_many");
    expect(lookUps.map(({ name }) => name)).toEqual(["admit_many", "setting_many"]);
    const names = sent
      .filter(({ connection }) => connection === lookUps[0]?.connection)
      .map(({ name }) => name);
    const begun = names
      .slice(0, names.indexOf("admit_many"))
      .findLastIndex((name) => name.startsWith("BEGIN"));
    const ours = names.slice(begun, names.indexOf("COMMIT", begun) + 1);
    expect(ours).toContain("admit_many");
    expect(ours).toContain("hold_data_keys");
    expect(new Set(ours).size).toBe(ours.length);
    expect((await settings.open(path)).body.settings[0]).toMatchObject({ value: "3", version: 3 });
  });

  test("is refused once the token is revoked, by whichever replica, and nothing is written", async () => {
    const { id, settings, path } = await whoHasWritten();
    const others = await whoHasWritten();
    expect((await beside.as(world.writer.api.token).delete(`/tokens/${id}`)).status).toBe(204);
    for (const at of [path, others.path, nextPath()]) {
      const answer = await settings.put(at, "refused");
      expect([answer.status, answer.body.code]).toEqual([401, "unauthenticated"]);
    }
    const found = (await others.settings.open("secret/Custom/again/")).body.settings;
    expect(found.map(({ value }: { value: string }) => value)).not.toContain("refused");
  });

  test("is denied once the role is gone, on record once with its reason, and nothing is written", async () => {
    const { settings, path } = await whoHasWritten();
    const member = `/projects/${world.project.id}/members/${world.writer.id}`;
    expect((await beside.as(world.owner.api.token).put(member, { body: { role: "read" } })).status).toBe(200);
    onTestFinished(async () => {
      await made(world.owner.api.put(member, { body: { role: "write" } }));
    });
    const fresh = nextPath();
    for (const at of [path, fresh]) {
      const answer = await settings.put(at, "denied");
      expect([answer.status, answer.body.code]).toEqual([403, "forbidden"]);
      expect(await eventsOf(world, answer)).toMatchObject([
        { outcome: "denied", action: "write", path: at, principal_id: world.writer.id },
      ]);
    }
    expect((await settings.list(path)).body.settings[0]).toMatchObject({ version: 2 });
    const { rows } = await attack(broker, "SELECT path FROM path_ledger WHERE path = $1", [fresh]);
    expect(rows).toEqual([]);
  });

  test("is denied or refused also where somebody else has the path or the owner, and waits for neither", async () => {
    const held = [
      "SELECT FROM path_ledger WHERE path = $1 FOR UPDATE",
      "SELECT FROM projects WHERE id = $2 FOR UPDATE",
    ];
    for (const text of held) {
      const { id, settings, path } = await whoHasWritten();
      await made(world.writer.api.delete(`/tokens/${id}`));
      const rival = new pg.Client({ connectionString: broker.databaseUrl });
      await rival.connect();
      try {
        await rival.query("BEGIN");
        await rival.query(text.replace("$2", `'${world.project.id}'`), text.includes("$1") ? [path] : []);
        expect((await settings.put(path, "refused")).status).toBe(401);
      } finally {
        await rival.end();
      }
    }
  });

  test("is denied at an owner that is gone as whoever never was there is: in the instance's log", async () => {
    const { id } = await projectOf(world.owner.api, world.organization, `gone-${count}`);
    const settings = settingsOf(world.owner.api, { type: "project", id });
    const path = nextPath();
    for (const value of ["1", "2"]) await made(settings.put(path, value));
    await made(settings.purge(path));
    await made(world.owner.api.delete(`/projects/${id}`));
    const answer = await settings.put(path, "3");
    expect([answer.status, answer.body.code]).toEqual([403, "forbidden"]);
    expect(await instanceEvents(broker, answer)).toMatchObject([
      { outcome: "denied", action: "write", details: { asked: `project/${id}` } },
    ]);
  });

  test("with a token of so many uses takes one of them each time", async () => {
    const { api } = await narrower(broker, world.writer.api, { max_uses: 3 });
    const path = nextPath();
    const statuses: number[] = [];
    for (const value of ["1", "2", "3", "4"])
      statuses.push((await settingsOf(api, world.project).put(path, value)).status);
    expect(statuses).toEqual([201, 200, 200, 401]);
  });

  test("seals under the owner's new key once the old one was rotated away, or is gone", async () => {
    const { settings, path } = await whoHasWritten();
    const keyOf = async (version: number): Promise<string> => {
      const text =
        "SELECT v.data_key_id AS id FROM settings s JOIN setting_versions v ON v.setting_id = s.id WHERE s.path = $1 AND v.version = $2";
      return (await attack(broker, text, [path, version])).rows[0].id;
    };
    await attack(broker, "UPDATE instance SET keys_rotated_at = now()");
    await made(settings.put(path, "3"));
    await made(settings.put(path, "4"));
    expect(await keyOf(3)).not.toBe(await keyOf(2));
    expect(await keyOf(4)).toBe(await keyOf(3));
    // As where the database was put back to a time before that key.
    const gone = await keyOf(4);
    await attack(broker, "DELETE FROM data_keys WHERE id = $1", [gone]);
    await made(settings.put(path, "5"));
    expect(await keyOf(5)).not.toBe(gone);
    expect((await settings.open(path)).body.settings[0]).toMatchObject({ value: "5", version: 5 });
  });

  test("writes where the owner is now, also when that was moved to another organization", async () => {
    const from = await organizationOf(broker, world.owner.id, `from ${count}`);
    const project = await projectOf(world.owner.api, from, "moving");
    const settings = settingsOf(world.owner.api, project);
    const [before, after] = [nextPath(), nextPath()];
    for (const value of ["1", "2"]) await made(settings.put(before, value));
    await attack(broker, "UPDATE projects SET organization_id = $1 WHERE id = $2", [
      world.organization.id,
      project.id,
    ]);
    await made(settings.put(after, "there"));
    const text =
      "SELECT tenant_id FROM settings WHERE path = $1 UNION SELECT tenant_id FROM path_ledger WHERE path = $1";
    expect((await attack(broker, text, [after])).rows).toEqual([{ tenant_id: world.organization.id }]);
  });

  test("among many at once who keep theirs: one who lost the token and one who lost the role write nothing after that", async () => {
    const project = await projectOf(world.owner.api, world.organization, `race-${count}`);
    const accounts = await Promise.all(Array.from({ length: 4 }, () => world.worker(null)));
    const member = (id: string) => `/projects/${project.id}/members/${id}`;
    for (const { id } of accounts) await made(world.owner.api.put(member(id), { body: { role: "write" } }));
    const paths = Array.from({ length: 8 }, nextPath);
    const lost = new Map<string, number>();
    let [begun, written] = [0, 0];
    const late: (readonly [number, number])[] = [];
    const write = async (id: string, api: Api, steps: number): Promise<void> => {
      const expected = id === accounts[0]?.id ? 401 : 403;
      for (let step = 0; step < steps; step++) {
        const isLate = lost.has(id);
        const path = paths[(begun += 1) % paths.length] ?? "";
        const { status } = await settingsOf(api, project).put(path, `${begun}`);
        if (status < 300) written += 1;
        if (isLate) late.push([status, expected]);
      }
    };
    const loops = accounts.flatMap(({ id, api }) => Array.from({ length: 8 }, () => write(id, api, 15)));
    const [first, second] = accounts;
    await until("all are under way", async () => written > 60);
    const gone = made(beside.as(world.owner.api.token).delete(`/tokens/${first?.token_id}`));
    const denied = made(beside.as(world.owner.api.token).delete(member(second?.id ?? "")));
    for (const [done, account] of [
      [gone, first],
      [denied, second],
    ] as const)
      void done.then(() => lost.set(account?.id ?? "", begun));
    await Promise.all([gone, denied, ...loops]);
    expect(late.length).toBeGreaterThan(20);
    expect(late.filter(([status, expected]) => status !== expected && status !== 429)).toEqual([]);
    const numbers = await attack(
      broker,
      `SELECT s.path, count(*)::int AS versions, max(v.version)::int AS last, bool_and(v.state = 'enabled') AS kept,
         (SELECT count(*)::int FROM audit_events e WHERE e.owner_id = s.owner_id AND e.action = 'write' AND e.outcome = 'allowed'
           AND e.path = s.path) AS events
       FROM settings s JOIN setting_versions v ON v.setting_id = s.id WHERE s.owner_id = $1 GROUP BY s.path, s.owner_id`,
      [project.id],
    );
    expect(numbers.rows).toHaveLength(paths.length);
    for (const row of numbers.rows)
      expect(row).toMatchObject({ versions: row.last, events: row.last, kept: true });
    expect(numbers.rows.reduce((sum, { last }) => sum + last, 0)).toBe(written);
  });
});
