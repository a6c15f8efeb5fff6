// The contract of the port against AWS; and what is AWS's alone: its errors, its addresses, what an operator is told.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import type { Read } from "../../src/domain/manager-ports.ts";
import { createAwsManager } from "../../src/sealing/aws.ts";
import type { CallEvent } from "../../src/sealing/manager-calls.ts";
import type { Fault } from "../fakes/aws-faults.ts";
import {
  type AwsFixture,
  ELSEWHERE,
  awsContractFixture,
  options,
  startAws,
  useEnvironment,
} from "./aws-fixture.ts";
import { managerContract } from "./manager-contract.ts";

managerContract("aws", awsContractFixture, ELSEWHERE === undefined);

const REGION = "eu-central-1";
const CANARY = "canary-90b2f6";

describe.skipIf(ELSEWHERE !== undefined)("manager aws", () => {
  let aws: AwsFixture;
  let events: CallEvent[] = [];

  beforeEach(async () => {
    events = [];
    aws = await startAws({ onCall: (event) => events.push(event) });
  });
  afterEach(() => aws.close());

  const at = (id = randomUUID()) => aws.manager.addressOf(id);
  const write = (text: string, address = at(), kept: readonly string[] = []) =>
    aws.manager.write({ address, token: randomUUID(), text, tags: {}, kept });
  const read = async (address = at(), version_id = "latest"): Promise<Read> => {
    const [result] = await aws.manager.read([{ ...address, version_id }]);
    if (result === undefined) throw new Error("no result");
    return result;
  };

  describe("the table of errors", () => {
    const error = (errorName: string, message = "no", status = 400): Fault => ({
      kind: "error",
      errorName,
      message,
      status,
    });
    const many = "1 validation error detected: Member must have length less than or equal to 65536";
    const rows: readonly (readonly [string, Fault, string, string, number | undefined, number])[] = [
      // row, fault, code on read, code on write, Retry-After, attempts
      ["being deleted", error("InvalidRequestException"), "manager_failed", "conflict", undefined, 1],
      ["exists", error("ResourceExistsException"), "manager_failed", "conflict", undefined, 1],
      ["precondition", error("PreconditionNotMetException"), "manager_failed", "conflict", undefined, 1],
      ["too long", error("ValidationException", many), "too_large", "too_large", undefined, 1],
      [
        "too long, other name",
        error("InvalidParameterException", many),
        "too_large",
        "too_large",
        undefined,
        1,
      ],
      ["other validation", error("ValidationException"), "manager_failed", "manager_failed", undefined, 1],
      ["throttled", error("ThrottlingException"), "unavailable", "unavailable", 2, 3],
      ["HTTP 429", { kind: "status", status: 429 }, "unavailable", "unavailable", 2, 3],
      ["quota", error("LimitExceededException"), "unavailable", "unavailable", 60, 1],
      ["KMS decrypts not", error("DecryptionFailure"), "manager_failed", "manager_failed", undefined, 1],
      ["KMS encrypts not", error("EncryptionFailure"), "manager_failed", "manager_failed", undefined, 1],
      [
        "KMS is not allowed",
        error("AccessDeniedException", "Access to KMS is not allowed"),
        "manager_failed",
        "manager_failed",
        undefined,
        1,
      ],
      ["permission", error("AccessDeniedException"), "manager_failed", "manager_failed", undefined, 1],
      ["expired", error("ExpiredTokenException"), "manager_failed", "manager_failed", undefined, 1],
      [
        "unknown key",
        error("UnrecognizedClientException", "", 403),
        "manager_failed",
        "manager_failed",
        undefined,
        1,
      ],
      ["server", error("InternalServiceError", "", 500), "unavailable", "unavailable", 1, 3],
      ["HTTP 503", { kind: "status", status: 503 }, "unavailable", "unavailable", 1, 3],
      ["HTML", { kind: "html" }, "unavailable", "unavailable", 1, 3],
      ["HTML that says 200", { kind: "html", status: 200 }, "unavailable", "unavailable", 1, 3],
      ["HTML that says 403", { kind: "html", status: 403 }, "manager_failed", "manager_failed", undefined, 1],
      ["reset", { kind: "reset" }, "unavailable", "unavailable", 1, 3],
      ["a new name", error("BrandNewException"), "manager_failed", "manager_failed", undefined, 1],
    ];

    test.each(rows)("%s", async (row, fault, onRead, onWrite, retryAfter, attempts) => {
      const address = at();
      const { version_id } = await write("one", address);
      aws.fake.forgetCalls();
      aws.fake.fault({ ...fault, times: Number.POSITIVE_INFINITY });
      const result = await read(address, version_id);
      expect(result).toMatchObject({ kind: "failed", absent: fault.errorName === "InvalidRequestException" });
      const failed = result.kind === "failed" ? result.error : null;
      expect([failed?.code, failed?.fields.retry_after_seconds]).toEqual([onRead, retryAfter]);
      // The same code as for a lack of permission, but another thing to look at.
      if (row.startsWith("KMS")) expect(failed?.message).toContain("key");
      expect(aws.fake.calls()).toHaveLength(attempts);
      aws.fake.clearFaults();
      aws.fake.fault({ ...fault, operation: "PutSecretValue", times: Number.POSITIVE_INFINITY });
      await expect(write("two", address, [version_id])).rejects.toMatchObject({
        code: onWrite,
        fields: retryAfter === undefined ? {} : { retry_after_seconds: retryAfter },
      });
      expect(aws.fake.calls("PutSecretValue")).toHaveLength(attempts);
    });

    test("not found is a failed read of what is absent, and success of a removal", async () => {
      const result = await read();
      expect(result).toMatchObject({ kind: "failed", absent: true, error: { code: "manager_failed" } });
      expect(await aws.manager.reconcile(at(), [], null, ["x"])).toEqual(["x"]);
    });

    test("a body of 5xx that carries a value leaves none of it behind", async () => {
      const body = { SecretString: CANARY, __type: CANARY, nested: { value: CANARY } };
      const a = at();
      const { version_id } = await write(CANARY, a);
      for (const kind of ["error", "status"] as const) {
        aws.fake.fault({ kind, status: 500, message: CANARY, body, times: 3 });
        const result = await read(a, version_id);
        expect(result.kind).toBe("failed");
        expect(inspect(result, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain(CANARY);
        aws.fake.fault({ kind, status: 400, message: CANARY, body, times: 1 });
        const thrown = await write(CANARY, a, [version_id]).catch((error: unknown) => error);
        expect(thrown).toBeInstanceOf(BrokerError);
        expect(inspect(thrown, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain(CANARY);
      }
    });
  });

  describe("check", () => {
    async function adviceOf(environment: Readonly<Record<string, string | undefined>>): Promise<BrokerError> {
      useEnvironment(aws.fake.environment);
      for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
      const manager = await createAwsManager(options());
      const error = await manager.check().catch((reason: unknown) => reason);
      await manager.close();
      if (!(error instanceof BrokerError)) throw new Error("the check passed");
      return error;
    }

    test("asks for no value, and for one description", async () => {
      await aws.manager.check();
      expect(aws.fake.calls().map(({ operation }) => operation)).toEqual(["DescribeSecret"]);
    });

    test.each([
      ["no region", { AWS_REGION: undefined }, "COFFER_AWS_REGION"],
      ["no credentials", { AWS_ACCESS_KEY_ID: undefined }, "standard chain"],
      ["a wrong key", { AWS_SECRET_ACCESS_KEY: "wrong" }, "does not take"],
      ["an unknown key", { AWS_ACCESS_KEY_ID: "AKIAUNKNOWN" }, "does not take"],
    ] as const)("%s: the operator learns what to set", async (_, environment, hint) => {
      const error = await adviceOf(environment);
      expect(error.code).toBe("manager_failed");
      expect(error.message).toContain(hint);
    });

    test("no permission, no such service: the operator learns where to look", async () => {
      aws.fake.fault({ kind: "error", errorName: "AccessDeniedException" });
      expect((await adviceOf({})).message).toContain("docs/managers.md");
      aws.fake.fault({ kind: "status", status: 404 });
      expect((await adviceOf({})).message).toContain("AWS_ENDPOINT_URL_SECRETS_MANAGER");
    });

    test("without a region only addresses of our own cannot be made", async () => {
      await write("one", { secret_id: "coffer-test/a", region: REGION });
      vi.stubEnv("AWS_REGION", undefined);
      const manager = await createAwsManager(options());
      expect(() => manager.addressOf("x")).toThrow(BrokerError);
      const [result] = await manager.read([
        { secret_id: "coffer-test/a", region: REGION, version_id: "latest" },
      ]);
      expect(result).toMatchObject({ text: "one" });
      await manager.close();
    });
  });

  describe("addresses", () => {
    const arn = `arn:aws:secretsmanager:${REGION}:123456789012:secret`;

    test.each([
      ["coffer-test/x", true],
      [`${arn}:coffer-test/x-a1B2c3`, true],
      [`${arn}:coffer-test/x`, true],
      ["coffer-test", false],
      ["coffer-testing/x", false],
      ["other/coffer-test/x", false],
      [`${arn}:other/x-a1B2c3`, false],
    ])("%s is ours: %s", (secret_id, isOurs) => {
      expect(aws.manager.isOwn({ secret_id, region: REGION })).toBe(isOurs);
    });

    test("an address of another cloud is none of ours, and cannot be read", async () => {
      const resource = { resource: "projects/p/secrets/coffer-test-x" };
      expect(aws.manager.isOwn(resource)).toBe(false);
      expect(await read(resource)).toMatchObject({ kind: "failed", error: { code: "manager_failed" } });
    });

    test("a whole ARN is its own name, and nobody is asked", async () => {
      const address = { secret_id: `${arn}:theirs/x-a1B2c3`, region: REGION };
      expect(await aws.manager.canonical(address)).toEqual(address);
      expect(aws.fake.calls()).toEqual([]);
    });

    test.each([
      [`${arn}:theirs/x-a1B2c3`, "us-east-1"],
      [`${arn}:theirs/x`, "us-east-1"],
      ["arn:aws:s3:::bucket", REGION],
      ["theirs/x", "example.com/"],
      ["theirs/x", "Eu-Central-1"],
    ])("%s in %s is refused before anything is sent", async (secret_id, region) => {
      await expect(aws.manager.canonical({ secret_id, region })).rejects.toMatchObject({
        code: "invalid_value",
      });
      expect(await read({ secret_id, region })).toMatchObject({ kind: "failed", absent: false });
      expect(aws.fake.calls()).toEqual([]);
    });

    test("a part of an ARN and a name lead to the same whole one", async () => {
      await aws.sdk.createSecret({ Name: "theirs/x", SecretString: "x" });
      const byName = await aws.manager.canonical({ secret_id: "theirs/x", region: REGION });
      expect(byName).toEqual({
        secret_id: expect.stringMatching(/theirs\/x-[A-Za-z0-9]{6}$/),
        region: REGION,
      });
      expect(await aws.manager.canonical({ secret_id: `${arn}:theirs/x`, region: REGION })).toEqual(byName);
    });
  });

  test("making and reading back share one budget", async () => {
    aws.fake.fault({ kind: "hang", operation: "CreateSecret", times: 2 });
    aws.fake.fault({ kind: "hang", operation: "GetSecretValue", times: Number.POSITIVE_INFINITY });
    const start = performance.now();
    const made = await aws.manager.ensure(randomUUID(), at(), "one", {});
    expect(made).toMatchObject({ kind: "failed", error: { code: "unavailable" } });
    expect(performance.now() - start).toBeLessThan(6_500);
  });

  test("what is asked of it prints nothing", async () => {
    const out = (["log", "info", "warn", "error", "debug", "trace"] as const).map((name) =>
      vi.spyOn(console, name).mockImplementation(() => undefined),
    );
    const address = at();
    const { version_id } = await write(CANARY, address);
    aws.fake.fault({ kind: "status", status: 500, body: { SecretString: CANARY }, times: 2 });
    expect(await read(address, version_id)).toMatchObject({ text: CANARY });
    expect(out.flatMap(({ mock }) => mock.calls)).toEqual([]);
  });

  test("each attempt is told to the metrics", async () => {
    const address = at();
    const { version_id } = await write("one", address);
    events = [];
    aws.fake.fault({ kind: "throttle" });
    await read(address, version_id);
    const told = events.map(({ manager, operation, outcome }) => [manager, operation, outcome]);
    expect(told).toEqual([
      ["aws", "GetSecretValue", "throttled"],
      ["aws", "GetSecretValue", "ok"],
    ]);
    expect(events.every(({ milliseconds }) => milliseconds > 0)).toBe(true);
  });

  test("the SDK is loaded only by whoever makes a manager", () => {
    for (const name of [
      "aws",
      "aws-address",
      "aws-errors",
      "aws-labels",
      "aws-read",
      "aws-regions",
      "aws-versions",
    ]) {
      const text = readFileSync(new URL(`../../src/sealing/${name}.ts`, import.meta.url), "utf8");
      expect(text).not.toMatch(/^import (?!type)[^;]*"@aws-sdk/m);
    }
  });
});
