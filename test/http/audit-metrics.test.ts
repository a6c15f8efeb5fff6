// What /metrics says of the audit is what the audit has, also of reads that share a statement.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  await made(world.writer.api.put(settingsUrl(world.project, "secret/Custom/a"), { body: { value: "x" } }));
});
afterAll(() => broker.close());

/** The sum of a metric's samples that have all of these labels. */
async function sumOf(name: string, ...labels: string[]): Promise<number> {
  const { text } = await broker.admin.get("/metrics");
  const samples = text
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  const found = samples.filter((line) => labels.every((label) => line.includes(label)));
  return found.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

test("each decrypt, list and denial is counted once, plain or not", async () => {
  const read = (query: Record<string, string>) =>
    world.writer.api.get(settingsUrl(world.project, "secret/Custom/a", query));
  const decrypts = () => sumOf("coffer_audit_events_total", 'action="decrypt"', 'outcome="allowed"');
  const lists = () => sumOf("coffer_audit_events_total", 'action="list"', 'outcome="allowed"');
  const denials = () => sumOf("coffer_audit_events_total", 'outcome="denied"');
  const before = [await decrypts(), await lists(), await denials()];
  const written = await sumOf("coffer_audit_batch_events_sum");
  await Promise.all(Array.from({ length: 20 }, () => made(read({ decrypt: "true" }))));
  await made(read({ decrypt: "true", version: "1" }));
  await Promise.all(Array.from({ length: 5 }, () => made(read({}))));
  const stranger = world.stranger.api;
  for (let n = 0; n < 3; n++)
    expect(
      (await stranger.get(settingsUrl(world.project, "secret/Custom/a", { decrypt: "true" }))).status,
    ).toBe(403);
  const after = [await decrypts(), await lists(), await denials()];
  expect(after.map((count, index) => count - (before[index] ?? 0))).toEqual([21, 5, 3]);
  expect((await sumOf("coffer_audit_batch_events_sum")) - written).toBeGreaterThanOrEqual(29);
});
