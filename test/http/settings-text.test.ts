// What is kept of a page's text is the text: the same bytes as are written without it.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { REGISTRY, S3, type TestBroker, type World, furnish, made, startBroker } from "../harness/broker.ts";
import { type SettingsApi, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
let api: SettingsApi;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  api = settingsOf(world.writer.api, world.project);
});
afterAll(() => broker.close());

/** A page is kept from its first reading on, and its text from the second: the others are of that. */
const READINGS = 4;

async function textsOf(path: string, decrypt: boolean): Promise<string[]> {
  const texts: string[] = [];
  for (let reading = 0; reading < READINGS; reading++) {
    const { status, text } = await (decrypt ? api.open(path) : api.list(path));
    expect(status).toBe(200);
    texts.push(text);
  }
  return texts;
}

/** Of all that is told of a setting, only this is another at the next reading. */
const timeless = (text: string): string =>
  text.replace(/"last_accessed_at":("[^"]*"|null)/g, '"last_accessed_at":null');

const awkward = fc.constantFrom(
  '"value":null',
  '","last_accessed_at":null,"',
  '[]{}\\"\\u0000',
  "\u2028\u2029",
  "\u0001\u001f\u007f",
  "🔑é",
  "$& $1 $$",
);
const text = fc
  .oneof(awkward, fc.string({ unit: "binary", minLength: 1, maxLength: 60 }))
  .filter((each) => each.isWellFormed() && !each.includes("\0"));
const plain = text.filter((each) => each.trim() !== "");

describe("a page that is read again and again", () => {
  test.each([true, false])("is the same text each time, decrypt=%s", async (decrypt) => {
    const base = `connect/${decrypt ? "S3" : "ContainerRegistry"}`;
    for (const name of ["a", "b/c"]) await made(api.put(`${base}/t/${name}`, decrypt ? S3 : REGISTRY));
    const [first = "", ...others] = await textsOf(`${base}/t/`, decrypt);
    expect(JSON.parse(first).settings).toHaveLength(2);
    expect(first).toBe(JSON.stringify(JSON.parse(first)));
    for (const other of others) expect(timeless(other)).toBe(timeless(first));
  });

  test("is the same text also where there is too much of it to be kept, beside one that is", async () => {
    const labels = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`label-${n}`, "é".repeat(60)]));
    await made(api.put("secret/Custom/long/much", "1", { description: "x".repeat(900), labels }));
    await made(api.put("secret/Custom/long/plain", "2"));
    for (const decrypt of [true, false]) {
      const [first = "", ...others] = await textsOf("secret/Custom/long/", decrypt);
      expect(JSON.parse(first).settings).toHaveLength(2);
      for (const other of others) expect(timeless(other)).toBe(timeless(first));
    }
  });

  test("has the time of the last disclosure of each reading", async () => {
    await made(api.put("secret/Custom/timed", "1"));
    const texts = await textsOf("secret/Custom/timed", true);
    const times = texts.map((text) => JSON.parse(text).settings[0].last_accessed_at);
    expect(times[0]).toBeNull();
    expect(times.slice(1).every((time, n) => typeof time === "string" && (n === 0 || time >= times[n]))).toBe(
      true,
    );
    const [{ last_accessed_at: listed }] = (await api.list("secret/Custom/timed")).body.settings;
    expect(listed >= (times.at(-1) ?? "")).toBe(true);
  });

  test("whatever text is in a value, a description or a label", async () => {
    let [n, taken] = [0, 0];
    await fc.assert(
      fc.asyncProperty(text, plain, plain, async (value, description, label) => {
        const path = `secret/Custom/text/${(n += 1)}`;
        const written = await api.put(path, value, { description, labels: { label } });
        if (written.status === 422 || written.status === 400) return;
        expect(written.status).toBe(201);
        taken += 1;
        const [first = "", ...others] = await textsOf(path, true);
        expect(JSON.parse(first).settings).toMatchObject([{ value, description, labels: { label } }]);
        expect(first).toBe(JSON.stringify(JSON.parse(first)));
        for (const other of others) expect(timeless(other)).toBe(timeless(first));
        const [listed = "", ...again] = await textsOf(path, false);
        for (const other of again) expect(timeless(other)).toBe(timeless(listed));
      }),
      { numRuns: 60 },
    );
    expect(taken).toBeGreaterThan(20);
  });

  test("whatever text is in the fields of a composite value, in whatever order they were given", async () => {
    const required = fc.record({ access_key_id: plain, secret_access_key: plain });
    const others = fc.record(
      { session_token: plain, region: plain, bucket: plain, force_path_style: fc.boolean() },
      { requiredKeys: [] },
    );
    let n = 0;
    await fc.assert(
      fc.asyncProperty(others, required, async (some, keys) => {
        const value = { ...some, ...keys };
        const path = `connect/S3/text/${(n += 1)}`;
        await made(api.put(path, value));
        const [first = "", ...again] = await textsOf(path, true);
        expect(JSON.parse(first).settings[0].value).toEqual(value);
        for (const other of again) expect(timeless(other)).toBe(timeless(first));
      }),
      { numRuns: 40 },
    );
  });
});
