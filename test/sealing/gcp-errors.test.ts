// Each row of the error table: what a failure of Secret Manager means to our caller, how often it was tried, and that no
// error quotes a value, not even where the server's own words do.
import { randomUUID } from "node:crypto";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import type { SecretAddress } from "../../src/domain/manager-ports.ts";
import { classifyGcp } from "../../src/sealing/gcp-errors.ts";
import { failureOf } from "../../src/sealing/manager-failures.ts";
import type { GcpFault } from "../fakes/gcp.ts";
import { type GcpFixture, startGcp } from "./gcp-fixture.ts";

const CANARY = "canary-7be1c0";
const ALWAYS = Number.POSITIVE_INFINITY;

let gcp: GcpFixture;
let address: SecretAddress;
beforeEach(async () => {
  gcp = await startGcp();
  address = gcp.manager.addressOf(randomUUID());
  await gcp.manager.write({ address, token: randomUUID(), text: CANARY, tags: {}, kept: [] });
  gcp.fake.forgetCalls();
});
afterEach(async () => {
  await gcp.close();
});

/** An answer as the table has it: the code, Retry-After, and how many calls it took. */
type Told = readonly [code: string, retryAfter: number | null, calls: number];

async function told(operation: string, work: Promise<unknown>): Promise<readonly unknown[]> {
  const error = await work.then(
    (value) => (value as readonly { readonly error?: unknown }[] | undefined)?.[0]?.error ?? null,
    (reason: unknown) => reason,
  );
  if (error === null) return ["ok", null, gcp.fake.calls(operation).length];
  if (!(error instanceof BrokerError)) throw new Error("no BrokerError", { cause: error });
  expect(inspect(error, { depth: ALWAYS, showHidden: true })).not.toContain(CANARY);
  return [error.code, error.fields.retry_after_seconds ?? null, gcp.fake.calls(operation).length];
}

const USES = {
  read: ["AccessSecretVersion", () => gcp.manager.read([{ ...address, version_id: "1" }])],
  write: [
    "AddSecretVersion",
    () => gcp.manager.write({ address, token: randomUUID(), text: `${CANARY}2`, tags: {}, kept: ["1"] }),
  ],
  removal: ["DeleteSecret", () => gcp.manager.reconcile(address, [], null, ["1"])],
} as const satisfies Record<string, readonly [string, () => Promise<unknown>]>;

const once = (code: string): Told => [code, null, 1];
const AWAY: Told = ["unavailable", 1, 3];
const FAILED = once("manager_failed");
const GONE = once("ok");

/** The server's texts quote what they refuse, to see that they go no further. */
const ROWS: readonly (readonly [string, GcpFault, { read: Told; write: Told; removal: Told }])[] = [
  [
    "CANCELLED",
    { kind: "error", errorName: "CANCELLED" },
    { read: AWAY, write: ["unavailable", 1, 2], removal: AWAY },
  ],
  [
    "UNKNOWN",
    { kind: "error", errorName: "UNKNOWN" },
    { read: AWAY, write: ["unavailable", 1, 2], removal: AWAY },
  ],
  [
    "INVALID_ARGUMENT",
    { kind: "error", errorName: "INVALID_ARGUMENT" },
    { read: FAILED, write: FAILED, removal: FAILED },
  ],
  [
    "INVALID_ARGUMENT, checksum",
    { kind: "error", errorName: "INVALID_ARGUMENT", message: "data_crc32c does not match" },
    {
      read: ["manager_failed", null, 2],
      write: ["manager_failed", null, 2],
      removal: ["manager_failed", null, 2],
    },
  ],
  [
    "INVALID_ARGUMENT, size",
    { kind: "error", errorName: "INVALID_ARGUMENT", message: "The payload is larger than 65536 bytes." },
    { read: once("too_large"), write: once("too_large"), removal: once("too_large") },
  ],
  [
    "DEADLINE_EXCEEDED",
    { kind: "error", errorName: "DEADLINE_EXCEEDED" },
    { read: AWAY, write: ["unavailable", 1, 2], removal: AWAY },
  ],
  ["NOT_FOUND", { kind: "error", errorName: "NOT_FOUND" }, { read: FAILED, write: FAILED, removal: GONE }],
  [
    "PERMISSION_DENIED",
    { kind: "error", errorName: "PERMISSION_DENIED" },
    { read: FAILED, write: FAILED, removal: FAILED },
  ],
  [
    "PERMISSION_DENIED, KMS",
    { kind: "error", errorName: "PERMISSION_DENIED", message: "cloudkms.cryptoKeyVersions.useToDecrypt" },
    { read: FAILED, write: FAILED, removal: FAILED },
  ],
  [
    "RESOURCE_EXHAUSTED",
    { kind: "throttle" },
    { read: ["unavailable", 2, 3], write: ["unavailable", 2, 3], removal: ["unavailable", 2, 3] },
  ],
  [
    "RESOURCE_EXHAUSTED, per minute",
    {
      kind: "error",
      errorName: "RESOURCE_EXHAUSTED",
      message: "Quota exceeded for quota metric 'Access requests' and limit 'Access requests per minute'",
    },
    { read: ["unavailable", 2, 3], write: ["unavailable", 2, 3], removal: ["unavailable", 2, 3] },
  ],
  [
    "RESOURCE_EXHAUSTED, quota",
    { kind: "error", errorName: "RESOURCE_EXHAUSTED", reason: "RESOURCE_QUOTA_EXCEEDED" },
    { read: ["unavailable", 60, 1], write: ["unavailable", 60, 1], removal: ["unavailable", 60, 1] },
  ],
  [
    "FAILED_PRECONDITION",
    { kind: "error", errorName: "FAILED_PRECONDITION", message: "Secret Version [v] is in DISABLED state." },
    { read: FAILED, write: once("conflict"), removal: FAILED },
  ],
  [
    "FAILED_PRECONDITION, KMS",
    { kind: "error", errorName: "FAILED_PRECONDITION", message: "The KMS key is disabled." },
    { read: FAILED, write: FAILED, removal: FAILED },
  ],
  [
    "ABORTED",
    { kind: "error", errorName: "ABORTED" },
    { read: FAILED, write: once("conflict"), removal: once("conflict") },
  ],
  ["OUT_OF_RANGE", { kind: "error", code: 11 }, { read: FAILED, write: FAILED, removal: FAILED }],
  ["UNIMPLEMENTED", { kind: "error", code: 12 }, { read: FAILED, write: FAILED, removal: FAILED }],
  [
    "INTERNAL",
    { kind: "error", errorName: "INTERNAL" },
    { read: AWAY, write: ["unavailable", 1, 2], removal: AWAY },
  ],
  [
    "UNAVAILABLE",
    { kind: "error", errorName: "UNAVAILABLE" },
    { read: AWAY, write: ["unavailable", 1, 2], removal: AWAY },
  ],
  ["DATA_LOSS", { kind: "error", code: 15 }, { read: FAILED, write: FAILED, removal: FAILED }],
  [
    "UNAUTHENTICATED",
    { kind: "error", errorName: "UNAUTHENTICATED" },
    { read: FAILED, write: FAILED, removal: FAILED },
  ],
  ["a proxy's page", { kind: "html" }, { read: AWAY, write: ["unavailable", 1, 2], removal: AWAY }],
];

describe.each(ROWS)("%s", (_, fault, expected) => {
  test.each(["read", "write", "removal"] as const)("on a %s", async (use) => {
    const [operation, work] = USES[use];
    const message = `${fault.message ?? "No."} ${CANARY}`;
    gcp.fake.fault({ ...fault, message, operation, times: ALWAYS });
    expect(await told(operation, work())).toEqual(expected[use]);
  });
});

test("a version that cannot be told to be off or on is off, when it is to be read", async () => {
  gcp.fake.fault({ kind: "error", errorName: "FAILED_PRECONDITION" });
  expect(await USES.read[1]()).toMatchObject([{ absent: true }]);
});

describe("KMS", () => {
  test.each(["PERMISSION_DENIED", "FAILED_PRECONDITION"])(
    "%s of the key's is told apart",
    async (errorName) => {
      gcp.fake.fault({ kind: "error", errorName, message: "Cloud KMS key cannot be used" });
      const [read] = await USES.read[1]();
      expect(read).toMatchObject({ absent: false });
      expect(failureOf(read?.kind === "failed" && read.error)).toBe("kms_refused");
    },
  );
});

describe("checksums", () => {
  test("a payload that was damaged on its way is fetched once more", async () => {
    gcp.fake.damage(1);
    expect(await USES.read[1]()).toMatchObject([{ text: CANARY }]);
    gcp.fake.damage(2);
    expect(await told("AccessSecretVersion", USES.read[1]())).toEqual(["manager_failed", null, 4]);
  });

  test("one that was damaged on its way there is sent once more, and is there once", async () => {
    const message = "The checksum data_crc32c does not match the payload.";
    gcp.fake.fault({ kind: "error", errorName: "INVALID_ARGUMENT", message, operation: "AddSecretVersion" });
    expect(await USES.write[1]()).toEqual({ version_id: "2" });
    expect(gcp.fake.secrets()[0]?.versions).toMatchObject([{ checked: true }, { checked: true }]);
  });
});

test.each([undefined, null, "closed", new Error("?"), { code: 99 }, { code: "ENOENT" }])(
  "an error that is none of gRPC's: %s",
  (error) => {
    expect(classifyGcp(error)).toEqual({ failure: "rejected", name: "NoGrpcStatus" });
  },
);
