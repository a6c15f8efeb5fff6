// Contract section 5, the table of formats: whatever a value holds, its consumer reads it back as it was, or it is
// refused. The consumers are the real ones, where this machine has them.
import { parseEnv } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import type { SettingValue } from "../../src/domain/plaintext.ts";
import type { Rendered } from "../../src/domain/render-formats.ts";
import {
  HAS_BOTOCORE,
  HAS_PYTHON_DOTENV,
  HAS_PYTHON_YAML,
  SHELLS,
  evaluated,
  readByBotocore,
  readByDockerRules,
  readByPythonDotenv,
  readByPythonYaml,
  sourced,
} from "./consumers.ts";
import { HOSTILE, OWNER, custom, errorOf, hostile, item, many, numbered, render } from "./render-kit.ts";

describe.each(SHELLS)("env, read by %s", (shell) => {
  const readBack = (values: readonly string[]) => {
    const found = evaluated(shell, render("env", numbered(values)));
    expect(values.map((_, index) => found[`V${index}`])).toEqual(values);
    expect(found).not.toHaveProperty("EVIL");
  };
  test("gives back every hostile value", () => readBack(HOSTILE));
  test("gives back any text", () => fc.assert(fc.property(many, readBack), { numRuns: 12 }));
});

/** The values that the format takes, each rendered by itself with another after it. */
function dotenvFiles(values: readonly string[]): { readonly value: string; readonly file: string }[] {
  return values.flatMap((value) => {
    try {
      return [{ value, file: render("dotenv", [custom(value, "a"), custom("next", "b")]) }];
    } catch (error) {
      expect(error).toMatchObject({ code: "invalid_value" });
      return [];
    }
  });
}

describe("dotenv", () => {
  test("is read back by Node as it was, or refused", () => {
    const readBack = (values: readonly string[]) => {
      for (const { value, file } of dotenvFiles(values))
        expect(parseEnv(file)).toEqual({ A: value, B: "next" });
    };
    readBack(HOSTILE);
    fc.assert(fc.property(many, readBack), { numRuns: 200 });
  });

  test.runIf(HAS_PYTHON_DOTENV)("is read back by python-dotenv as it was, or refused", () => {
    const values = [...HOSTILE, ...fc.sample(many, 100).flat()];
    const files = dotenvFiles(values);
    const read = readByPythonDotenv(files.map(({ file }) => file));
    expect(read).toEqual(files.map(({ value }) => ({ A: value, B: "next" })));
  });

  test("is read back by a shell as it was, or refused", () => {
    const values = [...HOSTILE, ...fc.sample(many, 5).flat()].filter(
      (value) => dotenvFiles([value]).length > 0,
    );
    const found = sourced("sh", render("dotenv", numbered(values)));
    expect(values.map((_, index) => found[`V${index}`])).toEqual(values);
  });

  test("takes what people keep in such files: passwords, URLs, JSON, keys, any language", () => {
    for (const value of [
      "p4$$w0rd!#%&",
      "postgres://u:p@host/db?a=b#c",
      '{"type": "service_account", "private_key": "-----BEGIN\\nabc\\n"}',
      "-----BEGIN KEY-----\nAAAA+/==\n-----END KEY-----\n",
      "it's",
      "日本語 🔑",
      "C:\\path\\file",
      "x".repeat(65_536),
    ])
      expect(dotenvFiles([value])).toHaveLength(1);
  });

  test("refuses what its parsers disagree about, naming every such setting and no value", () => {
    const error = errorOf(() =>
      render("dotenv", [custom("a\rb", "one"), custom("fine", "two"), custom(`'"canary`, "three")]),
    );
    expect(error.code).toBe("invalid_value");
    expect(error.fields.errors?.map(({ detail }) => detail.split(":")[0])).toEqual([
      "secret/Custom/one",
      "secret/Custom/three",
    ]);
    expect(JSON.stringify(error.fields)).not.toContain("canary");
  });
});

test("json gives back any text", () => {
  const readBack = (values: readonly string[]) => {
    expect(Object.values(JSON.parse(render("json", numbered(values))) as object)).toEqual(values);
  };
  readBack(HOSTILE);
  fc.assert(fc.property(many, readBack));
});

describe("dockerconfigjson", () => {
  const registry = (value: object, path = "connect/ContainerRegistry/r") => item(path, value as SettingValue);
  const config = (...items: Rendered[]) => JSON.parse(render("dockerconfigjson", items)) as object;

  test("is a Docker config with auths, each as docker login writes it", () => {
    const value = { registry: "registry.example.com:5000", username: "u", password: "p", email: "e@x" };
    expect(config(registry(value))).toEqual({
      auths: { "registry.example.com:5000": { username: "u", password: "p", email: "e@x", auth: "dTpw" } },
    });
  });
  test("any password comes back by Docker's own rules", () => {
    const readBack = (password: string) => {
      const read = readByDockerRules(config(registry({ registry: "r", username: "u", password })));
      expect(read.get("r")).toEqual({ username: "u", password });
    };
    HOSTILE.forEach(readBack);
    fc.assert(fc.property(hostile, readBack));
  });
  test("Docker Hub has the name that Docker looks for", () => {
    for (const name of ["docker.io", "index.docker.io", "registry-1.docker.io"])
      expect(config(registry({ registry: name, username: "u", password: "p" }))).toMatchObject({
        auths: { "https://index.docker.io/v1/": { username: "u" } },
      });
  });
  test("one registry twice is a clash; a username with a colon, or another type, is refused", () => {
    const one = { registry: "r", username: "u", password: "p" };
    const clash = errorOf(() => config(registry(one), registry(one, "connect/ContainerRegistry/s")));
    expect([clash.code, clash.fields.paths?.length]).toEqual(["conflict", 2]);
    expect(errorOf(() => config(registry({ ...one, username: "a:b" }))).code).toBe("invalid_value");
    expect(errorOf(() => config(registry(one), custom("v"))).code).toBe("invalid_value");
  });
  test("nothing matched: no auths", () => {
    expect(config()).toEqual({ auths: {} });
  });
});

describe("aws_credentials", () => {
  const s3 = { access_key_id: "i", secret_access_key: "s" };
  const credentials = (...items: Rendered[]) => JSON.parse(render("aws_credentials", items)) as object;

  test("is exactly what credential_process expects", () => {
    expect(credentials(item("connect/S3/a", { ...s3, region: "r", bucket: "b" }))).toEqual({
      Version: 1,
      AccessKeyId: "i",
      SecretAccessKey: "s",
    });
    const expires_at = new Date("2099-01-02T03:04:05Z");
    expect(credentials(item("connect/S3/a", { ...s3, session_token: "t" }, { expires_at }))).toEqual({
      Version: 1,
      AccessKeyId: "i",
      SecretAccessKey: "s",
      SessionToken: "t",
      Expiration: "2099-01-02T03:04:05.000Z",
    });
  });
  test.runIf(HAS_BOTOCORE)("is read by an AWS SDK, whatever the key holds", async () => {
    const secret = HOSTILE.filter(({ length }) => length < 100).join("");
    const value = { access_key_id: "AKID", secret_access_key: secret, session_token: "it's" };
    const expires_at = new Date("2099-01-02T03:04:05Z");
    for (const more of [{}, { expires_at }])
      expect(await readByBotocore(render("aws_credentials", [item("connect/S3/a", value, more)]))).toEqual([
        "AKID",
        secret,
        "it's",
      ]);
  });
  test("takes one s3, no more and no less, and nothing else", () => {
    const one = item("connect/S3/a", s3);
    for (const items of [[], [one, item("connect/S3/b", s3)], [custom("v")], [one, custom("v")]])
      expect(errorOf(() => credentials(...items)).code).toBe("invalid_value");
  });
});

type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string };
  type: string;
  data: Record<string, string>;
};

describe("k8s_secret", () => {
  const decoded = ({ data }: Manifest) =>
    Object.fromEntries(
      Object.entries(data).map(([name, text]) => [name, Buffer.from(text, "base64").toString()]),
    );
  const manifest = (items: readonly Rendered[], place: string | null = null, prefix = "") =>
    parseYaml(render("k8s_secret", items, prefix, place)) as Manifest;

  test("is an Opaque Secret of the variables; any text comes back from YAML", () => {
    const readBack = (values: readonly string[]) => {
      const read = manifest(numbered(values));
      expect({ ...read, data: {}, metadata: {} }).toEqual({
        apiVersion: "v1",
        kind: "Secret",
        metadata: {},
        type: "Opaque",
        data: {},
      });
      expect(Object.values(decoded(read))).toEqual(values);
    };
    readBack(HOSTILE);
    fc.assert(fc.property(many, readBack), { numRuns: 30 });
  });
  test.runIf(HAS_PYTHON_YAML)("is the same to another reader of YAML", () => {
    const text = render("k8s_secret", numbered(HOSTILE));
    expect(readByPythonYaml(text)).toEqual(parseYaml(text));
  });
  test("registries become kubernetes.io/dockerconfigjson", () => {
    const value = { registry: "r", username: "u", password: "p" };
    const read = manifest([item("connect/ContainerRegistry/r", value)]);
    expect(read.type).toBe("kubernetes.io/dockerconfigjson");
    expect(Object.keys(read.data)).toEqual([".dockerconfigjson"]);
    expect(readByDockerRules(JSON.parse(decoded(read)[".dockerconfigjson"] ?? "")).get("r")).toEqual({
      username: "u",
      password: "p",
    });
  });
  test("a registry beside another type, and nothing at all, are refused", () => {
    const registry = item("connect/ContainerRegistry/r", { registry: "r", username: "u", password: "p" });
    for (const items of [[registry, custom("v")], [custom("v"), registry], []])
      expect(errorOf(() => manifest(items)).code).toBe("invalid_value");
  });
  test("its name is the place's, or the owner's: the same for one setting and for more, and good by RFC 1123", () => {
    const NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
    for (const [place, name] of [
      ["secret/Custom/train", "secret-custom-train"],
      ["connect/S3/Training_Data.-x@y_", "connect-s3-training-data-x-y"],
      ["secret/Custom/__", "secret-custom"],
      [null, `project-${OWNER}`],
    ] as const)
      for (const items of [[custom("v", "a")], [custom("v", "a"), custom("w", "b")]])
        expect(manifest(items, place).metadata).toEqual({ name });
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._@/-]{0,511}$/), (place) => {
        const { name } = manifest([custom("v")], place).metadata;
        expect(name).toMatch(NAME);
        expect(name.length).toBeLessThanOrEqual(253);
      }),
    );
  });
});
