// What an import costs, and what it does not write.
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { inSeconds, later, settingsOf } from "./settings-kit.ts";

let broker: TestBroker;
let world: World;
beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
});
afterAll(() => broker.close());

const imported = (settings: object[], query = {}) =>
  world.writer.api.post(settingsUrl(world.project, undefined, query, "/settings/import"), {
    body: { settings },
  });
const custom = (name: string, value = `value of ${name}`) => ({ path: `secret/Custom/${name}`, value });

/** Statements that find, hold or write any of a setting. */
const ABOUT_SETTINGS = /settings|setting_versions|path_ledger|data_keys/;

test("as many as there may be take no more statements than a few, made or overwritten, and each is as it was sent", async () => {
  const ask = async (shelf: string, count: number, value: string): Promise<number> => {
    const settings = Array.from({ length: count }, (_, n) => custom(`${shelf}/${n}`, `${value} ${n}`));
    const spy = vi.spyOn(pg.Query.prototype, "submit");
    try {
      await made(imported(settings, { conflict: "overwrite" }));
      return spy.mock.contexts.filter((query) => ABOUT_SETTINGS.test((query as { text: string }).text))
        .length;
    } finally {
      spy.mockRestore();
    }
  };
  /** Now and then the broker's own work comes between. */
  const fewest = async (count: number, value: string): Promise<number> =>
    Math.min(await ask(`s${count}`, count, value), await ask(`t${count}`, count, value));
  const few = await fewest(3, "first");
  expect(await fewest(500, "first")).toBeLessThanOrEqual(few);
  expect(await fewest(500, "second")).toBeLessThanOrEqual(few);
  const { settings } = await made(settingsOf(world.writer.api, world.project).open("secret/Custom/s500"));
  expect(settings).toHaveLength(500);
  for (const { path, value, version } of settings)
    expect([value, version]).toEqual([`second ${path.split("/").at(-1)}`, 2]);
});

test("what nobody could read is not written: an expiry that is over, be it the setting's own", async () => {
  const over = inSeconds(-1);
  const soon = { ...custom("over/b"), expires_at: inSeconds(3_600) };
  await made(imported([custom("over/a"), soon]));
  const items = [custom("over/a", "new"), custom("over/b", "new")];
  expect((await imported([...items, { ...custom("over/c"), expires_at: over }])).body.errors).toMatchObject([
    { pointer: "/settings/2/expires_at" },
  ]);
  await later(2 * 3_600, async () => {
    for (const query of [{ conflict: "overwrite" }, { conflict: "overwrite", dry_run: "true" }]) {
      const { status, body } = await imported(items, query);
      expect([status, body.code, body.errors.length]).toEqual([422, "invalid_value", 1]);
      expect(body.errors[0]).toMatchObject({
        pointer: "/settings/1/expires_at",
        detail: "expires_at of secret/Custom/over/b would be in the past.",
      });
    }
    const env = { dotenv: "a=new\nb=new", under: "secret/Custom/over" };
    const url = settingsUrl(world.project, undefined, { conflict: "overwrite" }, "/settings/import");
    expect((await world.writer.api.post(url, { body: env })).body.errors).toMatchObject([
      { pointer: "/dotenv", detail: "expires_at of secret/Custom/over/b would be in the past." },
    ]);
    const { body } = await imported([items[0] as object], { conflict: "overwrite" });
    expect(body.results).toMatchObject([{ outcome: "overwritten", version: 2 }]);
  });
});
