// Contract section 5: the names that settings are rendered under, and those that are refused.
import { describe, expect, test } from "vitest";
import type { Rendered } from "../../src/domain/render-formats.ts";
import { custom, errorOf, item, render } from "./render-kit.ts";

describe("names", () => {
  const names = (items: readonly Rendered[], prefix = "") =>
    JSON.parse(render("json", items, prefix)) as Record<string, string>;

  test("custom: the last segment, upper-cased, other characters to _", () => {
    expect(names([custom("v", "deep/er/my-api.Key@2_x")])).toEqual({ MY_API_KEY_2_X: "v" });
  });
  test("custom: a label env_name names it otherwise, as it is written", () => {
    expect(names([custom("v", "api-key", { env_name: "OpenAI_key" })])).toEqual({ OpenAI_key: "v" });
  });
  test("s3: what the AWS SDKs read; absent fields are absent", () => {
    const whole = {
      access_key_id: "i",
      secret_access_key: "s",
      session_token: "t",
      region: "r",
      bucket: "b",
      endpoint: "e",
      force_path_style: true,
    };
    expect(names([item("connect/S3/a", whole)])).toEqual({
      AWS_ACCESS_KEY_ID: "i",
      AWS_SECRET_ACCESS_KEY: "s",
      AWS_SESSION_TOKEN: "t",
      AWS_DEFAULT_REGION: "r",
      AWS_ENDPOINT_URL_S3: "e",
      S3_BUCKET: "b",
    });
    const least = { access_key_id: "i", secret_access_key: "s" };
    expect(names([item("connect/S3/a", least, { labels: { env_name: "X" } })])).toEqual({
      AWS_ACCESS_KEY_ID: "i",
      AWS_SECRET_ACCESS_KEY: "s",
    });
  });
  test("container_registry", () => {
    const value = { registry: "r", username: "u", password: "p", email: "e" };
    expect(names([item("connect/ContainerRegistry/a", value)])).toEqual({
      REGISTRY: "r",
      REGISTRY_USERNAME: "u",
      REGISTRY_PASSWORD: "p",
    });
  });
  test("prefix goes before each", () => {
    const s3 = item("connect/S3/a", { access_key_id: "i", secret_access_key: "s" });
    expect(Object.keys(names([s3, custom("v", "c"), custom("w", "d", { env_name: "e" })], "My_"))).toEqual([
      "My_AWS_ACCESS_KEY_ID",
      "My_AWS_SECRET_ACCESS_KEY",
      "My_C",
      "My_e",
    ]);
  });

  const FORMATS = ["env", "dotenv", "json", "k8s_secret"] as const;
  test.each(["2fa", "@", "-", ""])("the name %j is no variable's: refused", (name) => {
    for (const format of FORMATS)
      expect(errorOf(() => render(format, [custom("v", "x", { env_name: name })])).code).toBe(
        "invalid_value",
      );
  });
  test.each(["A B", "A=B", "A;id", "$(id)", "Ä", "A\n", "a-b", "x".repeat(254)])(
    "a label env_name of %j is refused",
    (env_name) => {
      expect(errorOf(() => render("env", [custom("v", "x", { env_name })])).code).toBe("invalid_value");
    },
  );
  test("a digit is a beginning only after a prefix", () => {
    expect(errorOf(() => names([custom("v", "2fa")])).code).toBe("invalid_value");
    expect(names([custom("v", "2fa")], "X_")).toEqual({ X_2FA: "v" });
  });

  test.each(
    "PATH IFS ENV BASH_ENV LD_PRELOAD LD_LIBRARY_PATH LD_X DYLD_INSERT_LIBRARIES NODE_OPTIONS PYTHONPATH PYTHONSTARTUP PYTHON PS4 PROMPT_COMMAND HOME SHELL UID PERL5LIB RUBYOPT GIT_SSH_COMMAND JAVA_TOOL_OPTIONS _JAVA_OPTIONS AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_PAGER GIT_PAGER GIT_SEQUENCE_EDITOR GIT_ASKPASS SSH_ASKPASS SUDO_EDITOR SYSTEMD_PAGER RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_BUILD_RUSTC_WRAPPER CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER CLOUDSDK_PYTHON KUBECONFIG PIP_CONFIG_FILE CUDA_INJECTION64_PATH NCCL_NET_PLUGIN XDG_CONFIG_HOME BUN_OPTIONS TAR_OPTIONS JULIA_LOAD_PATH JULIA_DEPOT_PATH EMACSLOADPATH TCLLIBPATH GTK_MODULES QT_PLUGIN_PATH DOTNET_ADDITIONAL_DEPS OCAMLRUNPARAM YARN_RC_FILENAME ELECTRON_RUN_AS_NODE ANSIBLE_CONFIG RUSTFLAGS CC COMSPEC".split(
      " ",
    ),
  )("%s would take over a process: refused in any case of letters, also by way of a prefix", (name) => {
    for (const format of FORMATS) {
      for (const env_name of [name, name.toLowerCase()])
        expect(errorOf(() => render(format, [custom("v", "x", { env_name })])).code).toBe("invalid_value");
      const [head, tail] = [name.slice(0, 1), name.slice(1)];
      expect(errorOf(() => render(format, [custom("v", "x", { env_name: tail })], head)).code).toBe(
        "invalid_value",
      );
    }
    expect(names([custom("v", "x", { env_name: name })], "MY_")).toEqual({ [`MY_${name}`]: "v" });
  });
  test("what people call their secrets is not", () => {
    for (const name of [
      "API_KEY",
      "TOKEN",
      "GIT_TOKEN",
      "DATABASE_URL",
      "COMET_API_KEY",
      "PATHS",
      "HTTPS_PROXY",
      "ENVIRONMENT",
    ])
      expect(names([custom("v", name.toLowerCase())])).toEqual({ [name]: "v" });
  });
  test("all that are wrong are named at once", () => {
    const error = errorOf(() => render("env", [custom("v", "path"), custom("v", "fine"), custom("v", "1")]));
    expect(error.fields.errors?.map(({ detail }) => detail.split(":")[0])).toEqual([
      "secret/Custom/path",
      "secret/Custom/1",
    ]);
  });

  test("clashes are told all at once, by name, with the paths", () => {
    const s3 = { access_key_id: "i", secret_access_key: "s" };
    const items = [
      custom("1", "a-b"),
      custom("2", "a_b"),
      custom("3", "lone"),
      item("connect/S3/x", s3),
      item("connect/S3/y", s3),
    ];
    for (const format of FORMATS) {
      const error = errorOf(() => render(format, items));
      expect(error.code).toBe("conflict");
      for (const name of ["A_B", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
        expect(error.message).toContain(name);
      expect(error.message).not.toContain("LONE");
      expect(error.fields.paths).toEqual([
        "secret/Custom/a-b",
        "secret/Custom/a_b",
        "connect/S3/x",
        "connect/S3/y",
      ]);
    }
  });
});
