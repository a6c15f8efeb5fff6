// The commands for who has the machine: a new API token where one was lost, and a new signing key.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type TestBroker, type World, client, furnish, made, startBroker } from "./harness/broker.ts";
import { createDatabase } from "./harness/postgres.ts";
import { coffer, newHome, spawnBroker } from "./harness/process.ts";
import { NOBODY } from "./http/rights-kit.ts";

const TOKEN = /^cfr_[0-9A-Za-z]{49}\n$/;
let home: Awaited<ReturnType<typeof newHome>>;
let broker: TestBroker;
let world: World;
let environment: Readonly<Record<string, string>>;

beforeAll(async () => {
  home = await newHome();
  broker = await startBroker();
  world = await furnish(broker);
  environment = {
    COFFER_HOME: join(home.path, "none"),
    DATABASE_URL: broker.databaseUrl,
    COFFER_MASTER_KEY: broker.masterKey,
  };
});
afterAll(async () => {
  await broker.close();
  await home.remove();
});

const eventsOf = async (owner: Record<string, string>, api = broker.admin) => {
  const query = new URLSearchParams({ ...owner, action: "housekeep", limit: "50" });
  return (await made(api.get(`/audit?${query}`))).events;
};

describe("coffer token", () => {
  test("--admin prints a token of the first admin and nothing else, beside a running broker; the log says so", async () => {
    const args = ["token", "--admin", "--name", "found again", "--expires-in-days", "7"];
    const { code, stdout, stderr } = await coffer(args, environment);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(TOKEN);
    const me = await made(broker.as(stdout.trim()).get("/auth/me"));
    expect(me).toMatchObject({ admin: true, token: { kind: "api", scopes: null } });
    expect(Date.parse(me.token.expires_at)).toBeLessThan(Date.now() + 7.1 * 86_400_000);
    const [event] = await eventsOf({ owner_type: "instance" });
    expect(event).toMatchObject({
      operation: "createOperatorToken",
      target_id: me.id,
      details: { change: "token_made", token_id: me.token.id },
    });
  });

  test("--principal prints one of a service account, or of a user, whose own log says so", async () => {
    const { writer, owner, organization } = world;
    const worker = await coffer(["token", "--principal", writer.id.toUpperCase()], environment);
    expect(await made(broker.as(worker.stdout.trim()).get("/auth/me"))).toMatchObject({ id: writer.id });
    const place = { owner_type: "organization", owner_id: organization.id };
    expect((await eventsOf(place, owner.api))[0]).toMatchObject({ target_id: writer.id });
    const user = await coffer(["token", "--principal", owner.id], environment);
    const api = broker.as(user.stdout.trim());
    expect((await eventsOf({ owner_type: "user", owner_id: owner.id }, api))[0]).toMatchObject({
      target_id: owner.id,
    });
  });

  test("of nobody, or of who is disabled, exits 1 and prints nothing on stdout", async () => {
    const nobody = await coffer(["token", "--principal", NOBODY], environment);
    expect(nobody).toMatchObject({ code: 1, stdout: "" });
    const { reader, owner } = world;
    await made(owner.api.patch(`/service-accounts/${reader.id}`, { body: { disabled: true } }));
    const disabled = await coffer(["token", "--principal", reader.id], environment);
    expect(disabled).toMatchObject({ code: 1, stdout: "", stderr: "coffer: The principal is disabled.\n" });
  });

  test.each([
    [["token"]],
    [["token", "--admin", "--principal", NOBODY]],
    [["token", "--principal", "ada"]],
    [["token", "--admin", "--expires-in-days", "0"]],
    [["token", "--admin", "--expires-in-days", "366"]],
    [["token", "--admin", "--name", " "]],
    [["token", "--admin", "--scope", "x"]],
    [["keys"]],
    [["keys", "rotate-signing", "--force"]],
    [["keys", "rewrap", "--grace-seconds", "soon"]],
    [["keys", "rewrap", "--grace-seconds", "86401"]],
  ])("misused exits 2 and prints nothing on stdout: %j", async (args) => {
    expect(await coffer(args, environment)).toMatchObject({ code: 2, stdout: "" });
  });

  test("with the wrong master key exits 1 and makes nothing", async () => {
    const wrong = { ...environment, COFFER_MASTER_KEY: "ab".repeat(32) };
    expect(await coffer(["token", "--admin"], wrong)).toMatchObject({ code: 1, stdout: "" });
  });

  test("--admin makes an admin where there is none yet", async () => {
    const database = await createDatabase();
    const empty = { ...environment, DATABASE_URL: database.url };
    const one = await coffer(["token", "--admin"], empty);
    const other = await coffer(["token", "--admin"], empty);
    const process = await spawnBroker(join(home.path, "first"), {
      DATABASE_URL: database.url,
      COFFER_MASTER_KEY: broker.masterKey,
    });
    const ids = await Promise.all(
      [one, other].map(
        async ({ stdout }) => (await made(client(process.url, stdout.trim()).get("/auth/me"))).id,
      ),
    );
    expect(ids[0]).toBe(ids[1]);
    expect((await process.stop()).code).toBe(0);
    await database.drop();
  });
});

test("coffer keys rotate-signing prints the id of the key that is published from then on", async () => {
  const { code, stdout } = await coffer(["keys", "rotate-signing"], environment);
  expect(code).toBe(0);
  const process = await spawnBroker(join(home.path, "rotated"), environment);
  const { keys } = await made(client(process.url, "").get("/.well-known/jwks.json"));
  expect(keys.map(({ kid }: { kid: string }) => kid)).toContain(stdout.trim());
  expect((await process.stop()).code).toBe(0);
});

describe("with the embedded database", () => {
  test("a running broker is in the way, and that is said; once it is stopped a token is had", async () => {
    const folder = join(home.path, "embedded");
    const running = await spawnBroker(folder);
    const refused = await coffer(["token", "--admin"], { COFFER_HOME: folder });
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(
      /is in use: a broker is already running there, pid \d+\. .*stop the broker/,
    );
    expect((await running.stop()).code).toBe(0);
    const { code, stdout } = await coffer(["token", "--admin"], { COFFER_HOME: folder });
    expect(code).toBe(0);
    const again = await spawnBroker(folder);
    expect(await made(client(again.url, stdout.trim()).get("/auth/me"))).toMatchObject({ admin: true });
    expect((await again.stop()).code).toBe(0);
  });

  test("a home where no broker ever ran is left alone", async () => {
    const folder = join(home.path, "nothing");
    const { code, stderr } = await coffer(["token", "--admin"], { COFFER_HOME: folder });
    expect(code).toBe(1);
    expect(stderr).toContain("No broker has ever run in");
    await expect(stat(folder)).rejects.toThrow("ENOENT");
  });
});
