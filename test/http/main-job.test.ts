// The main job, end to end over real HTTP: an admin makes an organization, a project and secrets; a worker reads them.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  REGISTRY,
  S3,
  type TestBroker,
  type World,
  furnish,
  made,
  settingsUrl,
  startBroker,
} from "../harness/broker.ts";

let broker: TestBroker;
let world: World;

beforeAll(async () => {
  broker = await startBroker();
  world = await furnish(broker);
  const { writer, project } = world;
  await made(writer.api.put(settingsUrl(project, "connect/S3/artifacts"), { body: { value: S3 } }));
  await made(
    writer.api.put(settingsUrl(project, "connect/S3/data/raw"), {
      body: { value: { ...S3, bucket: "raw" } },
    }),
  );
  await made(
    writer.api.put(settingsUrl(project, "connect/ContainerRegistry/main"), { body: { value: REGISTRY } }),
  );
  await made(writer.api.put(settingsUrl(project, "secret/Custom/api-key"), { body: { value: "k-123" } }));
});
afterAll(() => broker.close());

describe("a worker's documented reads", () => {
  test('get_settings("project", id, "connect/S3", decrypt=True) gives the S3 secrets with their values', async () => {
    const { writer, project } = world;
    const { status, body, headers } = await writer.api.get(
      settingsUrl(project, "connect/S3", { decrypt: "true" }),
    );
    expect(status).toBe(200);
    expect(body.next_cursor).toBeNull();
    expect(body.settings.map((each: { path: string; value: unknown }) => [each.path, each.value])).toEqual([
      ["connect/S3/artifacts", S3],
      ["connect/S3/data/raw", { ...S3, bucket: "raw" }],
    ]);
    expect(headers.get("cache-control")).toBe("no-store");
  });

  test("a copied id, split on its first two slashes, addresses exactly that secret", async () => {
    const { writer, project } = world;
    const { body } = await writer.api.get(settingsUrl(project, "connect/S3/artifacts"));
    const ref: string = body.settings[0].ref;
    expect(ref).toBe(`project/${project.id}/connect/S3/artifacts`);
    const [type = "", id = "", ...path] = ref.split("/");
    const again = await writer.api.get(
      settingsUrl({ type, id }, path.join("/"), { decrypt: "true", match: "exact" }),
    );
    expect(again.body.settings).toHaveLength(1);
    expect(again.body.settings[0]).toMatchObject({ ref, name: "artifacts", decrypted: true, value: S3 });
  });

  test("a reader sees that a secret exists and never its value", async () => {
    const { reader, project } = world;
    const listed = await reader.api.get(settingsUrl(project, "connect/S3/artifacts", { decrypt: "true" }));
    expect(listed.status).toBe(200);
    expect(listed.body.settings[0]).toMatchObject({
      decrypted: false,
      value: null,
      withheld: "insufficient_role",
    });
    expect(listed.text).not.toContain(S3.secret_access_key);
    const strict = await reader.api.get(settingsUrl(project, "connect/S3/artifacts", {}, "/settings/value"));
    expect(strict.status).toBe(403);
    expect(strict.body).toMatchObject({
      code: "forbidden",
      reason: "insufficient_role",
      required: "decrypt",
    });
  });

  test("who has no role there learns nothing, not even whether the project exists", async () => {
    const { stranger, project } = world;
    const one = await stranger.api.get(settingsUrl(project, "connect/S3"));
    const other = await stranger.api.get(
      settingsUrl({ type: "project", id: "01900000-0000-7000-8000-000000000000" }, "connect/S3"),
    );
    expect(one.status).toBe(403);
    const plain = (text: string, id: string) => text.replace(id, "");
    expect(plain(one.text, one.body.request_id)).toBe(plain(other.text, other.body.request_id));
  });

  test("a value comes as bare text for a shell", async () => {
    const { writer, project } = world;
    const url = settingsUrl(project, "secret/Custom/api-key", {}, "/settings/value");
    const { text, headers } = await writer.api.get(url, { headers: { accept: "text/plain" } });
    expect(text).toBe("k-123");
    expect(headers.get("content-type")).toMatch(/^text\/plain/);
  });

  test("every read of it is in the project's audit log before the answer", async () => {
    const { writer, keeper, project } = world;
    const { headers } = await writer.api.get(settingsUrl(project, "connect/S3", { decrypt: "true" }));
    const request_id = headers.get("x-request-id") ?? "";
    const { body } = await keeper.api.get(
      `/audit?owner_type=project&owner_id=${project.id}&request_id=${request_id}`,
    );
    expect(body.events).toHaveLength(1);
    expect(body.events[0]).toMatchObject({
      action: "decrypt",
      outcome: "allowed",
      principal_id: writer.id,
      path: "connect/S3",
    });
    expect(body.events[0].settings.map((each: { path: string }) => each.path)).toEqual([
      "connect/S3/artifacts",
      "connect/S3/data/raw",
    ]);
  });
});
