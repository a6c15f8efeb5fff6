// The report against an independent count over the audit log, on 10,000 settings with random histories of half a year:
// every finding of every setting, and every pinned reader, from what the log says of reads and writes alone.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import {
  type Api,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";

const SEED = 20_261_126;
const GROUPS = 20;
const SHELVES = 25;
const PER_SHELF = 20;
const DAY_MS = 86_400_000;
const DAYS = 180;
const WITHIN_DAYS = 30;
const UNUSED_DAYS = 60;

let broker: TestBroker;
let world: World;
let readers: { id: string; api: Api }[];
const start = Date.now();
/** What the log does not say, since it says nothing of metadata. */
const metadata = new Map<string, { rotate_after_days: number | null; expires_at: string | null }>();

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  readers = [];
  for (let each = 0; each < 6; each++) {
    const { id } = await world.worker("write");
    const body = { name: "long", principal_id: id, expires_in_days: 365 };
    const { token } = await made(world.owner.api.post("/tokens", { body }));
    readers.push({ id, api: broker.as(token) });
  }
});
afterAll(() => broker.close());

/** mulberry32: small, seeded, good enough to pick with. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
const random = randomOf(SEED);

const two = (number: number): string => String(number).padStart(2, "0");
const shelfOf = (group: number, shelf: number): string => `secret/Custom/g${two(group)}/s${two(shelf)}`;
const anyShelf = (): string => shelfOf(random(GROUPS), random(SHELVES));
/** Shelves whose settings have been replaced: of those somebody may read what is old. */
const replaced: string[] = [];
const pathsOn = (shelf: string): string[] =>
  Array.from({ length: PER_SHELF }, (_, each) => `${shelf}/n${two(each)}`);
const url = (path?: string, query = {}, at = "/settings") => settingsUrl(world.project, path, query, at);
const anyReader = () => readers[random(readers.length)] as { id: string; api: Api };

/** While every clock of this process, the broker's among them, shows so many days from the start. */
async function onDay(day: number, work: () => Promise<void>): Promise<void> {
  vi.useFakeTimers({ toFake: ["Date"], now: start + day * DAY_MS });
  try {
    await work();
  } finally {
    vi.useRealTimers();
  }
}

const put = (settings: object[]) =>
  made(
    (readers[0] as { api: Api }).api.post(url(undefined, { conflict: "overwrite" }, "/settings/import"), {
      body: { settings },
    }),
  );

function born(path: string): object {
  const rotate_after_days = random(3) === 0 ? 20 + random(200) : null;
  const expires_at = random(4) === 0 ? new Date(start + (150 + random(120)) * DAY_MS).toISOString() : null;
  metadata.set(path, { rotate_after_days, expires_at });
  return { path, value: `first of ${path}`, rotate_after_days, expires_at };
}

/** What has ended takes no new value unless its end is taken from it. */
function unended(path: string): object {
  const known = metadata.get(path);
  if (!known?.expires_at || Date.parse(known.expires_at) > Date.now()) return {};
  metadata.set(path, { ...known, expires_at: null });
  return { expires_at: null };
}

/** A read of one of the ways there are. */
async function readSomehow(): Promise<void> {
  const { api } = anyReader();
  const shelf = random(2) === 0 ? anyShelf() : (replaced[random(replaced.length)] ?? anyShelf());
  const path = pathsOn(shelf)[random(PER_SHELF)] as string;
  switch (random(5)) {
    case 0:
      return void (await api.get(url(shelf, { decrypt: "true" })));
    case 1:
      return void (await api.get(url(path, {}, "/settings/value")));
    // Of many there is no second version: it is 404 then, and no read.
    case 2:
      return void (await api.get(url(path, { version: String(1 + random(2)) }, "/settings/value")));
    case 3:
      return void (await api.get(url(path, { format: "json" }, "/settings/render")));
    default: {
      const refs = pathsOn(shelf)
        .slice(0, 5)
        .map((each) => `project/${world.project.id}/${each}`);
      return void (await api.post("/settings/resolve", { body: { refs } }));
    }
  }
}

type Event = {
  id: string;
  at: string;
  principal_id: string;
  action: string;
  outcome: string;
  operation: string;
  follows: string | null;
  details: Record<string, string>;
  settings: { id: string; path: string; version: number | null }[];
};
type Known = {
  version: number;
  since: number;
  deleted: boolean;
  lastRead: number | null;
  readers: Map<string, { principal_id: string; version: number; at: number }>;
};

async function log(): Promise<Event[]> {
  const events: Event[] = [];
  for (let cursor = ""; ; ) {
    const query = { order: "asc", limit: "1000", ...(cursor === "" ? {} : { cursor }) };
    const page = await made(world.owner.api.get(url(undefined, query, "/audit")));
    events.push(...page.events);
    // What reads the log is on record as well, so a page is never empty: the end is a page of that alone.
    if (page.events.length <= 1) return events;
    cursor = page.next_cursor;
  }
}

/** What the log says of each path: written when, read when, by whom. */
function told(events: readonly Event[]): Map<string, Known> {
  const known = new Map<string, Known>();
  const undone = new Set(
    events.flatMap(({ outcome, follows }) => (outcome === "failed" && follows !== null ? [follows] : [])),
  );
  for (const { id, at, principal_id, action, outcome, details, settings } of events) {
    if (outcome !== "allowed" || undone.has(id)) continue;
    for (const { path, version } of settings) {
      const time = Date.parse(at);
      const one = known.get(path) ?? {
        version: 0,
        since: 0,
        deleted: false,
        lastRead: null,
        readers: new Map(),
      };
      known.set(path, one);
      if (action === "write" && (version ?? 0) > one.version) {
        one.version = version ?? 0;
        one.since = time;
      }
      if (action === "write") one.deleted = details["change"] === "deleted";
      if (action === "decrypt" && version !== null) {
        one.lastRead = Math.max(one.lastRead ?? 0, time);
        const key = `${principal_id} ${version}`;
        one.readers.set(key, { principal_id, version, at: Math.max(one.readers.get(key)?.at ?? 0, time) });
      }
    }
  }
  return known;
}

function findingsOf(path: string, one: Known, now: number): string[] {
  const { rotate_after_days: days = null, expires_at = null } = metadata.get(path) ?? {};
  const expires = expires_at === null ? null : Date.parse(expires_at);
  const found: [string, boolean][] = [
    ["rotation_overdue", days !== null && one.since + days * DAY_MS <= now],
    ["expiring", expires !== null && expires > now && expires <= now + WITHIN_DAYS * DAY_MS],
    ["expired", expires !== null && expires <= now],
    ["never_read", one.lastRead === null],
    ["unread", one.lastRead !== null && one.lastRead < now - UNUSED_DAYS * DAY_MS],
    ["pinned_readers", pinnedOf(one, now).length > 0],
  ];
  return found.flatMap(([name, holds]) => (holds ? [name] : []));
}

function pinnedOf(one: Known, now: number): string[] {
  return [...one.readers.values()]
    .filter(
      ({ version, at }) => version !== one.version && at > one.since && at >= now - UNUSED_DAYS * DAY_MS,
    )
    .map(({ principal_id, version, at }) => `${principal_id} ${version} ${new Date(at).toISOString()}`)
    .toSorted();
}

test("10,000 settings with random histories: the report and the log agree on all of them", async () => {
  await onDay(0, async () => {
    for (let group = 0; group < GROUPS; group++)
      await put(
        Array.from({ length: SHELVES }, (_, shelf) => pathsOn(shelfOf(group, shelf)).map(born)).flat(),
      );
  });
  for (let day = 8; day < DAYS; day += 12) {
    await onDay(day, async () => {
      for (let each = 0; each < 6; each++) {
        const shelf = anyShelf();
        replaced.push(shelf);
        await put(pathsOn(shelf).map((path) => ({ path, value: `of day ${day} ${each}`, ...unended(path) })));
      }
      const { api } = anyReader();
      const doomed = pathsOn(anyShelf())[random(PER_SHELF)];
      await api.delete(url(doomed));
      if (random(2) === 0) await api.post(url(doomed, {}, "/settings/restore"));
    });
    await onDay(day + 3, async () => {
      for (let round = 0; round < 10; round++) await Promise.all(Array.from({ length: 8 }, readSomehow));
    });
  }
  await onDay(DAYS, async () => {
    const now = Date.now();
    const known = told(await log());
    expect(known.size).toBe(GROUPS * SHELVES * PER_SHELF);
    const live = [...known].filter(([, { deleted }]) => !deleted);
    const expected = new Map(
      live
        .map(
          ([path, one]) =>
            [
              path,
              { findings: findingsOf(path, one, now), pinned: pinnedOf(one, now), version: one.version },
            ] as const,
        )
        .filter(([, { findings }]) => findings.length > 0),
    );
    const reported = new Map<string, { findings: string[]; pinned: string[]; version: number }>();
    let totals: Record<string, number> = {};
    for (let cursor: string | null = ""; cursor !== null; ) {
      const query = {
        within_days: String(WITHIN_DAYS),
        unused_days: String(UNUSED_DAYS),
        ...(cursor === "" ? {} : { cursor }),
      };
      const page = await made(world.owner.api.get(url(undefined, query, "/settings/report")));
      for (const { path, findings, pinned_readers, version } of page.settings) {
        const pinned = pinned_readers.map(
          (each: { principal_id: string; version: number; last_read_at: string }) =>
            `${each.principal_id} ${each.version} ${each.last_read_at}`,
        );
        reported.set(path, { findings, pinned: pinned.toSorted(), version });
      }
      ({ totals, next_cursor: cursor } = page);
    }
    const count = (finding: string): number =>
      [...expected.values()].filter(({ findings }) => findings.includes(finding)).length;
    const names = ["rotation_overdue", "expiring", "expired", "never_read", "unread", "pinned_readers"];
    expect(totals).toEqual({
      settings: live.length,
      ...Object.fromEntries(names.map((name) => [name, count(name)])),
    });
    // Each finding is there to be agreed on.
    for (const name of names) expect([name, count(name) > 10]).toEqual([name, true]);
    expect([...reported.keys()].toSorted()).toEqual([...expected.keys()].toSorted());
    for (const [path, what] of expected) expect([path, reported.get(path)]).toEqual([path, what]);
    console.log(`the report and the log agree: ${JSON.stringify(totals)}`);
  });
}, 400_000);
