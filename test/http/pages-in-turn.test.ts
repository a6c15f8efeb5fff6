// Large pages take turns: who asks for many of them keeps nobody waiting until the last is made, neither whoever reads
// one value nor another organization.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";

const LARGE = 16;
const MANY = 80;

let broker: TestBroker;
let greedy: World;
let modest: World;
beforeAll(async () => {
  broker = await startBroker();
  [greedy, modest] = [await furnish(broker), await furnish(broker)];
  for (const { writer, project } of [greedy, modest])
    for (let n = 0; n < LARGE; n++)
      await made(
        writer.api.put(settingsUrl(project, `secret/Custom/pages/p${n}`), {
          body: { value: "x".repeat(60_000) },
        }),
      );
  await made(
    greedy.writer.api.put(settingsUrl(greedy.project, "secret/Custom/one"), { body: { value: "one" } }),
  );
});

afterAll(() => broker.close());

/** Asks for many pages of a megabyte at once. `made`: how many have been answered. */
function flood() {
  const url = settingsUrl(greedy.project, "secret/Custom/pages/", { decrypt: "true" });
  const state = { made: 0 };
  const all = Array.from({ length: MANY }, async () => {
    const { status, body } = await greedy.reader.api.get(url);
    expect([status, body.settings.length]).toEqual([200, LARGE]);
    state.made += 1;
  });
  return { state, all: Promise.all(all), first: Promise.race(all) };
}

test("one value is read while many large pages are being made", async () => {
  const { state, all, first } = flood();
  await first;
  const before = state.made;
  // The first is read ahead; the others are too large for that.
  const small = settingsUrl(greedy.project, "secret/Custom/one", { decrypt: "true" });
  const large = settingsUrl(greedy.project, "secret/Custom/pages/p1", { decrypt: "true" });
  const strict = settingsUrl(greedy.project, "secret/Custom/pages/p2", {}, "/settings/value");
  for (const url of [small, large, strict]) expect((await greedy.writer.api.get(url)).status).toBe(200);
  expect(state.made - before).toBeLessThan(MANY / 2);
  await all;
});

test("another organization's page waits for a few of them, not for all", async () => {
  const { state, all, first } = flood();
  await first;
  const before = state.made;
  const url = settingsUrl(modest.project, "secret/Custom/pages/", { decrypt: "true" });
  const { status, body } = await modest.reader.api.get(url);
  expect([status, body.settings.length]).toEqual([200, LARGE]);
  expect(state.made - before).toBeLessThan(MANY / 2);
  await all;
});
