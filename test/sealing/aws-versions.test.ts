// Writing to AWS: labels, tokens, deletion; what the secret looks like to the plain SDK and in the console.
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SecretAddress } from "../../src/domain/manager-ports.ts";
import { createAwsManager } from "../../src/sealing/aws.ts";
import { type AwsFixture, ELSEWHERE, options, startAws } from "./aws-fixture.ts";

describe.skipIf(ELSEWHERE !== undefined)("manager aws: versions", () => {
  let aws: AwsFixture;
  beforeEach(async () => {
    aws = await startAws();
  });
  afterEach(() => aws.close());

  const id = (at: SecretAddress): string => ("secret_id" in at ? at.secret_id : "");
  const secret = (at: SecretAddress) => aws.fake.secrets().find(({ name }) => name === id(at));
  const stagesOf = (at: SecretAddress) =>
    Object.fromEntries(secret(at)?.versions.map((version) => [version.text, version.stages]) ?? []);
  const operations = () => aws.fake.calls().map(({ operation }) => operation);

  async function write(
    at: SecretAddress,
    text: string,
    kept: readonly string[] = [],
    token: string = randomUUID(),
  ) {
    const { version_id } = await aws.manager.write({ address: at, token, text, tags: {}, kept });
    expect(version_id).toBe(token);
    return version_id;
  }

  /** A secret of ours with so many versions. */
  async function filled(count: number) {
    const at = aws.manager.addressOf(randomUUID());
    const kept: string[] = [];
    for (let n = 1; n <= count; n += 1) kept.push(await write(at, `v${n}`, kept));
    return { at, kept };
  }

  test("the plain SDK finds a secret with its tags, its description and its key", async () => {
    await aws.close();
    aws = await startAws({ kmsKeyId: "alias/coffer" });
    const at = aws.manager.addressOf(randomUUID());
    const path = `connect/S3/${"a".repeat(500)}`;
    const tags = { owner: "project/7c1e", path, note: "<é>" };
    await aws.manager.write({ address: at, token: randomUUID(), text: "x", tags, kept: [] });
    const found = await aws.sdk.describeSecret({ SecretId: id(at) });
    expect(found).toMatchObject({
      Name: expect.stringMatching(/^coffer-test\/[0-9a-f-]{36}$/),
      KmsKeyId: "alias/coffer",
      Description: expect.stringContaining(`path=${path}`),
      Tags: [
        { Key: "owner", Value: "project/7c1e" },
        { Key: "path", Value: path.slice(0, 256) },
        { Key: "note", Value: "_é_" },
      ],
    });
    expect(await aws.sdk.getSecretValue({ SecretId: id(at) })).toMatchObject({ SecretString: "x" });
  });

  test("a new secret is two calls, a next version two more", async () => {
    const { at, kept } = await filled(1);
    expect(operations()).toEqual(["CreateSecret", "UpdateSecretVersionStage"]);
    aws.fake.forgetCalls();
    await write(at, "v2", kept);
    expect(operations()).toEqual(["DescribeSecret", "PutSecretValue"]);
    expect(stagesOf(at)).toEqual({ v1: ["AWSPREVIOUS", "coffer-01"], v2: ["AWSCURRENT", "coffer-02"] });
  });

  test("eighteen versions each have a label; one more takes none from them until one is not kept", async () => {
    const { at, kept } = await filled(18);
    expect(new Set(secret(at)?.versions.flatMap(({ stages }) => stages)).size).toBe(20);
    await write(at, "v19", kept);
    expect(stagesOf(at)["v1"]).toEqual(["coffer-01"]);
    expect(stagesOf(at)["v19"]).toEqual(["AWSCURRENT"]);
    const next = [...kept.slice(1), secret(at)?.versions.at(-1)?.id ?? ""];
    await write(at, "v20", next);
    expect(stagesOf(at)["v19"]).toEqual(["AWSPREVIOUS", "coffer-01"]);
    expect(stagesOf(at)["v20"]).toEqual(["AWSCURRENT"]);
    expect(secret(at)?.versions.map(({ text }) => text)).not.toContain("v1");
    expect(secret(at)?.versions).toHaveLength(19);
  });

  test("a version that is not kept gives up its label before one that is", async () => {
    const { at, kept } = await filled(18);
    const next = kept.filter((_, n) => n !== 7);
    await write(at, "v19", next);
    expect(stagesOf(at)["v8"]).toBeUndefined();
    expect(stagesOf(at)["v19"]).toEqual(["AWSCURRENT", "coffer-08"]);
    expect(secret(at)?.versions).toHaveLength(18);
  });

  test("a repeated write gives its version the label and the place that it lacks", async () => {
    const { at, kept } = await filled(1);
    const token = randomUUID();
    const values = { SecretId: id(at), ClientRequestToken: token, SecretString: "v2" };
    await aws.sdk.putSecretValue({ ...values, VersionStages: ["somebody-else"] });
    await write(at, "v2", kept, token);
    expect(stagesOf(at)["v2"]).toEqual(["AWSCURRENT", "coffer-02", "somebody-else"]);
    aws.fake.forgetCalls();
    await write(at, "v2", kept, token);
    expect(operations()).toEqual(["DescribeSecret", "PutSecretValue"]);
  });

  test("a version that is there without any label is held again", async () => {
    await aws.close();
    aws = await startAws({}, { unlabelled: "stay" });
    const { at, kept } = await filled(2);
    const [first = "", second = ""] = kept;
    await aws.manager.reconcile(at, [second], second, []);
    expect(stagesOf(at)["v1"]).toEqual([]);
    await write(at, "v1", [second], first);
    expect(stagesOf(at)).toEqual({ v1: ["AWSCURRENT", "coffer-01"], v2: ["AWSPREVIOUS", "coffer-02"] });
    // The same by a reconcile: what it is to keep it tries to hold.
    await aws.manager.reconcile(at, [first], first, []);
    await aws.manager.reconcile(at, [first, second], second, []);
    expect(stagesOf(at)).toEqual({ v1: ["AWSPREVIOUS", "coffer-01"], v2: ["AWSCURRENT", "coffer-02"] });
  });

  test("a token that has another text already is a conflict", async () => {
    const { at, kept } = await filled(1);
    const token = randomUUID();
    const values = { SecretId: id(at), ClientRequestToken: token, SecretString: "other" };
    await aws.sdk.putSecretValue({ ...values, VersionStages: ["x"] });
    await expect(write(at, "v2", kept, token)).rejects.toMatchObject({ code: "conflict" });
    expect(stagesOf(at)).toEqual({ v1: ["AWSCURRENT", "coffer-01"], other: ["x"] });
  });

  test("a secret that was taken away behind our back is made anew by the next write", async () => {
    const { at, kept } = await filled(2);
    await aws.sdk.deleteSecret({ SecretId: id(at), ForceDeleteWithoutRecovery: true });
    await write(at, "v3", kept);
    expect(stagesOf(at)).toEqual({ v3: ["AWSCURRENT", "coffer-01"] });
  });

  describe("a secret that is scheduled for deletion", () => {
    test("takes no write, gives no value, and confirms nothing, for it can be restored", async () => {
      const { at, kept } = await filled(2);
      const [first = "", second = ""] = kept;
      await aws.sdk.deleteSecret({ SecretId: id(at), RecoveryWindowInDays: 7 });
      await expect(write(at, "v3", kept)).rejects.toMatchObject({ code: "conflict" });
      await expect(write(at, "v3")).rejects.toMatchObject({ code: "conflict" });
      const [read] = await aws.manager.read([{ ...at, version_id: second }]);
      expect(read).toMatchObject({ kind: "failed", absent: true, error: { code: "manager_failed" } });
      await expect(aws.manager.reconcile(at, [second], second, [first])).rejects.toMatchObject({
        code: "manager_failed",
      });
      expect(await aws.manager.reconcile(at, kept, second, [randomUUID()])).toEqual([]);
      await aws.sdk.restoreSecret({ SecretId: id(at) });
      expect(await aws.manager.reconcile(at, [second], second, [first])).toEqual([first]);
    });

    test("goes for good when there is nothing to keep", async () => {
      const { at, kept } = await filled(1);
      await aws.sdk.deleteSecret({ SecretId: id(at) });
      expect(await aws.manager.reconcile(at, [], null, kept)).toEqual(kept);
      expect(secret(at)).toBeUndefined();
    });

    test("a forced deletion that takes its time is confirmed while it does", async () => {
      await aws.close();
      aws = await startAws({}, { slowDeletion: true });
      const { at, kept } = await filled(1);
      expect(await aws.manager.reconcile(at, [], null, kept)).toEqual(kept);
      expect(secret(at)?.deleting).toBe(true);
      expect(await aws.manager.reconcile(at, [], null, kept)).toEqual(kept);
      aws.fake.finishDeletions();
      expect(await aws.manager.reconcile(at, [], null, kept)).toEqual(kept);
    });
  });

  test("a reconcile takes every label from what is not kept, whoever put it there", async () => {
    const { at, kept } = await filled(3);
    const [, second = "", third = ""] = kept;
    await aws.sdk.updateSecretVersionStage({
      SecretId: id(at),
      VersionStage: "AWSPENDING",
      MoveToVersionId: second,
    });
    await aws.manager.reconcile(at, [third], third, []);
    expect(stagesOf(at)).toEqual({ v3: ["AWSCURRENT", "coffer-03"] });
    aws.fake.forgetCalls();
    await aws.manager.reconcile(at, [third], third, []);
    expect(operations()).toEqual(["DescribeSecret"]);
  });

  test("where the current version vanished, what can be done is done", async () => {
    const { at, kept } = await filled(3);
    const [first = "", second = ""] = kept;
    await aws.manager.reconcile(at, [first, randomUUID()], randomUUID(), []);
    expect(stagesOf(at)).toEqual({ v1: ["coffer-01"], v3: ["AWSCURRENT"] });
    expect(await aws.manager.reconcile(at, [first], first, [second])).toEqual([second]);
    expect(stagesOf(at)).toEqual({ v1: ["AWSCURRENT", "coffer-01"] });
  });

  test("what AWS still reads by its id is not confirmed as gone", async () => {
    await aws.close();
    aws = await startAws({}, { unlabelled: "stay" });
    const { at, kept } = await filled(2);
    const [first = "", second = ""] = kept;
    expect(await aws.manager.reconcile(at, [second], second, [first])).toEqual([]);
    expect(stagesOf(at)["v1"]).toEqual([]);
    expect(await aws.manager.reconcile(at, [], null, [first, second])).toEqual(kept);
  });

  test("many slow calls of one use share one budget", async () => {
    const { at, kept } = await filled(3);
    const third = kept[2] ?? "";
    aws.fake.fault({ kind: "delay", milliseconds: 1_200, times: Number.POSITIVE_INFINITY });
    const start = performance.now();
    await expect(aws.manager.reconcile(at, [third], third, [])).rejects.toMatchObject({
      code: "unavailable",
    });
    expect(performance.now() - start).toBeLessThan(9_000);
  });

  test("a storm of faults leaves what was acknowledged, and nothing else once it is over", async () => {
    const at = aws.manager.addressOf(randomUUID());
    const kept: string[] = [];
    aws.fake.storm({ seed: 7, probability: 0.3, kinds: ["throttle", "reset", "cut_off", "status", "html"] });
    for (let n = 0; n < 12; n += 1) {
      const token = randomUUID();
      const done = await write(at, `v${n}`, kept, token).then(
        () => true,
        () => false,
      );
      if (done) kept.push(token);
    }
    aws.fake.storm(null);
    expect(kept.length).toBeGreaterThan(3);
    // Another replica, whose breaker is not open.
    const manager = await createAwsManager(options());
    await manager.reconcile(at, kept, kept.at(-1) ?? null, []);
    expect(
      secret(at)
        ?.versions.map((version) => version.id)
        .toSorted(),
    ).toEqual(kept.toSorted());
    await manager.close();
  });
});
