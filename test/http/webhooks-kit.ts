// What the tests of webhooks share: webhooks whose receivers behave as a test says, what became of their deliveries, and a
// service that no receiver's redirect may lead to.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestBroker, type World, made, settingsUrl } from "../harness/broker.ts";
import { type Behave, type Receiver, startReceiver } from "./receiver.ts";
import { sql } from "./rights-kit.ts";
import type { Owner } from "./settings-kit.ts";

export const ALL = [
  "setting.created",
  "setting.version_added",
  "setting.changed",
  "setting.deleted",
  "setting.restored",
  "setting.purged",
  "setting.version_destroyed",
];

export type Hook = { receiver: Receiver; id: string; secret: string; owner: Owner };
export const hooksUrl = (owner: Owner, rest = "", query = {}) =>
  settingsUrl(owner, undefined, query, `/webhooks${rest}`);

export const typesOf = ({ receiver }: Hook) => receiver.received.map(({ body }) => body.type);

/** Webhooks at the broker that runs by the time they are asked for. */
export function hooksOn(running: () => { readonly broker: TestBroker; readonly world: World }) {
  const receivers: Receiver[] = [];

  /** A world's own webhook whose receiver behaves so. */
  async function hooked(
    owner: Owner,
    behave?: Behave,
    events: readonly string[] = ALL,
    api = running().world.owner.api,
  ): Promise<Hook> {
    const receiver = await startReceiver(behave);
    receivers.push(receiver);
    const { id, secret } = await made(api.post(hooksUrl(owner), { body: { url: receiver.url, events } }));
    return { receiver, id, secret, owner };
  }
  const remove = ({ owner, id }: Hook) => made(running().world.owner.api.delete(hooksUrl(owner, `/${id}`)));
  const deliveriesOf = async ({ owner, id }: Hook, query = {}) =>
    (await made(running().world.owner.api.get(hooksUrl(owner, `/${id}/deliveries`, query)))).deliveries;
  const hurry = ({ id }: Pick<Hook, "id">, which = "true") =>
    sql(
      running().broker,
      `UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 day'
       WHERE webhook_id = '${id}' AND state = 'pending' AND ${which}`,
    );

  return { receivers, hooked, remove, deliveriesOf, hurry };
}

/** A service that only the broker's machine can reach. */
export async function innerService() {
  let asked = 0;
  const inner = createServer((_request, response) => {
    asked += 1;
    response.end("inner");
  });
  inner.listen(0, "127.0.0.1");
  await once(inner, "listening");
  return {
    url: `http://127.0.0.1:${(inner.address() as AddressInfo).port}/`,
    asked: () => asked,
    close: () => void inner.close(),
  };
}
