// The fake, proved with the plain SDK: what it does is what AWS's API reference says, so that a test on it means something.
import { randomUUID } from "node:crypto";
import { SecretsManager, type SecretsManagerClientConfig } from "@aws-sdk/client-secrets-manager";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { useEnvironment } from "../sealing/aws-fixture.ts";
import { type FakeAws, FAKE_KEYS, type FakeAwsOptions, startFakeAws } from "./aws.ts";

let fake: FakeAws;
let sdk: SecretsManager;

async function start(options: FakeAwsOptions = {}): Promise<void> {
  fake = await startFakeAws(options);
  useEnvironment(fake.environment);
  sdk = connect();
}
const connect = (config: SecretsManagerClientConfig = {}) =>
  new SecretsManager({ maxAttempts: 1, ...config });
const nameOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "it succeeded",
    (error: unknown) => (error as Error).name,
  );

beforeEach(() => start());
afterEach(async () => {
  sdk.destroy();
  await fake.close();
});

const only = () => fake.secrets()[0]?.versions.map(({ text, stages }) => [text, stages]);

describe("signatures", () => {
  test.each([
    ["another key", { accessKeyId: "AKIAOTHER" }, "UnrecognizedClientException", 403],
    ["a wrong key", { secretAccessKey: "wrong" }, "InvalidSignatureException", 403],
  ] as const)("%s is refused", async (_, keys, name, status) => {
    const client = connect({ credentials: { ...FAKE_KEYS, ...keys } });
    const error = await client.listSecrets().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name, $metadata: { httpStatusCode: status } });
    client.destroy();
  });

  test("a body that was changed on its way, a stale date and no signature are refused", async () => {
    const sent: { headers: Record<string, string>; body: string }[] = [];
    sdk.middlewareStack.add(
      (next) => async (args) => {
        sent.push(args.request as (typeof sent)[number]);
        return next(args);
      },
      { step: "finalizeRequest", priority: "low" },
    );
    await sdk.listSecrets();
    const [request] = sent;
    if (request === undefined) throw new Error("nothing was sent");
    const post = async (headers: Record<string, string>, body: string) => {
      const response = await fetch(fake.url, { method: "POST", headers, body });
      return [response.status, ((await response.json()) as { __type?: string }).__type];
    };
    const { host: _, "content-length": __, ...headers } = request.headers;
    expect(await post(headers, request.body)).toEqual([200, undefined]);
    expect(await post(headers, '{"MaxResults":1}')).toEqual([403, "InvalidSignatureException"]);
    const stale = { ...headers, "x-amz-date": "20200101T000000Z" };
    expect(await post(stale, request.body)).toEqual([403, "InvalidSignatureException"]);
    const { authorization: ___, ...unsigned } = headers;
    expect(await post(unsigned, request.body)).toEqual([400, "MissingAuthenticationTokenException"]);
  });
});

describe("secrets and versions", () => {
  test("a token makes one version, however often it is used, and is refused for another text", async () => {
    const token = randomUUID();
    const create = { Name: "a/b", SecretString: "one", ClientRequestToken: token };
    const made = await sdk.createSecret(create);
    expect(made).toMatchObject({ Name: "a/b", VersionId: token });
    expect(made.ARN).toMatch(/^arn:aws:secretsmanager:eu-central-1:123456789012:secret:a\/b-[A-Za-z0-9]{6}$/);
    expect(await sdk.createSecret(create)).toMatchObject({ ARN: made.ARN, VersionId: token });
    const exists = "ResourceExistsException";
    expect(await nameOf(sdk.createSecret({ ...create, SecretString: "two" }))).toBe(exists);
    expect(await nameOf(sdk.createSecret({ Name: "a/b", SecretString: "one" }))).toBe(exists);
    const put = { SecretId: "a/b", ClientRequestToken: randomUUID(), SecretString: "two" };
    await sdk.putSecretValue(put);
    expect(await sdk.putSecretValue(put)).toMatchObject({ VersionStages: ["AWSCURRENT"] });
    expect(await nameOf(sdk.putSecretValue({ ...put, SecretString: "three" }))).toBe(exists);
    expect(only()).toEqual([
      ["one", ["AWSPREVIOUS"]],
      ["two", ["AWSCURRENT"]],
    ]);
  });

  test("values are found by name, by ARN and by part of one; by version and by label", async () => {
    const { ARN: arn = "", VersionId: first } = await sdk.createSecret({ Name: "a", SecretString: "one" });
    await sdk.putSecretValue({ SecretId: "a", SecretString: "two" });
    for (const SecretId of ["a", arn, arn.slice(0, -7)])
      expect(await sdk.getSecretValue({ SecretId })).toMatchObject({ SecretString: "two" });
    const byId = await sdk.getSecretValue({ SecretId: "a", VersionId: first });
    expect(byId).toMatchObject({ SecretString: "one", VersionStages: ["AWSPREVIOUS"] });
    const byLabel = await sdk.getSecretValue({ SecretId: "a", VersionStage: "AWSPREVIOUS" });
    expect(byLabel).toMatchObject({ SecretString: "one" });
    const absent = "ResourceNotFoundException";
    expect(await nameOf(sdk.getSecretValue({ SecretId: "b" }))).toBe(absent);
    expect(await nameOf(sdk.getSecretValue({ SecretId: "a", VersionId: randomUUID() }))).toBe(absent);
    expect(await nameOf(sdk.getSecretValue({ SecretId: "a", VersionStage: "nope" }))).toBe(absent);
    const elsewhere = connect({ region: "us-east-1" });
    expect(await nameOf(elsewhere.getSecretValue({ SecretId: "a" }))).toBe(absent);
    elsewhere.destroy();
  });

  test("bytes stay bytes", async () => {
    const bytes = Uint8Array.of(0, 255, 1);
    await sdk.createSecret({ Name: "a", SecretBinary: bytes });
    const { SecretBinary: found, SecretString: text } = await sdk.getSecretValue({ SecretId: "a" });
    expect([Buffer.from(found ?? []), text]).toEqual([Buffer.from(bytes), undefined]);
  });

  test("bounds are AWS's: 65,536 bytes, 20 labels, names, tags, 20 of a batch", async () => {
    const invalid = "ValidationException";
    await sdk.createSecret({ Name: "a", SecretString: "€".repeat(21_845) });
    const large = { Name: "b", SecretString: "€".repeat(21_846) };
    expect(await nameOf(sdk.createSecret(large))).toBe(invalid);
    expect(await nameOf(sdk.createSecret({ Name: "a b", SecretString: "x" }))).toBe(invalid);
    const tags = [{ Key: "k", Value: "<" }];
    const tagged = { Name: "c", SecretString: "x", Tags: tags };
    expect(await nameOf(sdk.createSecret(tagged))).toBe("InvalidParameterException");
    const stages = Array.from({ length: 19 }, (_, n) => `label-${n}`);
    await sdk.putSecretValue({ SecretId: "a", SecretString: "x", VersionStages: stages });
    const more = { SecretId: "a", SecretString: "y", VersionStages: ["more"] };
    expect(await nameOf(sdk.putSecretValue(more))).toBe("LimitExceededException");
    const ids = Array.from({ length: 21 }, (_, n) => `s${n}`);
    expect(await nameOf(sdk.batchGetSecretValue({ SecretIdList: ids }))).toBe("InvalidParameterException");
    expect(fake.secrets().map(({ name }) => name)).toEqual(["a"]);
  });

  test("a label moves only from where it is said to be; AWSPREVIOUS follows AWSCURRENT", async () => {
    const { VersionId: one = "" } = await sdk.createSecret({ Name: "a", SecretString: "one" });
    const { VersionId: two = "" } = await sdk.putSecretValue({ SecretId: "a", SecretString: "two" });
    const move = (VersionStage: string, RemoveFromVersionId?: string, MoveToVersionId?: string) =>
      nameOf(
        sdk.updateSecretVersionStage({ SecretId: "a", VersionStage, RemoveFromVersionId, MoveToVersionId }),
      );
    const [well, wrong] = ["it succeeded", "InvalidParameterException"];
    expect(await move("AWSCURRENT", undefined, one)).toBe(wrong);
    expect(await move("AWSCURRENT", one, one)).toBe(wrong);
    expect(await move("AWSCURRENT", two, one)).toBe(well);
    expect(only()).toEqual([
      ["one", ["AWSCURRENT"]],
      ["two", ["AWSPREVIOUS"]],
    ]);
    // As a call that was made and is made again.
    expect(await move("AWSCURRENT", two, one)).toBe(wrong);
    expect(await move("AWSCURRENT", one)).toBe(wrong);
    expect(await move("x")).toBe(wrong);
    expect(await move("x", undefined, two)).toBe(well);
    expect(await move("x", undefined, two)).toBe(well);
    expect(await move("x", one)).toBe(wrong);
    expect(await move("x", two)).toBe(well);
    expect(await move("x", undefined, randomUUID())).toBe("ResourceNotFoundException");
    expect(await move("AWSPREVIOUS", two)).toBe(well);
    expect(only()).toEqual([["one", ["AWSCURRENT"]]]);
  });

  test("versions without a label stay, where that is wanted: readable by id, listed as deprecated", async () => {
    sdk.destroy();
    await fake.close();
    await start({ unlabelled: "stay" });
    const { VersionId: one = "" } = await sdk.createSecret({ Name: "a", SecretString: "one" });
    for (const SecretString of ["two", "three"]) await sdk.putSecretValue({ SecretId: "a", SecretString });
    expect(await sdk.getSecretValue({ SecretId: "a", VersionId: one })).toMatchObject({
      SecretString: "one",
    });
    const listed = async (IncludeDeprecated: boolean) =>
      (await sdk.listSecretVersionIds({ SecretId: "a", IncludeDeprecated })).Versions?.length;
    expect([await listed(false), await listed(true)]).toEqual([2, 3]);
    const { VersionIdsToStages: stages } = await sdk.describeSecret({ SecretId: "a" });
    expect(Object.keys(stages ?? {})).toHaveLength(2);
  });

  test("a deletion has a window, in which it can be called off and the name is taken", async () => {
    await sdk.createSecret({ Name: "a", SecretString: "one" });
    await sdk.deleteSecret({ SecretId: "a", RecoveryWindowInDays: 7 });
    const deleting = "InvalidRequestException";
    expect(await nameOf(sdk.getSecretValue({ SecretId: "a" }))).toBe(deleting);
    expect(await nameOf(sdk.putSecretValue({ SecretId: "a", SecretString: "x" }))).toBe(deleting);
    expect(await nameOf(sdk.createSecret({ Name: "a", SecretString: "one" }))).toBe(deleting);
    expect((await sdk.describeSecret({ SecretId: "a" })).DeletedDate).toBeInstanceOf(Date);
    await sdk.restoreSecret({ SecretId: "a" });
    expect(await sdk.getSecretValue({ SecretId: "a" })).toMatchObject({ SecretString: "one" });
    await sdk.deleteSecret({ SecretId: "a", RecoveryWindowInDays: 7 });
    fake.passDays(7);
    expect(fake.secrets()).toEqual([]);
    await sdk.createSecret({ Name: "a", SecretString: "two" });
    await sdk.deleteSecret({ SecretId: "a", ForceDeleteWithoutRecovery: true });
    await sdk.deleteSecret({ SecretId: "a", ForceDeleteWithoutRecovery: true });
    expect(await nameOf(sdk.deleteSecret({ SecretId: "a" }))).toBe("ResourceNotFoundException");
  });

  test("a batch gives current values, and an error for each that it cannot give", async () => {
    await sdk.createSecret({ Name: "a", SecretString: "one" });
    await sdk.createSecret({ Name: "b", SecretString: "two" });
    await sdk.deleteSecret({ SecretId: "b" });
    const { SecretValues: values, Errors: errors } = await sdk.batchGetSecretValue({
      SecretIdList: ["a", "b", "c"],
    });
    expect(values?.map(({ Name: name, SecretString: text }) => [name, text])).toEqual([["a", "one"]]);
    expect(errors?.map(({ SecretId: id, ErrorCode: code }) => [id, code])).toEqual([
      ["b", "InvalidRequestException"],
      ["c", "ResourceNotFoundException"],
    ]);
  });

  test("tags are added, secrets are listed by pages", async () => {
    for (const name of ["a", "b", "c"]) await sdk.createSecret({ Name: name, SecretString: name });
    await sdk.tagResource({ SecretId: "b", Tags: [{ Key: "k", Value: "v" }] });
    const first = await sdk.listSecrets({ MaxResults: 2 });
    const second = await sdk.listSecrets({ MaxResults: 2, NextToken: first.NextToken });
    const names = [...(first.SecretList ?? []), ...(second.SecretList ?? [])].map(({ Name: name }) => name);
    expect([names, second.NextToken]).toEqual([["a", "b", "c"], undefined]);
    expect(fake.secrets()[1]?.tags).toEqual({ k: "v" });
  });
});

describe("faults", () => {
  test("strike the calls that they are for, so often, after so many", async () => {
    await sdk.createSecret({ Name: "a", SecretString: "one" });
    fake.forgetCalls();
    fake.fault({ operation: "GetSecretValue", kind: "throttle", skip: 1, times: 2 });
    const get = () => nameOf(sdk.getSecretValue({ SecretId: "a" }));
    const well = "it succeeded";
    expect(await nameOf(sdk.describeSecret({ SecretId: "a" }))).toBe(well);
    const seen = [await get(), await get(), await get(), await get()];
    expect(seen).toEqual([well, "ThrottlingException", "ThrottlingException", well]);
    expect(fake.calls("GetSecretValue").map(({ fault }) => fault)).toEqual([
      null,
      "throttle",
      "throttle",
      null,
    ]);
    expect(fake.calls()[0]).toMatchObject({
      operation: "DescribeSecret",
      secret_id: "a",
      region: "eu-central-1",
    });
  });

  test("done and cut off is done; reset is not", async () => {
    fake.fault({ kind: "reset" });
    expect(await nameOf(sdk.createSecret({ Name: "a", SecretString: "one" }))).toBe("TimeoutError");
    expect(fake.secrets()).toEqual([]);
    fake.fault({ kind: "cut_off" });
    expect(await nameOf(sdk.createSecret({ Name: "a", SecretString: "one" }))).toBe("TimeoutError");
    expect(fake.secrets()).toHaveLength(1);
  });

  test("a storm is the same for the same seed", async () => {
    const run = async () => {
      fake.storm({ seed: 3, probability: 0.5, kinds: ["throttle", "status", "reset"] });
      fake.forgetCalls();
      for (let n = 0; n < 40; n += 1) await nameOf(sdk.listSecrets());
      fake.storm(null);
      return fake.calls().map(({ fault }) => fault);
    };
    const first = await run();
    expect(new Set(first).size).toBe(4);
    expect(await run()).toEqual(first);
    expect(await nameOf(sdk.listSecrets())).toBe("it succeeded");
  });
});
