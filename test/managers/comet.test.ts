// Comet API Key Secrets, contract section 5: notes of where a cloud's manager holds a secret. Rendered for Comet's SDK,
// and resolved only where a live setting that the caller may decrypt holds that very secret.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatComet, parseComet } from "../../src/domain/comet.ts";
import { type TestBroker, type World, furnish, startBroker } from "../harness/broker.ts";
import { type SettingsApi, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud } from "./clouds.ts";

const PATH = "secret/Custom/comet-key";

/** As Comet's SDK writes one. */
const note = (fields: object): string => `_SECRET_-${Buffer.from(JSON.stringify(fields)).toString("base64")}`;
const contentOf = (text: string) =>
  JSON.parse(Buffer.from(text.slice("_SECRET_-".length), "base64").toString());

describe.each(["aws", "gcp"] as const)("Comet API Key Secrets in %s", (name) => {
  let cloud: Cloud;
  let broker: TestBroker;
  let world: World;
  let settings: SettingsApi;
  let first: Record<string, string>;

  beforeAll(async () => {
    cloud = await CLOUDS[name]();
    broker = await startBroker({ environment: cloud.environment });
    world = await furnish(broker);
    settings = settingsOf(world.writer.api, world.project);
    first = (await settings.put(PATH, "comet-one")).body.location;
    await settings.put(PATH, "comet-two");
  });
  afterAll(async () => {
    await broker?.close();
    await cloud?.close();
  });

  const resolve = async (refs: readonly string[], api = world.writer.api) =>
    (await api.post("/settings/resolve", { body: { refs } })).body.results;
  const render = (query: Record<string, string> = {}) =>
    world.writer.api.get(settings.url(PATH, { format: "comet", ...query }, "/settings/render"));

  test("are rendered without a value, the newest as each cloud's words have it, a version by its own id", async () => {
    const newest = await render();
    expect(newest.status).toBe(200);
    const { details, type, comet_ml_version } = contentOf(newest.text);
    expect([type, typeof comet_ml_version]).toEqual([name.toUpperCase(), "string"]);
    if (name === "aws")
      expect(details).toEqual({ secret_name: first["secret_id"], region_name: first["region"] });
    else {
      const [, project_id, , secret_id] = (first["resource"] ?? "").split("/");
      expect(details).toEqual({ project_id, secret_id, secret_version: "latest" });
    }
    const pinned = contentOf((await render({ version: "1" })).text);
    expect(pinned.details.secret_version).toBe(first["version_id"]);
  });

  test("resolve to what the setting gives: its newest, or the version that they name", async () => {
    const [newest, pinned] = [(await render()).text, (await render({ version: "1" })).text];
    expect(await resolve([newest, pinned])).toMatchObject([
      { status: 200, value: "comet-two", version: 2 },
      { status: 200, value: "comet-one", version: 1 },
    ]);
  });

  test("of one machine's profile and of a newer SDK's fields resolve just the same", async () => {
    const plain = contentOf((await render()).text);
    const more = { ...plain, details: { ...plain.details, profile_name: "me", more: 1 }, also: true };
    expect(await resolve([note(more)])).toMatchObject([{ status: 200, value: "comet-two" }]);
  });

  test("are 403 for who may not decrypt, and for a secret or a version that no setting holds", async () => {
    const text = (await render()).text;
    const plain = contentOf(text);
    const other = {
      ...plain,
      details: { ...plain.details, secret_name: "coffer/other", secret_id: "coffer-other" },
    };
    const version = { ...plain, details: { ...plain.details, secret_version: "99" } };
    expect((await resolve([text], world.reader.api)).map(({ status }: { status: number }) => status)).toEqual(
      [403],
    );
    expect(
      (await resolve([text], world.stranger.api)).map(({ status }: { status: number }) => status),
    ).toEqual([403]);
    expect(
      (await resolve([note(other), note(version)])).map(({ status }: { status: number }) => status),
    ).toEqual([403, 403]);
    await settings.remove(PATH);
    expect((await resolve([text])).map(({ status }: { status: number }) => status)).toEqual([403]);
    await settings.restore(PATH);
  });

  test("are no way to what rests in an envelope, which has none", async () => {
    const owner = settingsOf(world.owner.api, world.project);
    await owner.put("secret/Custom/sealed", "here", { storage: "envelope", manager: "local" });
    const answer = await world.writer.api.get(
      settings.url("secret/Custom/sealed", { format: "comet" }, "/settings/render"),
    );
    expect(answer.status).toBe(422);
  });
});

describe("a note's text", () => {
  const details = { secret_name: "näme", region_name: "eu-central-1", profile_name: "me", other: [1] };
  const text = note({
    type: "AWS",
    details: { ...details, secret_name: "name" },
    comet_ml_version: "3.49.0",
    x: { y: 1 },
  });

  test("read and written again keeps what is not known, but for the profile", () => {
    const { profile_name: _, ...rest } = details;
    expect(contentOf(formatComet(parseComet(text)))).toEqual({
      type: "AWS",
      details: { ...rest, secret_name: "name" },
      comet_ml_version: "3.49.0",
      x: { y: 1 },
    });
  });

  test("is ASCII, whatever a name holds", () => {
    const written = formatComet({ type: "AWS", details, rest: { comet_ml_version: "1" } });
    const json = Buffer.from(written.slice("_SECRET_-".length), "base64").toString("latin1");
    expect(json).toMatch(/^[\x20-\x7e]+$/);
    expect(contentOf(written).details.secret_name).toBe("näme");
  });

  test("of an unknown type names the SDK that made it", () => {
    const unknown = note({ type: "AZURE", details: {}, comet_ml_version: "9.9.9" });
    expect(() => parseComet(unknown)).toThrow("9.9.9");
  });
});
