// The feed by itself, over a log that the test moves by hand: what is heard between catching up and hearing with the
// others, which no clock can be trusted to hit; and how many may listen.
import { expect, test } from "vitest";
import { type Told, createChangeFeed } from "../../src/domain/change-feed.ts";
import type { Caller, Grant } from "../../src/domain/admission.ts";
import { INSTANCE_TENANT } from "../../src/domain/audit.ts";
import { RIGHTS_CHANGED } from "../../src/domain/change-events.ts";
import type { ChangeLog } from "../../src/domain/lifecycle-ports.ts";

const TENANT = "01900000-0000-7000-8000-000000000001";
const caller = {} as Caller;
const owner = { owner_type: "organization" as const, owner_id: TENANT };

function grantOf(principal: string): Grant {
  return {
    principal: { id: principal, ceilings: [], organization_id: TENANT },
    token: { expires_at: null },
    access: null,
    key: { ...owner, tenant_id: TENANT },
    at: new Date(0),
    decide: () => ({ verdict: "allow" }),
  } as unknown as Grant;
}

function world(limits?: { all: number; perPrincipal: number }) {
  let log: Told[] = [];
  let tail = 0n;
  /** Runs in the middle of a look at the log, after it was read and before it is answered. */
  let between: (() => Promise<void>) | null = null;
  /** The same, in the middle of finding out where the log is. */
  let placing: (() => Promise<void>) | null = null;
  const changes: ChangeLog = {
    async place() {
      const found = tail;
      const act = placing;
      placing = null;
      await act?.();
      return found;
    },
    async after(position, tenant, limit) {
      if (isBroken) throw new Error("away");
      const found = log
        .filter((each) => each.position > position && (tenant === null || each.tenant_id === tenant))
        .slice(0, limit);
      const act = between;
      between = null;
      await act?.();
      return found;
    },
    keptSince: async () => (log[0]?.position ?? tail + 1n) - 1n,
    forget: async () => undefined,
  };
  let allowed = true;
  let isBroken = false;
  const gate = {
    read: async (
      _caller: Caller,
      _need: unknown,
      find: (grant: Grant) => Promise<{ found: bigint }>,
      answer: (found: bigint, permit: unknown, grant: Grant) => Promise<unknown>,
    ) => {
      const grant = grantOf("p");
      const { found } = await find(grant);
      return answer(found, null, grant);
    },
    stillMay: async () => {
      if (!allowed) throw new Error("no");
      return grantOf("p");
    },
  };
  const feed = createChangeFeed(gate as unknown as Parameters<typeof createChangeFeed>[0], changes, limits);
  const add = (kind: Told["kind"] = "setting.created", tenant_id = TENANT): void => {
    const position = ++tail;
    const place = { tenant_id, ...owner, setting_id: null, path: `secret/Custom/${position}` };
    log.push({
      ...place,
      id: String(position),
      at: new Date(0),
      kind,
      version: 1,
      principal_id: null,
      details: {},
      position,
    });
  };
  return {
    feed,
    add,
    break: () => (isBroken = true),
    interrupt: (act: () => Promise<void>) => (between = act),
    interruptPlace: (act: () => Promise<void>) => (placing = act),
    forbid: () => (allowed = false),
    forget: (upTo: bigint) => (log = log.filter(({ position }) => position > upTo)),
    listen: async (after: bigint | null = null, room = async (): Promise<void> => undefined) => {
      const heard: number[] = [];
      let isEnded = false;
      const listening = await feed.listen(caller, {
        owner,
        path: null,
        after,
        room,
        tell: ({ position }) => heard.push(Number(position)),
        missed: () => heard.push(-1),
        end: () => (isEnded = true),
      });
      await listening.begin();
      return { heard, listening, isEnded: () => isEnded };
    },
  };
}

test("what comes while a listener catches up, and is told to the others, is told to it as well, in order and once", async () => {
  const { feed, add, interrupt, listen } = world();
  const other = await listen();
  for (let each = 0; each < 5; each++) add();
  await feed.pump();
  interrupt(async () => {
    // The late one has read up to 5 and has not been answered: now 6 comes, and all others hear of it.
    add();
    await feed.pump();
  });
  const late = await listen(2n);
  add();
  await feed.pump();
  expect(other.heard).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(late.heard).toEqual([3, 4, 5, 6, 7]);
  expect(late.listening.position()).toBe(7n);
});

test("who lost a right hears nothing that is told with the loss", async () => {
  const { feed, add, forbid, listen } = world();
  const listener = await listen();
  add();
  await feed.pump();
  forbid();
  add(RIGHTS_CHANGED);
  add();
  await feed.pump();
  expect([listener.heard, listener.isEnded(), feed.count()]).toEqual([[1], true, 0]);
});

test("who loses a right while it catches up hears nothing that came after the loss, whoever's log has it", async () => {
  const { feed, add, forbid, listen } = world();
  await listen();
  for (let each = 0; each < 150; each++) add();
  await feed.pump();
  let reads = 0;
  const late = await listen(0n, async () => {
    // It has read its first batch; somebody else gives these their places, and our next look at all comes later.
    if (++reads !== 2) return;
    forbid();
    add(RIGHTS_CHANGED, INSTANCE_TENANT);
    add();
  });
  await feed.pump();
  expect([late.heard.at(-1), late.isEnded(), feed.count()]).toEqual([150, true, 0]);
});

test("who lost a right between the decision and listening, in another's log, hears nothing that came after", async () => {
  const { feed, add, forbid, interruptPlace, listen } = world();
  await listen();
  interruptPlace(async () => {
    forbid();
    add(RIGHTS_CHANGED, INSTANCE_TENANT);
    add();
    // The others have passed it by the time that this one is among them.
    await feed.pump();
  });
  const late = await listen();
  expect([late.heard, late.isEnded()]).toEqual([[], true]);
});

test("what is forgotten while a listener catches up is told as missed", async () => {
  const { add, forget, listen } = world();
  for (let each = 0; each < 250; each++) add();
  let reads = 0;
  const late = await listen(0n, async () => {
    if (++reads === 2) forget(200n);
  });
  expect([late.heard.slice(99, 102), late.heard.at(-1)]).toEqual([[100, -1, 201], 250]);
});

test("what came while nobody listened is told to who asks for it, and to nobody else", async () => {
  const { feed, add, listen } = world();
  (await listen()).listening.stop();
  add();
  add();
  const fresh = await listen();
  const back = await listen(1n);
  add();
  await feed.pump();
  expect([fresh.heard, back.heard]).toEqual([[3], [2, 3]]);
});

test("one that cannot be told what it missed is ended, and is no listener any more", async () => {
  const { feed, add, listen, ...log } = world();
  add();
  log.break();
  const late = await listen(0n);
  expect([late.heard, late.isEnded(), feed.count()]).toEqual([[], true, 0]);
});

test("a principal, and a replica, bears so many", async () => {
  const { listen } = world({ all: 3, perPrincipal: 2 });
  await listen();
  await listen();
  await expect(listen()).rejects.toMatchObject({ code: "rate_limited" });
  const full = world({ all: 1, perPrincipal: 2 });
  await full.listen();
  await expect(full.listen()).rejects.toMatchObject({ code: "unavailable" });
});
