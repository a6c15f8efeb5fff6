// What the tests of rotation share: the calls on one project's settings, values that the broker generates, and hooks
// whose receivers behave as a test says.
import { expect } from "vitest";
import { type TestBroker, type World, made, settingsUrl } from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { type Behave, type Receiver, startReceiver } from "./receiver.ts";
import { sql } from "./rights-kit.ts";
import { attack, settingsOf } from "./settings-kit.ts";

type Running = () => { readonly broker: TestBroker; readonly world: World };

/** The calls at the broker that runs by the time they are made. */
export function rotationsOn(running: Running) {
  const settings = () => settingsOf(running().world.keeper.api, running().world.project);
  const at = (path: string, of = "/settings/rotate") => settingsUrl(running().world.project, path, {}, of);
  const rotate = (path: string, body: object, api = running().world.keeper.api) =>
    api.post(at(path), { body });
  const rotationsOf = async (path: string) =>
    (await made(running().world.reader.api.get(at(path, "/settings/rotations")))).rotations;
  const valueOf = async (path: string, query = {}) => (await settings().value(path, query)).body;
  const sweep = () => running().broker.service.broker.retireOldVersions(100);

  const generated = async (generator: object) => {
    const path = "secret/Custom/generated";
    await made(settings().put(path, `before ${JSON.stringify(generator)}`));
    const answer = await rotate(path, { generator });
    expect(answer.status).toBe(200);
    const { value, version } = await valueOf(path);
    expect(answer.body.rotation).toMatchObject({
      state: "done",
      new_version: version,
      old_version: version - 1,
    });
    expect(answer.text).not.toContain(JSON.stringify(value).slice(1, -1));
    return { value: value as string, public_key: answer.body.rotation.public_key as string | null };
  };

  const readNoted = (path: string, version: number) =>
    until(`a read of version ${version} noted`, async () => {
      const text = `SELECT v.last_accessed_at FROM setting_versions v JOIN settings s ON s.id = v.setting_id
        WHERE s.path = $1 AND v.version = $2 AND v.last_accessed_at IS NOT NULL`;
      return (await attack(running().broker, text, [path, version])).rowCount === 1;
    });

  return { at, rotate, rotationsOf, valueOf, sweep, generated, readNoted };
}

/** Hooks of the project, and how their rotations get on. */
export function rotationHooksOn(running: Running) {
  const { rotationsOf } = rotationsOn(running);
  const receivers: Receiver[] = [];

  /** A webhook of the project whose receiver behaves so. */
  async function hooked(behave: Behave) {
    const receiver = await startReceiver(behave);
    receivers.push(receiver);
    const url = settingsUrl(running().world.project, undefined, {}, "/webhooks");
    const webhook = await made(
      running().world.owner.api.post(url, { body: { url: receiver.url, events: [] } }),
    );
    return { receiver, id: webhook.id as string };
  }
  const soon = (path: string) =>
    sql(
      running().broker,
      `UPDATE rotations SET next_at = now() WHERE path = '${path}' AND state = 'pending'`,
    );
  const ask = async () => {
    const { broker } = running().broker.service;
    await broker.askRotationHooks((error) => {
      throw error;
    });
    await broker.rotationHooksDrained();
  };
  /** Asks until the rotation is no longer pending. */
  async function settled(path: string) {
    let rotation: Awaited<ReturnType<typeof rotationsOf>>[number];
    await until(`${path} no longer pending`, async () => {
      await ask();
      [rotation] = await rotationsOf(path);
      if (rotation.state !== "pending") return true;
      await soon(path);
      return false;
    });
    return rotation;
  }

  return { receivers, hooked, soon, ask, settled };
}
