// Turns by themselves: how many pages are under way, and what becomes of one whose turn does not come.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { PathPrefix, PathQuery, SettingPath } from "../../src/domain/address.ts";
import type { ReportQuery } from "../../src/domain/lifecycle-ports.ts";
import type { SettingPage, SettingQuery } from "../../src/domain/ports.ts";
import { auditRead } from "../../src/store/audit.ts";
import type { Db } from "../../src/store/db.ts";
import { type PageTurn, createPageTurns, pagesInTurn } from "../../src/store/page-turns.ts";
import { auditQuery } from "./fixture.ts";

type Pages = Parameters<typeof pagesInTurn>[0];

const START = new Date("2026-11-28T12:00:00Z");
const clock = { now: () => new Date() };
const under: PathQuery = { kind: "under", prefix: "connect/S3" as PathPrefix };
const at = (match: "auto" | "exact", path = "connect/S3/a"): PathQuery => ({
  kind: "at",
  path: path as SettingPath,
  match,
});

const keyOf = (tenant_id: string) => ({ tenant_id, owner_type: "project" as const, owner_id: "p" });

function queryOf(tenant_id: string, select = under, asked_at = START): SettingQuery {
  const rest = { include_deleted: false, type: null, label: null, sealed_bytes_max: null };
  return { key: keyOf(tenant_id), select, after: null, limit: 1_000, asked_at, ...rest };
}

/** What is read a page at a time. */
const KINDS: readonly (readonly [string, (pages: Pages, tenant: string) => Promise<unknown>])[] = [
  ["settings", (pages, tenant) => pages.settings(queryOf(tenant))],
  ["a report", (pages, tenant) => pages.report({ key: keyOf(tenant) } as ReportQuery)],
];

/** Pages that are read until they are told to end, each with itself. What is one setting is there at once, at `connect/S3/a`. */
function slowReads() {
  const underWay: { readonly end: (failure?: Error) => void }[] = [];
  const read = (): Promise<never> =>
    new Promise((resolve, reject) => {
      const me = {
        end: (failure?: Error) => (failure === undefined ? resolve(me as never) : reject(failure)),
      };
      underWay.push(me);
    });
  const settings: Pages["settings"] = async ({ select }) => {
    if (select.kind !== "at" || select.match !== "exact") return read();
    return { rows: [], more: false, exact: select.path === "connect/S3/a" } satisfies SettingPage;
  };
  const pages: Pages = { settings, report: read };
  return { pages, underWay };
}

const turnOfTheLoop = () => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"], now: START });
});
afterEach(() => {
  vi.useRealTimers();
});

test.each(KINDS)("%s: at most seven at once, one of them left to another tenant", async (_kind, ask) => {
  for (const [poolSize, most] of [
    [10, 6],
    [90, 6],
    [5, 1],
    [2, 1],
  ] as const) {
    const { pages, underWay } = slowReads();
    const inTurn = pagesInTurn(pages, createPageTurns(poolSize), clock);
    const greedy = Array.from({ length: 20 }, () => ask(inTurn, "greedy"));
    await turnOfTheLoop();
    expect(underWay.length).toBe(most);
    const modest = inTurn.settings(queryOf("modest"));
    await turnOfTheLoop();
    const place = poolSize === 2 ? null : most;
    if (place !== null) expect(underWay.length).toBe(most + 1);
    for (let n = 0; n < 21; n++) {
      underWay[n]?.end();
      await turnOfTheLoop();
      await turnOfTheLoop();
    }
    // With a single place, the tenants go round.
    expect(underWay.indexOf((await modest) as never)).toBe(place ?? 2);
    expect(new Set([...(await Promise.all(greedy)), await modest])).toEqual(new Set(underWay));
  }
});

test("all kinds of pages share their turns", async () => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, createPageTurns(10), clock);
  for (const [, ask] of KINDS) for (let n = 0; n < 4; n++) void ask(inTurn, "greedy");
  await turnOfTheLoop();
  expect(underWay.length).toBe(6);
});

test.each([
  ["asc", ["positions", "turn of o", "page"]],
  ["desc", ["turn of o", "page"]],
] as const)(
  "a page of the log (%s) takes its turn, and waits for nothing else with it",
  async (order, expected) => {
    const seen: string[] = [];
    const db = { prisma: { $queryRaw: async () => (seen.push("page"), []) } } as unknown as Db;
    const within = async <Result>(): Promise<Result> => (seen.push("positions"), 0 as Result);
    const turn: PageTurn = (tenant, read) => (seen.push(`turn of ${tenant}`), read());
    const read = auditRead(db, within, () => START, { position: 0 }, turn);
    await read(auditQuery(keyOf("o"), { order }));
    expect(seen).toEqual(expected);
  },
);

test("the next page comes only after what became of the one before", async () => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, createPageTurns(2), clock);
  const first = inTurn.settings(queryOf("one"));
  void inTurn.settings(queryOf("one"));
  await turnOfTheLoop();
  underWay[0]?.end();
  await first;
  expect(underWay.length).toBe(1);
  await turnOfTheLoop();
  expect(underWay.length).toBe(2);
});

test("a page that fails makes way for the next", async () => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, createPageTurns(2), clock);
  const failing = inTurn.settings(queryOf("one"));
  const next = inTurn.settings(queryOf("one"));
  await turnOfTheLoop();
  underWay[0]?.end(new Error("away"));
  await expect(failing).rejects.toThrow("away");
  await turnOfTheLoop();
  underWay[1]?.end();
  expect(await next).toBe(underWay[1]);
});

test("a page whose turn does not come is 503, and one that waits after it has its turn", async () => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, createPageTurns(2), clock);
  void inTurn.settings(queryOf("one"));
  const late = inTurn.settings(queryOf("one", at("auto", "connect/S3")));
  const failed = late.catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await failed).toMatchObject({ code: "unavailable" });
  const next = inTurn.settings(queryOf("one", under, new Date()));
  underWay[0]?.end();
  await turnOfTheLoop();
  await turnOfTheLoop();
  underWay[1]?.end();
  expect(await next).toBe(underWay[1]);
});

test("a request's pages together wait no longer than one would, whatever becomes of the clock", async () => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, createPageTurns(2), clock);
  void inTurn.settings(queryOf("one"));
  vi.setSystemTime(new Date(START.getTime() + 7_000));
  const second = inTurn.settings(queryOf("one")).catch((error: unknown) => error);
  const ofAnHourAhead = inTurn
    .settings(queryOf("one", under, new Date(START.getTime() + 3_600_000)))
    .catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(await second).toMatchObject({ code: "unavailable" });
  await vi.advanceTimersByTimeAsync(7_000);
  expect(await ofAnHourAhead).toMatchObject({ code: "unavailable" });
  // One whose time is over still has a free place.
  underWay[0]?.end();
  await turnOfTheLoop();
  await turnOfTheLoop();
  const last = inTurn.settings(queryOf("one"));
  await turnOfTheLoop();
  underWay[1]?.end();
  expect(await last).toBe(underWay[1]);
});

test("no more than 250 of a tenant wait: the next is told at once", async () => {
  const { pages } = slowReads();
  const inTurn = pagesInTurn(pages, createPageTurns(2), clock);
  for (let n = 0; n < 251; n++) void inTurn.settings(queryOf("one")).catch(() => undefined);
  await expect(inTurn.settings(queryOf("one"))).rejects.toMatchObject({ code: "unavailable" });
  void inTurn.settings(queryOf("another")).catch(() => undefined);
  await vi.advanceTimersByTimeAsync(10_000);
});

test.each(["exact", "auto"] as const)("one setting takes no turn (match=%s)", async (match) => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, createPageTurns(2), clock);
  void inTurn.settings(queryOf("one"));
  for (let n = 0; n < 5; n++) expect((await inTurn.settings(queryOf("one", at(match)))).exact).toBe(true);
  expect(underWay.length).toBe(1);
});
