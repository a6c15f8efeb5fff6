// A broker that is killed under load, PostgreSQL and all, three times over: what was acknowledged is there.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Api, client, made, settingsUrl } from "../harness/broker.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";

const ROUNDS = 3;
const WRITERS = 4;
/** Enough that their reads share statements. */
const READERS = 24;
/** As many of each are acknowledged before the kill. */
const ACKNOWLEDGED = 60;
const PAGE = 200;
const PATHS = ["secret/Custom/shared", "secret/Custom/other", "secret/Custom/third"];
const environment = { COFFER_RATE_LIMIT: "1000000" };

type Written = { readonly path: string; readonly version: number; readonly value: string };

let home: Awaited<ReturnType<typeof newHome>>;
let broker: BrokerProcess;
let token: string;
let project: { type: string; id: string };
const written: Written[] = [];
/** The X-Request-IDs of acknowledged reads and writes. */
const acknowledged = { reads: new Set<string>(), writes: new Set<string>() };

beforeAll(async () => {
  home = await newHome();
  broker = await spawnBroker(home.path, environment);
  const admin = await broker.admin();
  token = admin.token;
  const organization = await made(admin.post("/organizations", { body: { name: "acme" } }));
  const { id } = await made(
    admin.post(`/organizations/${organization.id}/projects`, { body: { name: "p" } }),
  );
  project = { type: "project", id };
  for (const path of PATHS) await write(admin, path, `first of ${path}`, `first-${path.length}`);
});

afterAll(async () => {
  await broker.killAll();
  await home.remove();
});

async function write(api: Api, path: string, value: string, id: string): Promise<void> {
  const { status, body } = await api.put(settingsUrl(project, path), {
    body: { value },
    headers: { "x-request-id": id },
  });
  expect(status).toBeLessThan(300);
  written.push({ path, version: body.version, value });
  acknowledged.writes.add(id);
}

async function read(api: Api, path: string, id: string): Promise<void> {
  const headers = { "x-request-id": id };
  const { status, body } = await api.get(settingsUrl(project, path, { decrypt: "true" }), { headers });
  expect(status).toBe(200);
  expect(body.settings[0].decrypted).toBe(true);
  acknowledged.reads.add(id);
}

/** Repeats `act` until the broker is no more; only what it answered counts, and a wrong answer fails the test. */
async function untilKilled(killed: () => boolean, act: (turn: number) => Promise<void>): Promise<void> {
  for (let turn = 0; !killed(); turn++) {
    try {
      await act(turn);
    } catch (error) {
      if (!killed() || !(error instanceof TypeError)) throw error;
    }
  }
}

const pathOf = (turn: number): string => PATHS[turn % PATHS.length] ?? "";

async function killUnderLoad(round: number): Promise<void> {
  const api = client(broker.url, token);
  let over = false;
  const goal = {
    reads: acknowledged.reads.size + ACKNOWLEDGED,
    writes: acknowledged.writes.size + ACKNOWLEDGED,
  };
  const enough = Promise.withResolvers<void>();
  const counted = (): void => {
    if (acknowledged.reads.size >= goal.reads && acknowledged.writes.size >= goal.writes) enough.resolve();
  };
  const load = [
    ...Array.from({ length: WRITERS }, (_, who) =>
      untilKilled(
        () => over,
        async (turn) => {
          const id = `w-${round}-${who}-${turn}`;
          await write(api, turn % 4 === 3 ? `secret/Custom/own/${id}` : pathOf(turn), `value of ${id}`, id);
          counted();
        },
      ),
    ),
    ...Array.from({ length: READERS }, (_, who) =>
      untilKilled(
        () => over,
        async (turn) => {
          await read(api, pathOf(turn), `r-${round}-${who}-${turn}`);
          counted();
        },
      ),
    ),
  ];
  const done = Promise.all(load);
  await Promise.race([enough.promise, done]);
  over = true;
  await broker.killAll();
  await done;
}

async function auditedIds(api: Api): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  for (let cursor = ""; ; ) {
    const more = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { body } = await api.get(
      `/audit?owner_type=project&owner_id=${project.id}&order=asc&outcome=allowed&limit=${PAGE}${more}`,
    );
    for (const event of body.events) ids.set(event.request_id, event.action);
    // Never empty: reading the log is on record as well.
    if (body.events.length < PAGE) return ids;
    cursor = body.next_cursor;
  }
}

test("keeps what it acknowledged over three kills of everything, and starts again by itself", async () => {
  for (let round = 0; round < ROUNDS; round++) {
    await killUnderLoad(round);
    broker = await spawnBroker(home.path, environment);
    expect(broker.output()).not.toContain("admin's token");
    const api = broker.as(token);

    const numbers = written.map(({ path, version }) => `${path} ${version}`);
    expect(new Set(numbers).size).toBe(numbers.length);
    const found = await Promise.all(
      written.map(async ({ path, version }) => {
        const { body } = await api.get(
          settingsUrl(project, path, { version: String(version) }, "/settings/value"),
        );
        return { path, version: body.version, value: body.value };
      }),
    );
    expect(found).toEqual(written);

    const audited = await auditedIds(api);
    expect([...acknowledged.reads].filter((id) => audited.get(id) !== "decrypt")).toEqual([]);
    expect([...acknowledged.writes].filter((id) => audited.get(id) !== "write")).toEqual([]);
  }
}, 120_000);
