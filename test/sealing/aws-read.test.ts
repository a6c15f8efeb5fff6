// Reading from AWS: batches and when they are none, binary values, regions.
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Located, SecretAddress } from "../../src/domain/manager-ports.ts";
import { type AwsFixture, ELSEWHERE, startAws } from "./aws-fixture.ts";

const BATCH_PAUSE_MS = 300_000;

describe.skipIf(ELSEWHERE !== undefined)("manager aws: reads", () => {
  let aws: AwsFixture;
  let passed = 0;
  beforeEach(async () => {
    passed = 0;
    aws = await startAws({ now: () => performance.now() + passed });
  });
  afterEach(() => aws.close());

  async function write(text: string, at = aws.manager.addressOf(randomUUID()), kept: readonly string[] = []) {
    const { version_id } = await aws.manager.write({
      address: at,
      token: randomUUID(),
      text,
      tags: {},
      kept,
    });
    return { ...at, version_id };
  }
  const several = (count: number) => Promise.all(Array.from({ length: count }, (_, n) => write(`text ${n}`)));
  const textsOf = async (wanted: readonly Located[]) =>
    (await aws.manager.read(wanted)).map((read) => (read.kind === "text" ? read.text : read.error.code));
  const counts = () => [
    aws.fake.calls("BatchGetSecretValue").length,
    aws.fake.calls("GetSecretValue").length,
  ];
  const older = async () => {
    const first = await write("old");
    const { version_id: _, ...at } = first;
    await write("new", at, [first.version_id]);
    return first;
  };

  test("current versions are read twenty at a time", async () => {
    const all = await several(45);
    expect(await textsOf(all)).toEqual(all.map((_, n) => `text ${n}`));
    expect(counts()).toEqual([3, 0]);
  });

  test("one is read by itself, and so are versions of one secret", async () => {
    const first = await older();
    expect(await textsOf([first, { ...first, version_id: "latest" }])).toEqual(["old", "new"]);
    expect(counts()).toEqual([0, 2]);
  });

  test("a batch's version that is not the one wanted is not taken for it", async () => {
    const [current] = await several(1);
    const pinned = await older();
    expect(await textsOf([pinned, ...(current === undefined ? [] : [current])])).toEqual(["old", "text 0"]);
    expect(counts()).toEqual([1, 1]);
  });

  test("`latest` of many comes of the batch, with the id of the version that it is", async () => {
    const all = await several(3);
    const reads = await aws.manager.read(all.map((each) => ({ ...each, version_id: "latest" })));
    expect(reads.map((read) => (read.kind === "text" ? read.version_id : read.error.code))).toEqual(
      all.map(({ version_id }) => version_id),
    );
    expect(counts()).toEqual([1, 0]);
  });

  test("secrets named by an ARN, or a part of one, come of the batch", async () => {
    const all = await several(2);
    const named = await Promise.all(
      all.map(async ({ version_id, ...at }) => ({ ...(await aws.manager.canonical(at)), version_id })),
    );
    const [whole, other] = named;
    if (whole === undefined || other === undefined || !("secret_id" in other)) throw new Error("no ARN");
    const part = { ...other, secret_id: other.secret_id.slice(0, -7) };
    expect(await textsOf([whole, part])).toEqual(["text 0", "text 1"]);
    expect(counts()).toEqual([1, 0]);
  });

  test("a whole ARN is not taken for the beginning of another", async () => {
    await aws.sdk.createSecret({ Name: "theirs/db-backup", SecretString: "another" });
    const secret_id = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:theirs/db-backup";
    const wanted = { secret_id, region: "eu-central-1", version_id: "latest" };
    expect(await aws.sdk.getSecretValue({ SecretId: secret_id })).toMatchObject({ SecretString: "another" });
    const [other] = await several(1);
    expect(await textsOf([wanted])).toEqual(["manager_failed"]);
    expect(await textsOf([wanted, ...(other === undefined ? [] : [other])])).toEqual([
      "manager_failed",
      "text 0",
    ]);
  });

  test("an error of one item is that one's: the others come of the batch", async () => {
    const all = await several(3);
    const none = { ...aws.manager.addressOf(randomUUID()), version_id: randomUUID() };
    expect(await textsOf([...all, none])).toEqual(["text 0", "text 1", "text 2", "manager_failed"]);
    expect(counts()).toEqual([1, 1]);
  });

  test.each(["AccessDeniedException", "UnknownOperationException", "InvalidAction"])(
    "where batches are refused (%s) all are read singly, and no batch is tried for a while",
    async (errorName) => {
      const all = await several(3);
      const fault = { kind: "error", operation: "BatchGetSecretValue", errorName } as const;
      aws.fake.fault({ ...fault, times: Number.POSITIVE_INFINITY });
      const texts = ["text 0", "text 1", "text 2"];
      expect(await textsOf(all)).toEqual(texts);
      expect(await textsOf(all)).toEqual(texts);
      expect(counts()).toEqual([1, 6]);
      passed += BATCH_PAUSE_MS;
      aws.fake.clearFaults();
      expect(await textsOf(all)).toEqual(texts);
      expect(counts()).toEqual([2, 6]);
    },
  );

  test.each(["throttle", "status", "html", "reset", "cut_off", "hang"] as const)(
    "a batch that fails otherwise (%s) fails no read, and the next is tried",
    async (kind) => {
      const all = await several(3);
      aws.fake.fault({ kind, operation: "BatchGetSecretValue", times: 3 });
      expect(await textsOf(all)).toEqual(["text 0", "text 1", "text 2"]);
      aws.fake.clearFaults();
      aws.fake.forgetCalls();
      await textsOf(all);
      expect(counts()).toEqual([1, 0]);
    },
  );

  test("reads at the same time share what they have in common", async () => {
    const all = await several(4);
    const [a, b, c, d] = all;
    if (a === undefined || b === undefined || c === undefined || d === undefined) throw new Error("too few");
    const texts = await Promise.all([textsOf([a, b, c]), textsOf([b, c, d]), textsOf([a, a])]);
    expect(texts).toEqual([
      ["text 0", "text 1", "text 2"],
      ["text 1", "text 2", "text 3"],
      ["text 0", "text 0"],
    ]);
    // One batch of the first; of the second only the last was left; of the third nothing.
    expect(counts()).toEqual([1, 1]);
  });

  test("bytes that are text are read as it, and others are no value", async () => {
    const make = async (bytes: Uint8Array): Promise<Located> => {
      const name = `theirs/${randomUUID()}`;
      await aws.sdk.createSecret({ Name: name, SecretBinary: bytes });
      return { secret_id: name, region: "eu-central-1", version_id: "latest" };
    };
    const text = "\u{feff}ünïcode\0";
    const good = await make(Buffer.from(text));
    const bad = await make(Uint8Array.of(0x61, 0xff, 0xfe));
    expect(await textsOf([good])).toEqual([text]);
    expect(await textsOf([good, bad])).toEqual([text, "manager_failed"]);
    const [read] = await aws.manager.read([bad]);
    expect(read).toMatchObject({ kind: "failed", absent: false });
  });

  test("each region is asked for its own, and one that is away stops no other", async () => {
    const here = await several(2);
    const there = (name: string, region: string): SecretAddress => ({ secret_id: name, region });
    const far = await write("far", there("coffer-test/far", "us-west-2"));
    expect(await textsOf([...here, far])).toEqual(["text 0", "text 1", "far"]);
    expect(new Set(aws.fake.calls("GetSecretValue").map(({ region }) => region))).toEqual(
      new Set(["us-west-2"]),
    );
    // Enough of them that the clients of before have to make room, but for one whose call is under way.
    const slow = aws.fake.calls().length;
    aws.fake.fault({ kind: "delay", operation: "GetSecretValue", milliseconds: 1_000 });
    const late = textsOf([far]);
    await vi.waitFor(() => expect(aws.fake.calls().length).toBeGreaterThan(slow));
    const regions = Array.from({ length: 60 }, (_, n) => `ap-north-${n + 1}`);
    const nowhere = regions.map((region) => ({ ...there("theirs/x", region), version_id: "latest" }));
    for (const each of nowhere) expect(await textsOf([each])).toEqual(["manager_failed"]);
    expect(await late).toEqual(["far"]);
    expect(aws.fake.calls("GetSecretValue").filter(({ region }) => region === "us-west-2")).toHaveLength(2);
    expect(await textsOf([...here, far])).toEqual(["text 0", "text 1", "far"]);
  });
});
