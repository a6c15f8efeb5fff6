// A broker that is killed, PostgreSQL and all: between a change and its delivery, and at every point of a rotation. No
// event is lost, and what is current is always readable.
import { setTimeout as pause } from "node:timers/promises";
import { type TestContext, expect, test } from "vitest";
import { type Api, client, made, settingsUrl } from "../harness/broker.ts";
import { type BrokerProcess, newHome, spawnBroker } from "../harness/process.ts";
import { until } from "../harness/until.ts";
import { type Behave, type Receiver, isSigned, startReceiver } from "../http/receiver.ts";

const environment = { COFFER_PRIVATE_ADDRESSES_ALLOWED: "127.0.0.0/8" };

/** A broker with a project in a home of its own, to be killed and started again; removed when the test is over. */
async function startVictim(onTestFinished: TestContext["onTestFinished"]) {
  const home = await newHome();
  let broker: BrokerProcess = await spawnBroker(home.path, environment);
  const receivers: Receiver[] = [];
  onTestFinished(async () => {
    await broker.killAll();
    await home.remove();
    await Promise.all(receivers.map((each) => each.close()));
  });
  const admin = await broker.admin();
  const organization = await made(admin.post("/organizations", { body: { name: "acme" } }));
  const { id } = await made(
    admin.post(`/organizations/${organization.id}/projects`, { body: { name: "p" } }),
  );
  const api = (): Api => client(broker.url, admin.token);
  const url = (path?: string, at = "/settings") => settingsUrl({ type: "project", id }, path, {}, at);
  return {
    api,
    url,
    killAll: () => broker.killAll(),
    restart: async (): Promise<void> => {
      broker = await spawnBroker(home.path, environment);
    },
    hooked: async (behave: Behave, events: readonly string[]) => {
      const receiver = await startReceiver(behave);
      receivers.push(receiver);
      const body = { url: receiver.url, events };
      const hook = await made(api().post(url(undefined, "/webhooks"), { body }));
      return { receiver, id: hook.id as string, secret: hook.secret as string };
    },
  };
}

// Side by side: each waits, for most of its time, until a lease of the dead has run out.

test.concurrent("what was committed is delivered after the restart, and what comes twice has the same id", async ({
  onTestFinished,
}) => {
  const { api, url, killAll, restart, hooked } = await startVictim(onTestFinished);
  let isHealed = false;
  const { receiver, secret } = await hooked(() => (isHealed ? 204 : "hang"), ["setting.created"]);
  const paths = Array.from({ length: 12 }, (_, each) => `secret/Custom/delivered/${each}`);
  for (const path of paths) await made(api().put(url(path), { body: { value: "x" } }));
  // Some are on their way and unanswered, the others not even that.
  await receiver.until(({ length }) => length >= 2);
  await killAll();
  const before = receiver.received.length;
  expect(before).toBeLessThan(paths.length);
  isHealed = true;
  await restart();
  const heard = () => receiver.received.slice(before);
  await receiver.until(() => new Set(heard().map(({ id }) => id)).size >= paths.length);
  const idOf = new Map<unknown, string>();
  for (const message of receiver.received) {
    expect(isSigned(message, secret)).toBe(true);
    const { path } = message.body.data;
    expect(idOf.get(path) ?? message.id).toBe(message.id);
    idOf.set(path, message.id);
  }
  expect(new Set(idOf.keys())).toEqual(new Set(paths));
  expect(new Set(idOf.values()).size).toBe(paths.length);
}, 90_000);

type Round = {
  readonly path: string;
  readonly hook: boolean;
  readonly kill: "sent" | "asked" | "answered" | "done";
};
const ROUNDS: readonly Round[] = (
  [
    [false, "sent"],
    [false, "done"],
    [true, "sent"],
    [true, "asked"],
    [true, "answered"],
    [false, "sent"],
    [true, "answered"],
  ] as const
).map(([hook, kill], index) => ({ path: `secret/Custom/rotated/${index}`, hook, kill }));

test.concurrent("a rotation that is killed at any point leaves the old or the new value current, never neither", async ({
  onTestFinished,
}) => {
  const { api, url, killAll, restart, hooked } = await startVictim(onTestFinished);
  let round: Round | null = null;
  const killed = { done: Promise.withResolvers<void>() };
  const kill = (delayMs: number): void => {
    void pause(delayMs).then(killAll).then(killed.done.resolve, killed.done.reject);
  };
  const { id } = await hooked(({ body }) => {
    if (round === null || body.data["path"] !== round.path) return { confirmed: true };
    if (round.kill === "asked") {
      kill(0);
      return "hang";
    }
    // From before the answer arrives to after all that follows is committed.
    if (round.kill === "answered") kill(ROUNDS.indexOf(round));
    return { confirmed: true };
  }, []);
  for (const each of ROUNDS)
    await made(api().put(url(each.path), { body: { value: `old of ${each.path}` } }));
  const outcomes: string[] = [];
  for (const each of ROUNDS) {
    killed.done = Promise.withResolvers<void>();
    round = each;
    const body = { value: `new of ${each.path}`, ...(each.hook ? { hook: { webhook_id: id } } : {}) };
    const asked = api()
      .post(url(each.path, "/settings/rotate"), { body })
      .catch(() => null);
    // Where the hook is what brings the kill about, an answer that means no hook must not be waited for in silence.
    const ended = asked.then((answer) => {
      if (answer !== null && answer.status >= 300) throw new Error(`${answer.status}: ${answer.text}`);
      return killed.done.promise;
    });
    if (each.kill === "sent") kill(2 + 4 * ROUNDS.indexOf(each));
    if (each.kill === "done") {
      await asked;
      kill(0);
    }
    await ended;
    round = null;
    await restart();
    const found = await made(api().get(url(each.path, "/settings/value")));
    expect([`old of ${each.path}`, `new of ${each.path}`]).toContain(found.value);
    expect(found.version).toBe(found.value.startsWith("old") ? 1 : 2);
    outcomes.push(`${each.hook ? "hook " : ""}${each.kill}: ${found.value.slice(0, 3)}`);
    // A writer is not held up by what a crash left.
    const { versions } = await made(api().get(url(each.path, "/settings/versions")));
    expect(versions.find(({ version }: { version: number }) => version === found.version).state).toBe(
      "enabled",
    );
  }
  console.log(`what was current after each kill: ${outcomes.join("; ")}`);
  // What waited for a hook is asked again once its lease is over, and each ends one way or the other.
  for (const each of ROUNDS)
    await until(
      `the rotation of ${each.path} done`,
      async () => {
        // The value before its rotation's state: it may be activated between the two.
        const { value } = await made(api().get(url(each.path, "/settings/value")));
        const { rotations } = await made(api().get(url(each.path, "/settings/rotations")));
        if (rotations.every(({ state }: { state: string }) => state === "done")) {
          const settled = await made(api().get(url(each.path, "/settings/value")));
          expect(settled.value).toBe(`${rotations.length === 0 ? "old" : "new"} of ${each.path}`);
          return true;
        }
        expect(rotations[0].state).toBe("pending");
        expect(value).toBe(`old of ${each.path}`);
        return false;
      },
      120,
    );
}, 180_000);
