// docs/clients.md as it stands there. The recipe for External Secrets Operator is carried out: what the operator does
// with a webhook's URL, headers and JSONPath (its pkg/common/webhook) is done here again, against a real broker.
import { execFile, execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { REGISTRY, S3, made, settingsUrl } from "../harness/broker.ts";
import { inherited } from "./cli-kit.ts";
import { startWorkload } from "./workload.ts";

type RemoteRef = { readonly key: string; readonly property?: string; readonly version?: string };
type Webhook = {
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly result: { readonly jsonPath: string };
  readonly secrets: readonly {
    readonly name: string;
    readonly secretRef: { readonly name: string; readonly key: string };
  }[];
};
type Data = Readonly<Record<string, Readonly<Record<string, string>>>>;

const page = readFileSync(join(import.meta.dirname, "../../docs/clients.md"), "utf8");
const blocks = (language: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "gms"))].map(([, text = ""]) => text);
const operator = blocks("yaml").find((text) => text.includes("kind: SecretStore")) ?? "";
const [credentials, store, external] = parseAllDocuments(operator).map((each) => each.toJS());
const webhook: Webhook = store.spec.provider.webhook;

let workload: Awaited<ReturnType<typeof startWorkload>>;

beforeAll(async () => {
  workload = await startWorkload();
  await put("secret/Custom/api-key", "first 'key'");
  await put("secret/Custom/api-key", "$(second) key\n");
  await put("connect/S3/data", S3);
  await put("connect/ContainerRegistry/images", REGISTRY);
});
afterAll(() => workload.close());

async function put(
  path: string,
  value: unknown,
  more: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const { project, writer } = workload.world;
  await made(writer.api.put(settingsUrl(project, path), { body: { value, ...more } }));
}

/** Go's templates, as far as the recipe uses them. */
function template(text: string, data: Data): string {
  const valueOf = (name: string): string => {
    const [, object = "", key = ""] = /^\.(\w+)\.(\w+)$/.exec(name) ?? [];
    const value = data[object]?.[key];
    if (value === undefined) throw new Error(`the template has no ${name}`);
    return value;
  };
  return text
    .replaceAll(/\{\{ if (\S+) \}\}(.*?)\{\{ end \}\}/g, (_all, name, then) =>
      valueOf(name) === "" ? "" : then,
    )
    .replaceAll(/\{\{ (\S+) \}\}/g, (_all, name) => valueOf(name));
}

/** Go's url.QueryEscape. */
const queryEscape = (text: string): string => new URLSearchParams({ x: text }).toString().slice(2);

/** What the operator asks and what it makes of the answer: a value, or "gone", or an error that keeps the copy. */
async function fetched(
  { key, property = "", version = "" }: RemoteRef,
  token = workload.world.writer.api.token,
) {
  const { broker, world } = workload;
  const remoteRef = { key, property, version };
  const [{ name }] = webhook.secrets as [Webhook["secrets"][number]];
  const escaped = Object.fromEntries(
    Object.entries(remoteRef).map(([part, text]) => [part, queryEscape(text)]),
  );
  const [, broughtBy = "", owner = ""] =
    /^(https:\/\/[^/]+)\/.*owner_id=([0-9a-f-]+)&/.exec(webhook.url) ?? [];
  const url = template(webhook.url, { remoteRef: escaped })
    .replace(broughtBy, broker.url)
    .replace(owner, world.project.id);
  const headers = Object.entries(webhook.headers).map(([header, text]): [string, string] => [
    header,
    template(text, { remoteRef, [name]: { token } }),
  ]);
  const response = await fetch(url, { method: webhook.method, headers });
  const text = await response.text();
  if (response.status === 404) return { status: 404, value: "gone" };
  if (!response.ok) return { status: response.status, value: null };
  const [, member = ""] = /^\$\.(\w+)$/.exec(webhook.result.jsonPath) ?? [];
  return { status: 200, value: JSON.parse(text)[member] };
}

describe("External Secrets Operator", () => {
  test("its documents name each other, and the Secret has what the provider asks of it", () => {
    const [{ secretRef }] = webhook.secrets as [Webhook["secrets"][number]];
    expect(credentials.metadata).toMatchObject({
      name: secretRef.name,
      labels: { "external-secrets.io/type": "webhook" },
    });
    expect(Object.keys(credentials.stringData)).toEqual([secretRef.key]);
    expect(external.spec.secretStoreRef).toEqual({ kind: store.kind, name: store.metadata.name });
  });

  test("gets every value of the recipe, each a string", async () => {
    const found: Record<string, unknown> = {};
    for (const { secretKey, remoteRef } of external.spec.data)
      found[secretKey] = (await fetched(remoteRef)).value;
    expect(found).toEqual({
      API_KEY: "$(second) key\n",
      AWS_SECRET_ACCESS_KEY: S3.secret_access_key,
      OLD_API_KEY: "first 'key'",
    });
  });

  test("gets a composite value for dataFrom, of strings", async () => {
    const [{ extract }] = external.spec.dataFrom;
    expect(await fetched(extract)).toEqual({ status: 200, value: REGISTRY });
  });

  test("is told that a secret is gone only when it is", async () => {
    const { world, broker } = workload;
    await put("secret/Custom/deleted", "value");
    expect((await fetched({ key: "secret/Custom/deleted" })).value).toBe("value");
    await world.writer.api.delete(settingsUrl(world.project, "secret/Custom/deleted"));
    expect((await fetched({ key: "secret/Custom/deleted" })).value).toBe("gone");
    expect((await fetched({ key: "secret/Custom/never" })).value).toBe("gone");

    const key = "secret/Custom/api-key";
    const kept = async (remoteRef: RemoteRef, token?: string) => {
      const { status, value } = await fetched(remoteRef, token);
      expect(value).toBeNull();
      return status;
    };
    for (const token of [world.reader.api.token, world.stranger.api.token])
      expect(await kept({ key }, token)).toBe(403);
    expect(await kept({ key: "secret/Custom/deleted" }, world.stranger.api.token)).toBe(403);
    expect(await kept({ key }, "cfr_revoked")).toBe(401);
    expect(await kept({ key, property: "no_such_field" })).toBeGreaterThanOrEqual(400);
    expect(await kept({ key: "no/such/type" })).toBe(422);
    await put("secret/Custom/destroyed", "value");
    await put("secret/Custom/destroyed", "other");
    await world.keeper.api.delete(
      settingsUrl(world.project, "secret/Custom/destroyed", { version: "1" }, "/settings/versions"),
    );
    expect(await kept({ key: "secret/Custom/destroyed", version: "1" })).toBe(410);
    expect(broker.log()).not.toContain("first 'key'");
  });
});

describe("the page", () => {
  test("its curl recipe runs as it stands", async () => {
    const { broker, world, folder } = workload;
    const recipe = blocks("sh").find((text) => text.includes("coffer_curl()")) ?? "";
    const tokenFile = join(folder, "token");
    await writeFile(tokenFile, world.writer.api.token);
    await put("connect/S3/data", { ...S3, bucket: "it's $(data)" });
    const env = {
      ...inherited,
      COFFER_URL: broker.url,
      COFFER_TOKEN_FILE: tokenFile,
      PROJECT: world.project.id,
    };
    const script = `${recipe}\nprintf '%s|%s' "$value" "$AWS_SECRET_ACCESS_KEY"`;
    const { stdout } = await promisify(execFile)("sh", ["-eu", "-c", script], { env });
    expect(stdout).toBe(`it's $(data)|${S3.secret_access_key}`);
    const refused = { ...env, PROJECT: world.organization.id };
    await expect(
      promisify(execFile)("sh", ["-c", `${recipe}\necho went on`], { env: refused }),
    ).rejects.toMatchObject({
      stdout: "",
    });
  });

  test("its YAML parses, its shell too, and its references and variables are well-formed", () => {
    expect(blocks("yaml").length).toBeGreaterThanOrEqual(3);
    for (const text of blocks("yaml").filter((each) => each !== operator))
      expect(parse(text)).toBeTypeOf("object");
    for (const text of blocks("sh")) execFileSync("sh", ["-n", "-c", text]);
    const known = ["URL", "TOKEN", "TOKEN_FILE", "CLIENT_ID", "SUBJECT_TOKEN_FILE", "OWNER"];
    const used = new Set([...page.matchAll(/\bCOFFER_([A-Z_]+)/g)].map(([, name]) => name));
    expect(used).toEqual(new Set(known));
    const ids = /coffer:\/\/project\/[0-9a-f-]{36}[^\s"]*/g;
    const references = [...page.matchAll(ids)].map(([text]) => text);
    expect(references.length).toBeGreaterThanOrEqual(5);
    for (const reference of references)
      expect(reference).toMatch(
        /^coffer:\/\/project\/[0-9a-f-]{36}\/(secret\/Custom|connect\/S3)\/[a-z-]+(#[a-z_]+)?$/,
      );
  });
});
