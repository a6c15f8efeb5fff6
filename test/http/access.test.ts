// Contract, section 2's table against a second one, written from the contract alone: random roles, for people and
// workers, and random actions over real HTTP.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type Answer,
  type Api,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { NOBODY, organizationOf, person, projectOf } from "./rights-kit.ts";
import { eventsOf, instanceEvents } from "./settings-kit.ts";

type Place = { readonly type: string; readonly id: string; readonly parent: string };
type Actor = { readonly id: string; readonly api: Api; readonly home: string | null };

let broker: TestBroker;
let world: World;
let chief: Api;
let places: Place[] = [];
let actors: Actor[] = [];
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  chief = world.owner.api;
  const second = await organizationOf(broker, world.owner.id, "second");
  const shared = [world.organization, second].map(({ type, id }) => ({ type, id, parent: id }));
  for (const organization of shared.slice())
    for (const name of ["p", "q"])
      shared.push({ ...(await projectOf(chief, organization, name)), parent: organization.id });
  const [one, other] = [await person(broker), await person(broker)];
  const worker = await world.worker(null);
  actors = [
    { ...one, home: null },
    { ...other, home: null },
    { ...worker, home: world.organization.id },
  ];
  places = [...shared, ...actors.map(({ id }) => ({ type: "user", id, parent: id }))];
  for (const place of shared) {
    await made(chief.put(settingsUrl(place, "secret/Custom/a"), { body: { value: "v" } }));
  }
  for (const { api, id, home } of actors)
    if (home === null)
      await made(api.put(settingsUrl({ type: "user", id }, "secret/Custom/a"), { body: { value: "v" } }));
});
afterAll(() => broker.close());

/** The contract's table, row by row. */
const TABLE: Readonly<Record<string, readonly string[]>> = {
  list: ["read", "write", "owner"],
  decrypt: ["write", "owner"],
  write: ["write", "owner"],
  destroy: ["owner"],
  manage: ["owner"],
};

/** The role in force: inheritance as the contract has it, from the roles that were given. */
function roleOf(actor: Actor, place: Place, given: ReadonlyMap<string, string>): string | null {
  if (place.type === "user") return actor.home === null && actor.id === place.id ? "owner" : null;
  if (actor.home !== null && actor.home !== place.parent) return null;
  if (given.get(`${place.parent} ${actor.id}`) === "owner") return "owner";
  return given.get(`${place.id} ${actor.id}`) ?? null;
}

const ACTS: Readonly<Record<string, (api: Api, place: Place) => Promise<Answer>>> = {
  list: (api, place) => api.get(settingsUrl(place)),
  decrypt: (api, place) => api.get(settingsUrl(place, "secret/Custom/a", {}, "/settings/value")),
  write: (api, place) => api.patch(settingsUrl(place, "secret/Custom/a"), { body: { description: "d" } }),
  destroy: (api, place) =>
    api.delete(settingsUrl(place, "secret/Custom/a", { version: "99" }, "/settings/versions")),
  manage: (api, place) => api.get(`/audit?owner_type=${place.type}&owner_id=${place.id}&limit=1`),
};

test("random roles and random actions: HTTP, /access and the table agree", async () => {
  const given = new Map<string, string>();
  const step = fc.record({
    giveTo: fc.nat(2),
    giveAt: fc.nat(5),
    role: fc.constantFrom("read", "write", "owner", "none"),
    acts: fc.array(fc.tuple(fc.nat(2), fc.nat(8), fc.constantFrom(...Object.keys(TABLE))), {
      minLength: 8,
      maxLength: 8,
    }),
  });
  await fc.assert(
    fc.asyncProperty(step, async ({ giveTo, giveAt, role, acts }) => {
      const [to, at] = [actors[giveTo]!, places[giveAt]!];
      const url = `/${at.type}s/${at.id}/members/${to.id}`;
      const key = `${at.id} ${to.id}`;
      const { status } = role === "none" ? await chief.delete(url) : await chief.put(url, { body: { role } });
      const foreign = to.home !== null && to.home !== at.parent;
      expect(status).toBe(
        role === "none" ? (given.has(key) ? 204 : 404) : foreign ? 404 : given.has(key) ? 200 : 201,
      );
      if (role === "none") given.delete(key);
      else if (!foreign) given.set(key, role);

      const told = await Promise.all(
        acts.map(async ([who, where, action]) => {
          const [actor, place] = [actors[who]!, places[where]!];
          const answer = await ACTS[action]!(actor.api, place);
          const query = `owner_type=${place.type}&owner_id=${place.id}&action=${action}`;
          const access = (await actor.api.get(`/access?${query}`)).body;
          return [who, where, action, answer.status !== 403, answer.body?.reason ?? null, access];
        }),
      );
      const expected = acts.map(([who, where, action]) => {
        const held = roleOf(actors[who]!, places[where]!, given);
        const allowed = held !== null && TABLE[action]!.includes(held);
        const reason = held !== null && !allowed ? "insufficient_role" : null;
        return [
          who,
          where,
          action,
          allowed,
          reason,
          { allowed, reason: allowed ? null : "insufficient_role" },
        ];
      });
      expect(told).toEqual(expected);
    }),
    { numRuns: 60 },
  );
});

test("GET /access of another principal is for whoever may manage there", async () => {
  const [one, other, worker] = actors as [Actor, Actor, Actor];
  const place = places[2]!;
  const ask = (api: Api, id: string, rest = "") =>
    api.get(`/access?owner_type=project&owner_id=${place.id}&action=decrypt&principal_id=${id}${rest}`);
  // Whatever the random roles have left them with.
  for (const { id } of [one, other]) await chief.delete(`/organizations/${place.parent}/members/${id}`);
  await made(chief.put(`/projects/${place.id}/members/${one.id}`, { body: { role: "write" } }));
  await made(chief.put(`/projects/${place.id}/members/${other.id}`, { body: { role: "read" } }));
  expect((await ask(chief, one.id)).body).toEqual({ allowed: true, reason: null });
  expect((await ask(chief, one.id, "&path=secret/Custom/a")).body).toEqual({ allowed: true, reason: null });
  expect((await ask(chief, other.id)).body).toEqual({ allowed: false, reason: "insufficient_role" });
  expect((await ask(chief, worker.id)).status).toBe(200);
  expect((await ask(one.api, one.id)).body).toEqual({ allowed: true, reason: null });
  expect((await ask(one.api, other.id)).body).toMatchObject({
    status: 403,
    reason: "insufficient_role",
    required: "manage",
  });
  expect((await ask(broker.admin, one.id)).body.reason).toBeUndefined();
  expect((await chief.get(`/access?owner_type=project&owner_id=${place.id}&action=fly`)).status).toBe(400);
});

test("GET /access is on record with the path and the action asked about, and whose right it was", async () => {
  const { project, reader, writer, keeper, stranger } = world;
  const ask = (api: Api, rest: string, at = project.id) =>
    api.get(`/access?owner_type=project&owner_id=${at}&action=decrypt${rest}`);
  const told = async (answer: Answer, at?: string) => {
    expect(answer.status).toBeLessThan(404);
    const events = at === NOBODY ? await instanceEvents(broker, answer) : await eventsOf(world, answer);
    return events.map(({ action, outcome, path, target_id, details }: Record<string, unknown>) => [
      action,
      outcome,
      path,
      target_id,
      details,
    ]);
  };
  const path = "secret/Custom/a";
  const asked = "decrypt";
  expect(await told(await ask(reader.api, `&path=${path}`))).toEqual([
    ["identify", "allowed", path, null, { asked }],
  ]);
  expect(await told(await ask(reader.api, ""))).toEqual([["identify", "allowed", null, null, { asked }]]);
  expect(await told(await ask(keeper.api, `&path=${path}&principal_id=${reader.id}`))).toEqual([
    ["manage", "allowed", path, reader.id, { asked }],
  ]);
  for (const rest of [`&path=${path}`, ""])
    expect(await told(await ask(writer.api, `${rest}&principal_id=${reader.id}`))).toEqual([
      ["identify", "denied", rest === "" ? null : path, reader.id, { asked, required: "manage" }],
    ]);
  expect(await told(await ask(stranger.api, `&path=${path}`, NOBODY), NOBODY)).toEqual([
    ["identify", "allowed", path, null, { asked: `decrypt:project/${NOBODY}` }],
  ]);
});
