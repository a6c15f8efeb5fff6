// Turns by themselves: how many pages are under way, and what becomes of one whose turn does not come.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { PathPrefix, PathQuery, SettingPath } from "../../src/domain/address.ts";
import type { ReportQuery } from "../../src/domain/lifecycle-ports.ts";
import type { AuditQuery, SettingQuery } from "../../src/domain/ports.ts";
import { pagesInTurn } from "../../src/store/page-turns.ts";

type Pages = Parameters<typeof pagesInTurn>[0];

const under: PathQuery = { kind: "under", prefix: "connect/S3" as PathPrefix };
const at = (match: "auto" | "exact"): PathQuery => ({
  kind: "at",
  path: "connect/S3/a" as SettingPath,
  match,
});

const keyOf = (tenant_id: string) => ({ tenant_id, owner_type: "project" as const, owner_id: "p" });

function queryOf(tenant_id: string, select = under): SettingQuery {
  const rest = { include_deleted: false, type: null, label: null, sealed_bytes_max: null };
  return { key: keyOf(tenant_id), select, after: null, limit: 1_000, ...rest };
}

/** What is read of a tenant, a page at a time; and of an instance's log. */
const KINDS: readonly (readonly [string, (pages: Pages, tenant: string) => Promise<unknown>])[] = [
  ["settings", (pages, tenant) => pages.settings(queryOf(tenant))],
  ["the log", (pages, tenant) => pages.audit({ place: keyOf(tenant) } as AuditQuery)],
  ["the instance's log", (pages) => pages.audit({ place: "instance" } as AuditQuery)],
  ["a report", (pages, tenant) => pages.report({ key: keyOf(tenant) } as ReportQuery)],
  ["a report's totals", (pages, tenant) => pages.reportTotals({ key: keyOf(tenant) } as ReportQuery)],
];

/** Reads that go on until they are told to end, each with itself. */
function slowReads() {
  const underWay: { readonly end: (failure?: Error) => void }[] = [];
  const read = (): Promise<never> =>
    new Promise((resolve, reject) => {
      const me = {
        end: (failure?: Error) => (failure === undefined ? resolve(me as never) : reject(failure)),
      };
      underWay.push(me);
    });
  const pages: Pages = { settings: read, audit: read, report: read, reportTotals: read };
  return { pages, underWay };
}

const turnOfTheLoop = () => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test.each(KINDS)(
  "%s: leaves three connections to others, and one of the rest to another tenant",
  async (_kind, ask) => {
    const { pages, underWay } = slowReads();
    const inTurn = pagesInTurn(pages, 10);
    const greedy = Array.from({ length: 20 }, () => ask(inTurn, "greedy"));
    await turnOfTheLoop();
    expect(underWay.length).toBe(6);
    const modest = inTurn.settings(queryOf("modest"));
    await turnOfTheLoop();
    expect(underWay.length).toBe(7);
    for (let n = 0; n < 21; n++) {
      underWay[n]?.end();
      await turnOfTheLoop();
      await turnOfTheLoop();
    }
    expect(await modest).toBe(underWay[6]);
    expect(await Promise.all(greedy)).toEqual(underWay.toSpliced(6, 1));
  },
);

test("all kinds of pages share their turns", async () => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, 10);
  for (const [, ask] of KINDS) for (let n = 0; n < 4; n++) void ask(inTurn, "greedy");
  await turnOfTheLoop();
  expect(underWay.length).toBe(7);
});

test("the next page comes no sooner than in the next turn of the loop", async () => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, 2);
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
  const inTurn = pagesInTurn(pages, 2);
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
  const inTurn = pagesInTurn(pages, 2);
  void inTurn.settings(queryOf("one"));
  const late = inTurn.settings(queryOf("one", at("auto")));
  const failed = late.catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await failed).toMatchObject({ code: "unavailable" });
  const next = inTurn.settings(queryOf("one"));
  underWay[0]?.end();
  await turnOfTheLoop();
  await turnOfTheLoop();
  underWay[1]?.end();
  expect(await next).toBe(underWay[1]);
});

test("one setting takes no turn", async () => {
  const { pages, underWay } = slowReads();
  const inTurn = pagesInTurn(pages, 2);
  for (let n = 0; n < 5; n++) void inTurn.settings(queryOf("one", at("exact")));
  await turnOfTheLoop();
  expect(underWay.length).toBe(5);
});
