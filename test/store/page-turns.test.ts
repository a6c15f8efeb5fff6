// Turns by themselves: how many pages are under way, and what becomes of one whose turn does not come.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { PathPrefix, PathQuery, SettingPath } from "../../src/domain/address.ts";
import type { SettingPage, SettingQuery } from "../../src/domain/ports.ts";
import { pagesInTurn } from "../../src/store/page-turns.ts";

const PAGE: SettingPage = { rows: [], more: false, exact: false };
const under: PathQuery = { kind: "under", prefix: "connect/S3" as PathPrefix };
const at = (match: "auto" | "exact"): PathQuery => ({
  kind: "at",
  path: "connect/S3/a" as SettingPath,
  match,
});

function queryOf(tenant_id: string, select = under): SettingQuery {
  const key = { tenant_id, owner_type: "project" as const, owner_id: "p" };
  const rest = { include_deleted: false, type: null, label: null, sealed_bytes_max: null };
  return { key, select, after: null, limit: 1_000, ...rest };
}

/** Reads that go on until they are told to end. */
function slowReads() {
  const underWay: { readonly tenant: string; readonly end: (failure?: Error) => void }[] = [];
  const settings = ({ key }: SettingQuery) =>
    new Promise<SettingPage>((resolve, reject) => {
      const end = (failure?: Error) => (failure === undefined ? resolve(PAGE) : reject(failure));
      underWay.push({ tenant: key.tenant_id, end });
    });
  return { settings, underWay };
}

const turnOfTheLoop = () => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("leave three connections to others, and one of theirs to another tenant", async () => {
  const { settings, underWay } = slowReads();
  const inTurn = pagesInTurn(settings, 10);
  const greedy = Array.from({ length: 20 }, () => inTurn(queryOf("greedy")));
  await turnOfTheLoop();
  expect(underWay.length).toBe(6);
  const modest = inTurn(queryOf("modest"));
  await turnOfTheLoop();
  expect(underWay.map(({ tenant }) => tenant).slice(6)).toEqual(["modest"]);
  for (let n = 0; n < 21; n++) {
    underWay[n]?.end();
    await turnOfTheLoop();
    await turnOfTheLoop();
  }
  expect(await Promise.all([modest, ...greedy])).toHaveLength(21);
});

test("the next page comes no sooner than in the next turn of the loop", async () => {
  const { settings, underWay } = slowReads();
  const inTurn = pagesInTurn(settings, 2);
  const first = inTurn(queryOf("one"));
  void inTurn(queryOf("one"));
  await turnOfTheLoop();
  underWay[0]?.end();
  await first;
  expect(underWay.length).toBe(1);
  await turnOfTheLoop();
  expect(underWay.length).toBe(2);
});

test("a page that fails makes way for the next", async () => {
  const { settings, underWay } = slowReads();
  const inTurn = pagesInTurn(settings, 2);
  const failing = inTurn(queryOf("one"));
  const next = inTurn(queryOf("one"));
  await turnOfTheLoop();
  underWay[0]?.end(new Error("away"));
  await expect(failing).rejects.toThrow("away");
  await turnOfTheLoop();
  underWay[1]?.end();
  expect(await next).toBe(PAGE);
});

test("a page whose turn does not come is 503, and one that waits after it has its turn", async () => {
  const { settings, underWay } = slowReads();
  const inTurn = pagesInTurn(settings, 2);
  void inTurn(queryOf("one"));
  const late = inTurn(queryOf("one", at("auto")));
  const failed = late.catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await failed).toMatchObject({ code: "unavailable" });
  const next = inTurn(queryOf("one"));
  underWay[0]?.end();
  await turnOfTheLoop();
  await turnOfTheLoop();
  underWay[1]?.end();
  expect(await next).toBe(PAGE);
});

test("one setting takes no turn", async () => {
  const { settings, underWay } = slowReads();
  const inTurn = pagesInTurn(settings, 2);
  for (let n = 0; n < 5; n++) void inTurn(queryOf("one", at("exact")));
  await turnOfTheLoop();
  expect(underWay.length).toBe(5);
});
