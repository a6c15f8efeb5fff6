// How versions come to be and go in Secret Manager, beyond the contract: what a call that was cut off, repeated or raced
// leaves, what others leave or take away, and what lists that lag do not show.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type GcpFixture, PROJECT, startGcp } from "./gcp-fixture.ts";

let gcp: GcpFixture;
beforeEach(async () => {
  gcp = await startGcp({}, { pageMax: 2 });
});
afterEach(async () => {
  await gcp.close();
});

const own = () => gcp.own();
const write = (...version: Parameters<GcpFixture["write"]>) => gcp.write(...version);
const operations = () => gcp.fake.calls().map(({ operation }) => operation);
const enabled = (address: Parameters<GcpFixture["inside"]>[0]) =>
  gcp.inside(address)?.versions.flatMap(({ id, state, text }) => (state === "ENABLED" ? [[id, text]] : []));

/** Adds a version as somebody else would, or an attempt of ours that nobody knows of. */
const plant = (resource: string, text: string) =>
  gcp.client.addSecretVersion({ parent: resource, payload: { data: Buffer.from(text) } });

describe("versions that no call of ours is known to have added", () => {
  test("one with the text that is to be written is taken; those beside it are destroyed", async () => {
    const address = own();
    const first = await write(address, "one");
    for (const text of ["other", "two", "two", "two"]) await plant(address.resource, text);
    expect(await write(address, "two", [first])).toBe("3");
    expect(enabled(address)).toEqual([
      ["1", "one"],
      ["2", "other"],
      ["3", "two"],
    ]);
  });

  test("none is taken that is older than what the database points at, or that it points at", async () => {
    const address = own();
    await write(address, "one");
    for (const text of ["one", "two"]) await plant(address.resource, text);
    expect(await write(address, "one", ["2", "3"])).toBe("4");
    expect(await write(address, "two", ["2", "3", "4"])).toBe("5");
  });

  test("what is left over goes with the next reconcile, however many there are", async () => {
    const address = own();
    const first = await write(address, "one");
    for (const text of ["a", "b", "c", "d", "e"]) await plant(address.resource, text);
    await gcp.client.disableSecretVersion({ name: `${address.resource}/versions/3` });
    expect(await gcp.manager.reconcile(address, [first], first, ["2", "6", "7"])).toEqual(["2", "6", "7"]);
    expect(gcp.inside(address)?.versions.map(({ state }) => state)).toEqual([
      "ENABLED",
      ...Array(5).fill("DESTROYED"),
    ]);
  });

  test("where the list lags, one that was cut off is found by its number", async () => {
    const address = own();
    const first = await write(address, "one");
    gcp.fake.lag(true);
    gcp.fake.fault({ kind: "cut_off", operation: "AddSecretVersion" });
    expect(await write(address, "two", [first])).toBe("2");
    expect(enabled(address)).toHaveLength(2);
    // And destroyed by it.
    expect(await gcp.manager.reconcile(address, [first], first, ["2"])).toEqual(["2"]);
    expect(enabled(address)).toEqual([["1", "one"]]);
  });

  test("one that was not added after all is added, once", async () => {
    const address = own();
    const first = await write(address, "one");
    gcp.fake.fault({ kind: "reset", operation: "AddSecretVersion" });
    expect(await write(address, "two", [first])).toBe("2");
    expect(gcp.inside(address)?.versions).toHaveLength(2);
  });
});

describe("what is refused for what another does at the same time", () => {
  test("a racer whose version is refused answers the other's", async () => {
    const address = own();
    gcp.fake.fault({ kind: "error", errorName: "ABORTED", operation: "AddSecretVersion" });
    const alone = await gcp.manager.ensure("", address, "ours", {});
    expect(alone).toMatchObject({ kind: "failed", error: { code: "conflict" } });
    expect(await gcp.manager.ensure("", address, "theirs", {})).toMatchObject({ text: "theirs" });
    gcp.fake.fault({ kind: "error", errorName: "NOT_FOUND", operation: "AccessSecretVersion" });
    gcp.fake.fault({ kind: "error", errorName: "ABORTED", operation: "AddSecretVersion" });
    expect(await gcp.manager.ensure("", address, "ours", {})).toMatchObject({ text: "theirs" });
    expect(gcp.inside(address)?.versions).toHaveLength(1);
  });

  test("a racer whose version came second destroys it, and answers the first", async () => {
    const address = own();
    gcp.fake.fault({ kind: "delay", milliseconds: 1_000, operation: "AddSecretVersion" });
    const arrived = gcp.fake.arrival("AddSecretVersion");
    const late = gcp.manager.ensure("", address, "late", {});
    await arrived;
    expect(await gcp.manager.ensure("", address, "early", {})).toMatchObject({
      text: "early",
      version_id: "1",
    });
    expect(await late).toMatchObject({ text: "early", version_id: "1" });
    expect(gcp.inside(address)?.versions).toMatchObject([{ text: "early" }, { state: "DESTROYED" }]);
  });

  test("a version that could not be destroyed is not forgotten", async () => {
    const address = own();
    const kept = [await write(address, "one")];
    kept.push(await write(address, "two", kept));
    gcp.fake.fault({ kind: "error", errorName: "ABORTED", operation: "DestroySecretVersion" });
    await expect(gcp.manager.reconcile(address, ["2"], "2", [])).rejects.toMatchObject({ code: "conflict" });
    expect(await gcp.manager.reconcile(address, ["2"], "2", ["1"])).toEqual(["1"]);
  });

  test("what is no number is never asked for", async () => {
    const address = own();
    const first = await write(address, "one");
    expect(await gcp.manager.reconcile(address, [first], first, ["latest", "x/y"])).toEqual([]);
    expect(operations()).not.toContain("DestroySecretVersion");
  });
});

describe("what others do to our secrets", () => {
  test("a name that somebody else has taken is a conflict, and nothing is added there", async () => {
    const address = own();
    const secretId = address.resource.split("/").at(-1) ?? "";
    const secret = { replication: { automatic: {} }, annotations: { "coffer-id": "another" } };
    await gcp.client.createSecret({ parent: `projects/${PROJECT}`, secretId, secret });
    await expect(write(address, "one")).rejects.toMatchObject({ code: "conflict" });
    expect(await gcp.manager.ensure("", address, "one", {})).toMatchObject({ error: { code: "conflict" } });
    expect(gcp.inside(address)?.versions).toEqual([]);
  });

  test("one that they took away is made anew, and no number comes to mean another value", async () => {
    const address = own();
    const kept: string[] = [];
    for (const text of ["one", "two", "three"]) kept.push(await write(address, text, kept));
    await gcp.client.deleteSecret({ name: address.resource });
    expect(await write(address, "four", kept)).toBe("4");
    const reads = await gcp.manager.read([...kept, "4"].map((version_id) => ({ ...address, version_id })));
    expect(reads.map((read) => (read.kind === "text" ? read.text : read.absent))).toEqual([
      true,
      true,
      true,
      "four",
    ]);
  });

  test("a version that they disabled or destroyed is absent, and nothing is tried again", async () => {
    const address = own();
    const kept = [await write(address, "one")];
    kept.push(await write(address, "two", kept));
    await gcp.client.disableSecretVersion({ name: `${address.resource}/versions/1` });
    await gcp.client.destroySecretVersion({ name: `${address.resource}/versions/2` });
    gcp.fake.forgetCalls();
    const reads = await gcp.manager.read(kept.map((version_id) => ({ ...address, version_id })));
    for (const read of reads)
      expect(read).toMatchObject({ kind: "failed", absent: true, error: { code: "manager_failed" } });
    expect(operations()).toHaveLength(2);
  });

  test("while a TTL of theirs delays a destruction it is not confirmed", async () => {
    const address = own();
    const kept = [await write(address, "one")];
    kept.push(await write(address, "two", kept));
    gcp.fake.delayDestruction(address.resource, 86_400);
    expect(await gcp.manager.reconcile(address, ["2"], "2", ["1"])).toEqual([]);
    gcp.fake.delayDestruction(address.resource, 0);
    expect(await gcp.manager.reconcile(address, ["2"], "2", ["1"])).toEqual(["1"]);
  });

  test("bytes that are no text are no value, and absent neither", async () => {
    const address = own();
    await write(address, "one");
    const payload = { data: Buffer.of(0x61, 0xff) };
    await gcp.client.addSecretVersion({ parent: address.resource, payload });
    const [read] = await gcp.manager.read([{ ...address, version_id: "2" }]);
    expect(read).toMatchObject({ kind: "failed", absent: false, error: { code: "manager_failed" } });
  });
});
