// Somebody who has not read yet what others did: the page is known, and whether they may see it is not. Two statements
// find that out and move none of its rows; whatever becomes of either meanwhile, the answer is that of a store that has
// never read anything.
import pg from "pg";
import { expect, onTestFinished, test, vi } from "vitest";
import type { Subject } from "../../src/domain/audit.ts";
import type { NewToken, PresentedToken } from "../../src/domain/ports.ts";
import type { Ahead, FoundAhead } from "../../src/domain/read-ahead.ts";
import type { SettingRow } from "../../src/domain/setting.ts";
import { type Db, type Statement, driverAsker } from "../../src/store/db.ts";
import { createReadAhead } from "../../src/store/read-ahead.ts";
import { type Fixture, auditQuery, openFixture, path } from "./fixture.ts";
import { PATHS, bothOf, keptWorld, readOf, told, warm } from "./reading.ts";

/** A kept page, and those who come to read it. */
async function visitedWorld(f: Fixture) {
  const world = await keptWorld(f);
  const { key, reader } = world;
  const readBy = (presented: PresentedToken): Ahead => readOf(presented, key, "decrypt", f.time.now);
  async function newcomer(over: Partial<NewToken> = {}) {
    const { id, hash } = await f.token(reader.id, over);
    const presented: PresentedToken = { kind: "api", hash };
    return { tokenId: id, presented, ahead: () => readBy(presented) };
  }
  return { ...world, readBy, newcomer };
}

/** The statements that reading takes from now on. */
function watched(): string[] {
  const names: string[] = [];
  const { submit } = pg.Query.prototype;
  vi.spyOn(pg.Query.prototype, "submit").mockImplementation(function (this: pg.Query, connection) {
    const { name } = this as { name?: string };
    if (name !== undefined && /^(read_ahead|confirm)/.test(name)) names.push(name);
    return submit.call(this, connection);
  });
  return names;
}

test("the rows stay where they are, and each reading is on record", async () => {
  const f = await openFixture();
  const { key, pageNow, newcomer } = await visitedWorld(f);
  const rows = (await pageNow())?.rows;
  const statements = watched();
  for (let each = 0; each < 2; each++) {
    const { ahead, tokenId } = await newcomer();
    const read = ahead();
    const found = await f.store.readAhead(read);
    expect(found?.page?.rows).toBe(rows);
    expect(found?.recorded).toMatchObject({ id: read.event.id, token_id: tokenId });
    expect(found?.recorded?.settings.map((each) => each.path)).toEqual(PATHS);
    expect(statements.splice(0)).toEqual(["read_ahead", "confirm_reads_copying"]);
    const { request_id } = read.event;
    const { events } = await f.store.reader.audit(auditQuery(key, { request_id, limit: 10 }));
    expect(events).toEqual([found?.recorded]);
  }
});

test("a page of one is found as a whole, by one statement", async () => {
  const f = await openFixture();
  const { key, presented, newcomer } = await visitedWorld(f);
  const ofOne = (by: PresentedToken): Ahead => readOf(by, key, "decrypt", f.time.now, PATHS[0]);
  await warm(f, () => ofOne(presented));
  const statements = watched();
  expect((await f.store.readAhead(ofOne((await newcomer()).presented)))?.recorded).not.toBeNull();
  expect(statements).toEqual(["read_ahead"]);
});

test("whoever may not read any more is looked up at once from then on", async () => {
  const f = await openFixture();
  const { key, reader, ahead } = await visitedWorld(f);
  await f.transact((tx) => tx.removeMember(key, reader.id));
  const statements = watched();
  for (let each = 0; each < 2; each++)
    expect(await f.store.readAhead(ahead())).toMatchObject({ page: null, recorded: null });
  expect(statements).toEqual(["confirm_reads_copying", "read_ahead", "read_ahead"]);
});

test("whoever may not see it is told nothing of it, and nothing is on record", async () => {
  const f = await openFixture();
  const { key, newcomer, readBy } = await visitedWorld(f);
  const until = f.time.now;
  const outsider = await f.principal();
  const lister = await f.principal();
  await f.member(key, lister.id, "read");
  const disabled = await f.principal({ disabled_at: until });
  await f.member(key, disabled.id, "owner");
  const of = async ({ id }: { id: string }): Promise<Ahead> =>
    readBy({ kind: "api", hash: (await f.token(id)).hash });
  const limited: readonly Partial<NewToken>[] = [
    { max_uses: 5 },
    { allowed_cidrs: ["192.0.2.0/24"] },
    { revoked_at: until },
    { expires_at: until },
    { scopes: [`decrypt:project/${key.owner_id}/connect/S3/0`] },
    { scopes: ["no ceiling"] },
  ];
  const reads = [
    await of(outsider),
    await of(lister),
    await of(disabled),
    readBy({ kind: "api", hash: Buffer.alloc(32) }),
    ...(await Promise.all(limited.map(async (each) => (await newcomer(each)).ahead()))),
  ];
  for (let round = 0; round < 3; round++)
    for (const found of await Promise.all(reads.map((each) => f.store.readAhead(each))))
      expect(found).toMatchObject({ page: null, recorded: null });
  const ids = reads.map(({ event }) => event.id);
  const { rowCount } = await f.driver.query("SELECT FROM audit_events WHERE id = ANY ($1)", [ids]);
  expect(rowCount).toBe(0);
});

/** What one statement finds, and what happens before the next. */
type Between = (f: Fixture, world: Awaited<ReturnType<typeof visitedWorld>>, tokenId: string) => unknown;
const betweens: Readonly<Record<string, Between>> = {
  "nothing happens": () => undefined,
  "the token is revoked": (f, _world, id) => f.transact((tx) => tx.revokeToken(id, false, f.time.now)),
  "a member is removed": (f, { key, reader }) => f.transact((tx) => tx.removeMember(key, reader.id)),
  "the principal is disabled": (f, { reader }) =>
    f.driver.query("UPDATE principals SET disabled_at = now() WHERE id = $1", [reader.id]),
  "a value is written": (f, { key }) => f.setting(key, PATHS[2] ?? "", { sealed: Buffer.from("another") }),
  "a setting is purged": (f, { key }) =>
    f.transact(async (tx) =>
      tx.purgeSetting(((await tx.setting(key, path(PATHS[1] ?? ""))) as SettingRow).setting),
    ),
  "bytes are put in by hand": (f) =>
    f.driver.query("UPDATE setting_versions SET sealed = 'by hand' WHERE sealed IS NOT NULL"),
  "the event that names them is written anew": async (f) => {
    await f.driver.query("ALTER TABLE audit_events DISABLE TRIGGER USER");
    await f.driver.query("UPDATE audit_events SET settings = '[]'");
  },
  "something is written that is not noted": async (f) => {
    await f.driver.query("ALTER TABLE settings DISABLE TRIGGER USER");
    await f.driver.query("UPDATE settings SET description = 'unseen'");
  },
};

/** A store's reading, of which each statement and its answer can be seen to. */
function readingBy(f: Fixture) {
  const asker = driverAsker(f.driver);
  const on = {
    statements: [] as string[],
    asked: (_name: string): unknown => undefined,
    answered: (_name: string, _rows: readonly object[]): unknown => undefined,
  };
  const query = async <Row extends object>(statement: Statement, params: Parameters<Db["query"]>[1]) => {
    on.statements.push(statement.name);
    await on.asked(statement.name);
    const rows = await asker.query<Row>(statement, params);
    await on.answered(statement.name, rows);
    return rows;
  };
  return { on, ...createReadAhead({ query } as unknown as Db, { position: 0 }) };
}

test.each(Object.entries(betweens))(
  "between finding who reads and recording it, %s",
  async (_what, between) => {
    const f = await openFixture();
    const world = await visitedWorld(f);
    const { on, readAhead } = readingBy(f);
    await warm({ store: { readAhead } }, world.ahead);
    const { tokenId, ahead } = await world.newcomer();
    on.answered = async (name) => {
      if (name !== "read_ahead") return;
      on.answered = () => undefined;
      await between(f, world, tokenId);
    };
    const fresh = f.open(1);
    onTestFinished(() => fresh.close());
    const read = ahead();
    const found = await readAhead(read);
    expect(told(found)).toEqual(told(await fresh.store.readAhead(ahead())));
    const text = "SELECT settings FROM audit_events WHERE id = $1";
    const { rows } = await f.driver.query<{ settings: Subject[] }>(text, [read.event.id]);
    const recorded = found?.recorded ?? null;
    expect(rows.map(({ settings }) => settings)).toEqual(recorded === null ? [] : [recorded.settings]);
  },
);

test("a page and who reads it go together only where both were seen on one server", async () => {
  const f = await openFixture();
  const { key, reader, ahead, newcomer } = await visitedWorld(f);
  const { on, readAhead } = readingBy(f);
  const seenOn = (server: string | null): void => {
    on.answered = (_name, rows) => {
      for (const row of rows) if (server !== null && "server" in row) Object.assign(row, { server });
    };
    on.statements.length = 0;
  };
  seenOn("another");
  await readAhead(ahead());
  seenOn(null);
  expect((await readAhead((await newcomer()).ahead()))?.recorded).not.toBeNull();
  expect(on.statements).toEqual(["read_ahead", "read_ahead"]);
  // The page is of this server by now; that he might read it was seen on the other.
  await f.transact((tx) => tx.removeMember(key, reader.id));
  on.statements.length = 0;
  expect((await readAhead(ahead()))?.recorded).toBeNull();
  expect(on.statements).toEqual(["read_ahead"]);
});

test("those who come while a page turns out to be another are not sent to be confirmed with the old one", async () => {
  const f = await openFixture();
  const { key, ahead, newcomer } = await visitedWorld(f);
  const { on, readAhead } = readingBy(f);
  await warm({ store: { readAhead } }, ahead);
  const comers = await Promise.all(Array.from({ length: 20 }, () => newcomer()));
  await f.setting(key, PATHS[0] ?? "", { sealed: Buffer.from("another") });
  let later: Promise<FoundAhead | null>[] = [];
  on.asked = (name) => {
    if (name === "confirm_reads_copying" && later.length === 0)
      later = comers.map((each) => readAhead(each.ahead()));
  };
  on.statements.length = 0;
  await readAhead(ahead());
  for (const found of await Promise.all(later))
    expect(found?.page?.rows[0]?.version.sealed?.toString()).toBe("another");
  // The first's page anew; the twenty, of whom it is found that their page is not what they knew; theirs, eight at a time.
  expect(on.statements).toEqual(["confirm_reads_copying", ...Array.from({ length: 5 }, () => "read_ahead")]);
});

test("after whatever was written, and whoever else reads beside them, all see what is there", async () => {
  const f = await openFixture();
  const { key, newcomer } = await visitedWorld(f);
  for (let round = 0; round < 8; round++) {
    const { ahead } = await newcomer();
    await f.setting(key, PATHS[round % PATHS.length] ?? "", { sealed: Buffer.from(`${round}`) });
    if (round % 2 === 0) await warm(f, (await newcomer()).ahead);
    const { kept, oracle } = await bothOf(f, ahead);
    expect(kept).toEqual(oracle);
  }
  const reads = await Promise.all(Array.from({ length: 40 }, async () => (await newcomer()).ahead()));
  const found: (FoundAhead | null)[] = await Promise.all(reads.map((each) => f.store.readAhead(each)));
  expect(found.map((each) => each?.recorded?.id)).toEqual(reads.map(({ event }) => event.id));
});
