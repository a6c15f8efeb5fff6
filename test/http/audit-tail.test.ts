// Contract, section 7: a collector that tails the log misses nothing. Two replicas share the database.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Api, type TestBroker, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { narrower, organizationOf, person, projectOf } from "./rights-kit.ts";

let broker: TestBroker;
let beside: TestBroker;
beforeAll(async () => {
  broker = await startBroker();
  beside = await startBroker({ beside: broker });
});
afterAll(async () => {
  await beside.close();
  await broker.close();
});

test("asc always has a next cursor, and a tail on two replicas misses nothing that is written meanwhile, nor tells it twice", async () => {
  const { id, api } = await person(broker);
  const organization = await organizationOf(broker, id, "tailed");
  const project = await projectOf(api, organization, "p");
  const { api: elsewhere } = await narrower(beside, api, {});
  const seen: { id: string }[] = [];
  let cursor = "";
  const step = async (who: Api) => {
    const url = `/audit?owner_type=organization&owner_id=${organization.id}&order=asc&limit=5&action=write${cursor === "" ? "" : `&cursor=${cursor}`}`;
    const { body } = await who.get(url);
    expect(body.next_cursor).toEqual(expect.any(String));
    seen.push(...body.events);
    cursor = body.next_cursor;
    return body.events.length as number;
  };
  const state = { writing: true };
  const writers = Array.from({ length: 40 }, (_, index) =>
    made(
      (index % 2 === 0 ? api : beside.as(elsewhere.token)).put(
        settingsUrl(project, `secret/Custom/n${index % 10}`),
        { body: { value: `v${index}` } },
      ),
    ),
  );
  const all = Promise.all(writers).finally(() => {
    state.writing = false;
  });
  for (let round = 0; state.writing; round++) await step(round % 2 === 0 ? api : beside.as(elsewhere.token));
  await all;
  while ((await step(api)) > 0);
  expect(await step(api)).toBe(0);
  expect(new Set(seen.map(({ id }) => id)).size).toBe(seen.length);
  expect(seen).toHaveLength(40);
  const url = `/audit?owner_type=organization&owner_id=${organization.id}&action=write&limit=1000`;
  const whole: { id: string }[] = (await made(api.get(url))).events;
  expect(seen.map(({ id }) => id).toSorted()).toEqual(whole.map(({ id }) => id).toSorted());
});

test("asc tells a page in the order in which it happened, reads and writes alike, and desc the other way round", async () => {
  const { id, api } = await person(broker);
  const organization = await organizationOf(broker, id, "ordered");
  const project = await projectOf(api, organization, "p");
  const at = settingsUrl(project, "secret/Custom/ordered");
  const done: string[] = [];
  for (let turn = 0; turn < 10; turn++) {
    const answer =
      turn % 2 === 0 ? api.put(at, { body: { value: `v${turn}` } }) : api.get(`${at}&decrypt=true`);
    done.push((await answer).headers.get("x-request-id") ?? "");
  }
  const told = async (order: "asc" | "desc") => {
    const { events } = await made(api.get(`/audit?owner_type=project&owner_id=${project.id}&order=${order}`));
    const requests = events.map(({ request_id }: { request_id: string }) => request_id);
    return requests.filter((request: string) => done.includes(request));
  };
  expect(await told("asc")).toEqual(done);
  expect(await told("desc")).toEqual(done.toReversed());
});
