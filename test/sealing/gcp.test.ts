// Secret Manager behind the port: the contract that all clouds' managers keep, and what GCP's promises beyond it.
// How versions come and go is in gcp-versions.test.ts, what goes wrong in gcp-errors.test.ts, and credentials and logs in
// gcp-credentials.test.ts.
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createGcpManager } from "../../src/sealing/gcp.ts";
import { ELSEWHERE, type GcpFixture, PROJECT, gcpContractFixture, options, startGcp } from "./gcp-fixture.ts";
import { managerContract } from "./manager-contract.ts";

managerContract("gcp", gcpContractFixture, ELSEWHERE === undefined);

let gcp: GcpFixture;
const own = () => gcp.own();
const write = (...version: Parameters<GcpFixture["write"]>) => gcp.write(...version);
const operations = () => gcp.fake.calls().map(({ operation }) => operation);

describe("manager gcp, beyond the contract", () => {
  beforeEach(async () => {
    gcp = await startGcp();
  });
  afterEach(async () => {
    await gcp.close();
  });

  describe("calls", () => {
    test("none ends in an error that is there only to find out what is", async () => {
      const address = own();
      const first = await write(address, "one");
      expect(operations()).toEqual(["CreateSecret", "AddSecretVersion"]);
      gcp.fake.forgetCalls();
      await write(address, "two", [first]);
      expect(operations()).toEqual(["ListSecretVersions", "AddSecretVersion"]);
      gcp.fake.forgetCalls();
      await gcp.manager.read([{ ...address, version_id: first }]);
      expect(operations()).toEqual(["AccessSecretVersion"]);
      gcp.fake.forgetCalls();
      await gcp.manager.ensure("", own(), "key", {});
      expect(operations()).toEqual(["CreateSecret", "AddSecretVersion", "AccessSecretVersion"]);
    });

    test("each is told to whoever counts", async () => {
      const events: string[] = [];
      const onCall = ({
        manager,
        operation,
        outcome,
      }: {
        manager: string;
        operation: string;
        outcome: string;
      }) => events.push(`${manager} ${operation} ${outcome}`);
      const manager = await createGcpManager(options(gcp.fake.endpoint, { onCall }));
      await manager.check();
      await manager.close();
      expect(events).toEqual(["gcp GetSecret absent"]);
    });

    test("of a manager that is closed no connection is left, however many there were", async () => {
      const manager = await createGcpManager(options(gcp.fake.endpoint));
      const places = Array.from(
        { length: 30 },
        (_, n) => `projects/acme-secrets/locations/region-${n}/secrets/a`,
      );
      const reads = await manager.read(places.map((resource) => ({ resource, version_id: "1" })));
      expect(reads.every((read) => read.kind === "failed" && read.absent)).toBe(true);
      expect(gcp.fake.connections).toBe(30);
      await manager.close();
      await expect.poll(() => gcp.fake.connections).toBe(0);
    });

    test("after three that were never answered a new connection is used", async () => {
      const address = own();
      const version_id = await write(address, "one");
      expect(gcp.fake.connections).toBe(1);
      gcp.fake.fault({ kind: "hang", times: 3 });
      expect(await gcp.manager.read([{ ...address, version_id }])).toMatchObject([{ kind: "failed" }]);
      expect(await gcp.manager.read([{ ...address, version_id }])).toMatchObject([{ text: "one" }]);
      expect(gcp.fake.connections).toBe(2);
    });
  });

  describe("names", () => {
    const regional = { location: "europe-west3", prefix: "p" };

    test("ours are known by their last part, whatever the project and the place", () => {
      const { manager } = gcp;
      expect(manager.addressOf("id")).toEqual({ resource: `projects/${PROJECT}/secrets/coffer-test-id` });
      for (const place of [
        "projects/other-project",
        "projects/1234567",
        "projects/a-project/locations/us-east1",
      ])
        expect(manager.isOwn({ resource: `${place}/secrets/coffer-test-x` })).toBe(true);
      expect(manager.isOwn({ resource: "projects/other-project/secrets/coffer-tests" })).toBe(false);
      expect(manager.isOwn({ secret_id: "coffer-test-x", region: "eu-west-1" })).toBe(false);
    });

    test("a regional secret is made, read and destroyed where it is", async () => {
      const manager = await createGcpManager(options(gcp.fake.endpoint, regional));
      const address = manager.addressOf("id");
      expect(address).toEqual({ resource: `projects/${PROJECT}/locations/europe-west3/secrets/p-id` });
      const written = await manager.write({ address, token: "", text: "one", tags: {}, kept: [] });
      expect(await manager.read([{ ...address, ...written }])).toMatchObject([{ text: "one" }]);
      // By a manager that makes its own elsewhere.
      expect(await gcp.manager.read([{ ...address, ...written }])).toMatchObject([{ text: "one" }]);
      expect(gcp.fake.secrets()).toMatchObject([{ replication: null }]);
      expect(await manager.reconcile(address, [], null, ["1"])).toEqual(["1"]);
      expect(gcp.fake.secrets()).toEqual([]);
      await manager.close();
    });

    test.each([
      "projects/acme-secrets/secrets/theirs",
      "projects/123456789012/secrets/Their_S-1",
      "projects/example.com:acme-secrets/secrets/theirs",
      "projects/acme-secrets/locations/northamerica-northeast1/secrets/theirs",
    ])("a whole name: %s", async (resource) => {
      expect(await gcp.manager.canonical({ resource })).toEqual({ resource });
    });

    test.each([
      "",
      "theirs",
      "secrets/theirs",
      "projects/acme-secrets/secrets/",
      "projects/acme-secrets/secrets/a/versions/1",
      "projects/acme-secrets/secrets/a/",
      "projects/acme-secrets/secrets/a?b",
      "projects/acme-secrets/secrets/a\n",
      "projects/acme-secrets/locations/evil.example/secrets/a",
      "projects/acme-secrets/locations/a@b/secrets/a",
      "projects/Acme/secrets/a",
      "projects/../secrets/a",
      "//secretmanager.googleapis.com/projects/acme-secrets/secrets/a",
    ])("no whole name, and never asked for: %j", async (resource) => {
      await expect(gcp.manager.canonical({ resource })).rejects.toMatchObject({ code: "not_found" });
      const [read] = await gcp.manager.read([{ resource, version_id: "1" }]);
      expect(read).toMatchObject({ kind: "failed", absent: true, error: { code: "manager_failed" } });
      expect(operations()).toEqual([]);
    });

    test.each(["0", "01", "-1", "1.5", "stable", "", "latest/x"])(
      "no version's name: %j",
      async (version_id) => {
        expect(await gcp.manager.read([{ ...own(), version_id }])).toMatchObject([{ absent: true }]);
        expect(operations()).toEqual([]);
      },
    );
  });

  describe("what a secret of ours is made as", () => {
    const tags = {
      owner_type: "project",
      owner_id: "0190a0b0-0000-7000-8000-000000000001",
      path: "connect/S3/Prod",
      "not a key": "x",
    };

    test("it says whose it is: in labels what they can hold, in annotations all", async () => {
      const address = own();
      await gcp.manager.write({ address, token: randomUUID(), text: "one", tags, kept: [] });
      const { owner_type, owner_id, path } = tags;
      const id = address.resource.split("/").at(-1);
      expect(gcp.inside(address)).toMatchObject({
        labels: { coffer: "setting", owner_type, owner_id },
        annotations: { owner_type, owner_id, path, "coffer-id": id },
        replication: { automatic: { customerManagedEncryption: null } },
        versions: [{ checked: true }],
      });
      const key = own();
      await gcp.manager.ensure("", key, "key", { purpose: "master_key" });
      expect(gcp.inside(key)?.labels).toEqual({ coffer: "master_key" });
    });

    test("tags without end are cut to what has room", async () => {
      const address = own();
      const long = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`tag${n}`, "ä".repeat(1_000)]));
      await gcp.manager.write({ address, token: randomUUID(), text: "one", tags: long, kept: [] });
      expect(Object.keys(gcp.inside(address)?.annotations ?? {}).length).toBeGreaterThan(4);
    });

    const kmsKey = "projects/keys/locations/eu/keyRings/r/cryptoKeys/k";
    const key = { customerManagedEncryption: { kmsKeyName: kmsKey } };
    test.each([
      ["automatic, under a key", { kmsKey }, { replication: { automatic: key } }],
      [
        "in two places, under a key",
        { kmsKey, replication: ["europe-west3", "europe-west4"] },
        {
          replication: {
            userManaged: {
              replicas: [
                { location: "europe-west3", ...key },
                { location: "europe-west4", ...key },
              ],
            },
          },
        },
      ],
      [
        "regional, under a key",
        { kmsKey, location: "europe-west3" },
        { replication: null, customer_managed_encryption: { kmsKeyName: kmsKey } },
      ],
    ])("%s", async (_, more, expected) => {
      const manager = await createGcpManager(options(gcp.fake.endpoint, more));
      await manager.ensure("", manager.addressOf("id"), "key", {});
      await manager.close();
      expect(gcp.fake.secrets()).toMatchObject([expected]);
    });
  });
});
