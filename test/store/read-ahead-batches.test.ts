// Reads that wait go together: nobody waits for long, whatever becomes of the others or of the database.
import { once } from "node:events";
import { type AddressInfo, type Socket, createServer } from "node:net";
import pg from "pg";
import { expect, onTestFinished, test, vi } from "vitest";
import type { OwnerKey } from "../../src/domain/ports.ts";
import type { Db } from "../../src/store/db.ts";
import { createReadAhead } from "../../src/store/read-ahead.ts";
import { createStore } from "../../src/store/store.ts";
import { newId, openFixture } from "./fixture.ts";
import { readOf } from "./reading.ts";

const AT = "connect/S3/a";
const NOWHERE: OwnerKey = { owner_type: "organization", owner_id: newId(), tenant_id: newId() };

/** How many go together in each statement that finds what is read, from now on. */
function readsTogether(): number[] {
  const together: number[] = [];
  const { submit } = pg.Query.prototype;
  vi.spyOn(pg.Query.prototype, "submit").mockImplementation(function (this: pg.Query, connection) {
    const { name, values } = this as unknown as { name?: string; values: readonly string[] };
    // An array's text, a number for each read.
    if (name === "read_ahead") together.push(values[0]?.split(",").length ?? 0);
    return submit.call(this, connection);
  });
  return together;
}

test("what waits for a statement is on its way before anything is made of the answers", async () => {
  const f = await openFixture();
  const { key } = await f.organization();
  await f.setting(key, AT);
  const { id } = await f.principal();
  await f.member(key, id, "read");
  const { hash } = await f.token(id);
  const asked = () => readOf({ kind: "api", hash }, key, "list", f.time.now, AT);
  // Both connections of the pool are there by then, as under load: so many at once go by two statements. On a machine that
  // is slow, what waits goes beside the first; it would have to connect.
  await Promise.all(Array.from({ length: 96 }, () => f.store.readAhead(asked())));
  const order: string[] = [];
  const { submit } = pg.Query.prototype;
  vi.spyOn(pg.Query.prototype, "submit").mockImplementation(function (this: pg.Query, connection) {
    if (/^(read_ahead|confirm_reads)$/.test((this as { name?: string }).name ?? "")) order.push("sent");
    return submit.call(this, connection);
  });
  // One more than go together.
  const reads = Array.from({ length: 33 }, () => f.store.readAhead(asked()));
  await Promise.all(reads.map((each) => each.then(() => order.push("answered"))));
  expect(order.slice(0, 3)).toEqual(["sent", "sent", "answered"]);
  expect(order.filter((what) => what === "sent")).toHaveLength(2);
});

test("where the database is silent nobody waits for one batch after the other", async () => {
  let connections = 0;
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => {
    connections += 1;
    sockets.add(socket.on("error", () => undefined));
  });
  await once(silent.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
  const { port } = silent.address() as AddressInfo;
  const opened = createStore({
    databaseUrl: `postgres://nobody@127.0.0.1:${port}/none`,
    clock: { now: () => new Date() },
    onBackgroundError: () => undefined,
  });
  onTestFinished(() => opened.close());
  const asked = () => readOf({ kind: "api", hash: Buffer.alloc(32) }, NOWHERE, "list", new Date(), AT);
  // Ten batches.
  const reads = Array.from({ length: 320 }, () => opened.store.readAhead(asked()));
  const answers = await Promise.allSettled(reads);
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(["rejected"]));
  // Nobody was tried anew for who waited: one connection for each of the two statements that may be under way.
  expect(connections).toBeGreaterThan(0);
  expect(connections).toBeLessThanOrEqual(2);
});

test("where it falls silent after a batch that failed for what is in it, nobody waits for one after the other", async () => {
  let asked = 0;
  const query = async (): Promise<never> => {
    asked += 1;
    // The batch as a whole, and its first member alone, fail for their data; then it is silent.
    if (asked <= 2) throw Object.assign(new pg.DatabaseError("bad", 3, "error"), { code: "22021" });
    throw Object.assign(new Error("silent"), { code: "ETIMEDOUT" });
  };
  const db = { query } as unknown as Db;
  const { readAhead } = createReadAhead(db, { position: 0 });
  const reads = Array.from({ length: 32 }, () =>
    readAhead(readOf({ kind: "api", hash: Buffer.alloc(32) }, NOWHERE, "list", new Date(), AT)),
  );
  const [first, ...others] = await Promise.allSettled(reads);
  expect(first).toEqual({ status: "fulfilled", value: null });
  for (const other of others)
    expect(other).toMatchObject({ status: "rejected", reason: { code: "unavailable" } });
  expect(asked).toBe(3);
});

test("one setting is not kept waiting by all the pages that were asked for before it", async () => {
  const f = await openFixture();
  const { key } = await f.organization();
  for (let n = 0; n < 20; n++) await f.setting(key, `connect/S3/${n}`);
  const { id } = await f.principal();
  await f.member(key, id, "write");
  const { hash } = await f.token(id);
  const asked = (at?: string) => readOf({ kind: "api", hash }, key, "decrypt", f.time.now, at);
  const together = readsTogether();
  const state = { pages: 0 };
  // None is known yet: each may come to a hundred rows.
  const pages = Array.from({ length: 80 }, async () => {
    expect((await f.store.readAhead(asked()))?.page?.rows).toHaveLength(20);
    state.pages += 1;
  });
  const one = await f.store.readAhead(asked("connect/S3/7"));
  expect(one?.page?.rows).toHaveLength(1);
  expect(state.pages).toBeLessThanOrEqual(24);
  await Promise.all(pages);
  expect(together.toSorted((less, more) => more - less).slice(0, 3)).toEqual([8, 8, 8]);
});

test("a statement that takes its time keeps no other read waiting until it ends", async () => {
  const f = await openFixture();
  const { key } = await f.organization();
  await f.setting(key, AT);
  const { id } = await f.principal();
  await f.member(key, id, "write");
  const { hash } = await f.token(id);
  const asked = () => readOf({ kind: "api", hash }, key, "decrypt", f.time.now, AT);
  const slow = asked();
  const state = { isAnswered: false };
  const rival = await f.driver.connect();
  try {
    // Somebody has written an event of that id, and has not committed: the statement waits for how that ends.
    await rival.query("BEGIN");
    await rival.query(
      `INSERT INTO audit_events (tenant_id, id, at, action, operation, outcome, owner_type, settings, details, request_id)
       VALUES ($1, $2, now(), 'list', 'x', 'allowed', 'instance', '[]', '{}', 'r')`,
      [key.tenant_id, slow.event.id],
    );
    const held = f.store.readAhead(slow).then((found) => {
      state.isAnswered = true;
      return found;
    });
    await f.stuckOrDone(held);
    const others = await Promise.all([asked(), asked()].map((each) => f.store.readAhead(each)));
    expect(others.map((each) => each?.recorded ?? null)).not.toContain(null);
    expect(state.isAnswered).toBe(false);
    await rival.query("ROLLBACK");
    expect((await held)?.recorded).toMatchObject({ id: slow.event.id });
  } finally {
    rival.release();
  }
});

test("whoever was denied all lately makes no batch smaller by asking on, and is let in at once when given a role", async () => {
  const f = await openFixture();
  const { key } = await f.organization();
  await f.setting(key, AT);
  const { id } = await f.principal();
  const { hash } = await f.token(id);
  const together = readsTogether();
  const ask = async (many: number) => {
    together.length = 0;
    const asked = () => readOf({ kind: "api", hash }, key, "list", f.time.now);
    const found = await Promise.all(Array.from({ length: many }, () => f.store.readAhead(asked())));
    return found.map((each) => each?.page?.rows.length ?? 0);
  };
  // Unknown: each may come to a hundred rows.
  await ask(32);
  expect(Math.max(...together)).toBe(8);
  expect(await ask(32)).toEqual(Array.from({ length: 32 }, () => 0));
  expect(together).toEqual([32]);
  await f.member(key, id, "read");
  expect(await ask(1)).toEqual([1]);
  expect(await ask(32)).toEqual(Array.from({ length: 32 }, () => 1));
});

test("what a token's scopes hide says nothing of how much else it may be given there", async () => {
  const f = await openFixture();
  const { key } = await f.organization();
  await f.setting(key, AT);
  const { id } = await f.principal();
  await f.member(key, id, "read");
  const { hash } = await f.token(id, { scopes: [`list:organization/${key.owner_id}/secret/Custom`] });
  const together = readsTogether();
  for (let turn = 0; turn < 2; turn++) {
    const asked = () => readOf({ kind: "api", hash }, key, "list", f.time.now);
    const found = await Promise.all(Array.from({ length: 32 }, () => f.store.readAhead(asked())));
    expect(found.map((each) => each?.page ?? null)).toEqual(found.map(() => null));
    expect(Math.max(...together)).toBe(8);
  }
});
