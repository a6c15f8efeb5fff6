// What operators are told at the start: credentials that are not there or not taken, projects that are none. And that
// the SDK's own debug log, switched on, prints nothing of ours.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createGcpManager } from "../../src/sealing/gcp.ts";
import { CredentialsError, classifyGcp } from "../../src/sealing/gcp-errors.ts";
import { plainClient } from "../fakes/gcp.ts";
import { type GcpFixture, options, startGcp } from "./gcp-fixture.ts";

const CANARY = "canary-7be1c0";
const ALWAYS = Number.POSITIVE_INFINITY;

/** One that nobody has. */
function serviceAccount(): Readonly<Record<string, string>> {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return {
    type: "service_account",
    project_id: "their-project",
    client_email: "broker@their-project.iam.gserviceaccount.com",
    private_key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

let gcp: GcpFixture;
let address: { readonly resource: string };
beforeEach(async () => {
  gcp = await startGcp();
  address = gcp.own();
  await gcp.write(address, CANARY);
});
afterEach(async () => {
  await gcp.close();
});

describe("check tells operators what to do", () => {
  test.each([
    ["no permission", { errorName: "PERMISSION_DENIED" }, /does not permit .* acme-secrets/],
    [
      "the API is off",
      { errorName: "PERMISSION_DENIED", reason: "SERVICE_DISABLED" },
      /not enabled .* acme-secrets/,
    ],
    ["refused credentials", { errorName: "UNAUTHENTICATED" }, /does not take the broker's credentials/],
    ["a name that is none", { errorName: "INVALID_ARGUMENT" }, /does not take the project acme-secrets/],
  ])("%s", async (_, fault, detail) => {
    gcp.fake.fault({ kind: "error", ...fault });
    await expect(gcp.manager.check()).rejects.toMatchObject({
      code: "manager_failed",
      message: expect.stringMatching(detail),
    });
  });

  test.each([{ project: "No Such" }, { location: "eu.example" }])(
    "names that cannot be: %j",
    async (more) => {
      const manager = await createGcpManager(options(gcp.fake.endpoint, more));
      gcp.fake.forgetCalls();
      await expect(manager.check()).rejects.toMatchObject({
        message: expect.stringMatching(/COFFER_GCP_LOCATION/),
      });
      expect(gcp.fake.calls()).toEqual([]);
      await manager.close();
    },
  );

  test("what is away is only that", async () => {
    gcp.fake.fault({ kind: "error", errorName: "UNAVAILABLE", times: ALWAYS });
    await expect(gcp.manager.check()).rejects.toMatchObject({ code: "unavailable" });
  });
});

describe("the SDK's debug log", () => {
  const LOGGING = "GOOGLE_SDK_NODE_LOGGING";

  async function printed(work: () => Promise<unknown>): Promise<string> {
    const lines: unknown[] = [];
    for (const method of ["error", "log", "warn", "info", "debug"] as const)
      vi.spyOn(console, method).mockImplementation((...args) => void lines.push(args));
    for (const stream of [process.stdout, process.stderr])
      vi.spyOn(stream, "write").mockImplementation((text) => (lines.push(String(text)), true));
    try {
      await work();
    } finally {
      vi.restoreAllMocks();
    }
    return inspect(lines, { depth: ALWAYS, maxStringLength: null, maxArrayLength: null });
  }

  test("prints the payload of a plain client, and nothing of ours", async () => {
    vi.stubEnv(LOGGING, "all");
    const plain = plainClient(gcp.fake.endpoint);
    const name = `${address.resource}/versions/1`;
    const theirs = await printed(async () => {
      await plain.accessSecretVersion({ name });
      await plain.close();
    });
    expect(theirs).toContain([...Buffer.from(CANARY)].join(","));

    const silence = vi.fn<() => void>(() => void vi.stubEnv(LOGGING, undefined));
    const ours = await printed(async () => {
      const manager = await createGcpManager(options(gcp.fake.endpoint, { silence }));
      const at = manager.addressOf(randomUUID());
      gcp.fake.fault({ kind: "cut_off", operation: "AddSecretVersion" });
      const { version_id } = await manager.write({
        address: at,
        token: "",
        text: CANARY,
        tags: {},
        kept: [],
      });
      await manager.read([
        { ...at, version_id },
        { ...at, version_id: "9" },
      ]);
      await manager.close();
    });
    expect(ours).toBe("[]");
    expect(silence).toHaveBeenCalledOnce();
  });
});

describe("credentials", () => {
  const none = "/nonexistent/credentials.json";

  test("where there are none, check says so, every call fails alike, and nothing is left unhandled", async () => {
    const unhandled: unknown[] = [];
    const note = (reason: unknown): number => unhandled.push(reason);
    process.on("unhandledRejection", note);
    vi.stubEnv("GOOGLE_APPLICATION_CREDENTIALS", none);
    const manager = await createGcpManager(options(null));
    const noted = {
      code: "manager_failed",
      message: expect.stringMatching(/GOOGLE_APPLICATION_CREDENTIALS/),
    };
    await expect(manager.check()).rejects.toMatchObject(noted);
    await expect(manager.check()).rejects.toMatchObject(noted);
    const [read] = await manager.read([{ ...address, version_id: "1" }]);
    expect(read).toMatchObject({ absent: false, error: { code: "manager_failed" } });
    await manager.close();
    for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
    process.off("unhandledRejection", note);
    expect(unhandled).toEqual([]);
  });

  test("when there are some by then, they are used", async () => {
    const directory = await mkdtemp(join(tmpdir(), "coffer-gcp-"));
    const file = join(directory, "credentials.json");
    vi.stubEnv("GOOGLE_APPLICATION_CREDENTIALS", file);
    // Nothing leaves this machine: what the client would reach it reaches through a port where nobody listens.
    vi.stubEnv("grpc_proxy", "http://127.0.0.1:1");
    const manager = await createGcpManager(options(null));
    await expect(manager.check()).rejects.toMatchObject({ code: "manager_failed" });
    await writeFile(file, JSON.stringify(serviceAccount()));
    await expect(manager.check()).rejects.toMatchObject({ code: "unavailable" });
    await manager.close();
    await rm(directory, { recursive: true });
  });

  test("where the project is to be theirs, and there are none, check says that", async () => {
    vi.stubEnv("GOOGLE_APPLICATION_CREDENTIALS", none);
    for (const name of ["GCLOUD_PROJECT", "GOOGLE_CLOUD_PROJECT", "gcloud_project", "google_cloud_project"])
      vi.stubEnv(name, undefined);
    const manager = await createGcpManager(options(null, { project: null }));
    const noted = { code: "manager_failed", message: expect.stringMatching(/COFFER_GCP_PROJECT/) };
    await expect(manager.check()).rejects.toMatchObject(noted);
    expect(() => manager.addressOf("id")).toThrow(/COFFER_GCP_PROJECT/);
    await manager.close();
  });

  test("the project is found where the credentials have one", async () => {
    vi.stubEnv("GOOGLE_CLOUD_PROJECT", "their-project");
    const manager = await createGcpManager(options(gcp.fake.endpoint, { project: null }));
    expect(manager.addressOf("id")).toEqual({ resource: "projects/their-project/secrets/coffer-test-id" });
    await manager.close();
  });

  test.each([
    ["invalid_grant", "denied"],
    ["request to http://metadata.google.internal failed, reason: connect ECONNREFUSED", "away"],
    ["Request failed with status code 503", "away"],
  ])("a token that cannot be had: %s", (text, failure) => {
    const details = `Getting metadata from plugin failed with error: ${text}`;
    expect(classifyGcp({ code: 2, details })).toMatchObject({ failure, name: "CredentialsError" });
    expect(classifyGcp(new CredentialsError(new Error(text)))).toMatchObject({ failure });
  });
});
