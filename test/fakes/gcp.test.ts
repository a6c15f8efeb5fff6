// The fake of Secret Manager against Google's own client, used plainly: what the broker's tests rest on is what the real
// client sees. Rules come from the protos and the documents; each fault has the effect that it is there for.
import type { SecretManagerServiceClient } from "@google-cloud/secret-manager";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { crc32c } from "../../src/sealing/crc32c.ts";
import { type FakeGcp, plainClient, startFakeGcp } from "./gcp.ts";

const PROJECT = "projects/acme-secrets";
const NUMBERED = "projects/100000000001";
/** No retries of the client's own, so that a fault is seen. */
const ONCE = { timeout: 5_000, retry: null } as unknown as { timeout: number };

let fake: FakeGcp;
let client: SecretManagerServiceClient;

beforeAll(async () => {
  fake = await startFakeGcp({ pageMax: 2 });
  client = plainClient(fake.endpoint);
});

afterAll(async () => {
  await client.close();
  await fake.close();
});

let name: string;
let made = 0;
beforeEach(async () => {
  const secretId = `s-${(made += 1)}`;
  name = `${PROJECT}/secrets/${secretId}`;
  await client.createSecret({ parent: PROJECT, secretId, secret: { replication: { automatic: {} } } }, ONCE);
});
afterEach(() => {
  fake.clearFaults();
  fake.lag(false);
});

const add = async (text: string, dataCrc32c?: number) => {
  const payload = { data: Buffer.from(text), ...(dataCrc32c !== undefined && { dataCrc32c }) };
  const [version] = await client.addSecretVersion({ parent: name, payload }, ONCE);
  return version;
};
const access = async (version: string) => {
  const [answer] = await client.accessSecretVersion({ name: `${name}/versions/${version}` }, ONCE);
  return answer;
};
const code = (wanted: number) => expect.objectContaining({ code: wanted });

describe("secrets", () => {
  test("one is created once, by its project's id or number, and answers under the number", async () => {
    const secretId = "once";
    const secret = { replication: { automatic: {} }, labels: { a: "b" }, annotations: { "c.d": "E" } };
    const [created] = await client.createSecret({ parent: PROJECT, secretId, secret }, ONCE);
    expect(created).toMatchObject({ name: `${NUMBERED}/secrets/once`, labels: { a: "b" } });
    expect(created.etag).toMatch(/^"[0-9a-f]+"$/);
    await expect(client.createSecret({ parent: NUMBERED, secretId, secret }, ONCE)).rejects.toEqual(code(6));
    const [found] = await client.getSecret({ name: `${NUMBERED}/secrets/once` }, ONCE);
    expect(found).toMatchObject({ annotations: { "c.d": "E" }, replication: { automatic: {} } });
    expect(fake.secrets().map((each) => each.name)).toContain(`${PROJECT}/secrets/once`);
  });

  test("a regional one lies under its location, and has no replication", async () => {
    const parent = `${PROJECT}/locations/europe-west3`;
    const secretId = "regional";
    const replicated = { parent, secretId, secret: { replication: { automatic: {} } } };
    await expect(client.createSecret(replicated, ONCE)).rejects.toEqual(code(3));
    await client.createSecret({ parent, secretId, secret: {} }, ONCE);
    const payload = { data: Buffer.from("a") };
    const [version] = await client.addSecretVersion({ parent: `${parent}/secrets/regional`, payload }, ONCE);
    expect(version.name).toBe(`${NUMBERED}/locations/europe-west3/secrets/regional/versions/1`);
  });

  test.each([
    ["no replication", "x", {}],
    ["an id with a slash", "a/b", { replication: { automatic: {} } }],
    ["a label in capitals", "x", { replication: { automatic: {} }, labels: { a: "B" } }],
    ["a label's name in capitals", "x", { replication: { automatic: {} }, labels: { A: "b" } }],
    [
      "an annotation's name that ends in a dash",
      "x",
      { replication: { automatic: {} }, annotations: { "a-": "b" } },
    ],
    [
      "16 KiB of annotations",
      "x",
      { replication: { automatic: {} }, annotations: { a: "b".repeat(16_383) } },
    ],
  ])("refused: %s", async (_, secretId, secret) => {
    await expect(client.createSecret({ parent: PROJECT, secretId, secret }, ONCE)).rejects.toEqual(code(3));
  });

  test("a change wants the etag of now, if it names one", async () => {
    const [{ etag }] = await client.getSecret({ name }, ONCE);
    const updateMask = { paths: ["labels"] };
    const first = { name, etag: etag ?? "", labels: { a: "1" } };
    const [changed] = await client.updateSecret({ secret: first, updateMask }, ONCE);
    expect(changed.labels).toEqual({ a: "1" });
    await expect(client.updateSecret({ secret: first, updateMask }, ONCE)).rejects.toEqual(code(10));
    await expect(client.deleteSecret({ name, etag: etag ?? "" }, ONCE)).rejects.toEqual(code(10));
    await client.deleteSecret({ name, etag: changed.etag ?? "" }, ONCE);
    await expect(client.getSecret({ name }, ONCE)).rejects.toEqual(code(5));
    await expect(client.deleteSecret({ name }, ONCE)).rejects.toEqual(code(5));
  });

  test("lists come in pages, the newest first", async () => {
    const parent = "projects/other-project";
    for (const secretId of ["a", "b", "c"])
      await client.createSecret({ parent, secretId, secret: { replication: { automatic: {} } } }, ONCE);
    const [all] = await client.listSecrets({ parent }, ONCE);
    expect(all.map((each) => each.name?.split("/").at(-1))).toEqual(["c", "b", "a"]);
    expect(fake.calls("ListSecrets")).toHaveLength(2);
  });
});

describe("versions", () => {
  test("they count up, and read back with the checksum", async () => {
    expect(await add("one", crc32c(Buffer.from("one")))).toMatchObject({
      state: "ENABLED",
      clientSpecifiedPayloadChecksum: true,
    });
    expect(await add("two")).toMatchObject({ clientSpecifiedPayloadChecksum: false });
    const { payload, name: full } = await access("1");
    expect(Buffer.from(payload?.data ?? []).toString()).toBe("one");
    expect(payload?.dataCrc32c).toBe(String(crc32c(Buffer.from("one"))));
    expect(full).toBe(`${name.replace(PROJECT, NUMBERED)}/versions/1`);
    expect((await access("latest")).name).toMatch(/\/2$/);
  });

  test("a wrong checksum, nothing, and a byte too much are refused; 65,536 bytes are not", async () => {
    await expect(add("one", 0)).rejects.toEqual(code(3));
    await expect(add("")).rejects.toEqual(code(3));
    await expect(add("a".repeat(65_537))).rejects.toEqual(code(3));
    expect((await add("a".repeat(65_536))).name).toMatch(/\/1$/);
  });

  test("states: only an enabled one is given out, a destroyed one is so for ever", async () => {
    await add("one");
    const one = `${name}/versions/1`;
    const [off] = await client.disableSecretVersion({ name: one }, ONCE);
    expect(off.state).toBe("DISABLED");
    await expect(access("1")).rejects.toMatchObject({ code: 9, details: expect.stringMatching("DISABLED") });
    await client.enableSecretVersion({ name: one }, ONCE);
    await access("1");
    await expect(client.destroySecretVersion({ name: one, etag: '"0"' }, ONCE)).rejects.toEqual(code(10));
    const [gone] = await client.destroySecretVersion({ name: one }, ONCE);
    expect(gone).toMatchObject({ state: "DESTROYED", destroyTime: { nanos: 0 } });
    await expect(access("latest")).rejects.toMatchObject({ code: 9 });
    await expect(client.enableSecretVersion({ name: one }, ONCE)).rejects.toEqual(code(9));
    await expect(client.destroySecretVersion({ name: one }, ONCE)).rejects.toEqual(code(9));
    await expect(access("2")).rejects.toEqual(code(5));
    expect(fake.secrets().find((each) => each.name === name)?.versions).toMatchObject([
      { id: "1", state: "DESTROYED", text: undefined },
    ]);
  });

  test("under a TTL a version is only disabled when it is destroyed", async () => {
    await add("one");
    fake.delayDestruction(name, 86_400);
    const [version] = await client.destroySecretVersion({ name: `${name}/versions/1` }, ONCE);
    expect(version).toMatchObject({ state: "DISABLED", destroyTime: null });
    expect(version.scheduledDestroyTime?.seconds).toBeTruthy();
  });

  test("an alias leads to its version", async () => {
    await add("one");
    await add("two");
    const secret = { name, versionAliases: { stable: 1 } };
    await client.updateSecret({ secret, updateMask: { paths: ["version_aliases"] } }, ONCE);
    expect((await access("stable")).name).toMatch(/\/1$/);
  });

  test("lists come in pages, the newest first, the destroyed included", async () => {
    for (const text of ["one", "two", "three"]) await add(text);
    await client.destroySecretVersion({ name: `${name}/versions/2` }, ONCE);
    const [all] = await client.listSecretVersions({ parent: name }, ONCE);
    expect(all.map(({ state }) => state)).toEqual(["ENABLED", "DESTROYED", "ENABLED"]);
    expect(all.map((each) => each.name?.split("/").at(-1))).toEqual(["3", "2", "1"]);
  });

  test("while it lags, lists and latest do not see what is new, and its number does", async () => {
    await add("one");
    fake.lag(true);
    await add("two");
    expect((await access("latest")).name).toMatch(/\/1$/);
    expect((await client.listSecretVersions({ parent: name }, ONCE))[0]).toHaveLength(1);
    expect((await access("2")).name).toMatch(/\/2$/);
    fake.lag(false);
    expect((await access("latest")).name).toMatch(/\/2$/);
  });
});

describe("faults", () => {
  test("an error by its code, with a reason, as often as asked", async () => {
    fake.fault({ kind: "error", code: 7, message: "No.", reason: "SERVICE_DISABLED", times: 2 });
    const refusal = expect.objectContaining({ code: 7, details: "No.", reason: "SERVICE_DISABLED" });
    await expect(add("one")).rejects.toEqual(refusal);
    await expect(add("one")).rejects.toEqual(refusal);
    await add("one");
    fake.fault({ kind: "error", errorName: "ABORTED", operation: "GetSecret" });
    await add("two");
    await expect(client.getSecret({ name }, ONCE)).rejects.toEqual(code(10));
  });

  test("throttled, and a proxy's page", async () => {
    fake.fault({ kind: "throttle" });
    await expect(add("one")).rejects.toMatchObject({ code: 8, reason: "RATE_LIMIT_EXCEEDED" });
    fake.fault({ kind: "html" });
    await expect(add("one")).rejects.toEqual(code(14));
  });

  test("reset: not done; cut off: done", async () => {
    fake.fault({ kind: "reset" });
    await expect(add("one")).rejects.toEqual(code(14));
    fake.fault({ kind: "cut_off" });
    await expect(add("two")).rejects.toEqual(code(13));
    const found = fake.secrets().find((each) => each.name === name);
    expect(found?.versions.map(({ text }) => text)).toEqual(["two"]);
  });

  test("cut off does not hide a refusal", async () => {
    fake.fault({ kind: "cut_off" });
    await expect(access("1")).rejects.toEqual(code(5));
  });

  test("a hanging call takes none with it, and ends at the client's deadline", async () => {
    await add("one");
    fake.fault({ kind: "hang", operation: "AccessSecretVersion" });
    const arrived = fake.arrival("AccessSecretVersion");
    const short = { ...ONCE, timeout: 200 };
    const [hanging] = await Promise.allSettled([
      client.accessSecretVersion({ name: `${name}/versions/1` }, short),
      arrived.then(() => access("1")),
    ]);
    expect(hanging).toMatchObject({ status: "rejected", reason: { code: 4 } });
  });

  test("late, and damaged", async () => {
    await add("one");
    fake.fault({ kind: "delay", milliseconds: 20 });
    await access("1");
    fake.damage(1);
    const { payload } = await access("1");
    expect(crc32c(Buffer.from(payload?.data ?? []))).not.toBe(Number(payload?.dataCrc32c));
    expect(Buffer.from((await access("1")).payload?.data ?? []).toString()).toBe("one");
  });

  test("a storm comes and goes", async () => {
    await add("one");
    fake.storm({ seed: 1, probability: 1, kinds: ["throttle"] });
    await expect(access("1")).rejects.toEqual(code(8));
    fake.storm(null);
    await access("1");
  });
});

test("every call is on record, with the fault that struck it", async () => {
  fake.forgetCalls();
  fake.fault({ kind: "throttle" });
  await add("one").catch(() => {});
  await add("one");
  expect(fake.calls()).toEqual([
    { operation: "AddSecretVersion", name, fault: "throttle" },
    { operation: "AddSecretVersion", name, fault: null },
  ]);
});

test("a call that does not name its resource in the routing header is refused", async () => {
  await client.initialize();
  await expect(client.innerApiCalls["getSecret"]?.({ name }, ONCE)).rejects.toMatchObject({ code: 3 });
});
