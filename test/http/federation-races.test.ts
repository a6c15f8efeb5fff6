// What changes while a workload's token is being exchanged: the keys are on their way, and the answer is by what stands
// once they are here.
import { type EventEmitter, once } from "node:events";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { made } from "../harness/broker.ts";
import { inTime } from "../harness/until.ts";
import {
  type Body,
  type Federation,
  REFUSED,
  SUBJECT,
  bound,
  ci,
  eventsOf,
  federation,
  providersOf,
  register,
  statusesOf,
  told,
} from "./federation-kit.ts";
import { accessOf, exchange } from "./sign-in-kit.ts";

let all: Federation;
let keyServer: Server;
let gate: PromiseWithResolvers<void>;
beforeAll(async () => {
  all = await federation();
  keyServer = createServer((_request, response) => {
    void gate.promise.then(() => response.end(JSON.stringify(ci.jwks)));
  }).listen(0, "127.0.0.1");
  await once(keyServer, "listening");
});
afterAll(async () => {
  keyServer.closeAllConnections();
  keyServer.close();
  await all.close();
});

/** Begins an exchange, and waits until its keys are asked for. Each has an address of its own, so they always are. */
async function underWay() {
  const { world, broker } = all;
  const worker = await world.worker("write");
  const jwks_uri = `http://127.0.0.1:${(keyServer.address() as AddressInfo).port}/${worker.id}`;
  const body: Body = { ...bound(worker.id), jwks: undefined, jwks_uri };
  const { id } = await register(world, body);
  gate = Promise.withResolvers();
  const asked = once(keyServer as EventEmitter, "request");
  const answer = exchange(broker, ci.token({ sub: SUBJECT }), { client_id: worker.id });
  await inTime(() => "the keys being asked for", asked);
  return { worker, body, url: `${providersOf(world)}/${id}`, answer };
}
type UnderWay = Awaited<ReturnType<typeof underWay>>;

test("a workload whose keys come late signs in, if nothing has changed", async () => {
  const { answer } = await underWay();
  gate.resolve();
  expect(await statusesOf(all.both(await accessOf(answer)))).toEqual([200, 200]);
});

test.each<[string, (at: UnderWay) => Promise<unknown>]>([
  [
    "its provider is replaced by one with another subject",
    ({ url, body, worker }) =>
      made(
        all.world.owner.api.put(url, {
          body: {
            ...body,
            bindings: [{ claims: { sub: "repo:acme/other" }, service_account_id: worker.id }],
          },
        }),
      ),
  ],
  [
    // Whose keys were fetched is not whose are trusted now.
    "its provider is replaced, be it by the same",
    ({ url, body }) => made(all.world.owner.api.put(url, { body })),
  ],
  ["its provider is removed", ({ url }) => made(all.world.owner.api.delete(url))],
  [
    "its service account is disabled",
    ({ worker }) =>
      made(all.world.owner.api.patch(`/service-accounts/${worker.id}`, { body: { disabled: true } })),
  ],
  [
    "its service account is removed",
    ({ worker }) => made(all.world.owner.api.delete(`/service-accounts/${worker.id}`)),
  ],
])("it is refused, and nobody has signed in, if meanwhile %s", async (_what, change) => {
  const at = await underWay();
  await change(at);
  gate.resolve();
  const answer = await at.answer;
  expect(told(answer)).toBe(REFUSED);
  const { owner, organization } = all.world;
  expect(await eventsOf(owner.api, organization, answer)).toEqual([]);
});
