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

test("an import counts what it brings itself: one too many, and nothing of it is there", async () => {
  const { user, keeper } = { user: { type: "user", id: world.owner.id }, keeper: world.owner.api };
  const url = settingsUrl(user, undefined, {}, "/settings/import");
  const items = (count: number, value: string) =>
    Array.from({ length: count }, (_, n) => ({ path: `secret/Custom/${n}`, value }));
  const tooMany = await keeper.post(url, { body: { settings: items(3, "1") } });
  expect([tooMany.status, tooMany.body.code]).toEqual([409, "conflict"]);
  expect((await keeper.get(settingsUrl(user))).body.settings).toEqual([]);
  await made(keeper.post(url, { body: { settings: items(2, "1") } }));
  const overwritten = { body: { settings: items(2, "2") } };
  const overwrite = settingsUrl(user, undefined, { conflict: "overwrite" }, "/settings/import");
  await made(keeper.post(overwrite, overwritten));
  const versions = await keeper.post(overwrite, { body: { settings: items(1, "3") } });
  expect([versions.status, versions.body.code]).toEqual([409, "conflict"]);
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
