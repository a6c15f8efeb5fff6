// AWS keeps so many versions of a secret that can be told apart; one more takes the place of the oldest.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestBroker, type World, furnish, startBroker } from "../harness/broker.ts";
import { attack, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud } from "./clouds.ts";

const ROOM = 18;
const PATH = "secret/Custom/full";
const ROWS = `SELECT v.version, v.state, v.location, v.mac
  FROM setting_versions v JOIN settings s ON s.id = v.setting_id WHERE s.path = $1 ORDER BY v.version`;

let cloud: Cloud;
let broker: TestBroker;
let world: World;
beforeAll(async () => {
  cloud = await CLOUDS.aws();
  broker = await startBroker({ environment: cloud.environment });
  world = await furnish(broker);
});
afterAll(async () => {
  await broker?.close();
  await cloud?.close();
});

test("where the oldest was pointed elsewhere by a database writer, nothing is signed: the write is 502, and undone", async () => {
  const settings = settingsOf(world.writer.api, world.project);
  for (let n = 1; n <= ROOM; n++) expect((await settings.put(PATH, `full ${n}`)).status).toBeLessThan(300);
  const genuine = (await attack(broker, ROWS, [PATH])).rows;
  const point = "UPDATE setting_versions SET location = $1 WHERE mac = $2";
  const pointed = await attack(broker, point, [JSON.stringify(genuine[ROOM - 1].location), genuine[0].mac]);
  expect(pointed.rowCount).toBe(1);
  const altered = (await attack(broker, ROWS, [PATH])).rows;
  const refused = await settings.put(PATH, "one too many");
  expect([refused.status, refused.body.code]).toEqual([502, "manager_failed"]);
  expect((await attack(broker, ROWS, [PATH])).rows).toEqual(altered);
  expect((await settings.value(PATH)).body.value).toBe(`full ${ROOM}`);

  await attack(broker, point, [JSON.stringify(genuine[0].location), genuine[0].mac]);
  expect((await settings.put(PATH, "one more")).body.version).toBe(ROOM + 1);
  const states = (await attack(broker, ROWS, [PATH])).rows.map(({ state }) => state);
  expect(states[0]).toMatch(/^destroy(ing|ed)$/);
  expect(states.slice(1)).toEqual(Array.from({ length: ROOM }, () => "enabled"));
});
