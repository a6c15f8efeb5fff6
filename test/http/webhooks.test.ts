// Webhooks: what is told, how it is signed, that nothing is lost or held up by a bad receiver, and whose business it is.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, furnish, made, settingsUrl, startBroker } from "../harness/broker.ts";
import { until } from "../harness/until.ts";
import { type Behave, LOOPBACK, isSigned } from "./receiver.ts";
import { type Owner, attack, inSeconds, later, scoped, settingsOf } from "./settings-kit.ts";
import { ALL, type Hook, hooksOn, hooksUrl, innerService, typesOf } from "./webhooks-kit.ts";

const DAY = 86_400;

let broker: TestBroker;
let world: World;
const { receivers, hooked, remove, deliveriesOf, hurry } = hooksOn(() => ({ broker, world }));

beforeAll(async () => {
  broker = await startBroker({ environment: LOOPBACK });
  world = await furnish(broker);
});
afterAll(async () => {
  await broker.close();
  await Promise.all(receivers.map((each) => each.close()));
});

describe("what is told", () => {
  test("each change, in signed messages without a value; an organization's webhook hears of its projects", async () => {
    const own = await hooked(world.project);
    const above = await hooked(world.organization);
    const settings = settingsOf(world.keeper.api, world.project);
    const path = "secret/Custom/told";
    const canary = "canary-7f3a9c-secret";
    await made(settings.put(path, canary));
    await made(settings.put(path, canary));
    await made(settings.put(path, `${canary}-two`));
    await made(settings.patch(path, { description: canary.slice(0, 6) }));
    await made(settings.rollback(path, 1));
    await made(settings.destroy(path, 2));
    await made(settings.remove(path));
    await made(settings.restore(path));
    await made(settings.purge(path));
    const told = [
      "setting.created",
      "setting.version_added",
      "setting.changed",
      "setting.version_added",
      "setting.version_destroyed",
      "setting.deleted",
      "setting.restored",
      "setting.purged",
    ];
    for (const hook of [own, above]) {
      await hook.receiver.until(({ length }) => length >= told.length);
      expect(typesOf(hook).toSorted()).toEqual(told.toSorted());
      for (const message of hook.receiver.received) {
        expect(isSigned(message, hook.secret)).toBe(true);
        expect(Math.abs(message.timestamp - Date.now() / 1_000)).toBeLessThan(60);
        expect(message.text).not.toContain("canary");
        expect(message.body.data).toMatchObject({
          event_id: message.id,
          owner_type: "project",
          owner_id: world.project.id,
          path,
          principal_id: world.keeper.id,
        });
      }
      await remove(hook);
    }
    // The same event has the same id wherever it is told.
    const ids = (hook: Hook) => new Set(hook.receiver.received.map(({ id }) => id));
    expect(ids(own)).toEqual(ids(above));
  });

  test("rotation due, expiring, and bursts of denials: each once", async () => {
    const hook = await hooked(world.project, undefined, [
      "setting.rotation_due",
      "setting.expiring",
      "access.denied_burst",
    ]);
    const settings = settingsOf(world.writer.api, world.project);
    await made(settings.put("secret/Custom/due", "x", { rotate_after_days: 10 }));
    await made(settings.put("secret/Custom/ending", "x", { expires_at: inSeconds(40 * DAY) }));
    const denials = Array.from({ length: 25 }, () => settingsOf(world.stranger.api, world.project).list());
    expect((await Promise.all(denials)).map(({ status }) => status)).toEqual(denials.map(() => 403));
    const { broker: inner } = broker.service;
    await inner.tellBursts(10);
    await inner.tellBursts(10);
    // Days later the lease of one that is still under way would be over, and it would be sent again.
    const isDelivered = async () => (await deliveriesOf(hook, { state: "delivered" })).length === 1;
    await until("the burst's delivery", isDelivered);
    await later(11 * DAY, async () => {
      await Promise.all([inner.tellDue(100), inner.tellDue(100)]);
      await inner.tellDue(100);
    });
    // What is under way already is not to be sent a second time.
    await hurry(hook, "attempts = 0");
    await hook.receiver.until(({ length }) => length >= 3);
    const told = hook.receiver.received.map(({ body }) => [body.type, body.data["path"]]);
    expect(told.toSorted(([one], [other]) => String(one).localeCompare(String(other)))).toEqual([
      ["access.denied_burst", null],
      ["setting.expiring", "secret/Custom/ending"],
      ["setting.rotation_due", "secret/Custom/due"],
    ]);
    expect(
      hook.receiver.received.find(({ body }) => body.type === "access.denied_burst")?.body.data["denied"],
    ).toBe("25");
    expect((await deliveriesOf(hook)).length).toBe(3);
    await remove(hook);
  });

  test("an import tells of each setting", async () => {
    const hook = await hooked(world.project);
    const body = { settings: [1, 2, 3].map((name) => ({ path: `secret/Custom/many/${name}`, value: "x" })) };
    await made(
      world.writer.api.post(settingsUrl(world.project, undefined, {}, "/settings/import"), { body }),
    );
    await hook.receiver.until(({ length }) => length >= 3);
    expect(typesOf(hook)).toEqual(Array.from({ length: 3 }, () => "setting.created"));
    await remove(hook);
  });
});

describe("bad receivers", () => {
  test("one that fails, hangs, redirects inward or is not there loses no event and slows nobody", async () => {
    // What a redirect would lead to: a service that only the broker's machine can reach.
    const inner = await innerService();
    let isHealed = false;
    const once500: Behave = () => (isHealed ? 204 : 500);
    const bad = [
      await hooked(world.project, once500),
      await hooked(world.project, () => (isHealed ? 200 : "hang")),
      await hooked(world.project, (_message, response) => {
        if (isHealed) return 204;
        response.writeHead(302, { location: inner.url }).end();
        return undefined;
      }),
    ];
    const gone = await hooked(world.project);
    await gone.receiver.close();
    receivers.splice(receivers.indexOf(gone.receiver), 1);
    const good = await hooked(world.project);
    const settings = settingsOf(world.writer.api, world.project);
    const count = 30;
    const started = performance.now();
    for (let each = 0; each < count; each++)
      await made(settings.put("secret/Custom/steady", `value ${each}`));
    // One may come twice, under its id.
    await good.receiver.until((received) => new Set(received.map(({ id }) => id)).size >= count);
    // A hang is given up after ten seconds: long before that all is delivered to whoever takes it.
    expect(performance.now() - started).toBeLessThan(9_000);
    expect(new Set(good.receiver.received.map(({ id }) => id)).size).toBe(count);
    const [failing, , redirecting] = bad;
    await until("what a test expects of deliveries", async () =>
      (await deliveriesOf(failing as Hook)).some(({ attempts }: { attempts: number }) => attempts > 0),
    );
    await redirecting?.receiver.until(({ length }) => length > 0);
    await until("what a test expects of deliveries", async () =>
      (await deliveriesOf(redirecting as Hook)).some(
        ({ last_flaw }: { last_flaw: string }) => last_flaw === "redirect",
      ),
    );
    await until("what a test expects of deliveries", async () =>
      (await deliveriesOf(gone)).some(({ last_flaw }: { last_flaw: string }) => last_flaw === "connection"),
    );
    expect(inner.asked()).toBe(0);
    isHealed = true;
    for (const hook of bad) {
      // Lost is nothing: all of them come, some again, and then under the same id.
      for (const hanging of [hook]) await hurry(hanging);
      await until("what a test expects of deliveries", async () => {
        await hurry(hook);
        return (await deliveriesOf(hook, { state: "delivered" })).length === count;
      });
      const ids = new Set(hook.receiver.received.map(({ id }) => id));
      expect(ids).toEqual(new Set(good.receiver.received.map(({ id }) => id)));
    }
    expect(inner.asked()).toBe(0);
    inner.close();
    for (const hook of [...bad, gone, good]) await remove(hook);
  }, 60_000);

  test("after its last attempt a message is a dead letter: listed, and replayed under its id", async () => {
    let isHealed = false;
    const hook = await hooked(world.project, () => (isHealed ? 204 : 503));
    await made(settingsOf(world.writer.api, world.project).put("secret/Custom/dead", "x"));
    const replayOf = ({ id }: { readonly id: string }) =>
      world.owner.api.post(hooksUrl(world.project, `/${hook.id}/deliveries/${id}/replay`));
    const [pending] = await deliveriesOf(hook, { state: "pending" });
    expect((await replayOf(pending)).status).toBe(409);
    await until("what a test expects of deliveries", async () => {
      await hurry(hook);
      return (await deliveriesOf(hook, { state: "dead" })).length === 1;
    });
    const [dead] = await deliveriesOf(hook, { state: "dead" });
    expect(dead).toMatchObject({
      attempts: 11,
      last_status: 503,
      last_flaw: "status",
      type: "setting.created",
    });
    expect(hook.receiver.received.length).toBe(11);
    isHealed = true;
    expect((await replayOf(dead)).status).toBe(204);
    await until(
      "what a test expects of deliveries",
      async () => (await deliveriesOf(hook, { state: "delivered" })).length === 1,
    );
    expect(new Set(hook.receiver.received.map(({ id }) => id))).toEqual(new Set([dead.event_id]));
    await remove(hook);
  }, 30_000);

  test("two replicas share the work: each message comes once", async () => {
    const second = await startBroker({ beside: broker, environment: LOOPBACK });
    const hook = await hooked(world.project);
    const settings = settingsOf(world.writer.api, world.project);
    for (let each = 0; each < 40; each++) await made(settings.put("secret/Custom/shared", `value ${each}`));
    await until(
      "what a test expects of deliveries",
      async () => (await deliveriesOf(hook, { state: "delivered" })).length === 40,
    );
    expect(hook.receiver.received.length).toBe(40);
    await second.close();
    await remove(hook);
  });
});

describe("managing", () => {
  const body = { url: "https://hooks.example.com/x", events: ALL };
  const create = (api: typeof world.owner.api, owner: Owner = world.project, given: object = body) =>
    api.post(hooksUrl(owner), { body: given });

  test("made, listed, changed, disabled, removed; the secret is shown once and rests sealed", async () => {
    const answer = await create(world.owner.api);
    expect([answer.status, answer.headers.get("location")]).toEqual([201, `/webhooks/${answer.body.id}`]);
    const { secret, ...shown } = answer.body;
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    const one = hooksUrl(world.project, `/${shown.id}`);
    expect((await world.owner.api.get(one)).body).toEqual(shown);
    expect((await world.owner.api.get(hooksUrl(world.project))).body.webhooks).toEqual([shown]);
    const { rows } = await attack(broker, "SELECT sealed FROM webhooks WHERE id = $1", [shown.id]);
    expect(rows[0].sealed.includes(Buffer.from(secret.slice(6), "base64"))).toBe(false);
    const patched = await world.owner.api.patch(one, { body: { disabled: true, description: "off" } });
    expect(patched.body).toMatchObject({ disabled: true, description: "off", url: body.url });
    await made(settingsOf(world.writer.api, world.project).put("secret/Custom/unheard", "x"));
    const hook = { id: shown.id, owner: world.project } as Hook;
    expect(await deliveriesOf(hook)).toEqual([]);
    expect((await world.owner.api.delete(one)).status).toBe(204);
    expect((await world.owner.api.get(one)).status).toBe(404);
    expect(broker.log()).not.toContain(secret);
  });

  test("an address that is private, no https or has a user is refused", async () => {
    for (const url of [
      "http://hooks.example.com/",
      "https://10.0.0.1/",
      "https://169.254.169.254/latest",
      "https://user:pass@hooks.example.com/",
      "ftp://hooks.example.com/",
      "nonsense",
    ]) {
      const { status, body: problem } = await create(world.owner.api, world.project, { ...body, url });
      expect([status, problem.errors?.[0].pointer]).toEqual([422, "/url"]);
    }
    expect((await create(world.owner.api, world.project, { ...body, events: ["setting.read"] })).status).toBe(
      400,
    );
  });

  test("takes an owner, with a credential without scopes; of others' it tells nothing", async () => {
    const { owner, writer, stranger, keeper, project } = world;
    expect((await create(writer.api)).status).toBe(403);
    expect((await create(stranger.api)).status).toBe(403);
    const narrow = await scoped(broker, owner.api, `manage:project/${project.id}`);
    expect((await create(narrow)).status).toBe(403);
    const { id } = await made(create(keeper.api));
    const other = await furnish(broker);
    expect((await other.owner.api.get(hooksUrl(other.project, `/${id}`))).status).toBe(404);
    expect((await other.owner.api.get(hooksUrl(project, `/${id}`))).status).toBe(403);
    expect((await other.owner.api.delete(hooksUrl(other.project, `/${id}`))).status).toBe(404);
    expect((await owner.api.get(hooksUrl(world.organization, `/${id}`))).status).toBe(404);
    const replay = hooksUrl(project, `/${id}/deliveries/${id}/replay`);
    expect((await keeper.api.post(replay)).status).toBe(404);
    await made(keeper.api.delete(hooksUrl(project, `/${id}`)));
    const own = { type: "user", id: owner.id };
    const { id: mine } = await made(create(owner.api, own));
    expect((await broker.admin.get(hooksUrl(own, `/${mine}`))).status).toBe(403);
  });
});
