// What one owner may keep, where the operator says so: one setting or version more is 409, room made is room.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker({ environment: { COFFER_QUOTA_SETTINGS: "2", COFFER_QUOTA_VERSIONS: "4" } });
  world = await furnish(broker);
});
afterAll(() => broker.close());

const put = (path: string, value: string, owner = world.project) =>
  world.owner.api.put(settingsUrl(owner, `secret/Custom/${path}`), { body: { value } });

test("a setting past the quota is 409 and is not made; others' owners are not touched; a purge makes room", async () => {
  const { project, organization, owner } = world;
  await made(put("a", "1"));
  await made(put("b", "1"));
  const full = await put("c", "1");
  expect([full.status, full.body.code, full.body.detail]).toEqual([
    409,
    "conflict",
    "This owner has its 2 settings; purge one to make room.",
  ]);
  expect((await owner.api.get(settingsUrl(project))).body.settings).toHaveLength(2);
  expect((await put("c", "1", organization)).status).toBe(201);
  // A deleted one is kept until it is purged, and may come back.
  await made(owner.api.delete(settingsUrl(project, "secret/Custom/b")));
  expect((await put("c", "1")).status).toBe(409);
  expect((await put("b", "2")).status).toBe(201);
  await made(owner.api.delete(settingsUrl(project, "secret/Custom/b", { purge: "true" })));
  expect((await put("c", "1")).status).toBe(201);
});

test("a version past the quota is 409; the same value, metadata and reads go on; a destroyed one makes room", async () => {
  const { project, owner } = world;
  const url = settingsUrl(project, "secret/Custom/a");
  // One of a, one of c so far.
  await made(put("a", "2"));
  await made(put("a", "3"));
  const full = await put("a", "4");
  expect([full.status, full.body.detail]).toEqual([
    409,
    "This owner's settings have their 4 versions; destroy some to make room.",
  ]);
  expect((await put("a", "3")).status).toBe(200);
  expect((await owner.api.patch(url, { body: { description: "still" } })).status).toBe(200);
  const rollback = settingsUrl(project, "secret/Custom/a", { version: "1" }, "/settings/rollback");
  expect((await owner.api.post(rollback)).status).toBe(409);
  await made(
    owner.api.delete(settingsUrl(project, "secret/Custom/a", { version: "1" }, "/settings/versions")),
  );
  expect((await put("a", "4")).status).toBe(200);
  expect((await put("a", "5")).status).toBe(409);
  expect(
    (await owner.api.get(settingsUrl(project, "secret/Custom/a", {}, "/settings/value"))).body,
  ).toMatchObject({ value: "4", version: 4 });
});
