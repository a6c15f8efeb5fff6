// The TypeScript client against the real broker: changing settings, and watching them change.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Client, createClient } from "../../clients/typescript/src/index.ts";
import {
  S3,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";
import { countedFetch, failure, fakeClock } from "./typescript-kit.ts";

let broker: TestBroker;
let world: World;
let writer: Client;
let project: string;

beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.close());
beforeAll(async () => {
  world = await furnish(broker);
  project = world.project.id;
  writer = createClient({ url: broker.url, token: world.writer.api.token });
});

describe("changing settings", () => {
  it("lets one of many racing writers with one If-Match win", async () => {
    const first = await writer.put("project", project, "secret/Custom/race", { value: "0" });
    expect(first).toMatchObject({ version: 1, value: null });
    const writes = Array.from({ length: 8 }, (_, index) =>
      writer.put(
        "project",
        project,
        "secret/Custom/race",
        { value: `writer ${index}` },
        { ifMatch: first.etag },
      ),
    );
    const outcomes = await Promise.allSettled(writes);
    const lost = outcomes.flatMap((each) => (each.status === "rejected" ? [each.reason] : []));
    expect(lost).toHaveLength(7);
    for (const error of lost)
      expect(error).toMatchObject({ name: "CofferError", status: 412, code: "precondition_failed" });
    const { version } = await writer.put(
      "project",
      project,
      "secret/Custom/race",
      { value: "next" },
      { ifMatch: 2 },
    );
    expect(version).toBe(3);
  });

  it("creates only what is not there yet", async () => {
    const create = () =>
      writer.put("project", project, "secret/Custom/new", { value: "1" }, { ifNoneMatch: "*" });
    expect(await create()).toMatchObject({ version: 1 });
    expect(await failure(create())).toMatchObject({ status: 412 });
  });

  it("writes a secret that was read, whole or in part, and never the word that stands for it", async () => {
    await writer.put("project", project, "secret/Custom/source", { value: "copied" });
    const { value } = await writer.getValue("project", project, "secret/Custom/source");
    await writer.put("project", project, "secret/Custom/copy", { value });
    expect((await writer.getValue("project", project, "secret/Custom/copy")).value.reveal()).toBe("copied");
    // Whoever casts their way past the types is served as well.
    await writer.put("project", project, "connect/S3/part", {
      value: { ...S3, secret_access_key: value as never },
    });
    const part = await writer.getValue("project", project, "connect/S3/part");
    expect(part.value.reveal().secret_access_key).toBe("copied");
  });

  it("patches metadata, lists versions, rolls back, deletes, restores, purges", async () => {
    const path = "secret/Custom/life";
    await writer.put("project", project, path, { value: "one" });
    await writer.put("project", project, path, { value: "two" });
    const patched = await writer.patch("project", project, path, { description: "a life" }, { ifMatch: 2 });
    expect(patched).toMatchObject({ description: "a life", version: 2 });
    expect(await writer.rollback("project", project, path, 1)).toMatchObject({ version: 3 });
    expect((await writer.listVersions("project", project, path)).map(({ version }) => version)).toEqual(
      expect.arrayContaining([1, 2, 3]),
    );
    await writer.delete("project", project, path);
    expect(await writer.getSettings("project", project, path)).toEqual([]);
    expect(await writer.getSettings("project", project, path, { includeDeleted: true })).toHaveLength(1);
    expect(await writer.restore("project", project, path)).toMatchObject({ version: 3, deleted_at: null });
    expect((await writer.getValue("project", project, path)).value.reveal()).toBe("one");
    expect(await failure(writer.delete("project", project, path, { purge: true }))).toMatchObject({
      status: 403,
    });
    await createClient({ url: broker.url, token: world.keeper.api.token }).delete("project", project, path, {
      purge: true,
    });
    expect(await failure(writer.getValue("project", project, path))).toMatchObject({ status: 404 });
  });
});

describe("watching", () => {
  it("yields a value at once and again when it has changed; 304 in between, and nothing for metadata", async () => {
    const path = "secret/Custom/watched";
    await writer.put("project", project, path, { value: "first" });
    const { fetch, calls } = countedFetch();
    const controller = new AbortController();
    const { clock, slept } = fakeClock(async (nth) => {
      if (nth === 3) await writer.patch("project", project, path, { description: "only metadata" });
      if (nth === 5) await writer.put("project", project, path, { value: "second" });
    });
    const client = createClient({ url: broker.url, token: world.writer.api.token, fetch, clock });
    const seen: unknown[] = [];
    const { signal } = controller;
    for await (const { value, version } of client.watch(`project/${project}/${path}`, {
      signal,
      intervalMs: 1_000,
    })) {
      seen.push([version, value.reveal()]);
      if (seen.length === 2) controller.abort();
    }
    expect(seen).toEqual([
      [1, "first"],
      [2, "second"],
    ]);
    expect(calls.map(({ status }) => status)).toEqual([200, 304, 304, 200, 304, 200]);
    expect(new Set(slept)).toEqual(new Set([1_000]));
  });

  it("watches one field by its reference, and an address", async () => {
    await writer.put("project", project, "connect/S3/watched", { value: S3 });
    const field = writer.watch(`coffer://project/${project}/connect/S3/watched#secret_access_key`);
    expect((await field.next()).value?.value.reveal()).toBe(S3.secret_access_key);
    await field.return();
    const whole = writer.watch({ ownerType: "project", ownerId: project, path: "connect/S3/watched" });
    expect((await whole.next()).value?.value.reveal()).toEqual(S3);
    await whole.return();
  });

  it("throws when the setting is gone, and refuses what is no reference without quoting it", async () => {
    const path = "secret/Custom/going";
    await writer.put("project", project, path, { value: "here" });
    const { clock } = fakeClock(async () => {
      await made(world.writer.api.delete(settingsUrl(world.project, path)));
    });
    const client = createClient({ url: broker.url, token: world.writer.api.token, clock });
    const watched = client.watch(`project/${project}/${path}`);
    expect((await watched.next()).done).toBe(false);
    expect(await failure(watched.next())).toMatchObject({ status: 404 });
    expect(() => client.watch("hunter2")).toThrow(/^(?!.*hunter2).*invalid_reference/);
  });
});
