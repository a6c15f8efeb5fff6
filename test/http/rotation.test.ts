// Rotation: what generators make, the overlap and the end of the old version, and hooks that confirm, refuse or stay
// silent: what is current is always readable, and a pending version never is current.
import { createHook } from "node:async_hooks";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import {
  type TestBroker,
  type World,
  S3,
  client,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { tokenMaker } from "../../src/auth/api-token.ts";
import { LOOPBACK } from "./receiver.ts";
import { rotationHooksOn, rotationsOn } from "./rotation-kit.ts";
import { attack, eventsOf, later, scoped, settingsOf } from "./settings-kit.ts";

const HOUR = 3_600;

let broker: TestBroker;
let world: World;
let settings: ReturnType<typeof settingsOf>;
beforeAll(async () => {
  broker = await startBroker({ environment: LOOPBACK });
  world = await furnish(broker);
  settings = settingsOf(world.keeper.api, world.project);
});
afterAll(() => broker.close());

const running = () => ({ broker, world });
const { at, rotate, rotationsOf, valueOf, sweep, generated, readNoted } = rotationsOn(running);

describe("generators", () => {
  test("passwords have the length and the classes asked for", async () => {
    expect((await generated({ kind: "password" })).value).toMatch(/^[\x21-\x7e]{32}$/);
    const { value } = await generated({ kind: "password", length: 8, classes: ["digits", "upper"] });
    expect(value).toMatch(/^(?=.*\d)(?=.*[A-Z])[A-Z\d]{8}$/);
  });

  test("hex, base64 and uuid have the size asked for, and are not the same twice", async () => {
    expect((await generated({ kind: "hex", bytes: 20 })).value).toMatch(/^[0-9a-f]{40}$/);
    const one = await generated({ kind: "base64" });
    expect(Buffer.from(one.value, "base64").length).toBe(32);
    expect((await generated({ kind: "base64" })).value).not.toBe(one.value);
    expect((await generated({ kind: "uuid" })).value).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  });

  test.each([
    [{ kind: "ed25519" }, "ed25519"],
    [{ kind: "ecdsa", curve: "P-384" }, "ec"],
    [{ kind: "rsa", bits: 2048 }, "rsa"],
  ])(
    "%o: the value is the private half, and the public one is shown to whoever may list",
    async (generator, type) => {
      const { value, public_key } = await generated(generator);
      expect(createPrivateKey(value).asymmetricKeyType).toBe(type);
      const derived = createPublicKey(value).export({ type: "spki", format: "pem" });
      expect(public_key).toBe(derived);
      expect((await rotationsOf("secret/Custom/generated"))[0].public_key).toBe(derived);
    },
  );

  test("a public key that somebody else put into the database is never shown", async () => {
    await generated({ kind: "ed25519" });
    await attack(
      broker,
      "UPDATE rotations SET public_part = set_byte(public_part, 20, get_byte(public_part, 20) # 1) WHERE public_part IS NOT NULL",
    );
    const { status, body } = await world.reader.api.get(at("secret/Custom/generated", "/settings/rotations"));
    expect([status, body.code]).toEqual([502, "manager_failed"]);
  });

  test("no key is made for whoever may not have it, known or unknown", async () => {
    const path = "secret/Custom/guarded";
    await made(settings.put(path, "x"));
    let keys = 0;
    const hook = createHook({ init: (_id, type) => (keys += type === "KEYPAIRGENREQUEST" ? 1 : 0) }).enable();
    onTestFinished(() => void hook.disable());
    const body = { generator: { kind: "rsa", bits: 2048 } };
    expect((await rotate(path, body, client(broker.url, tokenMaker.newToken().token))).status).toBe(401);
    for (const { api } of [world.reader, world.stranger])
      expect((await rotate(path, body, api)).status).toBe(403);
    expect((await rotate("secret/Custom/not-there", body)).status).toBe(404);
    expect(keys).toBe(0);
    expect((await rotate(path, body)).status).toBe(200);
    expect(keys).toBe(1);
  });

  test("what does not fit is refused: a generator for a composite value, a parameter of another kind, both, neither", async () => {
    await made(settings.put("connect/S3/rotated", S3));
    await made(settings.put("secret/Custom/plain", "x"));
    const statuses = async (path: string, bodies: object[]) =>
      Promise.all(bodies.map(async (body) => (await rotate(path, body)).status));
    expect(await statuses("connect/S3/rotated", [{ generator: { kind: "uuid" } }])).toEqual([422]);
    expect(
      await statuses("secret/Custom/plain", [
        { generator: { kind: "uuid", bits: 2048 } },
        { generator: { kind: "uuid" }, value: "x" },
        {},
        { generator: { kind: "rsa", bits: 1024 } },
      ]),
    ).toEqual([422, 400, 400, 400]);
    const given = await rotate("connect/S3/rotated", { value: { ...S3, secret_access_key: "rotated-key" } });
    expect(given.body.setting.version).toBe(2);
  });
});

/** What became of the path's rotations when nobody was there, the last first. */
const housekept = async (path: string): Promise<readonly string[]> =>
  (await made(world.owner.api.get(`${at(path, "/audit")}&action=housekeep`))).events.map(
    ({ details }: { readonly details: { readonly change: string } }) => details.change,
  );

describe("the overlap", () => {
  test("the old version is readable until nobody has read it for a whole overlap, and is then destroyed", async () => {
    const path = "secret/Custom/overlapping";
    await made(settings.put(path, "old"));
    const { rotation } = await made(rotate(path, { value: "new", destroy_old: true, overlap_seconds: HOUR }));
    expect(rotation).toMatchObject({ state: "overlap", old_version: 1, new_version: 2 });
    await later(HOUR - 60, async () => {
      await sweep();
      expect((await valueOf(path, { version: "1" })).value).toBe("old");
    });
    await later(HOUR + 430, async () => {
      await sweep();
      expect((await valueOf(path)).value).toBe("new");
      expect((await valueOf(path, { version: "1" })).value).toBe("old");
    });
    expect((await rotationsOf(path))[0]).toMatchObject({ state: "overlap" });
    await later(3 * HOUR, async () => {
      expect(await sweep()).toBeGreaterThan(0);
      expect((await settings.value(path, { version: "1" })).status).toBe(410);
      expect((await valueOf(path)).value).toBe("new");
      expect((await rotationsOf(path))[0]).toMatchObject({ state: "done", ended_at: expect.any(String) });
    });
    expect(await housekept(path)).toEqual(["version_destroyed", "retirement_postponed"]);
  });

  test("the old version stays while the current one's row is not a broker's: it may be the last good value", async () => {
    const path = "secret/Custom/last-good";
    await made(settings.put(path, "old"));
    await made(rotate(path, { value: "new", destroy_old: true, overlap_seconds: 60 }));
    const cut = `UPDATE setting_versions SET sealed = substring(sealed for 20) WHERE version = 2 AND setting_id = (SELECT id FROM settings WHERE path = $1)`;
    expect((await attack(broker, cut, [path])).rowCount).toBe(1);
    await later(HOUR, async () => {
      await sweep();
      expect((await settings.value(path)).status).toBe(502);
      expect((await valueOf(path, { version: "1" })).value).toBe("old");
    });
    expect(await housekept(path)).toEqual(["retirement_postponed"]);
  });

  test("whoever reads the old version by way of another replica keeps it as well, before that replica tells of it", async () => {
    const path = "secret/Custom/overlapping-elsewhere";
    const other = await startBroker({ beside: broker });
    const there = settingsOf(other.as(world.keeper.api.token), world.project);
    const pinned = async () => (await there.value(path, { version: "1" })).body.value;
    const told = (version: number) => readNoted(path, version);
    try {
      await made(settings.put(path, "old"));
      expect(await pinned()).toBe("old");
      await told(1);
      await made(rotate(path, { value: "new", destroy_old: true, overlap_seconds: HOUR }));
      // What was noted of a setting is written together: that it is not the old one's turn yet is due to this.
      await later(HOUR - 200, async () => {
        expect((await there.value(path)).body.value).toBe("new");
        await told(2);
      });
      await later(HOUR - 100, async () => expect(await pinned()).toBe("old"));
      await later(HOUR + 5, async () => {
        await sweep();
        expect(await pinned()).toBe("old");
      });
    } finally {
      // It tells of all at its end.
      await other.close();
    }
    await later(HOUR + 430, async () => {
      await sweep();
      expect((await valueOf(path, { version: "1" })).value).toBe("old");
    });
    await later(3 * HOUR, async () => {
      await sweep();
      expect((await settings.value(path, { version: "1" })).status).toBe(410);
    });
  });

  test("without destroy_old it stays for ever; with it, the right to destroy is needed", async () => {
    const path = "secret/Custom/kept";
    await made(settings.put(path, "old"));
    expect((await rotate(path, { value: "no", destroy_old: true }, world.writer.api)).status).toBe(403);
    await made(rotate(path, { value: "new" }, world.writer.api));
    await later(400 * 24 * HOUR, sweep);
    expect((await valueOf(path, { version: "1" })).value).toBe("old");
    expect((await rotate(path, { value: "x" }, world.reader.api)).status).toBe(403);
    expect((await rotate("secret/Custom/none", { value: "x" })).status).toBe(404);
    const stale = await world.keeper.api.post(at(path), {
      body: { value: "x" },
      headers: { "if-match": '"1"' },
    });
    expect(stale.status).toBe(412);
  });
});

describe("a hook", () => {
  const { receivers, hooked, soon, ask, settled } = rotationHooksOn(running);
  afterAll(() => Promise.all(receivers.map((each) => each.close())));

  test("that confirms makes the pending version current; it can read it by its number, and no event holds it", async () => {
    const path = "secret/Custom/hooked";
    const seen: unknown[] = [];
    const { receiver, id } = await hooked(async ({ body }) => {
      seen.push((await valueOf(path)).value, (await valueOf(path, { version: "2" })).value);
      return { confirmed: body.type === "setting.rotation_requested" };
    });
    await made(settings.put(path, "old value"));
    const { rotation, setting } = await made(rotate(path, { value: "new value", hook: { webhook_id: id } }));
    expect([rotation.state, setting.version]).toEqual(["pending", 1]);
    expect(await settled(path)).toMatchObject({ state: "done", activated_at: expect.any(String) });
    expect(seen.slice(0, 2)).toEqual(["old value", "new value"]);
    expect(await valueOf(path)).toMatchObject({ value: "new value", version: 2 });
    const [message] = receiver.received;
    expect(message).toMatchObject({
      id: rotation.id,
      body: { data: { path, old_version: 1, new_version: 2, rotation_id: rotation.id } },
    });
    expect(message?.text).not.toContain("value");
  });

  test("that refuses has it fall back: the pending version is destroyed, the old one stays current", async () => {
    const path = "secret/Custom/refused";
    const { id } = await hooked(() => ({ confirmed: false }));
    await made(settings.put(path, "old"));
    await made(rotate(path, { value: "new", hook: { webhook_id: id } }));
    expect(await settled(path)).toMatchObject({ state: "fallen_back", reason: "refused" });
    expect(await valueOf(path)).toMatchObject({ value: "old", version: 1 });
    expect((await settings.value(path, { version: "2" })).status).toBe(410);
    // A path's numbers are never given twice.
    expect((await made(settings.put(path, "newer"))).version).toBe(3);
  });

  test("that fails is asked again under the same id, until its time is over", async () => {
    const path = "secret/Custom/silent";
    const answers: (number | object)[] = [500, 200, { confirmed: "perhaps" }];
    const { receiver, id } = await hooked(() => answers.shift() ?? 503);
    await made(settings.put(path, "old"));
    await made(rotate(path, { value: "new", hook: { webhook_id: id, confirm_within_seconds: HOUR } }));
    for (let tries = 1; tries <= 4; tries++) {
      await soon(path);
      await ask();
      await receiver.until(({ length }) => length >= tries);
    }
    expect((await rotationsOf(path))[0]).toMatchObject({ state: "pending", reason: "not_confirmed" });
    expect(new Set(receiver.received.map(({ id: each }) => each)).size).toBe(1);
    expect((await rotate(path, { value: "other" })).status).toBe(409);
    await later(2 * HOUR, ask);
    expect((await rotationsOf(path))[0]).toMatchObject({ state: "fallen_back" });
    expect(await valueOf(path)).toMatchObject({ value: "old", version: 1 });
  });

  test("that confirms what a writer has overtaken changes nothing", async () => {
    const path = "secret/Custom/overtaken";
    const { id } = await hooked(async () => {
      await made(settings.put(path, "written meanwhile"));
      return { confirmed: true };
    });
    await made(settings.put(path, "old"));
    await made(rotate(path, { value: "new", hook: { webhook_id: id } }));
    expect(await settled(path)).toMatchObject({ state: "fallen_back", reason: "superseded" });
    expect(await valueOf(path)).toMatchObject({ value: "written meanwhile", version: 3 });
  });

  test("is a webhook of the owner or of the organization above, and of nobody else", async () => {
    const path = "secret/Custom/whose";
    await made(settings.put(path, "old"));
    const other = await furnish(broker);
    const foreign = await made(
      other.owner.api.post(settingsUrl(other.project, undefined, {}, "/webhooks"), {
        body: { url: "http://127.0.0.1:1/", events: [] },
      }),
    );
    const above = await made(
      world.owner.api.post(settingsUrl(world.organization, undefined, {}, "/webhooks"), {
        body: { url: "http://127.0.0.1:1/", events: [] },
      }),
    );
    const refused = await rotate(path, { value: "new", hook: { webhook_id: foreign.id } });
    expect([refused.status, refused.body.errors[0].pointer]).toEqual([422, "/hook/webhook_id"]);
    const answer = await rotate(path, { value: "new", hook: { webhook_id: above.id } });
    expect(answer.body.rotation.state).toBe("pending");
    expect((await eventsOf(world, answer))[0].details).toMatchObject({ change: "rotation_begun" });
    // A pending version is destroyed like any other; the hook then confirms nothing.
    const narrow = await scoped(broker, world.owner.api, `destroy:project/${world.project.id}`);
    expect((await settingsOf(narrow, world.project).destroy(path, 2)).status).toBe(204);
    expect((await valueOf(path)).value).toBe("old");
  });
});
