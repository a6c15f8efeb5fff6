// An AWS manager for tests: against the fake, or, where COFFER_TEST_AWS_ENDPOINT names one, against another endpoint
// with the credentials and region of the environment.
import { randomUUID } from "node:crypto";
import {
  type GetSecretValueResponse,
  ResourceNotFoundException,
  SecretsManager,
} from "@aws-sdk/client-secrets-manager";
import { vi } from "vitest";
import type { CloudManager, SecretAddress } from "../../src/domain/manager-ports.ts";
import { type AwsManagerOptions, createAwsManager } from "../../src/sealing/aws.ts";
import { type FakeAws, type FakeAwsOptions, startFakeAws } from "../fakes/aws.ts";
import type { Fault } from "../fakes/aws-faults.ts";
import type { ContractFault, ContractFixture } from "./manager-contract-kit.ts";

export const ELSEWHERE = process.env["COFFER_TEST_AWS_ENDPOINT"];

const FAULTS: Readonly<Record<ContractFault["kind"], Fault>> = {
  throttle: { kind: "throttle" },
  denied: { kind: "error", errorName: "AccessDeniedException" },
  unavailable: { kind: "error", errorName: "InternalServiceError" },
  reset: { kind: "reset" },
  cut_off: { kind: "cut_off" },
  hang: { kind: "hang" },
};

/** Makes what the SDK reads of the environment that of the fake, until the test is over. */
export function useEnvironment(environment: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  vi.stubEnv("AWS_PROFILE", undefined);
  vi.stubEnv("AWS_SESSION_TOKEN", undefined);
}

export const options = (more: Partial<AwsManagerOptions> = {}): AwsManagerOptions => ({
  region: null,
  prefix: "coffer-test",
  kmsKeyId: null,
  now: () => performance.now(),
  // Retries come at once.
  random: () => 0,
  ...more,
});

export type AwsFixture = {
  readonly fake: FakeAws;
  readonly manager: CloudManager;
  readonly sdk: SecretsManager;
  close(): Promise<void>;
};

/** A fake, a manager on it, and the plain SDK. */
export async function startAws(
  more: Partial<AwsManagerOptions> = {},
  fakeOptions: FakeAwsOptions = {},
): Promise<AwsFixture> {
  const fake = await startFakeAws(fakeOptions);
  useEnvironment(fake.environment);
  const manager = await createAwsManager(options(more));
  const sdk = new SecretsManager({ maxAttempts: 1 });
  return {
    fake,
    manager,
    sdk,
    async close() {
      sdk.destroy();
      await manager.close();
      await fake.close();
    },
  };
}

export async function awsContractFixture(): Promise<ContractFixture> {
  const fake = ELSEWHERE === undefined ? await startFakeAws() : null;
  useEnvironment(fake?.environment ?? { AWS_ENDPOINT_URL_SECRETS_MANAGER: ELSEWHERE ?? "" });
  let passed = 0;
  const shared = options({ now: () => performance.now() + passed, prefix: `coffer-test-${randomUUID()}` });
  const manager = await createAwsManager(shared);
  const other = await createAwsManager(shared);
  const sdk = new SecretsManager({ maxAttempts: 3 });
  const region = await sdk.config.region();
  const foreign: string[] = [];

  return {
    manager,
    other,
    pass(milliseconds) {
      passed += milliseconds;
    },
    held: (at) => heldBy(sdk, at),
    async foreign(text) {
      const name = `theirs/${randomUUID()}`;
      foreign.push(name);
      await sdk.createSecret({ Name: name, SecretString: text });
      return { secret_id: name, region };
    },
    nowhere: () => ({ secret_id: `theirs/${randomUUID()}`, region }),
    noVersion: () => randomUUID(),
    fake:
      fake === null
        ? null
        : {
            fault: ({ kind, ...more }) => fake.fault({ ...FAULTS[kind], ...more }),
            clearFaults: () => fake.clearFaults(),
            calls: () => fake.calls().length,
            struck: () => fake.calls().filter(({ fault }) => fault !== null).length,
          },
    forgetsAtOnce: fake !== null,
    async close() {
      for (const name of fake === null ? foreign : [])
        await sdk.deleteSecret({ SecretId: name, ForceDeleteWithoutRecovery: true });
      sdk.destroy();
      await Promise.all([manager.close(), other.close()]);
      await fake?.close();
    },
  };
}

/** The versions that carry a label, with their texts. */
async function heldBy(sdk: SecretsManager, at: SecretAddress): Promise<ReadonlyMap<string, string> | null> {
  const secretId = "secret_id" in at ? at.secret_id : "";
  try {
    const { VersionIdsToStages: stages = {} } = await sdk.describeSecret({ SecretId: secretId });
    const values: GetSecretValueResponse[] = [];
    for (const id of Object.keys(stages).filter((each) => stages[each]?.length))
      values.push(await sdk.getSecretValue({ SecretId: secretId, VersionId: id }));
    const oldestFirst = values.toSorted((a, b) => Number(a.CreatedDate ?? 0) - Number(b.CreatedDate ?? 0));
    return new Map(oldestFirst.map((value) => [value.VersionId ?? "", value.SecretString ?? ""]));
  } catch (error) {
    if (error instanceof ResourceNotFoundException) return null;
    throw error;
  }
}
