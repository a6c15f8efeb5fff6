// What is kept of a setting's lifecycle goes with it, and with its owner: readers, rotations, notices, webhooks, deliveries.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { attack, settingsOf } from "./settings-kit.ts";

const TABLES = ["setting_readers", "rotations", "lifecycle_notices", "webhooks", "webhook_deliveries"];

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
});
afterAll(() => broker.close());

async function counts(): Promise<Record<string, number>> {
  const found: [string, number][] = [];
  for (const table of TABLES) {
    const { rows } = await attack(broker, `SELECT count(*)::int AS count FROM ${table}`);
    found.push([table, rows[0].count]);
  }
  return Object.fromEntries(found);
}

/** A setting that was read, rotated and is overdue; a webhook with something to deliver. */
async function furnished(owner: { type: string; id: string }, path: string): Promise<void> {
  const { api } = world.owner;
  const settings = settingsOf(api, owner);
  const hook = { url: "https://hooks.example.invalid/", events: ["setting.created"] };
  await made(api.post(settingsUrl(owner, undefined, {}, "/webhooks"), { body: hook }));
  await made(settings.put(path, "x", { rotate_after_days: 1 }));
  await made(settings.value(path));
  await made(api.post(settingsUrl(owner, path, {}, "/settings/rotate"), { body: { value: "y" } }));
  await attack(broker, "UPDATE settings SET current_since = now() - interval '2 days' WHERE path = $1", [
    path,
  ]);
  await broker.service.broker.tellDue(10);
  // Has this replica's notes written.
  await made(api.get(settingsUrl(owner, undefined, {}, "/settings/report")));
}

test("with a purge, with a project, and with an organization", async () => {
  const { owner, project, organization } = world;
  await furnished(project, "secret/Custom/purged");
  const before = await counts();
  expect(Object.values(before).every((count) => count > 0)).toBe(true);
  await made(settingsOf(owner.api, project).purge("secret/Custom/purged"));
  expect(await counts()).toEqual({ ...before, setting_readers: 0, rotations: 0, lifecycle_notices: 0 });
  await furnished(project, "secret/Custom/with-project");
  await made(owner.api.delete(`/projects/${project.id}?purge=true`));
  const nothing = Object.fromEntries(TABLES.map((table) => [table, 0]));
  expect(await counts()).toEqual(nothing);
  await furnished(organization, "secret/Custom/with-organization");
  await made(owner.api.delete(`/organizations/${organization.id}?purge=true`));
  expect(await counts()).toEqual(nothing);
});
