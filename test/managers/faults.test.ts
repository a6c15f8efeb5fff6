// What a caller is told when a cloud's manager fails, row by row of the error table, and that a manager that is away or
// hangs takes nothing else with it. All over real HTTP, by the fakes' faults.
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type TestBroker, type World, furnish, startBroker } from "../harness/broker.ts";
import { type SettingsApi, attack, settingsOf } from "../http/settings-kit.ts";
import { CLOUDS, type Cloud } from "./clouds.ts";

const PAGE = "secret/Custom/page";
const PATH = `${PAGE}/there`;
const SEALED = `${PAGE}/sealed`;
/** The budget of a use of a manager is 4 seconds; a request has some database around it. */
const BUDGET_MS = 6_000;

type Row = { readonly what: string; readonly error: string; readonly read: number; readonly write: number };
const ROWS: Record<"aws" | "gcp", readonly Row[]> = {
  aws: [
    { what: "throttled", error: "ThrottlingException", read: 503, write: 503 },
    { what: "a quota", error: "LimitExceededException", read: 503, write: 503 },
    { what: "KMS refuses to open", error: "DecryptionFailure", read: 502, write: 502 },
    { what: "permission", error: "AccessDeniedException", read: 502, write: 502 },
    { what: "an expired credential", error: "ExpiredTokenException", read: 502, write: 502 },
    { what: "a credential that is none", error: "UnrecognizedClientException", read: 502, write: 502 },
    { what: "scheduled for deletion", error: "InvalidRequestException", read: 502, write: 409 },
    { what: "the server", error: "InternalServiceError", read: 503, write: 503 },
  ],
  gcp: [
    { what: "throttled", error: "RESOURCE_EXHAUSTED", read: 503, write: 503 },
    { what: "a precondition", error: "FAILED_PRECONDITION", read: 502, write: 409 },
    { what: "permission", error: "PERMISSION_DENIED", read: 502, write: 502 },
    { what: "credentials", error: "UNAUTHENTICATED", read: 502, write: 502 },
    { what: "the server", error: "INTERNAL", read: 503, write: 503 },
    { what: "the network", error: "UNAVAILABLE", read: 503, write: 503 },
    { what: "an unknown failure", error: "UNKNOWN", read: 503, write: 503 },
  ],
};

/** The clouds are side by side: most of it is waiting for time-outs and back-offs. What is of one cloud is in turn. */
const SIDE_BY_SIDE = { concurrent: true };
const IN_TURN = { concurrent: false };

describe.each(["aws", "gcp"] as const)("a failure of %s", SIDE_BY_SIDE, (name) => {
  let cloud: Cloud;
  let broker: TestBroker;
  let world: World;
  let settings: SettingsApi;

  beforeAll(async () => {
    cloud = await CLOUDS[name]();
    const environment = { ...cloud.environment, COFFER_MANAGERS_ENABLED: `local,${name}` };
    broker = await startBroker({ environment });
    world = await furnish(broker);
    settings = settingsOf(world.writer.api, world.project);
    await settings.put(PATH, "value");
    const owner = settingsOf(world.owner.api, world.project);
    await owner.put(SEALED, "here", { storage: "envelope", manager: "local" });
  });
  afterAll(async () => {
    await broker?.close();
    await cloud?.close();
  });
  afterEach(async () => {
    cloud.fake.clearFaults();
    await allIsWell();
  });

  /** The breaker closes again when it has seen a success. */
  async function allIsWell(): Promise<void> {
    const isWell = async () =>
      (await settings.value(PATH)).status === 200 || Promise.reject(new Error("not yet"));
    await vi.waitFor(isWell, { timeout: 15_000, interval: 200 });
  }

  /** As many attempts as one use makes fail; then all is well again, which keeps the breaker closed. */
  async function failing<Answered>(
    operations: readonly string[],
    errorName: string,
    act: () => Promise<Answered>,
  ) {
    for (const operation of operations) cloud.fake.fault({ operation, kind: "error", errorName, times: 3 });
    const answer = await act();
    cloud.fake.clearFaults();
    expect((await settings.value(PATH)).status).toBe(200);
    return answer;
  }

  test.each(ROWS[name])("$what: a read is $read, a write $write", IN_TURN, async ({ error, read, write }) => {
    const { create, add, read: reading } = cloud.operations;
    const answer = await failing([reading], error, () => settings.value(PATH));
    expect([answer.status, answer.headers.has("retry-after")]).toEqual([read, read === 503]);
    const page = await failing([reading], error, () => settings.open(PAGE));
    expect(page.body).toMatchObject({ status: read, paths: [PATH] });
    const withheld = await failing([reading], error, () => settings.open(PAGE, { on_error: "withhold" }));
    expect(withheld.body.settings).toMatchObject([
      { path: SEALED, value: "here" },
      { path: PATH, decrypted: false, value: null, withheld: "manager_failed" },
    ]);
    const path = `secret/Custom/new-${error}`;
    const written = await failing([create, add], error, () => settings.put(path, "value"));
    expect([written.status, written.headers.has("retry-after")]).toEqual([write, write === 503]);
    expect((await settings.put(path, "value")).status).toBe(201);
  });

  test(
    "that hangs is told within its budget, and stalls nothing that does not need it",
    IN_TURN,
    async () => {
      cloud.fake.fault({ kind: "hang", times: 1_000 });
      const started = performance.now();
      const hanging = settings.value(PATH);
      const others = await Promise.all([
        settings.list(),
        settings.value(SEALED),
        settings.patch(PATH, { description: "meanwhile" }),
      ]);
      expect(others.map(({ status }) => status)).toEqual([200, 200, 200]);
      expect(performance.now() - started).toBeLessThan(BUDGET_MS / 2);
      expect((await hanging).status).toBe(503);
      expect(performance.now() - started).toBeLessThan(BUDGET_MS);
    },
  );

  test(
    "that is long is told at once by a breaker, and readiness says which manager it is",
    IN_TURN,
    async () => {
      cloud.fake.fault({ kind: "reset", times: 1_000 });
      for (let turn = 0; turn < 4; turn++) expect((await settings.value(PATH)).status).toBe(503);
      cloud.fake.forgetCalls();
      expect((await settings.value(PATH)).status).toBe(503);
      expect(cloud.fake.calls(cloud.operations.read)).toEqual([]);
      expect((await settings.value(SEALED)).status).toBe(200);
      const metrics = await broker.as("").get("/metrics");
      expect(metrics.text).toContain(`coffer_manager_calls_total{manager="${name}"`);
    },
  );

  test(
    "outlives no write that was given up: what arrives after that was undone is undone as well",
    IN_TURN,
    async () => {
      const before = cloud.held().length;
      const isThere = () => cloud.held().length > before;
      const lookAgain = async (): Promise<void> => {
        await attack(broker, "UPDATE managed_secrets SET next_try_at = NULL WHERE lease_until IS NULL", []);
        await broker.service.broker.settleManagedSecrets(100);
      };
      const arriving = Promise.withResolvers<void>();
      cloud.fake.fault({
        operation: cloud.operations.create,
        kind: "delay",
        until: arriving.promise,
        times: 3,
      });
      expect((await settings.put("secret/Custom/late", "too late")).status).toBe(503);
      // Looked at in vain, well, and well once more: nothing is there yet.
      const errorName = name === "aws" ? "AccessDeniedException" : "PERMISSION_DENIED";
      cloud.fake.fault({ kind: "error", errorName });
      for (let look = 0; look < 3; look++) await lookAgain();
      arriving.resolve();
      await vi.waitFor(() => expect(isThere()).toBe(true), { timeout: 10_000 });
      const isUndone = async () => {
        await lookAgain();
        expect(isThere()).toBe(false);
      };
      await vi.waitFor(isUndone, { timeout: 10_000 });
    },
  );

  test("a secret that somebody took out of the manager is 502 and an alert, never 404", IN_TURN, async () => {
    const { body } = await settings.put("secret/Custom/drifted", "value");
    cloud.fake.fault({
      operation: cloud.operations.read,
      kind: "error",
      errorName: name === "aws" ? "ResourceNotFoundException" : "NOT_FOUND",
      times: 10,
    });
    expect(body.version).toBe(1);
    // Just written: the manager may not have it everywhere yet.
    expect((await settings.value("secret/Custom/drifted")).status).toBe(503);
    expect((await settings.value(PATH)).status).toBeGreaterThanOrEqual(502);
    expect((await settings.value(PATH)).status).not.toBe(404);
  });
});
